from __future__ import annotations

import pytest

from relay.observability.experiments.compare import Arm, Comparison, compare
from relay.observability.experiments.data import as_data
from relay.observability.experiments.page import page
from relay.observability.experiments.rows import Notes, Observed
from relay.observability.report.markdown import markdown
from tests.fakes.properties import IS_FULL
from tests.observability.experiments.worlds import observed, two_arms

EVEN = {"now": 1.0, "new": 1.0}


def verdicts(one: Comparison) -> dict[str, str]:
    """By metric, what the page says of the second arm."""
    text = markdown(page([one], Notes()))
    _, _, table = text.partition("### new against now")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if " | " in line]
    return {row[0]: row[-1] for row in rows[2:]}


def of_arm(one: Comparison, name: str) -> Arm:
    return next(arm for arm in one.arms if arm.name == name)


def test_no_difference_is_shown_where_there_is_none() -> None:
    runs = 100 if IS_FULL else 12
    shown = 0
    for seed in range(runs):
        one = compare("ab", two_arms(150, 3, seed=seed), weights=EVEN)
        shown += any(
            p is not None and p < 0.05 for arm in one.arms[1:] for p in arm.adjusted_p.values()
        )
    assert shown / runs < 0.2, "5 % are promised"


def test_a_slower_arm_is_worse_and_nothing_else_of_it() -> None:
    one = compare("ab", two_arms(slower=1.5), weights=EVEN)
    assert [arm.name for arm in one.arms] == ["now", "new"]
    said = verdicts(one)
    assert said["first content, median (ms)"] == "worse"
    assert said["first content, 95th percentile (ms)"] == "worse"
    assert said["whole answer, median (ms)"] == "worse"
    assert said["score of feedback, mean"] == "no difference is shown"
    p = of_arm(one, "new").adjusted_p
    assert p["ttft_p50"] is not None
    assert p["ttft_p50"] < 0.001
    assert p["score"] is not None
    assert p["score"] > 0.05
    assert not one.is_mismatched


def test_an_arm_that_fails_is_worse() -> None:
    one = compare("ab", two_arms(fails=0.15), weights=EVEN)
    assert verdicts(one)["answers that failed (%)"] == "worse"
    new = of_arm(one, "new")
    assert list(new.reasons) == ["CONNECT_FAILED"]
    assert set(new.finishes) == {"STOP", "LENGTH"}
    found = new.differences["failed"]
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.13 < found.high


def test_the_better_arm_is_better() -> None:
    one = compare("ab", two_arms(slower=0.5), weights=EVEN)
    assert verdicts(one)["first content, median (ms)"] == "better"


def test_the_control_is_the_files_and_comes_first() -> None:
    rows = two_arms(20, 1)
    assert compare("ab", rows, control="new").arms[0].name == "new"
    assert compare("ab", rows, weights={"new": 1.0, "now": 1.0}).arms[0].name == "new"
    assert [arm.is_control for arm in compare("ab", rows).arms] == [True, False]


def rows_of(*fates: tuple[str, str]) -> list[Observed]:
    """Arm and reason of each."""
    return [observed(n, arm, reason=reason) for n, (arm, reason) in enumerate(fates)]


def test_who_is_counted_for_what() -> None:
    one = compare(
        "ab",
        rows_of(
            ("now", ""),
            ("now", "CLIENT_CANCELLED"),
            ("now", "INVALID_REQUEST"),
            ("now", "UPSTREAM_REJECTED"),
            ("now", ""),
        ),
    )
    (arm,) = one.arms
    assert (arm.answers, arm.units, arm.refused) == (5, 5, 1)
    failed, left = arm.estimates["failed"], arm.estimates["left"]
    assert failed is not None
    assert left is not None
    assert failed.value == pytest.approx(1 / 3), "one of those that were not left"
    assert left.value == pytest.approx(1 / 4)
    assert arm.reasons == {"UPSTREAM_REJECTED": 1}


def test_wrongly_divided_units_are_told_loudly() -> None:
    rows = [observed(n, "now" if n % 3 else "new") for n in range(600)]
    one = compare("ab", rows, weights=EVEN)
    assert one.is_mismatched
    text = markdown(page([one], Notes()))
    assert "SAMPLE RATIO MISMATCH" in text
    assert not compare("ab", rows, weights={"now": 2.0, "new": 1.0}).is_mismatched
    assert compare("ab", rows).mismatch_p is None


def test_units_in_two_arms_and_requests_without_one_are_told() -> None:
    rows = [observed(1, "now", unit="u"), observed(2, "new", unit="u"), observed(3, "new")]
    rows.append(observed(4, "new", unit="gen_4"))
    one = compare("ab", rows, weights=EVEN)
    assert (one.crossed, one.lone) == (1, 1)
    text = markdown(page([one], Notes(unreadable=2, open=3, sampled=4)))
    assert "1 units were in more than one arm" in text
    assert "1 answers are of requests that did not say whose they are" in text
    assert "2 lines of the log could not be read." in text


def test_a_cost_that_is_not_known_is_no_cost_of_nothing() -> None:
    rows = [observed(1, "now"), observed(2, "now", cost_micro=None)]
    one = compare("ab", rows)
    cost = one.arms[0].estimates["cost"]
    assert cost is not None
    assert cost.value == 50.0
    assert one.arms[0].unpriced == 1


def test_sampled_lines_stand_for_several() -> None:
    rows = [observed(n, "now", weight=10.0) for n in range(9)]
    rows.append(observed(9, "now", reason="CONNECT_FAILED"))
    failed = compare("ab", rows).arms[0].estimates["failed"]
    assert failed is not None
    assert failed.value == pytest.approx(1 / 91)


def test_as_data() -> None:
    told = as_data(compare("ab", two_arms(60, 2), weights=EVEN))
    assert told["sample_ratio"]["is_mismatched"] is False
    control, new = told["arms"]
    assert control["is_control"]
    assert "difference" not in control["metrics"]["failed"]
    assert set(new["metrics"]["ttft_p50"]["difference"]) == {
        "value",
        "low",
        "high",
        "p",
        "adjusted_p",
    }
    nothing = as_data(compare("ab", []))
    assert nothing["arms"] == []
    assert "No answer" in markdown(page([], Notes()))
