"""What a target would have done: as recorded, else drawn from what is known of it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.whatif.draws import MIN_SAMPLES, Draws, Tail, TooFewSamples
from relay.whatif.recorded import Recorded, read_log
from tests.fakes.log_lines import attempt, line


def test_tail_is_kaplan_and_meiers() -> None:
    # Five at risk; 1 ends, 2 is left, 3 ends of three, 4 is left, 5 ends of one.
    tail = Tail([1.0, 3.0, 5.0], [2.0, 4.0])
    assert tail.samples == 3
    assert tail.gone(0.5) == 0.0
    assert tail.gone(1.0) == pytest.approx(1 / 5)
    assert tail.gone(2.9) == pytest.approx(1 / 5)
    assert tail.gone(3.0) == pytest.approx(1 - 4 / 5 * 2 / 3)
    assert tail.gone(5.0) == 1.0
    assert tail.open_share == 0.0


def test_what_lies_beyond_the_longest_is_put_there() -> None:
    tail = Tail([1.0, 2.0], [4.0, 4.0])
    assert tail.open_share == pytest.approx(0.5)
    assert [tail.at(share) for share in (0.2, 0.25, 0.3, 0.5, 0.6, 1.0)] == [1, 1, 2, 2, 4, 4]


def test_longer_than_an_age() -> None:
    tail = Tail([1.0, 2.0, 3.0, 4.0], [])
    assert [tail.at(share, after=2.0) for share in (0.0, 0.5, 0.51, 1.0)] == [3, 3, 4, 4]
    assert tail.at(0.0, after=9.0) == 9.0


@given(st.lists(st.floats(0.001, 100), min_size=1), st.floats(0, 1))
def test_without_censored_ones_it_is_the_plain_quantile(values: list[float], share: float) -> None:
    tail = Tail(values, [])
    drawn = tail.at(share)
    assert drawn in values
    below = sum(value <= drawn for value in values) / len(values)
    assert below >= share - 1e-9
    assert sum(value < drawn for value in values) / len(values) <= share + 1e-9


@given(
    st.lists(st.floats(0.001, 100), min_size=1),
    st.lists(st.floats(0.001, 100)),
    st.floats(0, 1),
    st.floats(0, 120),
)
def test_a_conditional_draw_is_later(
    finished: list[float], censored: list[float], share: float, after: float
) -> None:
    tail = Tail(finished, censored)
    assert tail.at(share, after=after) >= after
    assert 0.0 <= tail.gone(after) <= 1.0
    assert min(finished) <= tail.at(share) <= max(finished + censored)


def known(count: int, target: str = "b/m") -> list[Recorded]:
    """Requests that this target answered in 1 ms to `count` ms."""
    lines = [
        line([attempt(target, first_us=1000 * (at + 1))], received_s=at) for at in range(count)
    ]
    return list(read_log(lines).requests)


def test_what_was_asked_does_again_what_it_did() -> None:
    requests = known(3)
    draws = Draws(requests)
    met = [draws.meet("b/m", index, one, 0, 0).after_s for index, one in enumerate(requests)]
    assert met == [0.001, 0.002, 0.003]


def test_too_few_samples_are_refused() -> None:
    requests = known(MIN_SAMPLES - 1)
    (other,) = read_log([line([attempt("a/m", first_us=1)], received_s=0)]).requests
    with pytest.raises(TooFewSamples, match="99 first tokens of b/m"):
        Draws(requests).meet("b/m", 0, other, 0, 0)
    with pytest.raises(TooFewSamples, match="0 first tokens of c/m"):
        Draws(requests).meet("c/m", 0, other, 0, 0)
    assert Draws(known(MIN_SAMPLES)).meet("b/m", 0, other, 0, 0).after_s > 0


def test_draws_are_those_of_the_target_and_repeat() -> None:
    requests = known(200)
    (other,) = read_log([line([attempt("a/m", first_us=1)], received_s=0)]).requests
    draws = Draws(requests)
    met = [draws.meet("b/m", index, other, 0, 7).after_s for index in range(4000)]
    assert met == [draws.meet("b/m", index, other, 0, 7).after_s for index in range(4000)]
    assert met != [draws.meet("b/m", index, other, 0, 8).after_s for index in range(4000)]
    assert sum(value <= 0.1 for value in met) / 4000 == pytest.approx(0.5, abs=0.03)
    assert (min(met), max(met)) == (0.001, 0.2)


def test_one_that_was_left_is_drawn_from_what_is_later() -> None:
    requests = known(200)
    left = attempt("b/m", outcome="ignored", ended_us=150_000)
    (one,) = read_log([line([left], received_s=0, status="CANCELLED")]).requests
    draws = Draws([*requests, one])
    met = [draws.meet("b/m", index, one, 0, 0).after_s for index in range(500)]
    assert min(met) > 0.15
    assert len(set(met)) > 30


def test_failures_come_at_their_share() -> None:
    failed = attempt(
        "b/m", outcome="overload", ended_us=5_000, reason="UPSTREAM_OVERLOADED", status=503
    )
    more = [line([failed], received_s=at, status="UNAVAILABLE") for at in range(50)]
    requests = [*known(150), *read_log(more).requests]
    (other,) = read_log([line([attempt("a/m", first_us=1)], received_s=0)]).requests
    draws = Draws(requests)
    met = [draws.meet("b/m", index, other, 0, 0) for index in range(2000)]
    assert sum(one.is_failure for one in met) / 2000 == pytest.approx(0.25, abs=0.03)
    assert {one.outcome for one in met if one.is_failure} == {"overload"}
    assert {one.after_s for one in met if one.is_failure} == {0.005}
    assert {one.http_status for one in met if one.is_failure} == {503}


def test_a_longer_prompt_takes_longer() -> None:
    draw = random.Random(0)
    lines = [
        line(
            [attempt("b/m", first_us=round(1e5 * (1 + tokens / 10_000) * draw.uniform(0.9, 1.1)))],
            received_s=at,
            prompt_tokens=tokens,
        )
        for at, tokens in enumerate([0, 10_000] * 300)
    ]
    draws = Draws(read_log(lines).requests)
    asked = read_log(
        [
            line([attempt("a/m", first_us=1)], received_s=0, prompt_tokens=tokens)
            for tokens in (0, 10_000, 20_000)
        ]
    ).requests
    means = [
        sum(draws.meet("b/m", index, one, 0, 0).after_s for index in range(500)) / 500
        for one in asked
    ]
    assert means == pytest.approx([0.1, 0.2, 0.3], rel=0.1)
    # A cached prompt is as good as none.
    cached = [draws.meet("b/m", index, asked[1], 10_000, 0).after_s for index in range(500)]
    assert sum(cached) / 500 == pytest.approx(0.1, rel=0.1)
