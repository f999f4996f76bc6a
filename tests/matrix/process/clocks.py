"""The wall clock: put forward and back, in the middle of an answer, over the end of a day."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final

import pytest

from relay import server
from relay.governance import budget_scopes, periods
from relay.governance.budget_scopes import BudgetRow, HoldMemo
from relay.governance.clock_steps import ClockSteps
from relay.governance.roll import Roll
from relay.store import memory_limits, schema
from relay.store.base import Hold
from tests.fakes.h2_server import stream_chunks
from tests.fakes.relay_under_test import relay_under_test
from tests.matrix.process.place import Gated, ask, asking, ended, holds, soon
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, FACES, LIMIT_MICRO, WHOLE_MICRO, World, whole_answer, world

HOUR_S: Final = 3600.0


class WallClock:
    """Of this process: what `time.time` says, put forward or back; the monotonic one goes on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.step_s = 0.0
        now_ns = time.time_ns
        patch.setattr(time, "time_ns", lambda: now_ns() + round(self.step_s * 1e9))
        patch.setattr(time, "time", lambda: time.time_ns() / 1e9)

    def set(self, moment: datetime) -> None:
        """Let it be that moment now."""
        self.step_s += moment.timestamp() - time.time()


async def stepped_in_an_answer(stage: Stage) -> None:
    clock = WallClock(stage.patch)
    step_s = stage.draw.choice([HOUR_S, -HOUR_S])
    lab = Gated()
    async with world(stage, total_ms=60_000) as here:
        here.lab.routes[CHAT] = lab.script
        running = asking(here.relay, stage.draw.sample(FACES, k=2))
        await soon(lambda: lab.begun == 2)
        clock.step_s += step_s
        reply = await _answered(here, lab)
        assert reply.is_clean, "a new one goes as ever"
        for reply in await ended(running, 10):
            assert reply.is_clean, reply
        for booked in await here.booked(3):
            assert (booked.state, booked.cost_micro) == ("settled", WHOLE_MICRO)
            assert 0 <= booked.row["wall_us"] < 60e6


async def _answered(here: World, lab: Gated) -> Any:
    (asked,) = asking(here.relay, [here.face()])
    await soon(lambda: lab.begun == 3 or asked.done())
    lab.gate.set()
    (reply,) = await ended([asked], 10)
    return reply


def time_is_what_the_wall_says(patch: pytest.MonkeyPatch) -> None:
    """The monotonic clock: time limits go by the wall's."""
    by_the_wall = SimpleNamespace(
        monotonic=lambda: time.time(), time=lambda: time.time(), time_ns=lambda: time.time_ns()
    )
    patch.setattr(server, "time", by_the_wall)


async def put_forward_beside_others(stage: Stage) -> None:
    """A lease of 30 s looks an hour over to every other worker, and its owner lives."""
    clock = WallClock(stage.patch)
    lab = Gated()
    async with world(stage) as here:
        here.lab.routes[CHAT] = lab.script
        # Another process of another place: a lease of its own.
        stage.patch.setattr("relay.accounts.instance_id", lambda: "inst_second")
        document = {**here.document, "server": {"grpc": {"address": "127.0.0.2:0"}}}
        async with relay_under_test(document) as second:
            accounts = second.worker.accounts
            store = accounts._store
            assert store is not None
            await accounts.look_after(store)
            running = asking(here.relay, stage.draw.sample(FACES, k=2))
            await soon(lambda: lab.begun == 2)
            clock.step_s += stage.draw.uniform(60, HOUR_S)
            await accounts.look_after(store)
            lab.gate.set()
            for reply in await ended(running, 10):
                assert reply.is_clean, reply
            for booked in await here.booked(2):
                assert booked.state == "settled", "it was taken for dead"
                assert booked.cost_micro == WHOLE_MICRO


def every_lease_is_believed(patch: pytest.MonkeyPatch) -> None:
    """The wait after a step of the clock, in which whoever lives renews his lease."""
    patch.setattr(ClockSteps, "is_calm", lambda *_: True)


async def over_the_edge(stage: Stage) -> None:
    """An answer begins in one period of a budget and ends in the next."""
    clock = WallClock(stage.patch)
    period = stage.draw.choice(["day", "month"])
    edge = datetime(2031, stage.draw.randint(2, 12), 1, tzinfo=UTC)
    clock.set(edge - timedelta(seconds=20))
    lab = Gated()
    async with world(stage) as here:
        here.lab.routes[CHAT] = lab.script
        budget = here.rows.budget("key", here.key_id, LIMIT_MICRO, period=period)
        access = here.relay.worker.accounts.access
        assert access is not None
        assert await access.sync.look()
        running = asking(here.relay, [here.face()])
        await soon(lambda: lab.begun == 1)
        clock.set(edge + timedelta(seconds=5))
        lab.gate.set()
        (reply,) = await ended(running, 10)
        assert reply.is_clean
        await holds(lambda: not here.books.open_rows(), "its end is not booked")
        first_s = periods.start_s(period, "UTC", round((edge.timestamp() - 20) * 1e6))
        next_s = round(edge.timestamp())
        assert _settled(here, budget) == {first_s: WHOLE_MICRO}, "of the period it began in"
        assert (await here.ask(here.face(), "alone")).is_clean
        await here.quiet()
        assert _settled(here, budget) == {first_s: WHOLE_MICRO, next_s: WHOLE_MICRO}
        clock.set(edge - timedelta(seconds=10))  # back over it: nothing begins anew
        assert (await here.ask(here.face(), "alone")).is_clean
        await here.quiet()
        assert _settled(here, budget) == {first_s: 2 * WHOLE_MICRO, next_s: WHOLE_MICRO}
        clock.step_s = 0


def _settled(here: World, budget_id: str) -> dict[int, int]:
    found = here.books.rows("SELECT * FROM budget_periods WHERE budget_id = :id", id=budget_id)
    return {row["period_start_s"]: row["settled_micro"] for row in found}


def periods_do_not_end(patch: pytest.MonkeyPatch) -> None:
    """That a period ends while its budgets stay as they are."""
    known: dict[int, tuple[Hold, ...]] = {}

    def held(_: HoldMemo, budgets: tuple[BudgetRow, ...], now_us: int) -> tuple[Hold, ...]:
        return known.setdefault(id(budgets), budget_scopes.holds(budgets, now_us))

    patch.setattr(HoldMemo, "holds", held)


async def limits_neither_forget_nor_lock_out(stage: Stage) -> None:
    """A minute's worth, and no more of it by steps; and none of it is waited for an hour."""
    clock = WallClock(stage.patch)
    rpm = stage.draw.randint(2, 3)
    async with world(stage, {"limits": {"key": {"rpm": rpm}}}) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("lab"))
        for _ in range(rpm):
            assert (await ask(here.relay, here.face())).is_clean
        clock.step_s -= HOUR_S
        reply = await ask(here.relay, "json")
        assert reply.reason == "LIMIT_EXCEEDED", "by a step back nothing is gained"
        assert reply.retry_after_s is not None
        assert reply.retry_after_s <= 60, "and it counts from now on"
        clock.step_s += 62  # a minute, by the clock that was put back
        for _ in range(rpm):
            assert (await ask(here.relay, here.face())).is_clean, "it fills as ever"
        clock.step_s += 5 * HOUR_S
        for _ in range(rpm):
            assert (await ask(here.relay, here.face())).is_clean
        reply = await ask(here.relay, here.face())
        assert reply.reason == "LIMIT_EXCEEDED", "by a step forward it is full, and not more"
        await here.booked(3 * rpm)


def a_step_back_is_waited_out(patch: pytest.MonkeyPatch) -> None:
    """That a bucket whose clock is far ahead counts from now on."""
    for module in (memory_limits, __import__("relay.store.token_bucket").store.token_bucket):
        patch.setattr(module, "was_stepped_back", lambda *_: False)


async def keys_come_back(stage: Stage) -> None:
    """A key that ends in half an hour is over by a clock that is wrong, and good again by one that
    was put right."""
    clock = WallClock(stage.patch)
    async with world(stage) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("lab"))
        ends_us = time.time_ns() // 1000 + 1_800_000_000
        here.rows.change(schema.keys, here.key_id, expires_at_us=ends_us)
        access = here.relay.worker.accounts.access
        assert access is not None
        assert await access.sync.look()
        assert (await ask(here.relay, here.face())).is_clean
        clock.step_s += HOUR_S
        reply = await ask(here.relay, stage.draw.choice(["sse", "json"]))
        assert reply.code == "401", reply
        clock.step_s -= HOUR_S
        access.directory._taken_back_s = float("-inf")  # which is 10 s later
        assert await access.sync.look()
        assert (await ask(here.relay, here.face())).is_clean, "a good key stays refused"
        await here.booked(2)


def what_was_over_stays_over(patch: pytest.MonkeyPatch) -> None:
    """That keys which were put aside are looked at again."""
    patch.setattr(Roll, "take_back", lambda _: None)


ROWS = (
    Row(
        "P7",
        inject="the wall clock put an hour forward and back, in the middle of an answer; midnight"
        " and the end of a month with rows that are open",
        client="nothing: time limits go by the monotonic clock; a good key is good again once the"
        " clock is right",
        accounting="a row belongs to the period it was admitted in; nobody who lives is swept",
        retry="no period begins twice, no bucket gains by a step",
        parts=(
            Part("in_an_answer", stepped_in_an_answer, time_is_what_the_wall_says),
            Part("beside_others", put_forward_beside_others, every_lease_is_believed),
            Part("edge_of_a_period", over_the_edge, periods_do_not_end),
            Part("limits", limits_neither_forget_nor_lock_out, a_step_back_is_waited_out),
            Part("keys", keys_come_back, what_was_over_stays_over),
        ),
        also=(
            "tests/governance/test_periods.py",
            "tests/governance/test_clock_steps.py",
            "tests/store/test_token_bucket.py",
            "tests/credentials/test_clock_offset.py",
        ),
    ),
)
