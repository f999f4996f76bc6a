"""Plays of a worker: each leaves when it is stopped, told to its end, or looked at no more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from relay import logs
from relay.governance.known_secrets import KnownSecrets
from relay.observability.live import play as plays
from relay.observability.live.play import GONE_S, MAX_KNOWN, MAX_PLAYS, PlayDesk, new_id
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer
from tests.fakes.virtual_time import on_virtual_time

NOW_S = 1_800_000_000.0


def order(**more: Any) -> dict[str, Any]:
    return {"id": new_id(), "by_s": NOW_S + 1, "model": "fast", "prompt": "Hello", **more}


def desk_of(scenario: Scenario) -> PlayDesk:
    return PlayDesk(scenario.services, lambda: NOW_S)


def slow() -> FakeEndpoint:
    return FakeEndpoint(chunks=answer(*["word "] * 50, gap_s=0.5))


def quick(*words: str) -> FakeEndpoint:
    return FakeEndpoint(chunks=answer(*words or ("Hi",)))


async def told(desk: PlayDesk, play_id: str) -> list[dict[str, Any]]:
    """Look as the page does, to the end."""
    looks = []
    while (look := desk.more(play_id)) is not None:
        looks.append(look)
        await asyncio.sleep(0.04)
    return looks


@on_virtual_time
async def test_many_are_stopped_and_another_begins() -> None:
    scenario = Scenario({"a": slow()})
    desk = desk_of(scenario)
    for _ in range(3 * MAX_PLAYS):
        begun = desk.begin(order())
        assert "id" in begun
        await asyncio.sleep(0.2)
        desk.stop(begun["id"])
        desk.stop(begun["id"])
        assert desk.more(begun["id"]) is None
        await asyncio.sleep(0.05)
    await desk.aclose()
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_so_many_run_and_no_more() -> None:
    scenario = Scenario({"a": slow()})
    desk = desk_of(scenario)
    begun = [desk.begin(order()) for _ in range(MAX_PLAYS)]
    assert "refused" in desk.begin(order())
    desk.stop(begun[0]["id"])
    # What is stopped counts until it has let go of its provider.
    assert "refused" in desk.begin(order())
    await asyncio.sleep(0.05)
    assert "id" in desk.begin(order())
    await desk.aclose()
    await desk.aclose()
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_one_id_begins_once() -> None:
    scenario = Scenario({"a": slow()})
    desk = desk_of(scenario)
    wanted = order()
    assert desk.begin(wanted) == desk.begin(wanted) == {"id": wanted["id"]}
    await asyncio.sleep(0.2)
    desk.stop(wanted["id"])
    assert desk.begin(wanted) == {"refused": "it was begun before, and is over"}
    # A stop may come first: what was ordered lay in a socket.
    late = order()
    desk.stop(late["id"])
    assert "refused" in desk.begin(late)
    assert desk.begin(order(by_s=NOW_S - 0.1)) == {"refused": "it came too late"}
    for _ in range(2 * MAX_KNOWN):
        desk.stop(new_id())
    assert len(desk._known) == MAX_KNOWN
    await asyncio.sleep(0.05)
    await desk.aclose()
    await scenario.settled()
    assert [row.streams_opened for row in scenario.transport.describe()] == [1]
    scenario.check()


@pytest.mark.parametrize("endpoint", [slow, quick], ids=["runs", "is over"])
@on_virtual_time
async def test_whoever_has_gone_leaves_nothing(endpoint: Any) -> None:
    scenario = Scenario({"a": endpoint()})
    desk = desk_of(scenario)
    play_id = desk.begin(order())["id"]
    await asyncio.sleep(1.0)
    assert desk.more(play_id) is not None or endpoint is quick
    for _ in range(MAX_PLAYS - 1):
        desk.begin(order())
    await asyncio.sleep(GONE_S + 0.1)
    assert (desk._plays, desk._ending) == ({}, set())
    assert desk.more(play_id) is None
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_who_looks_on_is_told_all_and_the_end_once() -> None:
    scenario = Scenario({"a": slow()})
    desk = desk_of(scenario)
    looks = await told(desk, desk.begin(order())["id"])
    assert "".join(text for look in looks for _, _, text in look["pieces"]) == "word " * 50
    assert [look["end"]["status"] for look in looks if look["end"] is not None] == ["OK"]
    await scenario.settled()
    scenario.check()


@pytest.mark.parametrize(("bound", "most"), [("MAX_CHARS", 12), ("MAX_HELD_PIECES", 3)])
@on_virtual_time
async def test_what_one_holds_is_bounded(
    monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(plays, bound, most)
    scenario = Scenario({"a": slow()})
    desk = desk_of(scenario)
    looks = []
    play_id = desk.begin(order())["id"]
    await asyncio.sleep(4.0)
    looks = await told(desk, play_id)
    text = "".join(text for look in looks for _, _, text in look["pieces"])
    assert text == ("word " * 50)[: most if bound == "MAX_CHARS" else 15]
    assert looks[-1]["end"]["reason"] == "CLIENT_CANCELLED"
    await scenario.settled()
    scenario.check()


@pytest.fixture
def knowing() -> Iterator[str]:
    secret = "sk-canary-0123456789abcdef"
    logs.hide_with(KnownSecrets([secret]).hide)
    yield secret
    logs.hide_with(str)


@pytest.mark.usefixtures("knowing")
@on_virtual_time
async def test_an_error_tells_no_key() -> None:
    scenario = Scenario({"a": quick()})
    desk = desk_of(scenario)
    looks = await told(desk, desk.begin(order(model="sk-canary-0123456789abcdef"))["id"])
    assert looks[-1]["end"]["reason"] == "UNKNOWN_MODEL"
    assert "canary" not in str(looks)
