"""The genai-prices data, read into whole numbers.

The data names prices by units (`input_mtok`, `cache_audio_read_mtok`, `requests_kcount`) in dollars
per `per` units, with tiers by the length of the prompt, changes on a day or at an hour, and other
prices for service tiers. What is read here holds for one moment and tier; `Published.until_s` says
when to read it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib.metadata import version
from typing import Any, Final, NamedTuple

from genai_prices.data_snapshot import find_provider_by_id, get_snapshot
from genai_prices.types import (
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from relay.governance.money import pico_of
from relay.governance.sheet_price import Rates, SheetPrice, Tier
from relay.prices import PROVIDER_IDS

EDITION: Final = f"genai-prices {version('genai-prices')}"
"""Which edition of the data this process has."""

FOREVER_S: Final = float("inf")

_RATES: Final = {
    "input_mtok": "input",
    "cache_read_mtok": "cached",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "long_cache_write",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "cache_audio_read_mtok": "cached_audio",
    "input_image_mtok": "image_input",
    "cache_image_read_mtok": "cached_image",
    "input_video_mtok": "video_input",
    "output_audio_mtok": "audio_output",
    "output_image_mtok": "image_output",
    "output_video_mtok": "video_output",
}
"""Their unit -> our kind."""
_REQUESTS: Final = "requests_kcount"

SERVICE_TIERS: Final = frozenset({"flex", "priority", "fast"})
"""That may have prices of their own; every other word is the usual tier."""


class Published(NamedTuple):
    """What the data says of a model now."""

    price: SheetPrice | None
    """None where it has no price, or is not paid by tokens."""
    since_s: float
    until_s: float
    """Seconds since 1970 within which it says so."""


def published(provider: str, model: str, service_tier: str, now_s: float) -> Published:
    """The published price of a model.

    Args:
        provider: name of our row; only names that the data knows have prices.
        service_tier: one of `SERVICE_TIERS`, or "".
        now_s: seconds since 1970, of the request.
    """
    found = _find(provider, model)
    if found is None:
        return Published(None, -FOREVER_S, FOREVER_S)
    owner, info = found
    when = datetime.fromtimestamp(now_s, UTC)
    # As the data's own reader does: the tiers of a model that another provider's list lent are
    # those of that provider.
    is_own = any(info is one for one in owner.models)
    context = _context(service_tier) if service_tier and is_own else None
    return Published(_read(info.get_prices(when, context)), now_s, _changes_s(info, when))


def _context(service_tier: str) -> dict[str, Any]:
    """The tier in the data's words: Anthropic's fast answers are a speed there."""
    context = {"service_tier": service_tier}
    return {**context, "speed": "fast"} if service_tier == "fast" else context


def _find(provider: str, model: str) -> tuple[Provider, ModelInfo] | None:
    """Past the snapshot's own look-up, which remembers every name that was ever asked for."""
    provider_id = PROVIDER_IDS.get(provider)
    if provider_id is None:
        return None
    providers = get_snapshot().providers
    owner = find_provider_by_id(providers, provider_id)
    info = None if owner is None else owner.find_model(model, all_providers=providers)
    return None if owner is None or info is None else (owner, info)


def _read(prices: ModelPrice) -> SheetPrice | None:
    given: dict[str, Any] = {
        name: value for name, value in vars(prices).items() if value is not None
    }
    if "input_mtok" not in given:
        return None
    marks = sorted(
        {
            tier.start
            for name, value in given.items()
            if name in _RATES and isinstance(value, TieredPrices)
            for tier in value.tiers
        }
    )
    requests = given.get(_REQUESTS)
    return SheetPrice(
        _rates(given, None),
        tuple(Tier(mark, _rates(given, mark)) for mark in marks),
        # A dollar per thousand requests is a thousand micro-dollars each.
        request_pico=0 if requests is None else pico_of(_at(requests, None) * 1000),
        version=EDITION,
        not_counted=tuple(sorted(given.keys() - _RATES.keys() - {_REQUESTS})),
    )


def _rates(given: dict[str, Any], above: int | None) -> Rates:
    """Of prompts longer than `above`; None: of the shortest."""
    return Rates(
        **{kind: pico_of(_at(given[name], above)) for name, kind in _RATES.items() if name in given}
    )


def _at(price: Decimal | TieredPrices, above: int | None) -> Decimal:
    if isinstance(price, Decimal):
        return price
    found = price.base
    for tier in price.tiers:  # ascending
        if above is not None and tier.start <= above:
            found = tier.price
    return found


def _changes_s(info: ModelInfo, now: datetime) -> float:
    """The next moment at which one of a model's prices begins or ends to hold."""
    conditions = [] if isinstance(info.prices, ModelPrice) else [p.constraint for p in info.prices]
    conditions += [variant.constraint for variant in info.price_variants or ()]
    later = [
        moment
        for condition in conditions
        if condition is not None
        for moment in _edges(condition, now)
        if moment > now
    ]
    return min(later).timestamp() if later else FOREVER_S


def _edges(
    condition: StartDateConstraint | TimeOfDateConstraint, now: datetime
) -> Iterator[datetime]:
    if isinstance(condition, StartDateConstraint):
        yield _utc(condition.start_date, time())
        return
    for edge in (condition.start_time, condition.end_time):
        for day in (-1, 0, 1, 2):  # an offset may put it on the day beside
            yield _utc(now.date() + timedelta(days=day), edge)


def _utc(day: date, at: time) -> datetime:
    moment = datetime.combine(day, at)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
