"""What a loop hands to the thread that writes, and hears of it: over a writer that is a list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from relay.store.base import StoreUnavailable
from relay.store.sqlite_books import Books
from relay.store.sqlite_ledger import MAX_WAITING, SWEEP_ROWS, SqliteLedger, _call, _set_done
from relay.store.sqlite_writer import Operation
from tests.fakes.accounts import NOW_US, hold, opened, settled, started


class Writer:
    """Writes when it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[Operation]] = []
        self.written = 0
        self.failure: str | None = None
        self.lost: dict[int, str] = {}
        self.lost_ever = 0
        self.stopped: list[Callable[[], None]] = []

    def put(self, operations: list[Operation]) -> None:
        self.batches.append(operations)

    def stop(self, done: Callable[[], None]) -> None:
        self.stopped.append(done)

    @property
    def methods(self) -> list[object]:
        """Of all that was handed over."""
        return [one.method for batch in self.batches for one in batch]


def ledger(writer: Writer, linger_s: float = 3600.0) -> SqliteLedger:
    made = SqliteLedger(Path("nowhere.db"), linger_s=linger_s)
    made._loop = asyncio.get_running_loop()
    made._writer = cast(Any, writer)
    made._lease = ("inst", "place", NOW_US)
    return made


def future_of(operation: Operation) -> asyncio.Future[Any]:
    """Of whoever waits for it."""
    assert operation.future is not None
    return operation.future


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


# --- handing over -----------------------------------------------------------------------------


async def test_before_it_is_open_everything_is_refused_but_questions() -> None:
    made = SqliteLedger(Path("nowhere.db"))
    assert (made.waiting, made.failure, made.operations_lost) == (0, "", 0)
    with pytest.raises(StoreUnavailable, match="not open"):
        made.open(opened())
    with pytest.raises(StoreUnavailable, match="not open"):
        made.settle(settled(), ())
    with pytest.raises(StoreUnavailable, match="not open"):
        await made.committed(1)
    await made.aclose()


async def test_what_nobody_waits_for_goes_together_and_in_order_once_it_has_lingered() -> None:
    writer = Writer()
    made = ledger(writer, linger_s=0.0)
    tickets = [made.open(opened()), made.attempt("gen_1", started()), made.settle(settled(), ())]
    assert tickets == [1, 2, 3]
    assert (made.waiting, writer.batches) == (3, [])
    await turns()
    assert [[one.method for one in batch] for batch in writer.batches] == [
        [Books.open, Books.attempt, Books.settle]
    ]
    assert [one.ticket for one in writer.batches[0]] == tickets
    assert made._timer is None
    writer.written = 2
    assert made.waiting == 1
    made.open(opened("gen_2"))
    await turns()
    assert writer.methods[-1] is Books.open


async def test_who_waits_takes_along_what_has_lingered_and_nothing_lingers_after() -> None:
    writer = Writer()
    made = ledger(writer)
    made.open(opened())
    asking = asyncio.create_task(made.reserve(opened("gen_2", [hold()]), (5, 3)))
    await turns()
    assert writer.methods == [Books.open, Books.reserve]
    assert made._timer is None
    made._deliver([(future_of(writer.batches[0][1]), 5, None)])
    assert await asking == 5
    assert writer.batches[0][1].arguments == (opened("gen_2", [hold()]), (5, 3))


async def test_what_is_asked_comes_with_its_arguments() -> None:
    writer = Writer()
    made = ledger(writer)
    asking = [
        asyncio.create_task(made.extend("gen_1", [hold()], 7)),
        asyncio.create_task(made.renew(NOW_US, 1.5)),
        asyncio.create_task(made.sweep(NOW_US, SWEEP_ROWS + 1)),
        asyncio.create_task(made.sweep(NOW_US, 2)),
    ]
    await turns()
    operations = [one for batch in writer.batches for one in batch]
    assert [one.arguments for one in operations] == [
        ("gen_1", [hold()], 7),
        ("inst", "place", NOW_US, NOW_US + 1_500_000),
        (NOW_US, SWEEP_ROWS),
        (NOW_US, 2),
    ]
    made._deliver([(future_of(one), 4, None) for one in operations])
    assert [await one for one in asking] == [None, None, 4, 4]


async def test_an_error_is_who_asked_and_of_one_that_left_nobodys() -> None:
    writer = Writer()
    made = ledger(writer)
    left = asyncio.create_task(made.sweep(NOW_US, 1))
    asks = asyncio.create_task(made.sweep(NOW_US, 1))
    await turns()
    left.cancel()
    await asyncio.wait([left])
    first, second = (future_of(batch[0]) for batch in writer.batches)
    made._deliver([(first, 1, None), (second, None, StoreUnavailable("locked"))])
    with pytest.raises(StoreUnavailable, match="locked"):
        await asks


async def test_while_nothing_can_be_written_only_ends_are_taken() -> None:
    writer = Writer()
    made = ledger(writer)
    writer.failure = "disk full"
    assert made.failure == "disk full"
    with pytest.raises(StoreUnavailable, match="disk full"):
        made.open(opened())
    with pytest.raises(StoreUnavailable, match="disk full"):
        made.attempt("gen_1", started())
    with pytest.raises(StoreUnavailable, match="disk full"):
        await made.reserve(opened(), (1,))
    assert made.settle(settled(), ()) == 1
    with pytest.raises(StoreUnavailable, match="disk full"):
        await made.committed(1)


async def test_no_more_waits_than_may() -> None:
    writer = Writer()
    made = ledger(writer)
    made._ticket = MAX_WAITING
    made.open(opened())
    with pytest.raises(StoreUnavailable, match="too much"):
        made.open(opened())
    writer.written = 1
    made.open(opened())


# --- what came of it --------------------------------------------------------------------------


async def test_what_is_written_is_not_waited_for_and_what_was_lost_is_told() -> None:
    writer = Writer()
    made = ledger(writer)
    tickets = [made.open(opened(f"gen_{number}")) for number in range(3)]
    writer.written = 3
    writer.lost = {2: "too long"}
    await made.committed(tickets[0])
    with pytest.raises(StoreUnavailable, match="too long"):
        await made.committed(tickets[1])
    await made.committed(tickets[2])
    assert writer.batches == [], "and nothing is hurried for it"


async def test_whoever_waits_is_woken_in_turn_as_far_as_it_is_written() -> None:
    writer = Writer()
    made = ledger(writer)
    tickets = [made.open(opened(f"gen_{number}")) for number in range(3)]
    waiting = [asyncio.create_task(made.committed(ticket)) for ticket in reversed(tickets)]
    await turns()
    assert len(writer.methods) == 3
    writer.written = 2
    made._deliver([])
    await turns()
    assert [task.done() for task in waiting] == [False, True, True]
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    writer.written = 3
    made._deliver([])
    assert made._waiters == []


async def test_a_failure_is_told_to_all_who_wait() -> None:
    writer = Writer()
    made = ledger(writer)
    tickets = [made.open(opened(f"gen_{number}")) for number in range(3)]
    waiting = [asyncio.create_task(made.committed(ticket)) for ticket in tickets]
    await turns()
    waiting[1].cancel()
    writer.written, writer.failure = 1, "disk full"
    made._deliver([])
    await asyncio.wait(waiting)
    assert waiting[0].exception() is None
    assert isinstance(waiting[2].exception(), StoreUnavailable)
    assert made._waiters == []


@pytest.mark.parametrize("fails", [True, False])
async def test_a_batch_that_ends_while_its_waiter_sits_down_wakes_it(fails: bool) -> None:
    """The writer's thread looks for waiters before there is one."""

    class Quick(Writer):
        def put(self, operations: list[Operation]) -> None:
            super().put(operations)
            if fails:
                self.failure = "disk full"
            else:
                self.written = operations[-1].ticket

    made = ledger(Quick())
    ticket = made.open(opened())
    async with asyncio.timeout(5):
        if fails:
            with pytest.raises(StoreUnavailable, match="disk full"):
                await made.committed(ticket)
        else:
            await made.committed(ticket)
    assert made._waiters == []


async def test_the_thread_wakes_the_loop_only_for_somebody() -> None:
    made = ledger(Writer())
    called: list[object] = []

    class Loop:
        def call_soon_threadsafe(self, function: object, *arguments: object) -> None:
            called.append(arguments)

    made._loop = cast(Any, Loop())
    made._tell([])
    assert called == []
    future = asyncio.get_running_loop().create_future()
    made._tell([(future, 1, None)])
    made._waiters.append((1, 1, future))
    made._tell([])
    assert called == [([(future, 1, None)],), ([],)]


async def test_a_loop_that_is_closed_has_nobody_who_waits() -> None:
    made = ledger(Writer())

    class Closed:
        def call_soon_threadsafe(self, *_: object) -> None:
            raise RuntimeError("Event loop is closed")

    made._loop = cast(Any, Closed())
    future = asyncio.get_running_loop().create_future()
    made._tell([(future, 1, None)])
    _call(cast(Any, Closed()), _set_done, future)
    assert not future.done()


async def test_done_is_said_once() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    _call(asyncio.get_running_loop(), _set_done, future)
    await turns()
    assert future.done()
    _set_done(future)


# --- the end ----------------------------------------------------------------------------------


async def test_closing_hands_over_what_is_left_and_lets_go_of_who_still_waits() -> None:
    writer = Writer()
    made = ledger(writer)
    ticket = made.open(opened())
    waiting = asyncio.create_task(made.committed(ticket))
    await turns()
    made.settle(settled(), ())
    closing = [asyncio.create_task(made.aclose()) for _ in range(2)]
    await turns()
    assert writer.methods == [Books.open, Books.settle]
    assert len(writer.stopped) == 1
    assert not closing[0].done()
    writer.stopped[0]()
    await asyncio.wait(closing)
    with pytest.raises(StoreUnavailable, match="closed"):
        await waiting
    assert (made.waiting, made._waiters) == (0, [])
    with pytest.raises(StoreUnavailable, match="not open"):
        made.settle(settled(), ())
