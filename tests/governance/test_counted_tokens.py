"""Tokens that a generation counts for, in the limits of whoever asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.content import Usage
from relay.decision import CacheVerdict, Decision
from relay.governance.entry import counted_tokens
from relay.outcome import AttemptRecord
from tests.fakes.ends import end_of

ANSWER = Usage(100, 20, 120)


def attempt(used: Usage | None = None, *, is_winner: bool = False) -> AttemptRecord:
    record = AttemptRecord("a", "m", 0)
    record.usage, record.is_winner = used, is_winner
    return record


def test_an_answer_counts_once() -> None:
    assert counted_tokens(end_of(attempts=[attempt(is_winner=True)], usage=ANSWER)) == (100, 20)
    given_leg = attempt(ANSWER, is_winner=True)
    assert counted_tokens(end_of(attempts=[given_leg], usage=ANSWER)) == (100, 20)


def test_legs_beside_it_count_too() -> None:
    legs = [attempt(Usage(30, 4, 34)), attempt(), attempt(ANSWER, is_winner=True)]
    assert counted_tokens(end_of(attempts=legs, usage=ANSWER)) == (130, 24)


@pytest.mark.parametrize("verdict", ["hit", "semantic", "shared"])
def test_a_kept_answer_counts_nothing_but_what_was_asked_beside_it(verdict: CacheVerdict) -> None:
    decision = Decision(cache=verdict)
    for attempts, counted in (([], (0, 0)), ([attempt(Usage(7, 0, 7))], (7, 0))):
        end = replace(end_of(attempts=attempts, usage=ANSWER), decision=decision)
        assert counted_tokens(end) == counted


def test_a_prompt_that_was_left_asking_counts() -> None:
    end = replace(end_of(attempts=[attempt()], usage=ANSWER), decision=Decision(cache="miss"))
    assert counted_tokens(end) == (100, 20)
