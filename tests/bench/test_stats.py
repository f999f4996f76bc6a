"""The bench's own arithmetic: quantiles, differences, reading of stamps, comparing files."""

from __future__ import annotations

import math
import random

import pytest

from bench.paths import LoadError, digest
from bench.result import compare, table
from bench.stats import FINE, Histogram, median, merged, spread


@pytest.mark.parametrize("growth", [1.01, FINE])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_quantiles_are_within_a_bucket(growth: float, share: float) -> None:
    rng = random.Random(3)
    values = sorted(rng.lognormvariate(7, 1) for _ in range(10_000))
    histogram = Histogram(growth)
    for value in values:
        histogram.add(value)
    exact = values[int(share * len(values))]
    assert histogram.quantile(share) == pytest.approx(exact, rel=2 * (growth - 1))


def test_no_quantile_is_above_the_largest_value() -> None:
    histogram = Histogram()
    histogram.add(1000.0)
    assert histogram.quantile(1.0) == 1000.0
    assert math.isnan(Histogram().quantile(0.5))


def test_values_of_a_microsecond_and_less_are_kept() -> None:
    histogram = Histogram()
    for value in (-5.0, 0.0, 1.0):
        histogram.add(value)
    assert histogram.count == 3
    assert histogram.quantile(0.5) <= 1.01


def test_a_histogram_survives_its_file_and_merges() -> None:
    left, right = Histogram(), Histogram()
    for value in range(1, 50):
        left.add(value)
    for value in range(50, 100):
        right.add(value)
    both = merged([Histogram.from_dict(left.to_dict()), right])
    assert both.count == 99
    assert both.quantile(0.5) == pytest.approx(50, rel=0.03)
    with pytest.raises(ValueError, match="growth"):
        both.merge(Histogram(FINE))


def test_medians_and_spreads_leave_out_what_is_missing() -> None:
    assert median([3.0, math.nan, 1.0]) == 2.0
    assert spread([3.0, math.nan, 1.0]) == (1.0, 3.0)
    assert math.isnan(median([]))


def _event(stamp: int) -> bytes:
    return b'data: {"choices":[{"delta":{"content":"t=%016d word"}}]}\n\n' % stamp


_DONE = b"data: [DONE]\n\n"


def test_stamps_are_found_however_reads_cut_the_stream() -> None:
    whole = _event(11) + _event(12) + _event(13) + _DONE
    for cut in range(1, len(whole)):
        seen: list[tuple[int, bytes | memoryview]] = [(100, whole[:cut]), (200, whole[cut:])]
        assert [token.stamped_ns for token in digest(seen, 3, is_grpc=False)] == [11, 12, 13]


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (_event(11) + _DONE, "1 of 2 tokens"),
        (_event(11) + _event(12), "without"),
        (_event(12) + _event(11) + _DONE, "order"),
    ],
)
def test_an_answer_that_is_not_whole_is_no_measurement(stream: bytes, why: str) -> None:
    with pytest.raises(LoadError, match=why):
        digest([(100, stream)], 2, is_grpc=False)


def test_compare_shows_only_what_both_files_have() -> None:
    old = {"cases": {"a": {"rows": {"x": {"us": 10.0, "gone": 1.0}}}}}
    new = {
        "cases": {
            "a": {"rows": {"x": {"us": 12.0, "new": 1.0}, "y": {"us": 1.0}}},
            "b": {"rows": {}},
        }
    }
    shown = compare(old, new)
    assert "x us" in shown
    assert "20" in shown
    assert "gone" not in shown
    assert "y us" not in shown


def test_a_table_has_blanks_where_a_row_lacks_a_figure() -> None:
    lines = table({"x": {"us": 1.5}, "y": {"ms": math.nan}}).splitlines()
    assert lines[0].split() == ["us", "ms"]
    assert lines[1].split() == ["x", "1.5"]
    assert lines[2].split() == ["y"]
