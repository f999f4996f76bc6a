"""A kept answer, given again."""

from __future__ import annotations

import asyncio

import pytest

from relay.cache.replay import MAX_EVENTS, StoredAnswer
from relay.cache.stored import Batch, Stored
from relay.content import Events, ResponseInfo, StreamEvent, TextDelta
from relay.errors import StreamReset
from tests.cache.world import INFO, STOP, USAGE, WALL_S, wall_s
from tests.fakes.virtual_time import START_S, now_s, on_virtual_time, since_start_s

PACED = Stored(
    "acme",
    "large",
    0.0,
    7,
    [
        Batch(0, [INFO, TextDelta("a")]),
        Batch(200_000, [TextDelta("b")]),
        Batch(5_000_000, [TextDelta("c")]),
        Batch(100_000, [STOP, USAGE]),
    ],
)


def again(stored: Stored = PACED, max_gap_s: float = 0.0) -> StoredAnswer:
    return StoredAnswer(stored, max_gap_s=max_gap_s, clock=now_s, wall_clock=wall_s)


def texts(events: Events) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@on_virtual_time
async def test_everything_comes_at_once() -> None:
    answer = again()
    assert texts(answer.prelude) == "abc"
    assert answer.prelude[-2:] == [STOP, USAGE]
    assert answer.is_over
    assert await answer.read() == ()
    assert since_start_s() == 0


@on_virtual_time
async def test_it_says_who_answered() -> None:
    answer = again()
    assert (answer.provider, answer.model, answer.name) == ("acme", "large", "acme/large")
    assert answer.marks.at_s == {"first_content": START_S}
    assert answer.text_source() is None
    assert answer.output_bytes is None
    answer.spent(USAGE)


@on_virtual_time
async def test_it_is_another_response_each_time() -> None:
    infos = [next(e for e in again().prelude if isinstance(e, ResponseInfo)) for _ in range(2)]
    assert len({INFO.response_id, *(info.response_id for info in infos)}) == 3
    for info in infos:
        assert info.response_id.startswith("chatcmpl-")
        assert info.created_s == int(WALL_S + START_S)
        assert info.model == INFO.model
    assert PACED.batches[0].events[0] is INFO, "what is kept is not touched"


@pytest.mark.parametrize(
    ("old", "prefix"), [("resp_01ab", "resp_"), ("", ""), ("0a1b2c3d-4e", ""), ("gen-17", "gen-")]
)
def test_ids_are_of_their_kind(old: str, prefix: str) -> None:
    stored = Stored("p", "m", 0.0, None, [Batch(0, [ResponseInfo(old, "m", 1), TextDelta("a")])])
    info = StoredAnswer(stored, max_gap_s=0.0, clock=lambda: 0.0, wall_clock=lambda: 0.0).prelude[0]
    assert isinstance(info, ResponseInfo)
    assert info.response_id.startswith(prefix)
    assert (info.response_id == old) == (old == "")


@on_virtual_time
async def test_paced_it_comes_as_the_first_time_with_no_long_pause() -> None:
    answer = again(max_gap_s=1.0)
    seen = [(since_start_s(), texts(answer.prelude))]
    while events := await answer.read():
        seen.append((since_start_s(), texts(events)))
    assert seen == [(0.0, "a"), (0.2, "b"), (1.2, "c"), (1.3, "")]
    assert answer.is_over


@on_virtual_time
async def test_a_slow_reader_is_not_slowed_again() -> None:
    answer = again(max_gap_s=1.0)
    await asyncio.sleep(10)
    assert texts(await answer.read()) == "bc"
    assert await answer.read() == ()
    assert since_start_s() == 10


@on_virtual_time
async def test_cancelled_while_it_waits_nothing_is_lost() -> None:
    answer = again(max_gap_s=1.0)
    reading = asyncio.ensure_future(answer.read())
    await asyncio.sleep(0.1)
    reading.cancel()
    await asyncio.wait([reading])
    assert texts(await answer.read()) == "b"


@pytest.mark.parametrize("end", ["abort", "fail"])
def test_left_it_gives_no_more(end: str) -> None:
    @on_virtual_time
    async def story() -> None:
        answer = again(max_gap_s=1.0)
        if end == "abort":
            answer.abort()
        else:
            answer.fail(StreamReset("gone"))
        answer.abort()
        assert answer.is_over
        assert await answer.read() == ()

    story()


@on_virtual_time
async def test_a_large_answer_comes_in_bounded_batches() -> None:
    events: list[StreamEvent] = [TextDelta("x") for _ in range(2 * MAX_EVENTS + 10)]
    answer = again(Stored("p", "m", 0.0, None, [Batch(0, [INFO, *events, STOP])]))  # type: ignore[list-item]
    sizes = [len(answer.prelude)]
    while more := await answer.read():
        sizes.append(len(more))
    assert sizes == [MAX_EVENTS, MAX_EVENTS, 12]
