"""The last number in a text."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.panel_numbers import DecimalMark, last_number
from tests.fakes.properties import examples


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("42", "42"),
        ("first 1, then 42.", "42"),
        ("**42**", "42"),
        ("_42_", "42"),
        ("\\boxed{42}", "42"),
        ("-5", "-5"),
        ("\u22125", "-5"),
        ("-.5", "-0.5"),
        ("3-5", "5"),
        ("$1,234.50", "1234.50"),
        ("-$3", "-3"),
        ("\u20ac1.234,50", "1234.50"),
        ("1\u202f234,5", "1234.5"),
        ("1\u00a0234\u00a0567", "1234567"),
        ("1'234.50", "1234.50"),
        ("1\u2019234", "1234"),
        ("12,34,567", "1234567"),
        ("1.234.567", "1234567"),
        ("1,234", "1234"),
        ("1.234", "1.234"),
        ("3,4", "3.4"),
        ("0,123", "0.123"),
        ("1, 2, 3", "3"),
        ("1,2,3", "3"),
        ("3 100", "100"),
        ("1e6", "1000000"),
        ("2.5E-3", "0.0025"),
        ("12 m\u00b2", "12"),
        ("12 m^2", "12"),
        ("42\u00b9", "42"),
        ("\u00bd", "0.5"),
        ("3\u00bd cups", "3.5"),
        ("\u0663\u066b\u0661\u0664", "3.14"),
        ("\uff14\uff12", "42"),
        ("\u7b54\u684842\u3002", "42"),
        ("so 5%", "5"),
    ],
)
def test_the_last_number(text: str, number: str) -> None:
    assert last_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "none", "H\u2082O", "v1a", "1e12345", "7" * 65, "gpt4"])
def test_no_number(text: str) -> None:
    assert last_number(text) is None


@pytest.mark.parametrize(
    ("text", "mark", "number"),
    [
        ("1,234", "point", "1234"),
        ("1,234", "comma", "1.234"),
        ("1.234", "comma", "1234"),
        ("1.234", "point", "1.234"),
        ("1.23", "comma", "1.23"),
        ("3,4", "comma", "3.4"),
        ("1.234,5", "comma", "1234.5"),
    ],
)
def test_an_operator_who_knows_the_mark(text: str, mark: DecimalMark, number: str) -> None:
    assert last_number(text, mark) == Decimal(number)


@examples(200, full=5000)
@given(st.integers(-(10**12), 10**12), st.integers(0, 99))
def test_every_way_of_writing_is_read_alike(whole: int, cents: int) -> None:
    sign, size = ("-" if whole < 0 else ""), abs(whole)
    value = Decimal(f"{sign}{size}.{cents:02d}")
    grouped = f"{size:,}"
    ways = [
        f"{sign}{grouped}.{cents:02d}",
        f"{sign}{grouped.replace(',', '.')},{cents:02d}",
        f"{sign}{grouped.replace(',', chr(0x202F))},{cents:02d}",
        f"{sign}{grouped.replace(',', chr(39))}.{cents:02d}",
        f"{sign}{size}.{cents:02d}",
        f"{sign}{size},{cents:02d}",
    ]
    assert [last_number(f"It is {way}.") for way in ways] == [value] * len(ways)


@examples(200, full=5000)
@given(st.text(alphabet="0123456789.,'-+eE^ \u00bd\u00b2x", max_size=80))
def test_it_never_raises(text: str) -> None:
    last_number(text)


def test_hostile_texts_take_linear_time() -> None:
    for text in ("1" * 20_000, "1." * 10_000, "1e" * 10_000, "1,23" * 5_000, "\u00bd" * 20_000):
        last_number(text)
