"""Races of attempts that are nothing but their ends: who is asked, and how often the gate is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from relay.errors import AllAttemptsFailed, ConnectError, RelayError, Retry, StreamReset
from relay.outcome import AttemptRole
from relay.race import run_race


class Ended:
    """An attempt that fails with this, or is ready."""

    def __init__(self, error: RelayError | None) -> None:
        self.record: Any = SimpleNamespace(is_winner=False)
        self._error = error

    async def run_until_ready(self) -> None:
        if self._error is not None:
            raise self._error


class Gate:
    """Says what it is told to, in order; then yes."""

    def __init__(self, *says: bool) -> None:
        self.asked: list[str] = []
        self._says = list(says)

    def may_fail_over(self, step: Any) -> bool:
        self.asked.append(step)
        return self._says.pop(0) if self._says else True


def fails() -> RelayError:
    return ConnectError("no route")


async def raced(ends: dict[str, list[RelayError | None]], gate: Gate) -> tuple[Any, list[Any]]:
    """The winner, or the error, and who was started as what."""
    started: list[Any] = []

    def start(step: Any, role: AttemptRole) -> Any:
        started.append((step, role.value))
        return Ended(ends[step].pop(0))

    try:
        winner = await run_race(cast(Any, list(ends)), start, gate=cast(Any, gate))
    except AllAttemptsFailed as error:
        return error, started
    return winner, started


async def test_a_gate_that_said_no_is_not_asked_for_another() -> None:
    gate = Gate(False, True)
    error, started = await raced({"a": [fails()], "b": [None], "c": [None]}, gate)
    assert isinstance(error, AllAttemptsFailed)
    assert len(error.attempts) == 1
    assert error.__cause__ is error.attempts[0]
    assert (gate.asked, started) == (["b"], [("a", "primary")])


async def test_the_gate_is_asked_once_for_each_that_replaces_another() -> None:
    gate = Gate()
    winner, started = await raced({"a": [fails()], "b": [fails()], "c": [None]}, gate)
    assert winner.record.is_winner
    assert gate.asked == ["b", "c"]
    assert started == [("a", "primary"), ("b", "failover"), ("c", "failover")]


async def test_a_connection_that_was_stale_is_tried_again_free_and_once() -> None:
    stale = StreamReset("reset")
    stale.retry = Retry.IF_REUSED
    gate = Gate()
    error, started = await raced({"a": [stale, stale]}, gate)
    assert isinstance(error, AllAttemptsFailed)
    assert started == [("a", "primary"), ("a", "retry")]
    winner, started = await raced({"a": [stale, fails()], "b": [stale, None]}, gate)
    assert winner.record.is_winner
    assert started == [("a", "primary"), ("a", "retry"), ("b", "failover"), ("b", "retry")]
    assert gate.asked == ["b"]


async def test_several_failures_are_told_together() -> None:
    error, _ = await raced({"a": [fails()], "b": [fails()]}, Gate())
    assert isinstance(error.__cause__, ExceptionGroup)
    assert list(error.__cause__.exceptions) == list(error.attempts)


@pytest.mark.parametrize("retry", [Retry.NO, Retry.BEFORE_COMMIT])
async def test_what_nobody_can_mend_ends_it(retry: Retry) -> None:
    wrong = ConnectError("wrong")
    wrong.retry = retry
    end, started = await raced({"a": [wrong], "b": [None]}, Gate())
    assert isinstance(end, AllAttemptsFailed) is (retry is Retry.NO)
    assert len(started) == (1 if retry is Retry.NO else 2)
