from __future__ import annotations

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from relay.policy.rolling import LastShare, Lately, RollingQuantile
from tests.fakes.properties import examples


@given(st.lists(st.integers(0, 20), min_size=1), st.integers(1, 10), st.floats(0, 1))
@examples(60)
def test_the_quantile_is_of_the_last_values(values: list[int], size: int, share: float) -> None:
    one = RollingQuantile(size)
    assert one.quantile(share) is None
    for value in values:
        one.add(value)
    last = sorted(values[-size:])
    assert len(one) == len(last)
    assert one.quantile(share) == last[max(0, ceil(share * len(last)) - 1)]


def test_names_are_remembered_within_a_bound() -> None:
    one = Lately(2)
    assert [one.is_new(name) for name in ("a", "b", "a", "c", "a", "c")] == [
        True,
        True,
        False,
        True,
        True,
        False,
    ]
    assert len(one) == 2
    assert one.is_new("")
    assert one.is_new("")


@given(st.lists(st.booleans()), st.integers(1, 10))
@examples(60)
def test_the_share_is_of_the_last_answers(answers: list[bool], size: int) -> None:
    one = LastShare(size)
    for is_bad in answers:
        one.add(is_bad)
    last = answers[-size:]
    assert one.bad == sum(last)
    assert one.is_full == (len(last) == size)
    assert one.share == (sum(last) / len(last) if last else 0.0)
