"""Check digits: published examples, and that a wrong digit is found out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relay.guardrails import check_digits as checks

RIGHT: list[tuple[Callable[[str], bool], str]] = [
    (checks.is_iban, "DE89370400440532013000"),
    (checks.is_iban, "GB82WEST12345698765432"),
    (checks.is_iban, "NO9386011117947"),
    (checks.is_iban, "MT84MALT011000012345MTLCAST001S"),
    (checks.is_verhoeff, "2363"),
    (checks.is_verhoeff, "234123412346"),
    (checks.is_german_tax_id, "86095742719"),
    (checks.is_german_tax_id, "47036892816"),
    (checks.is_spanish_id, "12345678Z"),
    (checks.is_spanish_id, "X1234567L"),
    (checks.is_french_nir, "255081416802538"),
    (checks.is_french_nir, "185057800608491"),
    (checks.is_nhs_number, "9434765919"),
    (checks.is_nhs_number, "9876543210"),
]


@pytest.mark.parametrize(("is_right", "number"), RIGHT)
def test_right(is_right: Callable[[str], bool], number: str) -> None:
    assert is_right(number)


@pytest.mark.parametrize(("is_right", "number"), RIGHT)
def test_one_digit_wrong(is_right: Callable[[str], bool], number: str) -> None:
    missed = 0
    for at, one in enumerate(number):
        if one.isdecimal():
            for more in range(1, 10):
                wrong = f"{number[:at]}{(int(one) + more) % 10}{number[at + 1 :]}"
                missed += is_right(wrong)
    assert missed == 0


def test_iban_of_a_wrong_length() -> None:
    assert not checks.is_iban("DE8937040044053201300")
    assert checks.iban_chars("ZZ") == 0
    assert not checks.is_iban("ZZ89370400440532013000")


def test_german_tax_id_repeats() -> None:
    assert not checks.is_german_tax_id("12345678903")  # ten different digits
    assert not checks.is_german_tax_id("02476291358")  # begins with 0
