"""What counts for an objective, and how fast its budget burns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Reason
from relay.observability.report.minutes import MINUTE_US, MinuteCounts, Sums
from relay.observability.report.objectives import LEAST, WINDOWS, Objective, burns
from relay.observability.report.rows import ABANDONED, BROKEN, CALLERS, CUT, OURS, Generation
from tests.fakes.properties import examples
from tests.fakes.report_rows import MONDAY_US, generation, tried

ONE = Objective("voice", 99.0, 800.0)


def failed(reason: str, wall_us: int = 100_000) -> Generation:
    return generation(tried(outcome="failure"), reason=reason, wall_us=wall_us)


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (generation(tried(first_us=800_000)), True),
        (generation(tried(first_us=800_001)), False),
        (generation(tried(), reason="UPSTREAM_TRUNCATED"), True),
        (failed("ALL_ATTEMPTS_FAILED"), False),
        (failed("DRAINING"), False),
        (failed("UPSTREAM_REJECTED"), None),
        (failed("BUDGET_EXCEEDED"), None),
        (failed("CLIENT_CANCELLED"), None),
        (failed("CLIENT_CANCELLED", 900_000), False),
        (failed(ABANDONED), None),
        (failed(""), None),
    ],
)
def test_verdicts(one: Generation, verdict: bool | None) -> None:
    assert ONE.verdict(one) is verdict


def test_of_other_aliases_nothing_counts() -> None:
    of_smart = ONE._replace(aliases=("smart",))
    assert of_smart.verdict(generation(tried())) is None
    assert of_smart.verdict(generation(tried(), alias="smart")) is True


def test_reasons_are_there() -> None:
    names = {reason.name for reason in Reason}
    assert {*CALLERS, *CUT, *OURS, *BROKEN} <= names


@given(
    st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=60),
    st.sampled_from([1, 5, 60]),
)
@examples(30)
def test_a_window_slides(rows: list[tuple[int, bool]], length: int) -> None:
    counts = MinuteCounts()
    for minute, is_good in rows:
        counts.add(MONDAY_US + minute * MINUTE_US, is_good)
    sums = Sums(counts, length)
    begin = MONDAY_US // MINUTE_US
    for minute in range(begin, begin + 420, 7):
        sums.to(minute)
        assert (sums.good, sums.bad) == counts.between(minute - length + 1, minute + 1)


def counted(minutes: int, per_min: int, bad: dict[int, int]) -> MinuteCounts:
    counts = MinuteCounts()
    for minute in range(minutes):
        for index in range(per_min):
            counts.add(MONDAY_US + minute * MINUTE_US, index >= bad.get(minute, 0))
    return counts


def test_a_burning_hour_pages_while_it_goes_on() -> None:
    """A fifth of all fails for an hour: 20 times the budget of 1 %."""
    counts = counted(600, 10, dict.fromkeys(range(300, 360), 2))
    page, slower, ticket = burns(ONE, counts, MONDAY_US, MONDAY_US + 600 * MINUTE_US)
    assert page.window.burn == 14.4
    assert page.worst == pytest.approx(20.0)
    assert page.worst_at_us == MONDAY_US + 359 * MINUTE_US
    # The long window is over 14.4 from minute 43 of it on (43.2/60), the short one ends it.
    assert page.episodes == 1
    assert 15 <= page.held_min <= 22
    assert page.last == 0.0
    assert slower.worst == pytest.approx(20 / 6, rel=0.02)
    assert (slower.held_min, slower.episodes) == (0, 0)
    assert ticket.judged_min == 0, "the range is shorter"
    assert ticket.worst is None


def test_few_generations_are_not_judged() -> None:
    counts = counted(120, 1, dict.fromkeys(range(120), 1))
    assert LEAST < 60
    page, *_ = burns(ONE, counts, MONDAY_US, MONDAY_US + 120 * MINUTE_US)
    assert page.judged_min == 61
    fewer = MinuteCounts()
    for minute in range(0, 120, 2):
        fewer.add(MONDAY_US + minute * MINUTE_US, False)
    page, *_ = burns(ONE, fewer, MONDAY_US, MONDAY_US + 120 * MINUTE_US)
    assert (page.judged_min, page.held_min, page.worst) == (0, 0, None)


def test_the_windows_are_those_of_the_workbook() -> None:
    """Two, five and ten percent of a budget of 30 days, in an hour, six hours and three days."""
    spent = [window.burn * window.long_min / (30 * 24 * 60) for window in WINDOWS]
    assert spent == pytest.approx([0.02, 0.05, 0.10])
    assert all(window.short_min * 12 == window.long_min for window in WINDOWS)
