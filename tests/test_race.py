"""The race for the first content: rows of providers on the virtual clock, with exact times.

Each row says how the providers behave and what must come of it: who was asked and when, whose
stream was reset, who won or which failure speaks for all.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from relay.attempt import Attempt
from relay.errors import (
    AllAttemptsFailed,
    ConnectError,
    ConnectTimeout,
    FirstTokenTimeout,
    Reason,
    RelayError,
    Retry,
    StreamRefused,
    StreamReset,
    StreamTruncated,
    UnsupportedFeature,
    UpstreamStatus,
    leading_failure,
)
from relay.outcome import AttemptOutcome, AttemptRole
from relay.race import OPEN_GATE, Gate, TimedStart, run_race
from relay.routing.plan import PlannedAttempt
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.relay_under_test import chunk
from tests.fakes.scenario import ERROR, ROLE, WITH_TOP_K, Rows, Scenario, answer, request
from tests.fakes.virtual_time import on_virtual_time, run, since_start_s

FAST = FakeEndpoint(headers_s=0.25, chunks=answer("Hi", first_s=0.25))
REFUSED = FakeEndpoint(connect_s=0.125, fault=ConnectError("refused"), fault_at="connect")
SILENT = FakeEndpoint(headers_s=math.inf)
OVERLOADED = FakeEndpoint(headers_s=0.25, status=503, chunks=[(0.0, b"busy")])
REJECTS = FakeEndpoint(
    headers_s=0.25, status=400, chunks=[(0.0, b'{"error": {"message": "bad tool"}}')]
)
STALE = FakeEndpoint(headers_s=0.5, fault=StreamReset("gone", reused=True))


@dataclass
class Row:
    """What happens to a request."""

    name: str
    endpoints: Rows
    started: list[tuple[str, float]]
    aborted: list[tuple[str, float]] = field(default_factory=list)
    winner: str = ""
    error: Reason | None = None
    at_s: float = 0.0
    """When it was won or lost."""
    fallbacks: tuple[str, ...] = ()
    refuses: dict[str, list[str]] = field(default_factory=dict)
    with_top_k: bool = False
    timeouts: dict[str, int] = field(default_factory=dict)
    hedges: list[tuple[float, str]] = field(default_factory=list)
    """Delay after the last start, and at whom ("" for the next in line)."""
    again_s: float | None = None
    gate: Gate = OPEN_GATE
    losers: str = ""
    """Who ran when another won, in the order of their starts."""


class Shut:
    """A gate that pays for nothing."""

    def may_hedge(self, step: PlannedAttempt) -> bool:
        return False

    def may_replace_hedge(self, step: PlannedAttempt) -> bool:
        return False

    def may_fail_over(self, step: PlannedAttempt) -> bool:
        return False


class PaysOnce:
    """A gate that pays for a hedge, and not for one in its place."""

    def may_hedge(self, step: PlannedAttempt) -> bool:
        return True

    def may_replace_hedge(self, step: PlannedAttempt) -> bool:
        return False

    def may_fail_over(self, step: PlannedAttempt) -> bool:
        return True


class SlowPayer:
    """A gate that pays the second time it is asked."""

    def __init__(self) -> None:
        self.times = 0

    def may_hedge(self, step: PlannedAttempt) -> bool:
        self.times += 1
        return self.times == 2

    def may_replace_hedge(self, step: PlannedAttempt) -> bool:
        return True

    def may_fail_over(self, step: PlannedAttempt) -> bool:
        return True


SLOW = FakeEndpoint(headers_s=0.25, chunks=answer("Hi", first_s=2.75))
FAILS_LATE = FakeEndpoint(headers_s=2.0, status=503, chunks=[(0.0, b"busy")])

HEDGED_ROWS = [
    Row(
        "a hedge whose time does not come costs nothing",
        {"a": FAST, "b": FAST},
        [("a", 0.0)],
        winner="a",
        at_s=0.5,
        hedges=[(1.0, "b")],
    ),
    Row(
        "the hedge overtakes a slow first",
        {"a": SLOW, "b": FAST},
        [("a", 0.0), ("b", 1.0)],
        aborted=[("a", 1.5)],
        winner="b",
        losers="a",
        at_s=1.5,
        hedges=[(1.0, "b")],
    ),
    Row(
        "the first overtakes its hedge",
        {"a": SLOW, "b": FAST},
        [("a", 0.0), ("b", 2.75)],
        aborted=[("b", 3.0)],
        winner="a",
        losers="b",
        at_s=3.0,
        hedges=[(2.75, "b")],
    ),
    Row(
        "ready in the same moment, the first wins",
        {"a": SLOW, "b": FAST},
        [("a", 0.0), ("b", 2.5)],
        aborted=[("b", 3.0)],
        winner="a",
        losers="b",
        at_s=3.0,
        hedges=[(2.5, "b")],
    ),
    Row(
        "who is second is the plan's to say",
        {"a": SLOW, "b": FAST, "c": FAST},
        [("a", 0.0), ("c", 1.0)],
        aborted=[("a", 1.5)],
        winner="c",
        losers="a",
        at_s=1.5,
        hedges=[(1.0, "c")],
    ),
    Row(
        "a failure starts the next at once, and no other hedge is left then",
        {"a": REFUSED, "b": SLOW},
        [("a", 0.0), ("b", 0.125)],
        winner="b",
        at_s=3.125,
        hedges=[(1.0, "b")],
    ),
    Row(
        "the hedge that was meant for one who runs already goes to the next",
        {"a": REFUSED, "b": SLOW, "c": FAST},
        [("a", 0.0), ("b", 0.125), ("c", 1.125)],
        aborted=[("b", 1.625)],
        winner="c",
        losers="b",
        at_s=1.625,
        hedges=[(1.0, "b")],
    ),
    Row(
        "the hedge is the replacement of a first that fails beside it",
        {"a": FakeEndpoint(headers_s=1.25, status=503), "b": FAST, "c": FAST},
        [("a", 0.0), ("b", 1.0)],
        winner="b",
        at_s=1.5,
        hedges=[(1.0, "b")],
    ),
    Row(
        "a hedge that fails is replaced at once",
        {"a": SLOW, "b": REFUSED, "c": FAST},
        [("a", 0.0), ("b", 1.0), ("c", 1.125)],
        aborted=[("a", 1.625)],
        winner="c",
        losers="a",
        at_s=1.625,
        hedges=[(1.0, "b")],
    ),
    Row(
        "and so is its replacement",
        {"a": SLOW, "b": REFUSED, "c": OVERLOADED, "d": FAST},
        [("a", 0.0), ("b", 1.0), ("c", 1.125), ("d", 1.375)],
        aborted=[("a", 1.875)],
        winner="d",
        losers="a",
        at_s=1.875,
        hedges=[(1.0, "b")],
    ),
    Row(
        "the next hedge counts from the replacement",
        {"a": SILENT, "b": REFUSED, "c": SILENT, "d": FAST},
        [("a", 0.0), ("b", 1.0), ("c", 1.125), ("d", 1.625)],
        aborted=[("a", 2.125), ("c", 2.125)],
        winner="d",
        losers="ac",
        at_s=2.125,
        hedges=[(1.0, "b"), (0.5, "")],
    ),
    Row(
        "a hedge that fails leaves the first alone when nobody is left",
        {"a": SLOW, "b": REFUSED},
        [("a", 0.0), ("b", 1.0)],
        winner="a",
        at_s=3.0,
        hedges=[(1.0, "b")],
    ),
    Row(
        "or when that cannot be paid",
        {"a": SLOW, "b": REFUSED, "c": FAST},
        [("a", 0.0), ("b", 1.0)],
        winner="a",
        at_s=3.0,
        hedges=[(1.0, "b")],
        gate=PaysOnce(),
    ),
    Row(
        "fallbacks do not replace a hedge",
        {"x": FAST, "a": SLOW, "b": REFUSED},
        [("a", 0.0), ("b", 1.0)],
        winner="a",
        at_s=3.0,
        fallbacks=("x",),
        hedges=[(1.0, "b")],
    ),
    Row(
        "when both have failed the next starts at once",
        {"a": FakeEndpoint(headers_s=1.5, status=503), "b": REFUSED, "c": FAST},
        [("a", 0.0), ("b", 1.0), ("c", 1.5)],
        winner="c",
        at_s=2.0,
        hedges=[(1.0, "b")],
        gate=PaysOnce(),
    ),
    Row(
        "what one refuses another may still answer, and nobody else is asked",
        {"a": SLOW, "b": REJECTS, "c": FAST},
        [("a", 0.0), ("b", 1.0)],
        winner="a",
        at_s=3.0,
        hedges=[(1.0, "b"), (0.5, "c")],
    ),
    Row(
        "who fails after another has refused the request is not replaced",
        {"a": FAILS_LATE, "b": REJECTS, "c": FAST},
        [("a", 0.0), ("b", 1.0)],
        error=Reason.UPSTREAM_REJECTED,
        at_s=2.0,
        hedges=[(1.0, "b")],
    ),
    Row(
        "a gate that pays when it is asked again",
        {"a": SLOW, "b": FAST},
        [("a", 0.0), ("b", 1.75)],
        aborted=[("a", 2.25)],
        winner="b",
        losers="a",
        at_s=2.25,
        hedges=[(1.0, "b")],
        again_s=0.75,
        gate=SlowPayer(),
    ),
    Row(
        "a gate that does not pay",
        {"a": SLOW, "b": FAST},
        [("a", 0.0)],
        winner="a",
        at_s=3.0,
        hedges=[(1.0, "b")],
        gate=Shut(),
    ),
    Row(
        "a gate that does not pay for the next either",
        {"a": REFUSED, "b": FAST},
        [("a", 0.0)],
        error=Reason.UPSTREAM_UNREACHABLE,
        at_s=0.125,
        hedges=[(1.0, "b")],
        gate=Shut(),
    ),
    Row(
        "fallbacks are never hedged to",
        {"x": FAST, "a": SLOW},
        [("a", 0.0)],
        winner="a",
        at_s=3.0,
        fallbacks=("x",),
        hedges=[(1.0, "")],
    ),
    Row(
        "three at once",
        {"a": SLOW, "b": SLOW, "c": FAST},
        [("a", 0.0), ("b", 0.0), ("c", 0.0)],
        aborted=[("a", 0.5), ("b", 0.5)],
        winner="c",
        losers="ab",
        at_s=0.5,
        hedges=[(0.0, "b"), (0.0, "c")],
    ),
    Row(
        "a further hedge counts from the one before",
        {"a": SILENT, "b": SILENT, "c": FAST},
        [("a", 0.0), ("b", 1.0), ("c", 1.5)],
        aborted=[("a", 2.0), ("b", 2.0)],
        winner="c",
        losers="ab",
        at_s=2.0,
        hedges=[(1.0, ""), (0.5, "")],
    ),
    Row(
        "a stale connection of the hedge is tried again, free",
        {"a": SLOW, "b": [STALE, FAST]},
        [("a", 0.0), ("b", 1.0), ("b", 1.5)],
        aborted=[("a", 2.0)],
        winner="b",
        losers="a",
        at_s=2.0,
        hedges=[(1.0, "b")],
    ),
]

ROWS = [
    Row("the first answers", {"a": FAST, "b": FAST}, [("a", 0.0)], winner="a", at_s=0.5),
    Row(
        "the next starts the moment one fails",
        {"a": REFUSED, "b": FAST},
        [("a", 0.0), ("b", 0.125)],
        winner="b",
        at_s=0.625,
    ),
    Row(
        "candidates before fallbacks, both in order",
        {"x": FAST, "a": REFUSED, "b": OVERLOADED},
        [("a", 0.0), ("b", 0.125), ("x", 0.375)],
        winner="x",
        at_s=0.875,
        fallbacks=("x",),
    ),
    Row(
        "silence is waited for as long as its limit",
        {"a": SILENT, "b": FAST},
        [("a", 0.0), ("b", 4.0)],
        aborted=[("a", 4.0)],
        winner="b",
        at_s=4.5,
    ),
    Row(
        "no connection in time",
        {"a": FakeEndpoint(connect_s=math.inf), "b": FAST},
        [("a", 0.0), ("b", 0.5)],
        winner="b",
        at_s=1.0,
        timeouts={"connect_ms": 500},
    ),
    Row(
        "an error event before any content",
        {"a": FakeEndpoint(chunks=[(0.5, ROLE), (0.5, ERROR), (9.0, ROLE)]), "b": FAST},
        [("a", 0.0), ("b", 1.0)],
        aborted=[("a", 1.0)],
        winner="b",
        at_s=1.5,
    ),
    Row(
        "an answer cut before any content",
        {"a": FakeEndpoint(chunks=[(0.5, ROLE)]), "b": FAST},
        [("a", 0.0), ("b", 0.5)],
        winner="b",
        at_s=1.0,
    ),
    Row(
        "an empty but clean answer wins",
        {"a": FakeEndpoint(chunks=[(0.5, chunk(finish="stop"))]), "b": FAST},
        [("a", 0.0)],
        winner="a",
        at_s=0.5,
    ),
    Row(
        "a stale connection is tried again at once, free",
        {"a": [STALE, FAST], "b": FAST},
        [("a", 0.0), ("a", 0.5)],
        winner="a",
        at_s=1.0,
    ),
    Row(
        "a stale connection is tried again only once",
        {"a": STALE, "b": FAST},
        [("a", 0.0), ("a", 0.5), ("b", 1.0)],
        winner="b",
        at_s=1.5,
    ),
    Row(
        "every target has its own free try",
        {"a": STALE, "b": [STALE, FAST]},
        [("a", 0.0), ("a", 0.5), ("b", 1.0), ("b", 1.5)],
        winner="b",
        at_s=2.0,
    ),
    Row(
        "a reset on a new connection is not free",
        {"a": FakeEndpoint(headers_s=0.5, fault=StreamReset("gone")), "b": FAST},
        [("a", 0.0), ("b", 0.5)],
        winner="b",
        at_s=1.0,
    ),
    Row(
        "a request found wrong by the provider ends it",
        {"a": REJECTS, "b": FAST},
        [("a", 0.0)],
        error=Reason.UPSTREAM_REJECTED,
        at_s=0.25,
    ),
    Row(
        "a refusal after failures speaks for them",
        {"a": OVERLOADED, "b": REJECTS, "c": FAST},
        [("a", 0.0), ("b", 0.25)],
        error=Reason.UPSTREAM_REJECTED,
        at_s=0.5,
    ),
    Row(
        "a wire that cannot say it is passed over",
        {"a": FAST, "b": FAST},
        [("b", 0.0)],
        winner="b",
        at_s=0.5,
        refuses={"a": ["top_k"]},
        with_top_k=True,
    ),
    Row(
        "no wire can say it",
        {"a": FAST, "b": FAST},
        [],
        error=Reason.UNSUPPORTED_FEATURE,
        at_s=0.0,
        refuses={"a": ["top_k"], "b": ["top_k"]},
        with_top_k=True,
    ),
    Row(
        "one wire cannot say it, the other is busy: that can pass",
        {"a": FAST, "b": OVERLOADED},
        [("b", 0.0)],
        error=Reason.UPSTREAM_OVERLOADED,
        at_s=0.25,
        refuses={"a": ["top_k"]},
        with_top_k=True,
    ),
    Row(
        "all fail: the last word is told",
        {"a": REFUSED, "b": FakeEndpoint(fault=StreamRefused("goaway")), "c": OVERLOADED},
        [("a", 0.0), ("b", 0.125), ("c", 0.125)],
        error=Reason.UPSTREAM_OVERLOADED,
        at_s=0.375,
    ),
    Row(
        "the only one fails",
        {"a": REFUSED},
        [("a", 0.0)],
        error=Reason.UPSTREAM_UNREACHABLE,
        at_s=0.125,
    ),
]


async def race(
    scenario: Scenario,
    *,
    with_top_k: bool = False,
    hedges: Sequence[tuple[float, str]] = (),
    again_s: float | None = None,
    gate: Gate = OPEN_GATE,
    made: list[Attempt] | None = None,
) -> tuple[Attempt, list[Attempt]]:
    wanted = request(sampling=WITH_TOP_K) if with_top_k else request()
    made = [] if made is None else made

    def start(step: PlannedAttempt, role: AttemptRole) -> Attempt:
        made.append(scenario.start(step, wanted, role))
        return made[-1]

    plan = scenario.plan(wanted)
    steps = {step.target.endpoint.provider: step for step in plan.attempts}
    timed = [TimedStart(delay_s, steps.get(name), again_s) for delay_s, name in hedges]
    winner = await run_race(plan.attempts, start, hedges=timed, gate=gate, reaper=scenario.reaper)
    return winner, made


@pytest.mark.parametrize("row", ROWS + HEDGED_ROWS, ids=lambda row: row.name)
def test_race(row: Row) -> None:
    @on_virtual_time
    async def check() -> None:
        scenario = Scenario(
            row.endpoints, fallbacks=row.fallbacks, refuses=row.refuses, timeouts=row.timeouts
        )
        winner, reason, made = "", None, list[Attempt]()
        try:
            attempt, _ = await race(
                scenario,
                with_top_k=row.with_top_k,
                hedges=row.hedges,
                again_s=row.again_s,
                gate=row.gate,
                made=made,
            )
        except AllAttemptsFailed as error:
            reason = error.reason
        else:
            winner = attempt.target.endpoint.provider
            assert [one for one in made if one.record.is_winner] == [attempt]
            assert all(one.is_over for one in made if one is not attempt)
        lost = [one for one in made if one.record.is_loser]
        assert "".join(one.target.endpoint.provider for one in lost) == row.losers
        assert {one.record.outcome for one in lost} <= {AttemptOutcome.IGNORED}
        for _ in range(2):  # those that had no stream yet are told through their tasks
            await asyncio.sleep(0)
        assert (winner, reason) == (row.winner, row.error)
        assert since_start_s() == row.at_s
        assert scenario.started == row.started
        assert scenario.aborted == row.aborted
        if winner:
            attempt.abort()
        await scenario.settled()
        scenario.check()

    check()


# --- what a lost race says ------------------------------------------------------------------


async def failure_of(rows: Rows) -> AllAttemptsFailed:
    scenario = Scenario(rows)
    with pytest.raises(AllAttemptsFailed) as raised:
        await race(scenario)
    await scenario.settled()
    return raised.value


def test_lost_race_carries_every_failure() -> None:
    error = run(failure_of({"a": REFUSED, "b": OVERLOADED, "c": SILENT}))
    assert [type(failure) for failure in error.attempts] == [
        ConnectError,
        UpstreamStatus,
        FirstTokenTimeout,
    ]
    assert isinstance(error.__cause__, ExceptionGroup)
    assert error.leading is error.attempts[-1]
    assert error.public_message.endswith("(3 attempts failed)")
    assert error.status_code == error.leading.status_code
    assert error.retry is Retry.NO


def test_lost_race_of_one_reads_like_its_failure() -> None:
    error = run(failure_of({"a": REFUSED}))
    assert error.public_message == "refused"
    assert error.__cause__ is error.leading


def test_free_try_that_fails_counts_once() -> None:
    error = run(failure_of({"a": STALE}))
    assert [type(failure) for failure in error.attempts] == [StreamReset]


UNSUPPORTED = UnsupportedFeature("top_k", "openai")
BUSY = UpstreamStatus("busy", reason=Reason.UPSTREAM_OVERLOADED, http_status=503)
WRONG = UpstreamStatus("wrong", reason=Reason.UPSTREAM_REJECTED, http_status=400)


@pytest.mark.parametrize(
    ("failures", "leading"),
    [
        ([BUSY], BUSY),
        ([BUSY, ConnectTimeout("late")], 1),
        ([WRONG, BUSY], WRONG),
        ([BUSY, WRONG], WRONG),
        ([UNSUPPORTED, UNSUPPORTED], UNSUPPORTED),
        ([UNSUPPORTED, BUSY], BUSY),
        ([BUSY, UNSUPPORTED], BUSY),
        ([UNSUPPORTED, WRONG], WRONG),
    ],
)
def test_which_failure_leads(failures: list[RelayError], leading: RelayError | int) -> None:
    expected = failures[leading] if isinstance(leading, int) else leading
    assert leading_failure(failures) is expected


# --- cancelled, and bugs --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_s", "aborted"),
    [
        pytest.param(0.0625, [("a", 0.0625)], id="while the first connects"),
        pytest.param(0.25, [("b", 0.25)], id="while the second waits for headers"),
        pytest.param(0.5, [("b", 0.5)], id="while the second waits for content"),
    ],
)
def test_cancelled_race_leaves_nothing_behind(
    at_s: float, aborted: list[tuple[str, float]]
) -> None:
    @on_virtual_time
    async def check() -> None:
        scenario = Scenario({"a": REFUSED, "b": FAST, "c": FAST})
        task = asyncio.ensure_future(race(scenario))
        asyncio.get_running_loop().call_later(at_s, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert scenario.aborted == aborted
        assert "c" not in dict(scenario.started)
        await scenario.settled()
        scenario.check()

    check()


def cancelled_in(step: int) -> tuple[Scenario, list[Attempt], bool]:
    """A race of two that is cancelled in that iteration of the loop; whether it was over before."""
    scenario = Scenario({"a": SLOW, "b": FAST})
    made: list[Attempt] = []
    tasks: list[asyncio.Task[tuple[Attempt, list[Attempt]]]] = []

    async def main() -> bool:
        tasks.append(asyncio.ensure_future(race(scenario, hedges=[(1.0, "b")], made=made)))
        await asyncio.wait(tasks)
        if not tasks[0].cancelled():
            tasks[0].result()[0].abort()
        await scenario.settled()
        return not tasks[0].cancelled()

    def strike() -> None:
        tasks[0].cancel()

    was_over = run(main(), at_step={step: strike})
    return scenario, made, was_over


def test_cancelled_in_any_turn_of_the_loop_both_are_gone() -> None:
    for step in range(2, 100):
        scenario, made, was_over = cancelled_in(step)
        scenario.check()
        assert all(one.is_over for one in made), step
        if was_over:
            break
        assert not any(one.record.is_winner or one.record.is_loser for one in made)
        assert all(one.record.ended_us >= one.record.started_us for one in made)
    else:
        raise AssertionError("never over")
    assert step > 8


@on_virtual_time
async def test_bug_in_one_attempt_ends_the_race() -> None:
    scenario = Scenario({"a": FAST, "b": FAST})

    def start(step: PlannedAttempt, role: AttemptRole) -> Attempt:
        raise KeyError(step.target.name)

    with pytest.raises(KeyError):
        await run_race(scenario.plan().attempts, start)
    assert scenario.started == []


@on_virtual_time
async def test_truncated_after_content_is_the_owners_to_tell() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer("Hi")[:2]), "b": FAST})
    attempt, made = await race(scenario)
    assert len(made) == 1
    with pytest.raises(StreamTruncated):
        await attempt.read()
    assert attempt.record.outcome is AttemptOutcome.FAILURE
    assert attempt.record.is_winner
    await scenario.settled()
    scenario.check()
