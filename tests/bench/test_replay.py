"""The replay itself: the same draws for everybody, and results that are known beforehand."""

from __future__ import annotations

import asyncio
import math
from array import array
from dataclasses import replace

import pytest

from bench.replay import arms, figures, report, second_place, svg, worlds
from bench.replay.arms import Arm, Replay
from bench.replay.clock import SimulatedLoop
from bench.replay.data import Bootstrap, Exponential, Percentiles, Shifted, Steadied
from bench.replay.report import Target, target_table
from bench.replay.world import Price, Provider, Trouble, World, WorldSpec, draw

REQUESTS = 3000


def world(requests: int = REQUESTS, **changes: object) -> World:
    providers = tuple(Provider(row, "m", Exponential(1.0)) for row in ("a", "b", "c"))
    spec = WorldSpec("test", providers, prompts="poisson")
    for name, value in changes.items():
        spec = WorldSpec(**{**_fields(spec), name: value})  # type: ignore[arg-type]
    return draw(spec, requests)


def _fields(spec: WorldSpec) -> dict[str, object]:
    return {name: getattr(spec, name) for name in WorldSpec.__slots__}


def test_every_arm_meets_the_same_draws() -> None:
    one, again = world(500), world(500)
    assert one.base_s == again.base_s
    assert one.arrival_s == again.arrival_s
    assert one.base_s[0] != one.base_s[1]
    alone = arms.alone(one, 0)
    unhedged = Replay(one, Arm("off", hedge="disabled")).run()
    assert list(unhedged.ttft_s) == pytest.approx(list(alone.ttft_s), abs=1e-6)
    assert sum(unhedged.hedges) == 0


def test_a_race_of_two_takes_the_earlier_of_the_two_draws() -> None:
    one = world(providers=world(1).spec.providers[:2])
    raced = Replay(one, Arm("race", race=2)).run()
    earlier = [min(one.base_s[0][i], one.base_s[1][i]) for i in range(REQUESTS)]
    assert list(raced.ttft_s) == pytest.approx(earlier, abs=1e-6)
    assert sum(raced.hedges) == REQUESTS
    # The earlier of two exponentials of mean 1 is one of mean 1/2.
    ordered = sorted(raced.ttft_s)
    assert figures.quantile(ordered, 0.5) == pytest.approx(math.log(2) / 2, rel=0.08)
    assert sum(ordered) / REQUESTS == pytest.approx(0.5, rel=0.06)


def test_a_fixed_delay_hedges_as_it_is_written() -> None:
    """P(T > t) is exp(-t) up to the delay, then exp(-t) * exp(-(t - delay))."""
    arm = Arm("fixed", race=0, delay_ms=1000, extra=1.0, extra_cost=10.0)
    hedged = Replay(world(), arm).run()
    share = sum(hedged.hedges) / REQUESTS
    assert share == pytest.approx(math.exp(-1), abs=0.03)
    for at_s in (0.5, 1.5, 2.0):
        later = sum(ttft_s > at_s for ttft_s in hedged.ttft_s) / REQUESTS
        exact = math.exp(-at_s - max(0.0, at_s - 1.0))
        assert later == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("mode", ["ordered", "balanced", "tail"])
@pytest.mark.parametrize("extra", [0.02, 0.1])
def test_budgets_hold(mode: str, extra: float) -> None:
    outcome = Replay(world(), Arm(mode, mode=mode, extra=extra, extra_cost=10.0)).run()
    assert 0.4 * extra < sum(outcome.hedges) / REQUESTS <= extra


def test_a_replay_is_repeatable() -> None:
    first, second = (Replay(world(800), Arm("balanced", mode="balanced")).run() for _ in range(2))
    assert first.ttft_s == second.ttft_s
    assert first.first == second.first


def test_trouble_hits_its_stretch_and_its_provider_alone() -> None:
    trouble = (Trouble(0, 100, 50, factor=6.0), Trouble(1, 200, 10, refuses=True))
    ill, well = world(400, trouble=lambda _: trouble), world(400)
    for index in range(400):
        factor = 6.0 if 100 <= index < 150 else 1.0
        assert ill.ttft_s(0, index, 0) == pytest.approx(factor * well.ttft_s(0, index, 0))
        assert (ill.ttft_s(1, index, 0) < 0) == (200 <= index < 210)
        assert ill.ttft_s(2, index, 0) == well.ttft_s(2, index, 0)


def test_an_outage_is_failed_over_and_its_provider_left() -> None:
    row = world(2000, trouble=lambda _: (Trouble(0, 1000, 200, refuses=True),))
    outcome = Replay(row, Arm("ordered")).run()
    found = figures.reduce(row, outcome)
    assert found["failed_%"] == 0.0
    assert found["demoted_after"] <= 15
    assert sum(outcome.failovers) >= 5


def test_correlation_and_episodes_are_what_they_are_called() -> None:
    count = 20_000

    def correlation(xs: array[float], ys: array[float]) -> float:
        ranks = []
        for values in (xs, ys):
            order = sorted(range(len(values)), key=lambda index: values[index])
            rank = [0] * len(values)
            for place, index in enumerate(order):
                rank[index] = place
            ranks.append(rank)
        mean = (len(xs) - 1) / 2
        top: float = sum((x - mean) * (y - mean) for x, y in zip(*ranks, strict=True))
        return top / sum((x - mean) ** 2 for x in ranks[0])

    both = world(count, rho=0.3).base_s
    assert correlation(both[0], both[1]) == pytest.approx(0.29, abs=0.03)  # of ranks, for 0.3
    slow = world(count, lag1=0.4).base_s
    assert correlation(slow[0][:-1], slow[0][1:]) == pytest.approx(0.38, abs=0.03)
    assert correlation(slow[0], slow[1]) == pytest.approx(0.0, abs=0.03)
    alone = sorted(slow[0])
    assert figures.quantile(alone, 0.5) == pytest.approx(math.log(2), rel=0.05)


def test_quantile_functions_go_through_what_was_published() -> None:
    tail = Percentiles([(0.5, 0.4), (0.95, 1.0), (0.99, 4.0)], most_s=8.0)
    for share, value_s in ((0.5, 0.4), (0.95, 1.0), (0.99, 4.0)):
        assert tail.at(share) == pytest.approx(value_s)
    assert tail.at(0.0) == pytest.approx(0.24)
    assert tail.at(1.0 - 1e-9) == 8.0
    assert [Bootstrap([3.0, 1.0]).at(share) for share in (0.0, 0.49, 0.5, 0.99)] == [1, 1, 3, 3]


def test_extra_requests_are_counted_over_the_worst_window() -> None:
    hedges = [0] * 50 + [1] * 10 + [0] * 40
    assert figures.most_in_a_window(hedges, 20) == 0.5
    assert figures.most_in_a_window(hedges, 1000) == 0.1
    low, high = figures.interval([float(n) for n in range(100_000)], 0.999)
    assert (low, high) == pytest.approx((99_880, 99_920), abs=2)


def test_the_clock_jumps_and_stops_when_nothing_is_left() -> None:
    loop = SimulatedLoop(start_s=5.0)
    loop.run_until_complete(asyncio.sleep(3600.0))
    assert loop.time() == 3605.0
    with pytest.raises(RuntimeError, match="no timer"):
        loop.run_until_complete(loop.create_future())
    loop.close()


def test_pictures_and_tables_can_be_read() -> None:
    picture = svg.tails("a < b", {"one": [(1.0, 0.5), (0.1, 1.0), (1e-4, 9.0), (1e-5, math.inf)]})
    assert picture.startswith("<svg")
    assert "a &lt; b" in picture
    text = target_table([Target("1", "x", 0.5, 1.0), Target("2", "y", math.nan, 1.0)])
    assert [line[:4] for line in text.splitlines()] == ["met ", "MISS"]


# --- one model at several doors ---------------------------------------------------------------


def test_tails_that_are_made_of_others() -> None:
    base = Exponential(1.0)
    median_s = base.at(0.5)
    assert Shifted(base, 0.6).at(0.99) == pytest.approx(0.6 * base.at(0.99))
    steady = Steadied(base)
    assert steady.at(0.5) == pytest.approx(median_s)
    assert steady.at(0.2) == base.at(0.2)
    assert steady.at(0.99) == pytest.approx(math.sqrt(base.at(0.99) * median_s))


def test_an_escalation_takes_the_draws_and_the_price_of_its_tier() -> None:
    first = Provider("a", "m", Exponential(1.0), Price(1.0, 1.0, 1.0), same="x")
    dear = replace(first, price=Price(2.0, 2.0, 2.0), tier="priority", tail=Bootstrap([0.001]))
    one = world(800, providers=(first, dear))
    arm = Arm("escalate", delay_ms=1000, extra=1.0, extra_cost=10.0, escalates=True)
    outcome = Replay(one, arm).run()
    assert max(outcome.ttft_s) == pytest.approx(1.001, abs=1e-6)
    assert 0 < sum(outcome.hedges) == sum(outcome.escalations)
    assert set(outcome.winner) == {0, 1}
    won = next(i for i in range(800) if outcome.winner[i] == 1)
    assert outcome.cost[won] == 2 * outcome.alone_cost[won]
    again = Replay(one, replace(arm, escalates=False)).run()
    assert sum(again.escalations) == 0
    assert max(again.ttft_s) > 1.1
    rows = figures.reduce(one, outcome)
    assert rows["escalated_%"] == rows["extra_requests_%"]
    assert rows["other_model_%"] == 0.0


def test_who_bills_in_full_costs_more_to_leave() -> None:
    rows = tuple(Provider(row, "m", Exponential(1.0), same=row) for row in ("a", "b"))
    full = tuple(replace(row, billing="full") for row in rows)
    one, dear = (
        Replay(world(800, providers=each), Arm("race", race=2)).run() for each in (rows, full)
    )
    assert list(one.ttft_s) == list(dear.ttft_s)
    assert sum(dear.extra_cost) > 1.2 * sum(one.extra_cost)
    assert list(dear.extra_cost) == pytest.approx(list(dear.extra_upper))
    assert figures.reduce(world(800, providers=rows), one)["other_model_%"] > 20


def test_a_second_try_may_share_what_the_first_had() -> None:
    def correlation(shares: bool) -> float:
        one = world(2000, rho=0.8, shares_again=shares)
        first, again = (
            sorted(range(2000), key=each[0].__getitem__) for each in (one.base_s, one.again_s)
        )
        slow = set(first[-200:]) & set(again[-200:])
        return len(slow) / 200

    assert correlation(shares=True) > 0.4
    assert correlation(shares=False) < 0.2


def test_each_world_has_its_arms() -> None:
    assert set(report.PLAN) == set(worlds.NAMES)


def test_a_second_place_pays_in_long_sessions() -> None:
    assert second_place.least_turns("anthropic", "claude-haiku-4-5", 0.05) == 32
    assert second_place.least_turns("openai", "gpt-4o-mini", 0.02) is None
    assert "claude-haiku-4-5" in second_place.table()
