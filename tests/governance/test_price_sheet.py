"""Our whole numbers against the reader that comes with the data, over all of its models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, TieredPrices
from hypothesis import given
from hypothesis import strategies as st

from relay.config import parse
from relay.governance.price_sheet import Listed, PriceSheet
from relay.governance.published_prices import EDITION, published
from relay.governance.sheet_price import Rates, SheetPrice, Tier, Tokens
from relay.prices import PROVIDER_IDS
from tests.fakes.properties import examples

NOW_S = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()

INEXACT = (
    ("openrouter", "cache_write_mtok"),  # thirds of a twelfth
    ("huggingface_together", "input_mtok"),  # 0.13999999999999999
    ("huggingface_together", "output_mtok"),
)
"""Prices of the data with more digits than a millionth of a dollar per million tokens has."""


@dataclass(frozen=True)
class Known:
    """A model of the data at a provider of ours."""

    provider: str
    model: str
    info: ModelInfo


def _known() -> Iterator[Known]:
    theirs = {provider.id: provider for provider in get_snapshot().providers}
    for ours, provider_id in sorted(PROVIDER_IDS.items()):
        owner = theirs[provider_id]
        for info in owner.models:
            # Some models are matched by another's pattern before their own.
            if owner.find_model(info.id) is info:
                yield Known(ours, info.id, info)


KNOWN = tuple(_known())
PRICED = tuple(k for k in KNOWN if published(k.provider, k.model, "", NOW_S).price is not None)


def _theirs(known: Known, tokens: Tokens, now_s: float, service_tier: str) -> int:
    """As the data's reader says, in micro-dollars; what it does not charge for is left out."""
    usage = genai_prices.Usage(
        input_tokens=tokens.prompt,
        cache_read_tokens=tokens.cached,
        cache_write_tokens=tokens.cache_write,
        cache_write_1h_tokens=tokens.long_cache_write,
        output_tokens=tokens.output,
        output_reasoning_tokens=tokens.reasoning,
        input_audio_tokens=tokens.audio_input,
        cache_audio_read_tokens=tokens.cached_audio,
        output_audio_tokens=tokens.audio_output,
        input_image_tokens=tokens.image_input,
        cache_image_read_tokens=tokens.cached_image,
        output_image_tokens=tokens.image_output,
        input_video_tokens=tokens.video_input,
        output_video_tokens=tokens.video_output,
    )
    # What Claude's fast answers are called.
    context = {"service_tier": service_tier, "speed": service_tier}
    priced = genai_prices.calc_price(
        usage,
        known.model,
        provider_id=PROVIDER_IDS[known.provider],
        genai_request_timestamp=datetime.fromtimestamp(now_s, UTC),
        price_context=context if service_tier else None,
    )
    return int((priced.total_price * 1_000_000).to_integral_value(ROUND_HALF_UP))


def _is_exact(known: Known) -> bool:
    price = published(known.provider, known.model, "", NOW_S)
    assert price is not None
    every = known.info.prices if isinstance(known.info.prices, list) else [known.info]
    for one in [*every, *(known.info.price_variants or ())]:
        for value in vars(one.prices).values():
            for number in _numbers(value):
                if number * 1_000_000 != int(number * 1_000_000):
                    return False
    return True


def _numbers(value: object) -> list[Decimal]:
    if isinstance(value, TieredPrices):
        return [value.base, *(tier.price for tier in value.tiers)]
    return [value] if isinstance(value, Decimal) else []


@st.composite
def _tokens(draw: st.DrawFn) -> Tokens:
    """The usual kinds, all of which are inside of what they are parts of."""
    prompt = draw(
        st.one_of(
            st.integers(0, 2_000_000),
            st.sampled_from((127_999, 128_000, 128_001, 200_000, 200_001, 272_000, 272_001)),
        )
    )
    cached = draw(st.integers(0, prompt))
    written = draw(st.integers(0, prompt - cached))
    long_written = draw(st.integers(0, written))
    output = draw(st.integers(0, 500_000))
    reasoning = draw(st.integers(0, output))
    return Tokens(prompt, cached, written, output, reasoning, long_written)


@examples(400, full=20_000)
@given(
    known=st.sampled_from(PRICED),
    tokens=_tokens(),
    hour=st.integers(-24 * 400, 24 * 400),
    service_tier=st.sampled_from(("", "flex", "priority", "fast")),
)
def test_cost_is_that_of_the_data(
    known: Known, tokens: Tokens, hour: int, service_tier: str
) -> None:
    now_s = NOW_S + 3600 * hour + 1800
    price = PriceSheet().price_of(known.provider, known.model, service_tier, now_s)
    if price is None:  # not paid by tokens then
        return
    ours = price.cost_of(tokens)
    theirs = _theirs(known, tokens, now_s, service_tier)
    if _is_exact(known):
        assert ours == theirs
    else:
        assert (PROVIDER_IDS[known.provider]) in {provider for provider, _ in INEXACT}
        assert abs(ours - theirs) <= 1 + (tokens.prompt + tokens.output) // 2_000_000


def test_every_model_of_the_data_once() -> None:
    tokens = Tokens(prompt=300_017, cached=1_003, cache_write=507, output=999, reasoning=101)
    wrong = [
        known
        for known in PRICED
        if _is_exact(known)
        and (price := PriceSheet().price_of(known.provider, known.model, "", NOW_S)) is not None
        and price.cost_of(tokens) != _theirs(known, tokens, NOW_S, "")
    ]
    assert wrong == []
    assert len(PRICED) > 1_000


def test_what_has_no_price_here_is_not_paid_by_tokens() -> None:
    """Every model without a price has none for its input either in the data."""
    priced = {(known.provider, known.model) for known in PRICED}
    for known in KNOWN:
        if (known.provider, known.model) in priced:
            continue
        prices = known.info.get_prices(datetime.fromtimestamp(NOW_S, UTC))
        assert vars(prices).get("input_mtok") is None, known.model


SPECIAL = tuple(
    k
    for k in PRICED
    if (price := published(k.provider, k.model, "", NOW_S).price) is not None and price.special
)


@examples(200, full=5_000)
@given(data=st.data(), known=st.sampled_from(SPECIAL))
def test_sound_and_pictures_cost_what_the_data_says(data: st.DataObject, known: Known) -> None:
    price = published(known.provider, known.model, "", NOW_S).price
    assert price is not None

    def has(kind: str, most: int) -> int:
        """Only kinds that have a price: theirs asks for the counts of what is in several."""
        return data.draw(st.integers(0, most)) if kind in price.special else 0

    audio = has("audio_input", 10_000)
    image = has("image_input", 10_000)
    video = has("video_input", 10_000)
    cached_audio, cached_image = has("cached_audio", audio), has("cached_image", image)
    sound, picture = has("audio_output", 10_000), has("image_output", 10_000)
    film = has("video_output", 10_000)
    cached = cached_audio + cached_image + data.draw(st.integers(0, 10_000))
    prompt = audio + image + video + cached + data.draw(st.integers(0, 200_000))
    output = sound + picture + film + data.draw(st.integers(0, 10_000))
    tokens = Tokens(
        prompt=prompt,
        cached=cached,
        output=output,
        audio_input=audio,
        cached_audio=cached_audio,
        image_input=image,
        cached_image=cached_image,
        video_input=video,
        audio_output=sound,
        image_output=picture,
        video_output=film,
    )
    assert price.cost_of(tokens) == _theirs(known, tokens, NOW_S, "")


# --- the arithmetic -------------------------------------------------------------------------

PLAIN = SheetPrice(
    Rates(input=2_500_000, cached=250_000, cache_write=3_125_000, output=10_000_000), version="v"
)
TIERED = SheetPrice(
    Rates(input=1_000_000, output=2_000_000),
    (Tier(1_000, Rates(input=3_000_000, output=5_000_000)),),
    request_pico=7_000_000,
    version="v",
)


def test_cost_of_the_four_kinds() -> None:
    assert PLAIN.cost_micro(1_000, 400, 100, 10) == 500 * 25 // 10 + 400 // 4 + 313 + 100


def test_half_a_micro_dollar_goes_up() -> None:
    price = SheetPrice(Rates(input=500_000), version="v")
    assert [price.cost_micro(count, 0, 0, 0) for count in (0, 1, 2, 3)] == [0, 1, 1, 2]


def test_a_tier_is_of_the_whole_request() -> None:
    assert TIERED.cost_micro(1_000, 0, 0, 1) == 1_000 + 2 + 7
    assert TIERED.cost_micro(1_001, 0, 0, 1) == 3_003 + 5 + 7


@examples(200)
@given(
    prompt=st.integers(-5, 3_000),
    cached=st.integers(-5, 3_000),
    written=st.integers(-5, 3_000),
    output=st.integers(-5, 3_000),
    reasoning=st.integers(-5, 3_000),
    price=st.sampled_from((PLAIN, TIERED)),
)
def test_counts_that_contradict_each_other_cost_no_more_than_the_bound(
    prompt: int, cached: int, written: int, output: int, reasoning: int, price: SheetPrice
) -> None:
    cost = price.cost_micro(prompt, cached, written, output, reasoning)
    assert cost == price.cost_of(Tokens(prompt, cached, written, output, reasoning))
    assert 0 <= cost <= price.bound_micro(prompt, output)


@examples(200, full=5_000)
@given(known=st.sampled_from(PRICED), tokens=_tokens(), more=st.integers(0, 300_000))
def test_bound_holds_for_every_price(known: Known, tokens: Tokens, more: int) -> None:
    price = published(known.provider, known.model, "", NOW_S).price
    assert price is not None
    bound = price.bound_micro(tokens.prompt + more, tokens.output + more, ("long_cache_write",))
    assert price.cost_of(tokens) <= bound
    usual = tokens._replace(long_cache_write=0)
    assert price.cost_of(usual) <= price.bound_micro(tokens.prompt, tokens.output)


def test_bound_takes_special_kinds_only_where_they_are_asked_for() -> None:
    price = SheetPrice(
        Rates(input=1_000_000, audio_input=40_000_000, output=2_000_000, audio_output=80_000_000),
        version="v",
    )
    assert price.special == {"audio_input", "audio_output"}
    assert price.bound_micro(10, 10) == 30
    assert price.bound_micro(10, 10, {"audio_input"}) == 420
    assert price.bound_micro(10, 10, {"audio_input", "audio_output"}) == 1_200


# --- whose price ----------------------------------------------------------------------------


def _own(**rates: Any) -> PriceSheet:
    config = parse(
        {
            "providers": {
                "openai": {"prices": {"gpt-4o-mini": {"input": 1.0, "output": 3.0, **rates}}},
            }
        },
        {},
    )
    return PriceSheet({name: row.prices for name, row in config.providers.items()})


def test_the_operators_price_comes_first() -> None:
    price = _own(cached_input=0.5).price_of("openai", "gpt-4o-mini", "priority")
    assert price is not None
    assert price.rates == Rates(1_000_000, 500_000, None, 3_000_000)
    assert price.version.startswith("configured ")
    other = _own(cached_input=0.5).price_of("openai", "gpt-4o")
    assert other is not None
    assert other.version == EDITION


def test_the_operators_price_of_a_tier() -> None:
    price = _own(tiers={"priority": {"input": 2.0, "output": 6.0}})
    usual, dear, slow = (
        price.price_of("openai", "gpt-4o-mini", tier) for tier in ("", "priority", "flex")
    )
    assert usual is not None
    assert dear is not None
    assert dear.rates == Rates(2_000_000, None, None, 6_000_000)
    assert slow == usual, "which stands for all others"


def test_prices_are_those_of_the_door() -> None:
    rows = {
        "eu": Listed("azure", {"mini": "gpt-4o-mini"}),
        "claude": Listed("bedrock"),
        "openai": Listed("lab"),
    }
    sheet = PriceSheet(listed=rows)
    direct = PriceSheet().price_of("azure", "gpt-4o-mini")
    assert direct is not None
    for model in ("mini", "gpt-4o-mini"):
        price = sheet.price_of("eu", model)
        assert price is not None
        assert price.rates == direct.rates
    assert sheet.price_of("eu", "other") is None
    assert sheet.price_of("openai", "gpt-4o-mini") is None, "the door counts and not the name"
    claude = sheet.price_of("claude", "eu.anthropic.claude-haiku-4-5-20251001-v1:0")
    assert claude is not None
    assert claude.rates.input == 1_100_000


def test_versions_tell_prices_apart() -> None:
    one, same, other = _own(), _own(), _own(cache_write=1.25)
    assert one.version == same.version
    assert one.version != other.version
    first, second = (sheet.price_of("openai", "gpt-4o-mini") for sheet in (one, other))
    assert first is not None
    assert second is not None
    assert first.version != second.version
    assert second.cost_micro(4, 0, 4, 0) == 5
    assert PriceSheet().version == EDITION


@pytest.mark.parametrize(
    ("provider", "model"),
    [("nobody", "gpt-4o"), ("openai", "no-such-model"), ("openai", "x" * 300), ("vllm", "gpt-4o")],
)
def test_no_price(provider: str, model: str) -> None:
    assert PriceSheet().price_of(provider, model) is None


def test_a_price_that_changes_by_the_hour_is_read_again() -> None:
    sheet = PriceSheet()
    day_s = datetime(2026, 11, 22, tzinfo=UTC).timestamp()

    def input_at(hour: float) -> int:
        price = sheet.price_of("deepseek", "deepseek-chat", now_s=day_s + hour * 3600)
        assert price is not None
        return price.rates.input

    night, noon = input_at(0.25), input_at(12)
    assert night < noon
    assert input_at(16.6) == night
    assert input_at(12) == noon  # the clock was put back


def test_tiers_of_service_have_prices_and_unknown_words_do_not() -> None:
    sheet = PriceSheet()
    usual, dear = (sheet.price_of("openai", "gpt-5", tier) for tier in ("", "priority"))
    assert usual is not None
    assert dear is not None
    assert dear.rates.input > usual.rates.input
    assert sheet.price_of("openai", "gpt-5", "auto") is usual


def test_names_of_clients_do_not_fill_memory() -> None:
    sheet = PriceSheet()
    before = len(get_snapshot()._lookup_cache) + len(get_snapshot()._provider_cache)
    for number in range(5_000):
        sheet.price_of("xai", f"model-{number}")
    assert len(sheet._held) <= 4_096
    assert len(get_snapshot()._lookup_cache) + len(get_snapshot()._provider_cache) == before
