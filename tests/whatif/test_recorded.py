"""Reading the log: what a line says of a target and of a caller."""

from __future__ import annotations

import orjson
import pytest

from relay.whatif.recorded import Kind, Recorded, read_log
from tests.fakes.log_lines import BEGIN_S, attempt, line


def one(*attempts: dict[str, object], **more: object) -> Recorded:
    (found,) = read_log([line(list(attempts), received_s=1.5, **more)]).requests  # type: ignore[arg-type]
    return found


def test_a_plain_answer() -> None:
    found = one(
        attempt(
            "a/m", started_us=300, first_us=200_000, cost_micro_usd=7.0, cost_upper_micro_usd=8.0
        ),
        stream_us=90_000,
        completion_tokens=10,
        prompt_tokens=33,
        wish={"prompt_estimate": 40, "max_output_tokens": 100, "session": "s"},
    )
    assert found.received_s == pytest.approx(BEGIN_S + 1.5)
    assert (found.before_race_s, found.ttft_s) == (0.0003, 0.2003)
    assert found.winner == "a/m"
    assert found.stream_s == pytest.approx(0.09)
    assert found.gap_s == pytest.approx(0.01)
    assert (found.prompt_estimate, found.prompt_tokens) == (40, 33)
    assert (found.max_output_tokens, found.session) == (100, "s")
    (tried,) = found.tried
    assert (tried.kind, tried.after_s, tried.cost) == (Kind.READY, 0.2, 7.0)
    # Eight tokens, seven gaps; a whole answer of three has two.
    assert found.speakable_s(0.2, 0.01) == pytest.approx(0.27)
    short = found._replace(completion_tokens=3)
    assert short.speakable_s(0.2, 0.01) == pytest.approx(0.22)


def test_a_hedged_answer() -> None:
    found = one(
        attempt("a/m", outcome="lost", ended_us=700_000),
        attempt("b/m", "hedge", started_us=500_000, first_us=200_000),
    )
    assert found.winner == "b/m"
    assert found.ttft_s == 0.7
    assert [(t.kind, t.after_s) for t in found.tried] == [(Kind.LEFT, 0.7), (Kind.READY, 0.2)]


def test_a_loser_that_was_ready_in_the_same_moment_is_no_winner() -> None:
    found = one(
        attempt("a/m", first_us=700_000),
        attempt("a/m", "hedge", "lost", started_us=500_000, first_us=200_001),
    )
    assert found.ttft_s == 0.7


def test_a_stale_connection_is_one_attempt_with_its_second_try() -> None:
    found = one(
        attempt("a/m", outcome="failure", reason="UPSTREAM_RESET", started_us=100, ended_us=2_100),
        attempt("a/m", "retry", started_us=2_100, first_us=50_000),
    )
    (tried,) = found.tried
    assert (tried.role, tried.kind, tried.after_s) == ("primary", Kind.READY, 0.052)
    assert found.ttft_s == 0.0521


def test_what_we_refused_says_nothing_of_the_target() -> None:
    found = one(
        attempt("a/m", outcome="failure", reason="BREAKER_OPEN"),
        attempt("b/m", "failover", first_us=50_000),
    )
    assert [tried.target for tried in found.tried] == ["b/m"]


def test_a_client_that_left() -> None:
    found = one(attempt("a/m", outcome="ignored"), status="CANCELLED", wall_us=400_000)
    assert found.is_left
    assert found.ttft_s is None
    (tried,) = found.tried
    assert (tried.kind, tried.after_s) == (Kind.LEFT, 0.4)


def test_legs_are_no_race() -> None:
    """A judge beside an answer is left out; of a cascade nothing is left."""
    judged = one(
        attempt("a/m", started_us=300, first_us=200_000),
        attempt("j/m", started_us=100, first_us=50_000) | {"leg": "guard"},
    )
    assert [tried.target for tried in judged.tried] == ["a/m"]
    assert (judged.before_race_s, judged.ttft_s) == (0.0003, 0.2003)
    cascade = [attempt("a/m", first_us=1) | {"leg": name} for name in ("small", "large")]
    copy = line([attempt("a/m", first_us=1)], received_s=2)
    copied = orjson.dumps(orjson.loads(copy) | {"frontend": "shadow"})
    log = read_log([line(cascade, received_s=1), copied])
    assert (log.requests, log.passed_over) == ((), 2)


def test_other_lines_are_passed_over() -> None:
    lines = [
        b"not json",
        b'{"event":"serving"}',
        b'{"event":"generation"}',
        b'{"event":"generation", broken',
        b'["generation"]',
        line([], received_s=0, status="NOT_FOUND"),
        line([attempt("a/m", first_us=2)], received_s=9),
        line([attempt("a/m", first_us=1)], received_s=3),
    ]
    log = read_log(lines)
    assert log.passed_over == 2  # one without its fields, one without an attempt
    assert [found.received_s - BEGIN_S for found in log.requests] == pytest.approx([3, 9])
