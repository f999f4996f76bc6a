"""`relay demo`: the scripted call, played whole by a process of its own."""

from __future__ import annotations

import pytest

from relay.commands import demo
from tests.fakes.command import relay_command

pytestmark = pytest.mark.sockets


async def test_the_call_is_played_to_its_end() -> None:
    ran = await relay_command("demo")
    assert (ran.status, ran.errors) == (0, "")
    titles = [ran.output.index(scene.title) for scene in demo.SCENES]
    assert titles == sorted(titles)
    turn, barged, failed_over, hedged = (
        ran.output[start:end] for start, end in zip(titles, [*titles[1:], None], strict=True)
    )
    assert str(demo.MODELS["hours"]["text"]) in turn
    assert "completed after" in turn
    # The provider had more to say than the caller let it.
    assert "barge-in: the provider's stream was reset" in barged
    assert "cancelled after" in barged
    assert str(demo.MODELS["doctors"]["text"]) not in barged
    assert str(demo.MODELS["booking"]["text"]) in failed_over
    attempts = [line for line in failed_over.splitlines() if line.startswith("  attempt ")]
    assert len(attempts) == 2
    assert "north/hangs" in attempts[0]
    assert attempts[0].endswith("first_token_timeout")
    assert "south/booking" in attempts[1]
    assert attempts[1].endswith("won")
    assert "completed after" in failed_over
    assert str(demo.MODELS["reminder"]["text"]) in hedged
    attempts = [line for line in hedged.splitlines() if line.startswith("  attempt ")]
    assert "north/slow" in attempts[0]
    assert attempts[0].endswith("stopped")
    assert attempts[1].endswith("won")
    assert "320 turns, 0 failed" in hedged
    assert "all traffic back at north" in hedged
    assert "the relay's own time before the first word" in hedged
    assert "cyan" not in ran.output, "a pipe has no colours"
