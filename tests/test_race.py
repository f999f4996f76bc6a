"""The race for the first content: rows of providers on the virtual clock, with exact times.

Each row says how the providers behave and what must come of it: who was asked and when, whose
stream was reset, who won or which failure speaks for all.
"""

from __future__ import annotations

import asyncio
import math
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
from relay.outcome import AttemptOutcome
from relay.race import run_race
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


async def race(scenario: Scenario, *, with_top_k: bool = False) -> tuple[Attempt, list[Attempt]]:
    wanted = request(sampling=WITH_TOP_K) if with_top_k else request()
    made: list[Attempt] = []

    def start(step: PlannedAttempt) -> Attempt:
        made.append(scenario.start(step, wanted))
        return made[-1]

    return await run_race(scenario.plan(wanted).attempts, start), made


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_race(row: Row) -> None:
    @on_virtual_time
    async def check() -> None:
        scenario = Scenario(
            row.endpoints, fallbacks=row.fallbacks, refuses=row.refuses, timeouts=row.timeouts
        )
        winner, reason = "", None
        try:
            attempt, made = await race(scenario, with_top_k=row.with_top_k)
        except AllAttemptsFailed as error:
            reason = error.reason
        else:
            winner = attempt.target.endpoint.provider
            assert [one for one in made if one.record.is_winner] == [attempt]
            assert all(one.is_over for one in made if one is not attempt)
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


@on_virtual_time
async def test_bug_in_one_attempt_ends_the_race() -> None:
    scenario = Scenario({"a": FAST, "b": FAST})

    def start(step: PlannedAttempt) -> Attempt:
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
