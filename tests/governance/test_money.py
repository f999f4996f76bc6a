"""Amounts in whole micro-dollars."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.governance.money import (
    MOST_MICRO,
    dollars,
    micro_from_dollars,
    micro_half_up,
    micro_up,
    pico_of,
)


@pytest.mark.parametrize(
    ("pico", "nearest", "up"),
    [(0, 0, 0), (1, 0, 1), (499_999, 0, 1), (500_000, 1, 1), (1_000_000, 1, 1), (1_000_001, 1, 2)],
)
def test_rounding(pico: int, nearest: int, up: int) -> None:
    assert (micro_half_up(pico), micro_up(pico)) == (nearest, up)


@pytest.mark.parametrize(
    ("price", "pico"),
    [
        (0.1, 100_000),
        (0.15, 150_000),
        (2.5, 2_500_000),
        (1e-06, 1),
        (Decimal("0.003625"), 3625),
        (Decimal("0.0833333333333333"), 83_333),
        (0.0000005, 1),
    ],
)
def test_price_as_it_is_written(price: float | Decimal, pico: int) -> None:
    assert pico_of(price) == pico


@pytest.mark.parametrize(
    ("text", "micro"),
    [("12.50", 12_500_000), ("0", 0), ("0.000001", 1), (" 3 ", 3_000_000), ("1e3", 1_000_000_000)],
)
def test_amount(text: str, micro: int) -> None:
    assert micro_from_dollars(text) == micro


SLIVER = "1." + "0" * 40 + "1"
"""More digits than decimal arithmetic keeps, unless told to."""


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "-0", "nan", "inf", "1e40", "0.0000001", "1,5", SLIVER]
)
def test_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match=r"amount|digits"):
        micro_from_dollars(text)


@given(micro=st.integers(0, MOST_MICRO // 2))
def test_amount_is_read_as_it_was_written(micro: int) -> None:
    assert micro_from_dollars(dollars(micro)) == micro


def test_debt_is_told_as_such() -> None:
    assert dollars(-1_500_000) == "-1.5"


def test_the_largest_amount_and_the_one_over_it() -> None:
    most = MOST_MICRO // 1_000_000
    assert micro_from_dollars(str(most)) == most * 1_000_000
    with pytest.raises(ValueError, match=f"from 0 to {most} dollars"):
        micro_from_dollars(f"{most + 1}")


def test_only_the_beginning_of_what_is_no_amount_is_told() -> None:
    for text, why in (("x" * 40, "is no amount in"), ("0." + "1" * 60, "more than six digits")):
        with pytest.raises(ValueError, match=why) as refused:
            micro_from_dollars(text)
        assert text[:32] in str(refused.value)
        assert text[:33] not in str(refused.value)
