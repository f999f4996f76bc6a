"""Log probabilities as providers give them, and as they should not."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest

from relay.policy.confidence import LEAST, Confidence, probability_of

YES, NO = frozenset({"yes"}), frozenset({"no"})


def value(*logprobs: Any) -> bytes:
    return orjson.dumps({"content": [{"token": "x", "logprob": one} for one in logprobs]})


def test_the_mean_and_the_least_of_the_first() -> None:
    found = Confidence(3)
    assert not found.is_low(-0.1, -0.1)
    found.take(value(-1.0))
    found.take(value(-0.5, -3.0, -9.0))
    assert found.is_full
    assert (found.tokens, found.mean, found.least) == (3, -1.5, -3.0)
    assert found.is_low(-1.4, None)
    assert found.is_low(None, -2.9)
    assert not found.is_low(-1.6, -3.1)


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'{"content": null}',
        b'{"content": [null, 1, "x", {}]}',
        b'{"content": [{"logprob": "0"}, {"logprob": true}, {"logprob": null}]}',
        b'{"refusal": [{"logprob": -1}]}',
    ],
)
def test_odd_values_count_for_nothing(odd: bytes) -> None:
    found = Confidence()
    found.take(odd)
    assert found.tokens == 0


def test_nothing_is_known_at_first() -> None:
    assert Confidence(3).mean is None


def test_bounds() -> None:
    found = Confidence()
    found.take(value(-9999.0, 3.0))
    assert (found.least, found.mean) == (LEAST, LEAST / 2)


def test_a_list_alone_is_read_too() -> None:
    found = Confidence()
    found.take(orjson.dumps([{"token": "x", "logprob": -1.0}]))
    assert found.tokens == 1


def of(token: str, logprob: float, **others: float) -> bytes:
    top = [{"token": name, "logprob": one} for name, one in others.items()]
    entry = {"token": token, "logprob": logprob, "top_logprobs": top}
    return orjson.dumps({"content": [entry]})


def test_yes_against_no() -> None:
    share = probability_of([of("Yes", math.log(0.6), Yes=math.log(0.6), No=math.log(0.2))], YES, NO)
    assert share == pytest.approx(0.75)
    assert probability_of([of("no", math.log(0.9))], YES, NO) == 0.0
    assert probability_of([of(" Y", math.log(0.9))], YES, NO) == 1.0  # the beginning of it
    assert probability_of([of("maybe", -0.1)], YES, NO) is None
    assert probability_of([], YES, NO) is None


def test_blanks_before_the_word_are_passed() -> None:
    assert probability_of([of("\n", -0.1), of("**", -0.1), of("Yes", -0.1)], YES, NO) == 1.0
