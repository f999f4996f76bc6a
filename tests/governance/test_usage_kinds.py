"""Kinds of tokens in providers' own usage objects."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.content import Usage
from relay.governance.price_sheet import PriceSheet
from relay.governance.sheet_price import Rates, SheetPrice, Tokens
from relay.governance.usage_kinds import cost_micro, tokens_of
from tests.fakes.properties import examples

PRICE = SheetPrice(
    Rates(
        input=1_000_000,
        cached=100_000,
        cache_write=1_250_000,
        output=2_000_000,
        long_cache_write=2_000_000,
        audio_input=10_000_000,
        cached_audio=500_000,
        audio_output=20_000_000,
    ),
    version="v",
)


def usage(raw: Any, **counts: int) -> Usage:
    usual: dict[str, Any] = {
        "prompt_tokens": 1_000,
        "completion_tokens": 100,
        "total_tokens": 1_100,
    }
    return Usage(**(usual | counts), raw_json=orjson.dumps(raw))


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (
            {
                "prompt_tokens_details": {"audio_tokens": 40, "cached_tokens": 30},
                "completion_tokens_details": {"audio_tokens": 50, "reasoning_tokens": 0},
            },
            {"audio_input": 40, "audio_output": 50},
        ),
        (
            {
                "input_tokens_details": {
                    "audio_tokens": 40,
                    "cached_tokens_details": {"audio_tokens": 8, "image_tokens": 2},
                },
                "output_tokens_details": {"image_tokens": 9},
            },
            {"audio_input": 40, "cached_audio": 8, "cached_image": 2, "image_output": 9},
        ),
        (
            {"cache_creation": {"ephemeral_1h_input_tokens": 70, "ephemeral_5m_input_tokens": 5}},
            {"long_cache_write": 70},
        ),
        (
            {
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 10},
                    {"modality": "AUDIO", "tokenCount": 60},
                    {"modality": 3, "tokenCount": 7},
                ],
                "toolUsePromptTokensDetails": [{"modality": "AUDIO", "tokenCount": 1}],
                "cacheTokensDetails": [
                    {"modality": "AUDIO", "tokenCount": 20},
                    {"modality": "VIDEO", "tokenCount": 3},
                ],
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 90}],
            },
            {"audio_input": 61, "video_input": 7, "cached_audio": 20, "image_output": 90},
        ),
        ({"prompt_tokens_details": None, "cache_creation": [], "promptTokensDetails": {}}, {}),
        ({"prompt_tokens_details": {"audio_tokens": -4}}, {}),
        ({"prompt_tokens_details": {"audio_tokens": "9"}}, {}),
        ({"promptTokensDetails": [None, {"modality": [], "tokenCount": 1}]}, {}),
        ([], {}),
    ],
)
def test_kinds(raw: Any, found: dict[str, int]) -> None:
    assert tokens_of(usage(raw)) == Tokens(1_000, output=100)._replace(**found)


def test_cost() -> None:
    told = usage(
        {"prompt_tokens_details": {"audio_tokens": 100}, "cache_creation": {}},
        cached_tokens=200,
    )
    assert cost_micro(PRICE, told) == 700 + 100 * 10 + 200 // 10 + 200


def test_what_is_written_for_an_hour_costs_more() -> None:
    written = {"cache_creation": {"ephemeral_1h_input_tokens": 400}}
    told = usage(written, cache_write_tokens=600)
    assert cost_micro(PRICE, told) == 400 + 200 * 125 // 100 + 400 * 2 + 200


@pytest.mark.parametrize("raw_json", [b"", b"{", b"7", b"null"])
def test_without_an_account_the_counts_do(raw_json: bytes) -> None:
    told = Usage(1_000, 100, 1_100, raw_json=raw_json)
    assert cost_micro(PRICE, told) == 1_200


def test_prices_of_four_kinds_are_not_looked_up_further() -> None:
    price = PriceSheet().price_of("groq", "llama-3.3-70b-versatile")
    assert price is not None
    assert not price.special
    told = usage({"prompt_tokens_details": {"audio_tokens": 900}})
    assert cost_micro(price, told) == price.cost_micro(1_000, 0, 0, 100)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 50) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    "prompt_tokens_details",
                    "output_tokens_details",
                    "audio_tokens",
                    "cache_creation",
                    "ephemeral_1h_input_tokens",
                    "promptTokensDetails",
                    "modality",
                    "tokenCount",
                )
            ),
            inner,
        )
    ),
    max_leaves=15,
)


@examples(150, full=5_000)
@given(raw=_JSON)
def test_no_account_costs_more_than_its_tokens_could(raw: Any) -> None:
    most = PRICE.bound_micro(1_000, 100, PRICE.special)
    assert 0 <= cost_micro(PRICE, usage(raw)) <= most
