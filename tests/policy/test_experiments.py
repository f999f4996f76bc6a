from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from relay.decision import Decision
from relay.errors import ConnectError
from relay.policy.experiments import Experiments
from relay.policy.guard_rail import Stop
from tests.policy.worlds import asked, ended, experiment, experiments

NOON_S = 1_800_000_000.0


def never() -> float:
    raise AssertionError("nothing is drawn for a request that says whose it is")


def arm_of(world: Experiments, session: str) -> str:
    found = world.assign("voice", asked(session), NOON_S, never)
    assert found is not None
    return found.arm


def test_a_session_stays_in_its_arm_and_is_told() -> None:
    world = experiments()
    first = world.assign("voice", asked("s1"), NOON_S, never)
    assert first is not None
    assert first == world.assign("voice", asked("s1"), NOON_S, never)
    assert first.use == {"now": "fast", "new": "other"}[first.arm]
    decision = Decision()
    first.tell(decision)
    assert decision.as_dict() == {"experiment": "ab", "arm": first.arm, "unit": first.unit}
    assert "s1" not in first.unit


def test_who_only_looks_sees_the_same_and_is_not_counted() -> None:
    world = experiments(share=0.5)
    for number in range(30):
        request = asked(f"s{number}")
        seen = world.peek("voice", request, NOON_S)
        counts = world.describe()["ab"]["assigned"]
        assert seen == world.assign("voice", request, NOON_S, never)
        assert world.describe()["ab"]["assigned"] == counts + (seen is not None)
    assert world.peek("voice", asked(), NOON_S) is None
    assert world.peek("fast", asked("s1"), NOON_S) is None


def test_other_names_are_let_be() -> None:
    assert experiments().assign("fast", asked("s1"), NOON_S, never) is None
    assert not Experiments({})
    assert experiments()


def test_an_experiment_that_is_off_has_nobody() -> None:
    world = experiments(enabled=False)
    assert world.assign("voice", asked("s1"), NOON_S, never) is None
    assert not world


def test_it_runs_between_its_moments_alone() -> None:
    def moment(at_s: float) -> datetime:
        return datetime.fromtimestamp(at_s, UTC)

    world = experiments(starts_at=moment(NOON_S), ends_at=moment(NOON_S + 10))
    times = (NOON_S - 1, NOON_S, NOON_S + 9.9, NOON_S + 10)
    found = [world.assign("voice", asked("s1"), at_s, never) is not None for at_s in times]
    assert found == [False, True, True, False]


@pytest.mark.parametrize(
    ("sticky", "given", "alike", "other"),
    [
        ("session", asked("s"), asked("s", user="u"), asked("s2")),
        ("user", asked(user="u"), asked("s", user="u"), asked(user="u2")),
        ("key", asked(key="k"), asked("s", key="k"), asked(key="k2")),
        ("tenant", asked(tenant="a"), asked("s", tenant="a"), asked(tenant="b")),
        ("user", asked(user="u"), asked(user="u", tenant="b"), asked(user="u", key="k")),
        (
            "user",
            asked(user="u", key="k"),
            asked(user="u", key="k2"),
            asked(user="u", key="k", tenant="b"),
        ),
    ],
)
def test_what_it_is_sticky_to(sticky: str, given: object, alike: object, other: object) -> None:
    world = experiments(sticky=sticky)
    units = []
    for one in (given, alike, other):
        found = world.assign("voice", one, NOON_S, never)  # type: ignore[arg-type]
        assert found is not None
        units.append(found.unit)
    assert units[0] == units[1] != units[2]


@pytest.mark.parametrize("sticky", ["none", "session"])
def test_requests_without_a_unit_are_divided_by_themselves_and_counted(sticky: str) -> None:
    world, draw = experiments(sticky=sticky), random.Random(1)
    found = [world.assign("voice", asked(), NOON_S, draw.random) for _ in range(2000)]
    arms = [one.arm for one in found if one is not None]
    assert 880 < arms.count("now") < 1120
    assert {one.unit for one in found if one is not None} == {""}
    counts = world.describe()["ab"]
    assert counts["without_unit"] == (0 if sticky == "none" else 2000)
    assert counts["assigned"] == 2000


def test_those_outside_its_share_get_what_they_asked_for() -> None:
    world = experiments(share=0.25)
    found = [world.assign("voice", asked(f"s{n}"), NOON_S, never) for n in range(2000)]
    outside = found.count(None)
    assert 1400 < outside < 1600
    assert world.describe()["ab"]["outside"] == outside


def stopped(world: Experiments) -> list[str]:
    return list(world.describe()["ab"]["stopped"])


def test_a_stopped_arm_is_the_controls_until_somebody_resumes_it() -> None:
    world = experiments()
    assert world.stop("ab", Stop("new", "told", 0, 0, 0.0))
    assert not world.stop("ab", Stop("new", "told", 0, 0, 0.0))
    assert not world.stop("ab", Stop("now", "told", 0, 0, 0.0)), "the control runs on"
    assert {arm_of(world, f"s{n}") for n in range(50)} == {"now"}
    assert world.describe()["ab"]["redirected"] > 10
    assert world.resume("ab", "new")
    assert not world.resume("ab", "new")
    assert {arm_of(world, f"s{n}") for n in range(50)} == {"now", "new"}


def fail(world: Experiments, count: int) -> None:
    """The new arm fails each time, and the other never."""
    for number in range(count):
        world.heard(ended("new", f"n{number}", error=ConnectError("busy")))
        world.heard(ended("now", f"c{number}"))


def test_guard_rails_stop_an_arm_and_tell_it_once() -> None:
    told = []
    world = Experiments({"ab": experiment()}, on_stopped=lambda *what: told.append(what))
    fail(world, 60)
    assert stopped(world) == ["new"]
    assert [(name, stop.arm, stop.respect) for name, stop in told] == [("ab", "new", "error_share")]
    assert arm_of(world, "s1") == arm_of(world, "s2") == "now"


def test_without_guard_rails_nothing_is_stopped() -> None:
    world = experiments(guard_rails=None)
    fail(world, 60)
    assert stopped(world) == []


def test_what_shadows_and_others_did_is_not_heard() -> None:
    world = experiments()
    for number in range(60):
        error = ConnectError("busy")
        world.heard(ended("new", f"n{number}", error=error, frontend="shadow"))
        world.heard(ended("new", f"n{number}", error=error, name="another"))
        world.heard(ended("gone", f"n{number}", error=error))
    rails = world.describe()["ab"]["rails"]
    assert {one["answers"] for one in rails.values()} == {0}


def test_a_reload_forgets_nothing() -> None:
    world = experiments()
    fail(world, 60)
    arms = [{"name": "now", "use": "fast", "weight": 3}, {"name": "new", "use": "other"}]
    again = experiments(world, arms=arms)
    assert stopped(again) == ["new"]
    assert arm_of(again, "s1") == "now"
    assert again.describe()["ab"]["rails"] == world.describe()["ab"]["rails"]


def test_an_arm_that_is_another_now_is_judged_anew() -> None:
    world = experiments()
    fail(world, 60)
    arms = [{"name": "now", "use": "fast"}, {"name": "new", "use": "mended"}]
    again = experiments(world, arms=arms)
    assert stopped(again) == []
    assert again.describe()["ab"]["rails"]["new"]["answers"] == 0


def test_a_new_edition_begins_anew_and_moves_nobody() -> None:
    world = experiments()
    before = [arm_of(world, f"s{n}") for n in range(50)]
    fail(world, 60)
    again = experiments(world, edition=2)
    assert stopped(again) == []
    assert [arm_of(again, f"s{n}") for n in range(50)] == before


def test_a_stop_holds_when_rails_are_changed_or_taken_away() -> None:
    world = experiments()
    fail(world, 60)
    for rails in (None, {"alpha": 0.01}):
        again = experiments(world, guard_rails=rails)
        assert stopped(again) == ["new"]
        assert arm_of(again, "s1") == arm_of(again, "s2") == "now"


def test_a_stop_holds_when_the_control_is_another() -> None:
    arms = [{"name": name, "use": name} for name in ("now", "new", "third")]
    world = experiments(arms=arms)
    world.stop("ab", Stop("new", "told", 0, 0, 0.0))
    assert stopped(experiments(world, arms=arms, control="third")) == ["new"]
    assert stopped(experiments(world, arms=arms, control="new")) == []


def test_feedback_stops_an_arm() -> None:
    world = experiments()
    for number in range(100):
        for arm in ("now", "new"):
            world.heard(ended(arm, f"{arm}{number}"))
        world.felt("ab", "new", f"new{number}", 0.0)
        world.felt("ab", "now", f"now{number}", 1.0)
    assert stopped(world) == ["new"]
    world.felt("another", "new", "u", 0.0)
    world.felt("ab", "gone", "u", 0.0)
