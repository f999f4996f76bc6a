from __future__ import annotations

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.assignment import Division
from tests.fakes.properties import examples

Arms = list[tuple[str, float]]
UNITS = [f"user-{number}" for number in range(4000)]
WEIGHTS = st.lists(st.floats(0.05, 20), min_size=2, max_size=6)


def arms(weights: list[float]) -> Arms:
    return [(f"arm-{index}", weight) for index, weight in enumerate(weights)]


def division(weights: list[float], salt: str = "x", share: float = 1.0) -> Division:
    return Division(salt, arms(weights), share)


def placed(one: Division, units: list[str] = UNITS) -> list[str]:
    return [one.arm_of(one.place_of(unit)) for unit in units]


def is_near(count: int, all_of_them: int, share: float) -> bool:
    """Within five standard deviations of a binomial: one in a million is not."""
    return abs(count - all_of_them * share) <= 5 * sqrt(all_of_them * share * (1 - share)) + 1


@given(st.text(), WEIGHTS, st.text(max_size=20))
@examples(100, full=2000)
def test_a_unit_stays_where_it_is(unit: str, weights: list[float], salt: str) -> None:
    first, again = division(weights, salt), division(weights, salt)
    place = first.place_of(unit)
    assert place == again.place_of(unit)
    assert first.arm_of(place) == again.arm_of(place)
    assert first.takes_part(place) == again.takes_part(place)


@given(WEIGHTS, st.integers(0, 1000))
@examples(12, full=200)
def test_shares_are_the_weights(weights: list[float], salt: int) -> None:
    found = placed(division(weights, f"salt-{salt}"))
    for name, weight in arms(weights):
        assert is_near(found.count(name), len(UNITS), weight / sum(weights))


@given(WEIGHTS, st.integers(0, 1000), st.data())
@examples(12, full=200)
def test_one_weight_changed_moves_units_to_or_from_that_arm_alone(
    weights: list[float], salt: int, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(weights) - 1))
    others = [*weights]
    others[index] = data.draw(st.floats(0.05, 20))
    before = placed(division(weights, f"{salt}"))
    after = placed(division(others, f"{salt}"))
    moved = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    name = f"arm-{index}"
    is_more = others[index] >= weights[index]
    assert all((other if is_more else one) == name for one, other in moved)
    necessary = abs(others[index] / sum(others) - weights[index] / sum(weights))
    assert is_near(len(moved), len(UNITS), necessary)


def test_weights_by_a_common_factor_move_nobody() -> None:
    assert placed(division([1, 2, 3])) == placed(division([10, 20, 30]))


def test_an_arm_that_goes_moves_its_own_units_alone() -> None:
    with_it = division([1, 1, 1])
    without = Division("x", arms([1, 1, 1])[:2])
    for unit in UNITS:
        before = with_it.arm_of(with_it.place_of(unit))
        after = without.arm_of(without.place_of(unit))
        assert after == before or before == "arm-2"


@pytest.mark.parametrize("shares", [(0.1, 0.3), (0.0, 0.5), (0.5, 1.0)])
def test_a_larger_share_adds_units_and_moves_none(shares: tuple[float, float]) -> None:
    small, large = (division([1, 1], share=share) for share in shares)
    inside = [
        {unit for unit in UNITS if one.takes_part(one.place_of(unit))} for one in (small, large)
    ]
    assert inside[0] <= inside[1]
    for found, share in zip(inside, shares, strict=True):
        assert is_near(len(found), len(UNITS), share)
    assert placed(small) == placed(large)


def test_who_takes_part_says_nothing_of_the_arm() -> None:
    one = division([1, 1], share=0.5)
    inside = [unit for unit in UNITS if one.takes_part(one.place_of(unit))]
    assert is_near(placed(one, inside).count("arm-0"), len(inside), 0.5)


def test_experiments_are_independent_of_each_other() -> None:
    first, second = placed(division([1, 1], "first")), placed(division([1, 1], "second"))
    both = sum(one == other for one, other in zip(first, second, strict=True))
    assert is_near(both, len(UNITS), 0.5)


def test_an_arm_without_weight_gets_nobody() -> None:
    assert set(placed(division([1, 0, 1]))) == {"arm-0", "arm-2"}
