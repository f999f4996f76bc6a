from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.experiments import ShadowConfig
from relay.policy.shadow_plan import DAY_S, ShadowPlan
from tests.fakes.properties import examples

NOW_S = 1_000 * DAY_S + 5.0


def plan(name: str = "s", **fields: Any) -> ShadowPlan:
    return ShadowPlan(
        name, ShadowConfig.model_validate({"model": "voice", "use": "other", **fields})
    )


IDS = [f"req_{number}" for number in range(4000)]


def test_the_share_is_copied_whenever_it_is_asked() -> None:
    one, again = plan(share=0.2), plan(share=0.2)
    wanted = [id_ for id_ in IDS if one.wants(id_)]
    assert 670 < len(wanted) < 930
    assert wanted == [id_ for id_ in IDS if again.wants(id_)]


def test_shadows_choose_independently() -> None:
    one, other = plan("one", share=0.5), plan("other", share=0.5)
    assert one.mark != other.mark
    assert 850 < sum(one.wants(id_) and other.wants(id_) for id_ in IDS) < 1150


@pytest.mark.parametrize(("enabled", "wanted"), [(True, True), (False, False)])
def test_all_or_nothing(enabled: bool, wanted: bool) -> None:
    assert plan(share=1.0, enabled=enabled).wants("x") is wanted


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=60), st.integers(1, 6))
@examples(60)
def test_never_more_than_its_rate_and_its_room(steps: list[tuple[float, bool]], most: int) -> None:
    one = plan(max_requests_per_min=most, max_concurrent=2)
    now_s, running, starts = NOW_S, 0, []
    for wait_s, ends in steps:
        now_s += wait_s
        if ends and running:
            one.ended(1.0, is_failed=False)
            running -= 1
        elif one.begin(now_s, 0) is None:
            running += 1
            starts.append(now_s)
        assert running <= 2
        assert sum(start > now_s - 60 for start in starts) <= most
    assert one.started_count == len(starts)


def test_what_a_day_may_cost_holds_with_those_that_run() -> None:
    one = plan(max_cost_micro_per_day=100, max_concurrent=10)
    assert one.begin(NOW_S, 0) is None
    one.ended(40.0, is_failed=False)
    assert one.begin(NOW_S, 0) is None
    assert one.begin(NOW_S, 0) == "cost", "one that runs may cost 40, and this one too"
    one.ended(10.0, is_failed=True)
    assert one.begin(NOW_S, 0) is None
    one.ended(40.0, is_failed=False)
    assert one.begin(NOW_S, 0) == "cost"
    assert one.begin(NOW_S + DAY_S, 0) is None
    shown = one.describe()
    assert (shown["failed"], shown["dropped"]) == (1, {"cost": 2})


def test_what_has_no_price_is_not_bounded_and_so_not_copied() -> None:
    one = plan()
    assert one.begin(NOW_S, 0) is None
    one.ended(None, is_failed=False)
    assert one.begin(NOW_S, 0) == "unpriced"
    one.takes(ShadowConfig(model="voice", use="another"))
    assert one.begin(NOW_S, 0) is None, "which may have a price"


def test_without_a_bound_prices_do_not_matter() -> None:
    one = plan(max_cost_micro_per_day=0)
    for _ in range(5):
        assert one.begin(NOW_S, 0) is None
        one.ended(None, is_failed=False)


def test_nothing_is_copied_under_load() -> None:
    assert plan(max_running=10).begin(NOW_S, 10) == "load"
    assert plan(max_running=10).begin(NOW_S, 9) is None


def test_a_reload_does_not_give_the_budget_again() -> None:
    one = plan(max_cost_micro_per_day=100)
    one.begin(NOW_S, 0)
    one.ended(90.0, is_failed=False)
    one.takes(ShadowConfig(model="voice", use="other", max_cost_micro_per_day=120, share=1.0))
    assert one.wants("x")
    assert one.begin(NOW_S, 0) == "cost"
