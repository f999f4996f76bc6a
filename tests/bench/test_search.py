"""Searching the largest load, straight lines, and what strangers take of a core."""

from __future__ import annotations

import random

import pytest

from bench.fit import straight
from bench.pinned import DISTURBED, busy_ns, holds_undisturbed
from bench.search import largest


@pytest.mark.parametrize("start", [1, 7, 100, 5000])
def test_the_largest_is_found_wherever_the_search_begins(start: int) -> None:
    for true in [*range(1, 40), 99, 100, 101, 777, 4000]:
        asked: list[int] = []

        def holds(number: int, true: int = true, asked: list[int] = asked) -> bool:
            asked.append(number)
            return number <= true

        found = largest(holds, start, limit=4000, resolution=0.05)
        assert found <= true
        assert found >= min(true, int(0.95 * true))
        assert len(asked) == len(set(asked)) <= 24


def test_a_search_ends_at_its_limit_and_at_nothing() -> None:
    assert largest(lambda _: True, 300, limit=1000) == 1000
    assert largest(lambda _: False, 300, limit=1000) == 0


def test_a_straight_line_is_found_and_a_crooked_one_is_told() -> None:
    line = straight([(x, 3.0 * x + 2.0) for x in (1, 4, 16, 64)])
    assert line.slope == pytest.approx(3.0)
    assert line.intercept == pytest.approx(2.0)
    assert line.r_squared == pytest.approx(1.0)
    assert line.at(10) == pytest.approx(32.0)
    rng = random.Random(1)
    assert straight([(x, rng.random()) for x in range(50)]).r_squared < 0.2
    assert straight([(1, 5.0), (2, 5.0)]).r_squared == 1.0
    with pytest.raises(ValueError, match="two different x"):
        straight([(1, 2.0), (1, 3.0)])


def test_idle_time_is_not_busy_and_guests_count_once() -> None:
    stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 1000 2000 4 5 6 1 1\ncpu1 0 0 0 7 0 0 0 0 0 0\n"
    assert busy_ns(stat, 0) == (1 + 2 + 3 + 4 + 5 + 6) * busy_ns("cpu0 1 0 0 0 0 0 0 0", 0)
    assert busy_ns(stat, 1) == 0
    with pytest.raises(ValueError, match="no core 2"):
        busy_ns(stat, 2)


@pytest.mark.parametrize(
    ("tries", "times", "expected", "measured"),
    [
        ([(True, 50.0)], 1, True, 1),
        ([(False, 0.0)], 1, False, 1),
        ([(False, 0.0), (True, 0.0)], 2, True, 2),
        ([(False, DISTURBED + 1), (True, 0.0)], 1, True, 2),
        ([(False, 50.0)] * 9, 1, False, 4),
        ([(False, 50.0)] * 9, 2, False, 8),
        ([(False, 50.0), (False, 0.0)], 1, False, 2),
    ],
)
def test_what_fails_while_strangers_have_the_core_is_tried_again(
    tries: list[tuple[bool, float]], times: int, expected: bool, measured: int
) -> None:
    rows = [{"is_good": float(good), "strangers_%": percent} for good, percent in tries]
    left = iter(rows)
    done: list[dict[str, float]] = []

    def measure() -> dict[str, float]:
        done.append(next(left))
        return done[-1]

    assert holds_undisturbed(measure, lambda row: bool(row["is_good"]), times) is expected
    assert len(done) == measured
