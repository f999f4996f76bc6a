"""Where a caller stands, in headers; read back by what the relay itself reads of providers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codecs.rate_limit_headers import read_rate_windows
from relay.frontends.rate_headers import (
    anthropic_headers,
    grpc_metadata,
    length,
    moment,
    openai_headers,
)
from relay.governance.ledger import RateState
from tests.fakes.properties import examples

STATE = RateState(60, 59, 1.0, 1000, 250, 45.0)
NOW_S = 1_800_000_000.0


def text(headers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in headers]


def test_as_openai_has_them() -> None:
    assert text(openai_headers(STATE)) == [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"),
        ("x-ratelimit-limit-tokens", "1000"),
        ("x-ratelimit-remaining-tokens", "250"),
        ("x-ratelimit-reset-tokens", "45s"),
    ]
    assert grpc_metadata(STATE) == text(openai_headers(STATE))


def test_as_anthropic_has_them() -> None:
    assert text(anthropic_headers(STATE, NOW_S + 0.25)) == [
        ("anthropic-ratelimit-requests-limit", "60"),
        ("anthropic-ratelimit-requests-remaining", "59"),
        ("anthropic-ratelimit-requests-reset", "2027-01-15T08:00:02Z"),
        ("anthropic-ratelimit-tokens-limit", "1000"),
        ("anthropic-ratelimit-tokens-remaining", "250"),
        ("anthropic-ratelimit-tokens-reset", "2027-01-15T08:00:46Z"),
    ]


def test_of_what_is_not_limited_there_is_nothing() -> None:
    state = RateState(None, 0, 0.0, 1000, 0, 60.0)
    assert [name for name, _ in text(openai_headers(state))] == [
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
    ]
    assert anthropic_headers(RateState(None, 0, 0.0, None, 0, 0.0), NOW_S) == []


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.0, "0s"),
        (-1.0, "0s"),
        (0.0001, "1ms"),
        (0.0195, "20ms"),
        (0.9999, "1s"),
        (1.5, "1.5s"),
        (59.9994, "1m0s"),
        (59.5, "59.5s"),
        (360.0, "6m0s"),
        (3663.2, "1h1m4s"),
        (86_400.0, "24h0m0s"),
    ],
)
def test_lengths(seconds: float, written: str) -> None:
    assert length(seconds) == written


def test_moments_are_rounded_up() -> None:
    assert moment(NOW_S) == "2027-01-15T08:00:00Z"
    assert moment(NOW_S + 0.001) == "2027-01-15T08:00:01Z"


figures = st.tuples(st.integers(1, 10**9), st.integers(0, 10**9), st.floats(0, 4000))


@given(figures, figures)
@examples(100)
def test_clients_read_what_is_meant(
    requests: tuple[int, int, float], tokens: tuple[int, int, float]
) -> None:
    state = RateState(*requests, *tokens)
    date = [("date", "Fri, 15 Jan 2027 08:00:00 GMT")]
    for headers, slack_s in (
        (text(openai_headers(state)), 0.001),
        (date + text(anthropic_headers(state, NOW_S)), 1.0),
    ):
        read = {window.name: window for window in read_rate_windows(headers)}
        for name, (limit, remaining, reset_s) in (("requests", requests), ("tokens", tokens)):
            window = read[name]
            assert (window.limit, window.remaining) == (limit, remaining)
            slack = slack_s if reset_s < 59 else max(slack_s, 1.0)
            assert reset_s - 1e-6 <= window.reset_s <= reset_s + slack + 1e-3
