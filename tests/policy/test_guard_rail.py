from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from relay.config.experiments import GuardRailsConfig
from relay.errors import ClientCancelled, ConnectError, InvalidRequest, UnsupportedFeature
from relay.policy.guard_rail import Rails, Seen, Stop, seen_of
from tests.fakes.properties import IS_FULL
from tests.policy.worlds import ended

EVEN = {"now": 1.0, "new": 1.0}
GOOD, BAD = Seen(False, 300_000, 10.0), Seen(True, None, 0.0)


def rails(weights: dict[str, float] | None = None, **fields: Any) -> Rails:
    return Rails(GuardRailsConfig.model_validate(fields), weights or EVEN, "now")


Answer = Callable[[str, random.Random], Seen]
"""Of an arm."""


def run(one: Rails, answer: Answer, *, units: int, each: int = 1, seed: int = 0) -> Stop | None:
    """Units come one after the other, each with so many requests, divided by the weights."""
    draw = random.Random(seed)
    for number in range(units):
        arm = draw.choice(("now", "new"))
        for _ in range(each):
            if (stop := one.heard(arm, f"{arm}{number}", answer(arm, draw))) is not None:
                return stop
    return None


def failing(now: float, new: float) -> Answer:
    shares = {"now": now, "new": new}
    return lambda arm, draw: BAD if draw.random() < shares[arm] else GOOD


def slow(times: float) -> Answer:
    """Log-normal first contents, of the new arm so many times as long."""

    def answer(arm: str, draw: random.Random) -> Seen:
        took_us = draw.lognormvariate(12.6, 0.4) * (times if arm == "new" else 1)
        return Seen(False, round(took_us), None)

    return answer


# --- what one generation says -------------------------------------------------------------------


def test_what_is_seen_of_an_end() -> None:
    assert seen_of(ended("new")) == Seen(False, 300_000, 10.0)
    assert seen_of(ended("new", error=ConnectError("gone"), first_us=None)) == Seen(
        True, None, 10.0
    )


def test_a_client_that_left_says_how_long_it_waited_and_no_more() -> None:
    before = ended("new", error=ClientCancelled("bye"), first_us=None)
    assert seen_of(before) == Seen(None, 1, 10.0)
    amid = ended("new", error=ClientCancelled("bye"))
    assert seen_of(amid) == Seen(None, 300_000, 10.0)


def test_a_callers_own_mistake_says_nothing_of_an_arm() -> None:
    assert seen_of(ended("new", error=InvalidRequest("no"))) is None


def test_a_request_that_another_arm_would_have_taken_has_failed() -> None:
    seen = seen_of(ended("new", error=UnsupportedFeature("tools", "nowhere"), first_us=None))
    assert seen is not None
    assert seen.is_failed


def test_a_cost_that_is_not_known_is_not_counted() -> None:
    seen = seen_of(ended("new", cost=None))
    assert seen is not None
    assert seen.cost_micro is None


# --- false stops --------------------------------------------------------------------------------

RUNS = 400 if IS_FULL else 40


@pytest.mark.parametrize(
    ("answer", "each"),
    [
        (failing(0.05, 0.05), 1),
        (failing(0.05, 0.06), 1),  # within the ratio that is allowed
        (slow(1.0), 1),
        (slow(1.2), 1),
    ],
)
def test_an_arm_that_is_not_worse_is_stopped_no_oftener_than_alpha(
    answer: Answer, each: int
) -> None:
    one = [run(rails(alpha=0.1), answer, units=600, each=each, seed=n) for n in range(RUNS)]
    assert sum(stop is not None for stop in one) <= max(1, RUNS * 0.1)


def test_units_that_are_bad_altogether_do_not_stop_an_arm() -> None:
    """A few users whose requests all fail, in whichever arm: counted by requests, that would be
    as good as certain."""

    def run_once(seed: int) -> Stop | None:
        draw, one = random.Random(seed), rails(alpha=0.1)
        for number in range(300):
            arm = draw.choice(("now", "new"))
            seen = BAD if draw.random() < 0.03 else GOOD
            for _ in range(30):
                if (stop := one.heard(arm, f"{number}", seen)) is not None:
                    return stop
        return None

    found = [run_once(seed) for seed in range(RUNS)]
    tested = [stop for stop in found if stop is not None and stop.respect != "ceiling"]
    assert len(tested) <= max(1, RUNS * 0.1)


@pytest.mark.parametrize("arms", [2, 4])
def test_alpha_is_of_the_whole_experiment(arms: int) -> None:
    """All rails at once, no ratio allowed, users who are unlike each other and ask again and
    again."""
    names = ["now", *(f"new-{number}" for number in range(1, arms))]
    strict = {"max_ratio": 1.0}

    def is_stopped(seed: int) -> bool:
        draw = random.Random(seed)
        one = rails(
            dict.fromkeys(names, 1.0),
            alpha=0.1,
            error_share={**strict, "ceiling": None},
            first_content=strict,
            cost=strict,
            feedback=strict,
        )
        users = [
            (draw.choice(names), draw.gauss(0, 0.5), draw.betavariate(0.5, 9)) for _ in range(150)
        ]
        for _ in range(1500):
            number = draw.randrange(150)
            arm, own, fails = users[number]
            took_us = round(300_000 * 2.718 ** (own + draw.gauss(0, 0.3)))
            is_bad = draw.random() < fails
            seen = Seen(is_bad, None if is_bad else took_us, 10 * 2.718 ** (own + draw.gauss(0, 1)))
            if one.heard(arm, f"u{number}", seen) is not None:
                return True
            score = float(draw.random() > 0.3)
            if draw.random() < 0.1 and one.felt(arm, f"u{number}", score) is not None:
                return True
        return False

    runs = 300 if IS_FULL else 24
    assert sum(map(is_stopped, range(runs))) <= max(3, runs * 0.1)


# --- losers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "respect", "most_units"),
    [
        (failing(0.02, 0.30), "error_share", 200),
        (failing(0.02, 0.10), "error_share", 1200),
        (slow(2.0), "first_content", 1200),
    ],
)
def test_a_loser_is_stopped(answer: Answer, respect: str, most_units: int) -> None:
    found = [run(rails(), answer, units=most_units, seed=seed) for seed in range(10)]
    assert [stop.respect for stop in found if stop is not None] == [respect] * 10


def test_an_arm_that_fails_always_is_stopped_within_its_least_units() -> None:
    one = rails(min_units=20)
    stop = run(one, failing(0.0, 1.0), units=60)
    assert stop is not None
    assert stop.as_dict()["in_control"] == 0
    assert one.describe()["new"]["answers"] <= 31


def test_dear_answers_stop_an_arm_where_there_is_a_rail() -> None:
    def answer(arm: str, draw: random.Random) -> Seen:
        return Seen(False, None, draw.uniform(5, 15) * (3 if arm == "new" else 1))

    assert run(rails(), answer, units=1000) is None
    stop = run(rails(cost={"max_ratio": 1.5}), answer, units=1000)
    assert stop is not None
    assert stop.respect == "cost"


def test_bad_feedback_stops_an_arm() -> None:
    one, draw = rails(), random.Random(0)
    for arm in EVEN:
        for number in range(50):
            one.heard(arm, f"{arm}{number}", GOOD)
    shares, found = {"now": 0.2, "new": 0.7}, None
    for number in range(400):
        arm = draw.choice(("now", "new"))
        found = one.felt(arm, f"{arm}{number}", float(draw.random() > shares[arm]))
        if found is not None:
            break
    assert found is not None
    assert found.respect == "feedback"


def test_an_arm_that_asks_for_more_feedback_is_not_worse_for_it() -> None:
    one, draw = rails(), random.Random(0)
    for arm in EVEN:
        for number in range(50):
            one.heard(arm, f"{arm}{number}", GOOD)
    for number in range(600):
        arm = "new" if draw.random() < 0.9 else "now"
        assert one.felt(arm, f"{arm}{number}", float(draw.random() > 0.3)) is None


def test_few_units_are_judged_by_the_ceiling_alone() -> None:
    """Three customers: no test can tell anything, and an arm that is down must go all the same."""
    one = rails()
    for _ in range(49):
        assert one.heard("now", "customer-1", GOOD) is None
        assert one.heard("new", "customer-2", BAD) is None
    stop = one.heard("new", "customer-2", BAD)
    assert stop is not None
    assert (stop.respect, stop.in_arm) == ("ceiling", 50)


def test_an_outage_of_everything_stops_nothing() -> None:
    assert run(rails(), failing(0.9, 0.9), units=600) is None


def test_the_ceiling_can_be_taken_away() -> None:
    one = rails(error_share={"ceiling": None})
    for _ in range(200):
        one.heard("now", "customer-1", GOOD)
        assert one.heard("new", "customer-2", BAD) is None


def test_the_least_units_are_waited_for() -> None:
    one = rails(min_units=40, error_share={"ceiling": None})
    stop = run(one, failing(0.0, 1.0), units=400)
    assert stop is not None
    shown = one.describe()
    assert min(shown["new"]["units"], shown["now"]["units"]) == 40


def test_the_control_is_never_stopped() -> None:
    assert run(rails(), failing(0.9, 0.0), units=600) is None


def test_a_small_arm_is_judged_by_its_share() -> None:
    """One unit in ten: as many failures as the control's are nine times too many."""
    one, draw = rails({"now": 9.0, "new": 1.0}), random.Random(3)
    found = None
    for number in range(3000):
        arm = "new" if draw.random() < 0.1 else "now"
        seen = BAD if draw.random() < (0.3 if arm == "new" else 0.033) else GOOD
        found = one.heard(arm, f"{number}", seen)
        if found is not None:
            break
    assert found is not None
    assert found.arm == "new"


def test_arms_without_traffic_are_no_part_of_the_correction() -> None:
    """Alpha is divided by the arms that can be stopped."""
    stops = []
    for weights in ({**EVEN}, {**EVEN, "later": 0.0}):
        one = rails(weights)
        run(one, failing(0.0, 1.0), units=60)
        stops.append(one.describe()["new"]["answers"])
    assert stops[0] == stops[1]


def test_what_is_forgotten_is_judged_anew() -> None:
    one = rails()
    assert run(one, failing(0.0, 1.0), units=100) is not None
    assert one.heard("new", "u", BAD) is None, "its traffic is the control's"
    one.forget("new")
    assert one.describe()["new"]["answers"] == 0
    assert run(one, failing(0.0, 1.0), units=100, seed=1) is not None
