"""The feed: one task while somebody looks, none while nobody does, and nobody is waited for."""

from __future__ import annotations

import asyncio

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
