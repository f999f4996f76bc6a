"""Card numbers: brands' test numbers, their groups, and what is none."""

from __future__ import annotations

import pytest

from relay.guardrails.cards import brand_of, card_scanner, luhn

CARDS = {
    "visa": "4111111111111111",
    "mastercard": "5555555555554444",
    "amex": "378282246310005",
    "discover": "6011111111111117",
    "diners": "30569309025904",
    "jcb": "3530111333300000",
    "unionpay": "6200000000000005",
    "maestro": "6759649826438453",
    "mir": "2200000000000004",
}


def found(text: str) -> list[str]:
    return [text[one.start : one.end] for one in card_scanner().find(text)]


@pytest.mark.parametrize("brand", CARDS)
def test_brands(brand: str) -> None:
    assert luhn(CARDS[brand])
    assert brand_of(CARDS[brand]) == brand
    assert found(f"card {CARDS[brand]}.") == [CARDS[brand]]


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "3782 822463 10005",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
    ],
)
def test_groups(text: str) -> None:
    assert found(f"it is {text}, thanks") == [text]


def test_a_number_in_front_hides_it_not() -> None:
    assert found("12 4111 1111 1111 1111 99") == ["4111 1111 1111 1111"]


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # check digit
        "9111111111111111",  # nobody's prefix
        "41111111111111111111",  # twenty digits
        "4111  1111 1111 1111",  # two spaces
        "1700000000000",
        "2024-01-01 12:00:00",
    ],
)
def test_none(text: str) -> None:
    assert found(text) == []


def test_one_digit_wrong_is_found_out() -> None:
    right = CARDS["visa"]
    for at in range(len(right)):
        wrong = f"{right[:at]}{(int(right[at]) + 1) % 10}{right[at + 1 :]}"
        assert not luhn(wrong)
