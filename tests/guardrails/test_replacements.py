"""What stands in the place of what was found."""

from __future__ import annotations

import pytest

from relay.guardrails.replacements import masked, redacted


@pytest.mark.parametrize(
    ("label", "wanted"),
    [
        ("pii.email", "[EMAIL]"),
        ("pii.us_ssn", "[SSN]"),
        ("secret.jwt", "[SECRET]"),
        ("denied", "[REMOVED]"),
        ("order-number", "[ORDER_NUMBER]"),
        ("presidio.person", "[PERSON]"),
    ],
)
def test_redacted(label: str, wanted: str) -> None:
    assert redacted(label) == wanted


@pytest.mark.parametrize(
    ("label", "text", "wanted"),
    [
        ("pii.card", "4111 1111 1111 1234", "****1234"),
        ("pii.us_ssn", "123-45-6789", "****6789"),
        ("pii.phone", "1234567", "****"),  # four of seven would be most of it
        ("secret.openai", "sk-abcdefghijkl", "****"),
    ],
)
def test_masked(label: str, text: str, wanted: str) -> None:
    assert masked(label, text) == wanted
