"""`relay demo`: the scripted call, played whole by a process of its own."""

from __future__ import annotations

import re

import pytest

from relay.commands.call_view import WIDTH
from relay.commands.demo_call import SCENES, models, provider_of
from tests.fakes.command import relay_command

pytestmark = [pytest.mark.sockets, pytest.mark.timeout(120)]

WAIT_S = 90.0
"""The call and the outage take 23 s on the clock on the wall."""


def lane(turn: str, label: str) -> str:
    """What one line of the picture shows."""
    found = re.search(rf"^  {label} +(\S.*)$", turn, re.MULTILINE)
    assert found, f"{label} is not in {turn}"
    return found[1]


def attempts(turn: str) -> list[str]:
    return [line for line in turn.splitlines() if line.startswith("  attempt ")]


async def test_the_call_is_played_to_its_end() -> None:
    ran = await relay_command("demo", wait_s=WAIT_S)
    assert (ran.status, ran.errors) == (0, "")
    titles = [ran.output.index(scene.title) for scene in SCENES]
    assert titles == sorted(titles)
    guessed, barged, tool, failed_over, hedged = (
        ran.output[start:end] for start, end in zip(titles, [*titles[1:], None], strict=True)
    )
    for scene, turn in zip(SCENES, (guessed, barged, tool, failed_over, hedged), strict=True):
        assert scene.turn.says in turn
        assert (scene.turn.answer in turn) == (turn is not barged), "unless it was cut short"
        assert "first sentence" in turn
        assert max(len(line) for line in turn.splitlines() if set(line) & set("█▒░")) <= WIDTH

    # The first guess was cut off, the second one committed to while it was being written.
    assert lane(guessed, "guess 1 north").endswith("×")
    assert "◆" in lane(guessed, "guess 2 north")
    assert "guess 1 superseded: north noticed the reset" in guessed
    assert "before the turn was certain" in guessed
    assert "completed after" in guessed

    # The provider had more to say than the caller let it.
    assert lane(barged, "answer north").endswith("×")
    assert "barge-in: north noticed the reset" in barged
    assert "cancelled after" in barged

    assert "guess 1 discarded: north had written all its" in tool
    assert "nothing of it was released" in tool
    assert set(lane(tool, "tool")) == {"▓"}
    assert "●" in lane(tool, "call north")
    assert "●" in lane(tool, "answer north")

    assert lane(failed_over, "answer north").strip("░") == "×"
    assert "failover: south was asked" in failed_over
    first, second = attempts(failed_over)
    assert "north/hangs" in first
    assert first.endswith("first_token_timeout")
    assert "south/parking" in second
    assert second.endswith("won")
    assert "completed after" in failed_over

    assert lane(hedged, "answer north").strip("░") == "×"
    assert "hedge: south was asked" in hedged
    first, second = attempts(hedged)
    assert "north/slow" in first
    assert first.endswith("stopped")
    assert second.endswith("won")
    assert "320 turns, 0 failed" in hedged
    assert "all traffic back at north" in hedged
    assert "the relay's own time before the first word" in hedged
    assert "cyan" not in ran.output, "a pipe has no colours"


def test_every_model_has_one_provider_and_something_to_say() -> None:
    found = models()
    assert len(found) == sum(len(scene.models) for scene in SCENES)
    assert {provider_of(model) for model in found} == {"north", "south"}
    assert all(behaviour["text"] for behaviour in found.values())
