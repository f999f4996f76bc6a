"""Time limits, turns, and leaving alone who is gone: on a virtual clock."""

from __future__ import annotations

import asyncio

import pytest

from relay.guardrails.asking import CannotTell, Opinion, Question, Shown
from relay.guardrails.timed import FAILURES, Timed
from tests.fakes.virtual_time import now_s, on_virtual_time
from tests.guardrails.worlds import SCOPE, FakeAsker

GOOD = Question("input", (Shown("user", "fine"),), SCOPE)


def timed(asker: FakeAsker, **more: float) -> Timed:
    return Timed(
        asker,
        timeout_s=more.get("timeout_s", 1.0),
        at_once=int(more.get("at_once", 2)),
        idle_s=more.get("idle_s", 10.0),
        max_chars=100,
        clock=now_s,
    )


async def why(made: Timed, question: Question = GOOD) -> str:
    """Why it cannot tell."""
    with pytest.raises(CannotTell) as caught:
        await made.ask(question)
    return str(caught.value)


@on_virtual_time
async def test_an_opinion_comes_through() -> None:
    made = timed(FakeAsker("bad", took_s=0.5))
    assert await made.ask(GOOD) == Opinion(is_bad=False, label="bad")
    bad = Question("output", (Shown("assistant", "so bad"),), SCOPE)
    assert (await made.ask(bad)).is_bad


@on_virtual_time
async def test_who_hangs_costs_the_limit_and_is_given_up() -> None:
    asker = FakeAsker(took_s=3600)
    began_s = now_s()
    assert await why(timed(asker)) == "no answer in time"
    assert now_s() - began_s == 1.0
    assert asker.cancelled == 1


@on_virtual_time
async def test_three_failures_and_nobody_waits_for_the_fourth() -> None:
    asker = FakeAsker(took_s=3600)
    made = timed(asker)
    for _ in range(FAILURES):
        await why(made)
    began_s = now_s()
    for _ in range(100):
        assert await why(made) == "left alone"
    assert now_s() == began_s
    assert len(asker.questions) == FAILURES


@on_virtual_time
async def test_one_question_finds_out_whether_it_is_back() -> None:
    asker = FakeAsker(fails=True)
    made = timed(asker)
    for _ in range(FAILURES):
        await why(made)
    await asyncio.sleep(10)
    asker.took_s = 0.5
    first = asyncio.create_task(why(made))
    await asyncio.sleep(0.1)
    assert await why(made) == "left alone"  # one at a time
    assert await first == "dead"
    assert await why(made) == "left alone"
    await asyncio.sleep(10)
    asker.fails = False
    assert not (await made.ask(GOOD)).is_bad
    assert not (await made.ask(GOOD)).is_bad
    assert not made.is_idle


@on_virtual_time
async def test_who_is_busy_is_not_gone() -> None:
    asker = FakeAsker(took_s=0.9)
    made = timed(asker)
    tasks = [asyncio.create_task(made.ask(GOOD)) for _ in range(8)]
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(one, Opinion) for one in found) == 2
    assert {str(one) for one in found if isinstance(one, CannotTell)} == {"busy"}
    assert not made.is_idle
    assert not (await made.ask(GOOD)).is_bad


@on_virtual_time
async def test_more_than_it_may_be_shown_is_no_opinion() -> None:
    asker = FakeAsker()
    long = Question("input", (Shown("user", "x" * 60), Shown("user", "x" * 60)), SCOPE)
    assert await why(timed(asker), long) == "too long"
    assert not asker.questions


@on_virtual_time
async def test_a_cancel_goes_on_and_says_nothing_of_it() -> None:
    asker = FakeAsker(took_s=0.5)
    made = timed(asker)
    for _ in range(FAILURES + 1):
        task = asyncio.create_task(made.ask(GOOD))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert asker.cancelled == FAILURES + 1
    assert not made.is_idle
    assert not (await made.ask(GOOD)).is_bad


@on_virtual_time
async def test_a_cancelled_probe_lets_the_next_one_try() -> None:
    asker = FakeAsker(fails=True)
    made = timed(asker)
    for _ in range(FAILURES):
        await why(made)
    await asyncio.sleep(10)
    asker.fails, asker.took_s = False, 0.5
    task = asyncio.create_task(made.ask(GOOD))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait([task])
    assert not (await made.ask(GOOD)).is_bad


class Buggy(FakeAsker):
    async def ask(self, question: Question) -> Opinion:
        raise KeyError("a bug")


@on_virtual_time
async def test_a_bug_in_it_is_no_opinion() -> None:
    assert await why(timed(Buggy())) == "a bug"


@on_virtual_time
async def test_it_closes_what_it_asks() -> None:
    asker = FakeAsker()
    await timed(asker).aclose()
    assert asker.is_closed
