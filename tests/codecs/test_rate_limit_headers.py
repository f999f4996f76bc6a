"""What responses say of rate limits, in each provider's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codecs.rate_limit_headers import MAX_WINDOWS, RateWindow, read_rate_windows

DATE = ("date", "Mon, 03 Aug 2026 12:00:00 GMT")


@pytest.mark.parametrize(
    ("headers", "windows"),
    [
        pytest.param(
            [
                ("x-ratelimit-limit-requests", "5000"),
                ("x-ratelimit-remaining-requests", "4999"),
                ("x-ratelimit-reset-requests", "12ms"),
                ("x-ratelimit-limit-tokens", "160000"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "1m12.5s"),
            ],
            [RateWindow("requests", 5000, 4999, 0.012), RateWindow("tokens", 160000, 0, 72.5)],
            id="openai",
        ),
        pytest.param(
            [
                DATE,
                ("anthropic-ratelimit-input-tokens-limit", "30000"),
                ("anthropic-ratelimit-input-tokens-remaining", "0"),
                ("anthropic-ratelimit-input-tokens-reset", "2026-08-03T12:00:09Z"),
            ],
            [RateWindow("input-tokens", 30000, 0, 9.0)],
            id="anthropic",
        ),
        pytest.param(
            [
                ("x-ratelimit-limit-req-minute", "4"),
                ("x-ratelimit-remaining-req-minute", "0"),
                ("ratelimitbysize-remaining", "0"),
            ],
            [RateWindow("req-minute", 4, 0, 60.0)],
            id="mistral",
        ),
        pytest.param(
            [DATE, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1785758405000")],
            [RateWindow("", None, 0, 5.0)],
            id="openrouter",
        ),
        pytest.param(
            [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "500")],
            [RateWindow("requests", None, 0, 500.0)],
            id="azure",
        ),
        pytest.param(
            [("ratelimit-limit", "400"), ("ratelimit-remaining", "398"), ("ratelimit-reset", "18")],
            [RateWindow("", 400, 398, 18.0)],
            id="hugging-face",
        ),
        pytest.param(
            [("anthropic-ratelimit-tokens-reset", "soon"), ("x-ratelimit-limit-day", "many")],
            [RateWindow("tokens", None, None, 60.0), RateWindow("day", None, None, 86_400.0)],
            id="unreadable",
        ),
        pytest.param([("content-type", "text/event-stream"), DATE], [], id="silent"),
    ],
)
def test_windows(headers: list[tuple[str, str]], windows: list[RateWindow]) -> None:
    assert read_rate_windows(headers) == windows


def test_a_flood_of_windows_is_cut() -> None:
    flood = [(f"x-ratelimit-limit-{number}", "1") for number in range(1000)]
    assert len(read_rate_windows(flood)) == MAX_WINDOWS


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["x-ratelimit-reset", "x-ratelimit-limit-a", "ratelimit-", "date", "x-ratelimit-a"]
            ),
            st.text(max_size=30) | st.sampled_from(["1e400", "nan", "-5", DATE[1], "9" * 400]),
        )
    )
)
def test_any_value_is_survived(headers: list[tuple[str, str]]) -> None:
    for window in read_rate_windows(headers):
        assert window.reset_s >= 0
