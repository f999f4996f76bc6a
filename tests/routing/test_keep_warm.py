"""When a second place for a session's prefix is the cheaper."""

from __future__ import annotations

import pytest

from relay.prices import Price
from relay.routing.keep_warm import MOST_READS, is_worth_keeping, reads

HAIKU = Price(1.0, 0.1, 5.0)


@pytest.mark.parametrize(
    ("hedges", "turns", "lasts_s", "is_worth"),
    [
        (0.05, 10, 180, False),  # 0.45 prefix prices saved, 1.25 spent
        (0.05, 20, 400, False),
        (0.05, 40, 800, True),
        (0.10, 20, 400, True),
        (0.10, 10, 180, False),
        (0.15, 10, 180, True),
        (0.0, 1000, 180, False),
        (0.15, 10, 7200, False),  # few turns in two hours: it is read 30 times for them
    ],
)
def test_it_takes_many_hedges_a_session(
    hedges: float, turns: float, lasts_s: float, is_worth: bool
) -> None:
    found = is_worth_keeping(HAIKU, 3000, hedges=hedges, turns=turns, lasts_s=lasts_s)
    assert found is is_worth


def test_where_the_cache_makes_nothing_cheaper_it_is_never() -> None:
    flat = Price(1.0, 1.0, 5.0)
    assert not is_worth_keeping(flat, 3000, hedges=1.0, turns=1000, lasts_s=60)


def test_a_small_prefix_is_not_worth_the_tokens_of_its_answers() -> None:
    assert is_worth_keeping(HAIKU, 3000, hedges=0.15, turns=10, lasts_s=180)
    assert not is_worth_keeping(HAIKU, 50, hedges=0.15, turns=10, lasts_s=180)


def test_reads_are_bounded() -> None:
    assert [reads(s) for s in (-1.0, 0.0, 239.0, 240.0, 1e9)] == [0, 0, 0, 1, MOST_READS]
