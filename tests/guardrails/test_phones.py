"""Telephone numbers, by the library's own knowledge."""

from __future__ import annotations

import pytest

from relay.guardrails.pii import pii_scanners

pytest.importorskip("phonenumbers")


def found(text: str, region: str | None = None) -> list[str]:
    (scanner,) = pii_scanners(["phone"], region=region)
    return [text[one.start : one.end] for one in scanner.find(text)]


@pytest.mark.parametrize(
    "text",
    ["+49 30 1234567", "+1 (415) 555-2671", "0049 30 1234567", "+44 20 7946 0958", "+14155552671"],
)
def test_with_a_country(text: str) -> None:
    assert found(f"call {text}, please") == [text]


@pytest.mark.parametrize(
    ("region", "text"),
    [
        ("DE", "030 1234567"),
        ("DE", "(030) 123 45 67"),
        ("US", "415-555-2671"),
        ("GB", "020 7946 0958"),
    ],
)
def test_of_a_region(region: str, text: str) -> None:
    assert found(f"call {text}.", region) == [text]
    assert found(f"call {text}.") == []


@pytest.mark.parametrize(
    "text",
    [
        "12.03.1985",
        "2024-01-01",
        "1.234.567",
        "order 12345678",
        "+999 123456789",
        "1234567890123456",
    ],
)
def test_none(text: str) -> None:
    assert found(text, "DE") == []


def test_a_number_behind_it_hides_it_not() -> None:
    assert found("+1 415 555 2671 2024") == ["+1 415 555 2671"]


def test_unknown_region() -> None:
    with pytest.raises(ValueError, match="no region 'XX'"):
        pii_scanners(["phone"], region="XX")
