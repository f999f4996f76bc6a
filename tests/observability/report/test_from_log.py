"""Generations out of lines of the log."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from relay.observability.report.from_log import generations_of
from relay.observability.report.rows import Generation, SourceNotes
from relay.timeline import PHASES
from tests.fakes.log_lines import BEGIN_S, attempt, line

BEGIN_US = round(BEGIN_S * 1e6)


def read(
    *lines: bytes, since_us: int | None = None, until_us: int | None = None
) -> list[Generation]:
    return list(generations_of(lines, SourceNotes(), since_us=since_us, until_us=until_us))


def test_a_race_is_read_as_it_was() -> None:
    lost = attempt(
        "a/m", outcome="lost", ended_us=700_000, cost_micro_usd=4.4, cost_upper_micro_usd=9.0
    )
    won = attempt("b/m/x", "hedge", started_us=500_000, first_us=200_000, cost_micro_usd=10.0)
    timeline = dict.fromkeys(PHASES, 0) | {"race_wait": 500_000, "first_content": 201_000}
    (one,) = read(line([lost, won], received_s=5.0, key="key_1", timeline_us=timeline))
    assert (one.received_us, one.alias, one.key, one.team) == (
        BEGIN_US + 5_000_000, "fast", "key_1", ""
    )  # fmt: skip
    assert one.ttft_us == 701_000, "by the timeline"
    first, second = one.tried
    assert (first.outcome, first.is_winner, first.ended_us, first.cost_micro) == (
        "ignored", False, 700_000, 4
    )  # fmt: skip
    assert (second.provider, second.model, second.is_winner) == ("b", "m/x", True)
    assert (second.first_us, second.upper_micro, second.is_estimated) == (200_000, None, True)


def test_older_lines_without_a_timeline_say_it_by_their_winner() -> None:
    (one,) = read(line([attempt("a/m", started_us=3, first_us=100)], received_s=0))
    assert one.ttft_us == 103


def test_failures_and_what_left() -> None:
    failed = attempt("a/m", outcome="failure", reason="UPSTREAM_FAILED", ended_us=10)
    first, second, broken = read(
        line([failed], received_s=0, status="UNAVAILABLE", reason="ALL_ATTEMPTS_FAILED"),
        line([attempt("a/m", outcome="ignored", ended_us=10)], received_s=1, status="CANCELLED"),
        line([{**failed, "first_content_us": 5}], received_s=2, provider="a", model="m",
             status="UNAVAILABLE", reason="UPSTREAM_TRUNCATED"),
    )  # fmt: skip
    assert (first.ttft_us, first.reason, first.tried[0].cost_micro) == (
        None, "ALL_ATTEMPTS_FAILED", 0
    )  # fmt: skip
    assert (second.reason, second.tried[0].cost_micro) == ("UNKNOWN", None)
    assert (broken.ttft_us, broken.tried[0].is_winner) == (5, True)


def test_a_target_that_was_asked_twice_has_one_winner() -> None:
    tried = [
        attempt("a/m", outcome="failure", first_us=5, reason="UPSTREAM_RESET"),
        attempt("a/m", "retry", started_us=10, first_us=5),
    ]
    (one,) = read(line(tried, received_s=0))
    assert [each.is_winner for each in one.tried] == [False, True]


def test_a_line_of_a_sampled_log_stands_for_several() -> None:
    """Also where they are no whole number: nothing is lost over several lines."""
    notes = SourceNotes()
    rows = [
        line([attempt("a/m", first_us=1)], received_s=float(second), share=share)
        for second, share in enumerate((0.3, 0.3, 0.01, 0.3, 1.0, None))
    ]
    found = generations_of(rows, notes, since_us=None, until_us=None)
    assert [one.times for one in found] == [3, 3, 100, 4, 1, 1]
    assert (notes.sampled, notes.stand_for) == (4, 110)


def test_copies_of_requests_are_nobody_s() -> None:
    tried = [attempt("a/m", first_us=1)]
    lines = [line(tried, received_s=1.0, frontend=one) for one in ("chat", "shadow")]
    assert len(read(*lines)) == 1


def test_the_range() -> None:
    lines = [line([attempt("a/m", first_us=1)], received_s=float(second)) for second in range(5)]
    found = read(*lines, since_us=BEGIN_US + 1_000_000, until_us=BEGIN_US + 3_000_000)
    assert [(one.received_us - BEGIN_US) // 1_000_000 for one in found] == [1, 2]


@pytest.mark.parametrize(
    ("text", "unreadable"),
    [
        (b"", 0),
        (b"serving at ...", 1),
        (b'{"event":"reloaded","about":"generation"}', 0),
        (b'{"event":"generation","cut', 1),
        (b'["generation"]', 1),
        (orjson.dumps({"event": "generation", "timestamp": "yesterday"}), 1),
        (orjson.dumps({"event": "generation", "wall_us": None, "timestamp": "2026-01-01"}), 1),
    ],
)
def test_what_is_no_generation(text: bytes, unreadable: int) -> None:
    notes = SourceNotes()
    assert list(generations_of([text], notes, since_us=None, until_us=None)) == []
    assert notes.unreadable == unreadable
    assert not notes.has_teams


@pytest.mark.parametrize(
    "spoilt",
    [
        {"wall_us": 1 << 60},
        {"wall_us": -1},
        {"wall_us": True},
        {"wall_us": 1e300},
        {"timestamp": "9999-12-31T23:59:59+00:00"},
        {"timestamp": "0001-01-01T00:00:00+00:00"},
        {"timestamp": 5},
        {"share": 5e-324},
        {"share": 0},
        {"share": "half"},
        {"reason": {"a": 1}},
        {"reason": 5},
        {"asked": ["fast"]},
        {"key": 5},
        {"tags": 5},
        {"tags": [["a"]]},
        {"labels": ["a"]},
        {"labels": "a"},
        {"provider": 1},
        {"timeline_us": 5},
        {"timeline_us": dict.fromkeys(PHASES, 1e300)},
        {"attempts": 5},
        {"attempts": [5]},
        {"attempts": [attempt("a/m", first_us=1, reason=None, status="200")]},
        {"attempts": [attempt("a/m", outcome="failure", reason=["x"])]},  # type: ignore[arg-type]
        {"attempts": [attempt("a/m", cost_micro_usd=1e308)]},
        {"attempts": [attempt("a/m", started_us=-5)]},
        {"attempts": [{**attempt("a/m"), "target": None}]},
    ],
)
def test_a_line_out_of_range_is_unreadable_and_the_next_is_read(spoilt: dict[str, Any]) -> None:
    good = line([attempt("a/m", first_us=5)], received_s=0)
    bad = orjson.dumps({**orjson.loads(good), **spoilt})
    notes = SourceNotes()
    found = list(generations_of([bad, good], notes, since_us=None, until_us=None))
    assert (len(found), notes.unreadable, notes.readable) == (1, 1, 1)


def test_a_filter_that_cannot_look_at_a_line() -> None:
    def wanted(row: dict[str, Any]) -> bool:
        return bool(row["labels"]["team"] == "a")

    good = line([attempt("a/m")], received_s=0, labels={"team": "a"})
    notes = SourceNotes()
    found = generations_of(
        [line([attempt("a/m")], received_s=0), good], notes,
        since_us=None, until_us=None, wanted=wanted,
    )  # fmt: skip
    assert (len(list(found)), notes.unreadable) == (1, 1)
