"""When to come back: every place a hint may stand, their order, and the clamp."""

from __future__ import annotations

import pytest

from relay.codecs.retry_hints import duration_s, retry_after_s

DATE = ("date", "Wed, 21 Oct 2026 07:28:00 GMT")
TEXT = "Rate limit reached. Please try again in 20.402s. Visit the page."


@pytest.mark.parametrize(
    ("headers", "message", "expected"),
    [
        ([], "", None),
        ([("retry-after", "5")], "", 5),
        ([("retry-after", "0")], "", 0),
        ([("retry-after", "-3")], "", 0),
        ([("retry-after", "1000000000")], "", 60),
        ([("retry-after", "nan")], "", None),
        ([("retry-after", "soon")], "", None),
        ([("retry-after-ms", "250"), ("retry-after", "9")], "", 0.25),
        ([DATE, ("retry-after", "Wed, 21 Oct 2026 07:28:12 GMT")], "", 12),
        ([DATE, ("retry-after", "Wed, 21 Oct 2025 07:28:12 GMT")], "", 0),
        ([("retry-after", "Wed, 21 Oct 2026 07:28:12 GMT")], "", None),
        ([], TEXT, 20.402),
        ([("retry-after", "3")], TEXT, 3),
        # Whole seconds, cut: the text says the same more exactly.
        ([("retry-after", "7")], "Please try again in 7.66s.", 7.66),
        ([], "Please retry in 350ms", 0.35),
        ([], "try again in 1m12.5s", 60),
        ([], "try again later", None),
        ([("retry-after", "20s")], "", 20),
        ([("retry-after", "1m30s")], "", 60),
        ([("retry-after", "350ms")], "", 0.35),
        ([], "Please try again in 20 minutes.", 60),
        ([], "Please retry after 1 hour", 60),
        ([], "Retry in 500 milliseconds", 0.5),
        ([], "Try again in 12 seconds, or ask for more.", 12),
        ([], "try again in 1 second and 500 milliseconds", 1.5),
        ([], "try again in 2 sec", 2),
        ([], "try again in 1 min, 5 secs", 60),
        ([], "try again in 3 weeks", 60),
        ([], "try again in 7 or so", 7),
        ([], "try again in 7. 5 requests are allowed", 7),
        ([], "try again in 5s 429", 5),
        ([], "try again in 15x", None),
        ([("x-ratelimit-reset-tokens", "6ms"), ("x-ratelimit-remaining-tokens", "0")], "", 0.006),
        ([("x-ratelimit-reset-tokens", "6s"), ("x-ratelimit-remaining-tokens", "9")], "", None),
        (
            [("x-ratelimit-reset-tokens", "6s"), ("x-ratelimit-reset-requests", "2m59.56s")],
            "",
            60,
        ),
        ([DATE, ("x-ratelimit-reset", "1792567685000")], "", 5),
        ([("x-ratelimit-reset", "1792567685000")], "", None),
        ([("x-ratelimit-reset-requests", "17")], "", 17),
    ],
)
def test_hints(headers: list[tuple[str, str]], message: str, expected: float | None) -> None:
    hint = retry_after_s(headers, message)
    assert hint == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s", 0),
        ("6ms", 0.006),
        ("20.402s", 20.402),
        ("1m12.5s", 72.5),
        ("2h3m", 7380),
        ("7", 7),
        ("", None),
        ("x", None),
        ("5s later", None),
        ("1 s", None),
    ],
)
def test_durations(text: str, expected: float | None) -> None:
    assert duration_s(text) == (expected if expected is None else pytest.approx(expected))


def test_a_long_message_costs_little() -> None:
    assert retry_after_s([], "retry in " + "1" * 1_000_000) == 60
    assert retry_after_s([], "retry in 1s " * 100_000) == 1
