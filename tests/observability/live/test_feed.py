"""The feed: one task while somebody looks, none while nobody does, and nobody is waited for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.observability.live import feed as feeds
from relay.observability.live.feed import MAX_VIEWERS, MAX_WAITING, Feed, TooManyViewers
from relay.observability.live.joined import Joined
from tests.fakes.relay_under_test import eventually
from tests.observability.live.ends import request, tell, won
from tests.observability.live.fleet import Fleet
from tests.observability.live.test_joined import worker
from tests.observability.live.test_recorder import Clock


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(worker(0, Clock()))


async def until(viewer: feeds.Viewer, wanted: bytes) -> bytes:
    async with asyncio.timeout(5):
        while wanted not in (data := await viewer.next()):
            pass
    return data


async def test_all_there_is_comes_first_then_what_ends(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "TICK_S", 0.05)
    tell(fleet.recorders[0], won(), request(), "gen_old", "generate")
    async with Feed(Joined(fleet)) as feed:
        viewer = await feed.join()
        first = await viewer.next()
        assert b"event: picture" in first
        assert b"event: recent" in first
        assert b"gen_old" in first
        tell(fleet.recorders[0], won(), request(), "gen_new", "generate")
        assert b"gen_new" in await until(viewer, b"event: ends")
        assert b"findings" in await until(viewer, b"event: picture")


async def test_nobody_is_asked_while_nobody_looks(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "TICK_S", 0.05)
    async with Feed(Joined(fleet)) as feed:
        assert fleet.asked == 0
        viewer, other = await feed.join(), await feed.join()
        await eventually(lambda: fleet.asked > 3)
        feed.leave(viewer)
        feed.leave(other)
        feed.leave(other)
        asked = fleet.asked
        tasks = [task for task in asyncio.all_tasks() if task.get_name() == "live feed"]
        await asyncio.gather(*tasks, return_exceptions=True)
        assert fleet.asked == asked
        assert (feed.viewers, feed._task) == (0, None)


async def test_who_joins_after_the_last_one_left_starts_none_beside(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task before may be slow to end: it is in the middle of a look."""
    monkeypatch.setattr(feeds, "TICK_S", 0.05)
    running = most = 0
    let_go = asyncio.Event()

    async def slow_to_end(feed: Feed) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.Event().wait()
        finally:
            await let_go.wait()
            running -= 1

    monkeypatch.setattr(Feed, "_run", slow_to_end)
    feed = Feed(Joined(fleet))
    viewer = await feed.join()
    await eventually(lambda: running == 1)
    feed.leave(viewer)
    joins = [asyncio.create_task(feed.join()) for _ in range(2)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert running == 1
    let_go.set()
    await asyncio.gather(*joins)
    await asyncio.sleep(0)
    assert (running, most, feed.viewers) == (1, 1, 2)
    await feed.aclose()
    assert running == 0


async def test_closing_awaits_what_the_last_viewer_left(fleet: Fleet) -> None:
    feed = Feed(Joined(fleet))
    feed.leave(await feed.join())
    await feed.aclose()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "live feed"]


async def test_who_joins_while_it_closes_starts_nothing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = asyncio.Event()
    ask = fleet.ask

    async def late(what: str, *given: Any, **more: Any) -> dict[int, Any]:
        await answers.wait()
        return await ask(what, *given, **more)

    monkeypatch.setattr(fleet, "ask", late)
    feed = Feed(Joined(fleet))
    joining = asyncio.create_task(feed.join())
    await eventually(lambda: feed.viewers == 1)
    await feed.aclose()
    answers.set()
    viewer = await joining
    assert viewer.dropped.is_set()
    assert (await viewer.next(), feed._task) == (b"", None)


async def test_a_slow_viewer_is_dropped_and_the_others_go_on(fleet: Fleet) -> None:
    async with Feed(Joined(fleet)) as feed:
        slow, quick = await feed.join(), await feed.join()
        for _ in range(MAX_WAITING + 1):
            feed._tell("ends", [])
            await quick.next()
        assert slow.dropped.is_set()
        assert await slow.next() == b""
        assert not quick.dropped.is_set()


async def test_so_many_and_no_more(fleet: Fleet) -> None:
    async with Feed(Joined(fleet)) as feed:
        viewers = [await feed.join() for _ in range(MAX_VIEWERS)]
        with pytest.raises(TooManyViewers):
            await feed.join()
        feed.leave(viewers[0])
        await feed.join()


async def test_a_look_that_fails_does_not_end_the_feed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(feeds, "TICK_S", 0.05)
    async with Feed(Joined(fleet)) as feed:
        viewer = await feed.join()
        await viewer.next()
        held, fleet.recorders = fleet.recorders, {0: None}  # type: ignore[dict-item]
        asked = fleet.asked
        await eventually(lambda: fleet.asked > asked + 1)
        fleet.recorders = held
        await until(viewer, b"event: picture")
    assert "live_bug" in capsys.readouterr().out


async def test_closing_lets_everybody_go(fleet: Fleet) -> None:
    feed = Feed(Joined(fleet))
    viewer = await feed.join()
    await viewer.next()
    await feed.aclose()
    await feed.aclose()
    assert viewer.dropped.is_set()
