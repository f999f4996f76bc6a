"""What a request costs at a target: rates per token, from the genai-prices data or the operator.

Money is counted in micro-dollars (1e-6 USD). Rates are those of short prompts: policy compares
targets with them and bounds what hedges may cost; it books no invoices. An unknown price is None,
and nobody may take it for a bargain.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

import genai_prices
from genai_prices.data_snapshot import get_snapshot

PROVIDER_IDS: Final = {
    "anthropic": "anthropic",
    "azure": "azure",
    "azure_deployments": "azure",
    "bedrock": "aws",
    "bedrock_mantle": "aws",
    "bedrock_messages": "aws",
    "bedrock_openai": "aws",
    "deepseek": "deepseek",
    "foundry_anthropic": "azure",
    "gemini": "google",
    "groq": "groq",
    "mistral": "mistral",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together": "together",
    "vertex": "google",
    "vertex_anthropic": "google",
    "vertex_express": "google",
    "xai": "x-ai",
    "zai": "zai",
}
"""A door, which is a row of `providers.yaml` -> the name in the data. Other rows have prices if the
operator says so."""

USUAL_TIERS: Final = frozenset({"", "auto", "default", "standard"})
"""Words for no tier of its own."""

_PROBE_TOKENS: Final = 1000
"""Small enough to be in every base tier."""

LOSER_OUTPUT_TOKENS: Final = 20
"""What a hedge that loses has written by the time its reset arrives: some hundred milliseconds."""


UNSET_OUTPUT_TOKENS: Final = 300
"""What an answer is reckoned to be until some have been seen."""


class OutputTokens(NamedTuple):
    """How long an answer may become, before there is one."""

    expected: int
    most: int
    """The request's own limit; without one a guess."""


class Cost(NamedTuple):
    """Of an attempt of which the provider gives no account, micro-dollars."""

    likely: float
    upper: float
    """The most it can be: as if the provider had gone on to the longest answer."""


NO_COST: Final = Cost(0.0, 0.0)


class Price(NamedTuple):
    """Micro-dollars per token, which is dollars per million tokens."""

    input: float
    cached_input: float
    output: float

    def of(self, prompt_tokens: int, cached_tokens: int, output_tokens: int) -> float:
        """Of one request, micro-dollars; `prompt_tokens` includes the cached ones."""
        cached = min(cached_tokens, prompt_tokens)
        return (
            (prompt_tokens - cached) * self.input
            + cached * self.cached_input
            + output_tokens * self.output
        )

    def of_left(
        self,
        prompt_tokens: int,
        cached_tokens: int,
        output: OutputTokens,
        *,
        seen_tokens: int,
        stops_billing: bool,
    ) -> Cost:
        """Of one that was left before its end, with so much of its answer written.

        Args:
            stops_billing: whether the provider stops when it is told to; else the whole answer is
                paid for, of which the expected length is likely.
        """
        likely_tokens = min(seen_tokens, output.most) if stops_billing else output.expected
        return Cost(
            self.of(prompt_tokens, cached_tokens, likely_tokens),
            self.of(prompt_tokens, cached_tokens, output.most),
        )


@lru_cache(maxsize=4096)
def known_price(door: str, model: str, tier: str = "") -> Price | None:
    """The published price of a model at a door; None if it is not known.

    Args:
        tier: a service tier. None where the data has no price of its own for it: the usual price
            would be a bargain that nobody offers.
    """
    provider_id = PROVIDER_IDS.get(door)
    if provider_id is None:
        return None
    tier = "" if tier in USUAL_TIERS else tier
    context = None
    if tier:
        if not _has_tier(provider_id, model, tier):
            return None
        context = {"service_tier": tier}
    try:
        fresh = _rate(provider_id, model, context, input_tokens=_PROBE_TOKENS)
        cached = _rate(
            provider_id, model, context, input_tokens=_PROBE_TOKENS, cache_read_tokens=_PROBE_TOKENS
        )
        output = _rate(provider_id, model, context, output_tokens=_PROBE_TOKENS)
    except (LookupError, ValueError):  # no such model; a model that is not paid by tokens
        return None
    return Price(fresh, cached, output)


def _has_tier(provider_id: str, model: str, tier: str) -> bool:
    """Whether the provider's own list prices this tier: those of a model that another provider's
    list lent (OpenAI's at Azure) are that provider's."""
    try:
        owner, found = get_snapshot().find_provider_model(model, None, provider_id, None)
    except LookupError:
        return False
    is_own = any(found is one for one in owner.models)
    return is_own and any(
        variant.when.get("service_tier") == tier for variant in found.price_variants or ()
    )


@lru_cache(maxsize=4096)
def context_window(door: str, model: str) -> int | None:
    """Tokens of prompt and answer that a model takes, as published; None if it is not known."""
    provider_id = PROVIDER_IDS.get(door)
    if provider_id is None:
        return None
    try:
        _, found = get_snapshot().find_provider_model(model, None, provider_id, None)
    except LookupError:
        return None
    return found.context_window


def _rate(provider_id: str, model: str, context: Mapping[str, str] | None, **tokens: int) -> float:
    priced = genai_prices.calc_price(
        genai_prices.Usage(**tokens),
        model_ref=model,
        provider_id=provider_id,
        price_context=context,
    )
    return float(priced.total_price) * 1e6 / _PROBE_TOKENS
