"""Who is first and who is second, by table; the tail of pairs against brute force."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.routing.choose import (
    Mode,
    Pair,
    Sort,
    Survival,
    TargetStats,
    best_pair,
    hedged_quantile_s,
    pick_second,
    rank,
)
from tests.fakes.properties import examples

WELL = TargetStats()
OUT = TargetStats(wait_s=30.0, share=0.0)
SOON = TargetStats(wait_s=2.0)
SLOW = TargetStats(level_s=2.0, p50_s=2.0)
RAMP = TargetStats(share=0.25)


@pytest.mark.parametrize(
    ("stats", "order", "is_last_resort"),
    [
        ([WELL, WELL], (0, 1), False),
        ([OUT, WELL, SOON], (1, 2, 0), False),
        ([OUT, SOON], (1, 0), True),
        ([OUT], (0,), True),
        ([WELL], (0,), False),
        ([RAMP, WELL], (1, 0), False),
        ([RAMP, OUT], (0, 1), False),
        ([SLOW, WELL], (0, 1), False),
    ],
)
def test_ordered(stats: list[TargetStats], order: tuple[int, ...], is_last_resort: bool) -> None:
    ranking = rank(stats, draw=lambda: 0.5)
    assert (ranking.order, ranking.is_last_resort) == (order, is_last_resort)


def test_a_target_that_is_brought_back_gets_its_share() -> None:
    rng = random.Random(1)
    firsts = [rank([RAMP, WELL], draw=rng.random).order[0] for _ in range(2000)]
    assert 0.22 < firsts.count(0) / 2000 < 0.28


@pytest.mark.parametrize(
    ("stats", "sort", "order"),
    [
        ([TargetStats(price=3), TargetStats(price=1), TargetStats(price=2)], "cheapest", (1, 2, 0)),
        ([TargetStats(price=None), TargetStats(price=9)], "cheapest", (1, 0)),
        ([TargetStats(price=9), TargetStats(price=0)], "cheapest", (1, 0)),
        ([TargetStats(p50_s=0.9), TargetStats(p50_s=0.3)], "fastest", (1, 0)),
    ],
)
def test_sorted(stats: list[TargetStats], sort: str, order: tuple[int, ...]) -> None:
    assert rank(stats, sort=Sort(sort)).order == order


def test_balanced_by_level_and_load_with_hysteresis() -> None:
    def first(stats: list[TargetStats], last_first: int | None = None) -> int:
        return rank(stats, mode=Mode.BALANCED, last_first=last_first).order[0]

    assert first([SLOW, WELL]) == 1
    assert first([TargetStats(level_s=0.60), TargetStats(level_s=0.57)], last_first=0) == 0
    assert first([TargetStats(level_s=0.60), TargetStats(level_s=0.50)], last_first=0) == 1
    assert first([TargetStats(utilisation=0.5), TargetStats(level_s=0.61)]) == 0
    assert first([TargetStats(utilisation=0.9), TargetStats(level_s=1.0)]) == 1


def test_a_warm_cache_holds_a_session_until_there_is_trouble() -> None:
    warm = TargetStats(level_s=0.9, is_warm=True)
    assert rank([WELL, warm], mode=Mode.BALANCED).order == (1, 0)
    assert rank([WELL, warm]).order == (1, 0)
    assert rank([WELL, warm._replace(share=0.0, wait_s=9.0)]).order == (0, 1)


def test_tail_mode_takes_the_first_of_the_best_pair_while_it_is_well() -> None:
    stats = [WELL, SLOW]
    assert rank(stats, mode=Mode.TAIL, tail_first=1).order == (1, 0)
    assert rank([WELL, OUT], mode=Mode.TAIL, tail_first=1).order == (0, 1)
    assert rank(stats, mode=Mode.TAIL).order == (0, 1)


def test_tail_mode_gives_some_first_places_to_who_is_not_known() -> None:
    stats = [WELL, WELL._replace(is_known=False), SLOW._replace(is_known=False)]
    for draw, first in ((0.19, 1), (0.2, 0)):
        order = rank(stats, mode=Mode.TAIL, tail_first=0, draw=lambda: draw).order  # noqa: B023
        assert order[0] == first
    assert rank(stats, mode=Mode.BALANCED).order[0] == 0
    warm = [WELL._replace(is_warm=True), *stats[1:]]
    assert rank(warm, mode=Mode.TAIL, tail_first=0).order[0] == 0, "a warm session stays"
    out = [WELL, OUT._replace(is_known=False)]
    assert rank(out, mode=Mode.TAIL, tail_first=0).order[0] == 0


def survival_of(samples_s: list[float]) -> Survival:
    ordered = sorted(samples_s)
    count = len(ordered)
    return Survival(tuple(ordered), tuple(1 - (at + 1) / count for at in range(count)))


@examples(60)
@given(st.integers(0, 10_000), st.floats(0.05, 3.0))
def test_tail_of_a_pair_is_that_of_its_draws(seed: int, delay_s: float) -> None:
    rng = random.Random(seed)
    xs = [rng.lognormvariate(-0.5, 0.9) for _ in range(60)]
    ys = [rng.lognormvariate(-0.3, 0.5) for _ in range(60)]
    # Every combination is as likely: the exact distribution of the pair.
    combined = sorted(min(x, delay_s + y) for x in xs for y in ys)
    exact_s = combined[int(0.99 * len(combined))]
    estimate_s = hedged_quantile_s(survival_of(xs), survival_of(ys), delay_s)
    below = combined[max(0, int(0.985 * len(combined)))]
    above = combined[min(len(combined) - 1, int(0.995 * len(combined)))]
    assert below <= estimate_s <= above, exact_s


def heavy(rng: random.Random, p50_s: float, tail_s: float) -> list[float]:
    return [
        tail_s * rng.random() + p50_s if rng.random() < 0.04 else p50_s * (0.8 + 0.4 * rng.random())
        for _ in range(2000)
    ]


def test_best_pair_weighs_the_tail_and_bounds_the_median() -> None:
    rng = random.Random(2)
    spiky = survival_of(heavy(rng, 0.5, 8.0))
    steady = survival_of([0.58 * (0.9 + 0.2 * rng.random()) for _ in range(2000)])
    slow = survival_of([1.5 * (0.9 + 0.2 * rng.random()) for _ in range(2000)])
    pair = best_pair([spiky, steady, slow], trigger_share=0.96)
    assert pair.first == 1, "its p99 alone is under any hedged p99 of the spiky one"
    assert best_pair([spiky, slow], trigger_share=0.96).first == 0, "too slow to be first"
    only = best_pair([spiky], trigger_share=0.96)
    assert only == Pair(0, None, None, spiky.quantile_s(0.99))


@pytest.mark.parametrize(
    ("median", "tail", "first"),
    [
        (1.2, 3.0, 1),  # a quarter more in every turn: any less tail is worth it
        (1.5, 2.0, 1),  # half more: if it leaves 0.6 of the tail
        (1.5, 3.0, 0),
        (1.7, 1.8, 0),  # far more: whatever it brings
    ],
)
def test_a_slower_first_must_bring_the_more(median: float, tail: float, first: int) -> None:
    spiky = survival_of([1.0] * 970 + [4.0] * 30)
    steady = survival_of([median] * 970 + [tail] * 30)
    # So alike in their tails that no hedge helps.
    assert best_pair([spiky, steady], trigger_share=0.99).first == first


def test_who_is_first_stays_by_what_is_known_of_it_now() -> None:
    def steady(p99_s: float, median_s: float = 1.0) -> Survival:
        return survival_of([median_s] * 970 + [p99_s] * 30)

    def first(*survivals: Survival, kept: int) -> int:
        return best_pair(survivals, trigger_share=0.995, kept=kept).first

    assert first(steady(1.1), steady(1.05), kept=0) == 0, "a tenth better is not enough"
    assert first(steady(1.2), steady(1.05), kept=0) == 1
    assert first(steady(9.0), steady(2.0), kept=0) == 1, "it was better once"
    assert first(steady(2.1, median_s=2.0), steady(2.2), kept=0) == 1, "its median has grown"


def test_second_is_the_one_that_cuts_the_tail_and_the_cheaper_of_equals() -> None:
    rng = random.Random(4)
    primary = survival_of(heavy(rng, 0.5, 8.0))
    fast = survival_of([0.6 * (0.9 + 0.2 * rng.random()) for _ in range(2000)])
    slow = survival_of([3.0 * (0.9 + 0.2 * rng.random()) for _ in range(2000)])
    with_slow, with_fast = (hedged_quantile_s(primary, other, 1.0) for other in (slow, fast))
    assert pick_second([(with_slow, 1.0), (with_fast, 5.0)]) == 1
    assert pick_second([(with_fast, 9.0), (with_fast * 1.04, 5.0)]) == 1
    assert pick_second([(with_fast, 5.0), (with_fast, 5.0)]) == 0
    assert pick_second([]) is None
    same = [False, True]
    doors = [(with_fast, 5.0), (with_fast * 1.04, 9.0)]
    assert pick_second(doors, is_same_model=same) == 1, "another door to the same model"
    no_help = [(with_fast, 5.0), (with_slow, 1.0)]
    assert pick_second(no_help, is_same_model=same) == 0
