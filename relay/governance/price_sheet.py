"""Prices to book by: the operator's own, else the published ones, each with its edition.

`relay.prices` gives policy a rate to compare targets with; here is what is written into accounts.
A price is taken when an attempt starts and holds to its end, whatever the clock does meanwhile.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from relay.governance.money import pico_of
from relay.governance.published_prices import (
    EDITION,
    FOREVER_S,
    SERVICE_TIERS,
    Published,
    published,
)
from relay.governance.sheet_price import Rates, SheetPrice

FAST: Final = "fast"
STANDARD: Final = "standard"
"""What Anthropic calls the tier of every answer, fast ones too: those are asked for by a speed."""
_MOST_HELD: Final = 4096
"""Clients may ask for any model of a provider by its name."""
_MOST_NAME_CHARS: Final = 255


class OwnRates(Protocol):
    """Rates as the configuration has them, in dollars per million tokens."""

    @property
    def input(self) -> float: ...

    @property
    def cached_input(self) -> float | None:
        """As `input` if None."""
        ...

    @property
    def cache_write(self) -> float | None:
        """As `input` if None."""
        ...

    @property
    def output(self) -> float: ...


class OwnPrice(OwnRates, Protocol):
    """Of a model, and of its service tiers where they cost otherwise."""

    @property
    def tiers(self) -> Mapping[Any, OwnRates]: ...


class Listed(NamedTuple):
    """Under which names the published data has a row of the configuration."""

    door: str
    same_as: Mapping[str, str] = {}
    """The row's names of models -> names that have a price where its own have none."""


class PriceSheet:
    """Every price, by row of the configuration and model.

    Args:
        own: the operator's prices by provider and model; each stands for all service tiers but
            those that it has a price for.
        listed: by provider, under which names the data has it; each under its own if None.
    """

    __slots__ = ("_held", "_listed", "_own", "version")

    def __init__(
        self,
        own: Mapping[str, Mapping[str, OwnPrice]] | None = None,
        listed: Mapping[str, Listed] | None = None,
    ) -> None:
        self._own: dict[tuple[str, str, str], SheetPrice] = {}
        for provider, prices in (own or {}).items():
            for model, price in prices.items():
                self._own[provider, model, ""] = _configured(price)
                for tier, rates in price.tiers.items():
                    self._own[provider, model, tier] = _configured(rates)
        self._listed = listed or {}
        self._held: dict[tuple[str, str, str], Published] = {}
        self.version = EDITION if not self._own else f"{EDITION}, {self._own_version()}"
        """Of the sheet as a whole; each price has its own."""

    def price_of(
        self, provider: str, model: str, service_tier: str = "", now_s: float | None = None
    ) -> SheetPrice | None:
        """The price of a model at a provider; None if it is not known, which is not for nothing.

        Looks nothing up twice: 0.3 us, and some hundred microseconds for a model that is new.

        Args:
            provider: name of the row.
            service_tier: as the answer says, else as the request does.
            now_s: seconds since 1970, of the request; now if None.
        """
        mine = self._own.get((provider, model, ""))
        if mine is not None:
            return self._own.get((provider, model, service_tier), mine)
        if service_tier and service_tier not in SERVICE_TIERS:
            service_tier = ""
        key = (provider, model, service_tier)
        if now_s is None:
            now_s = time.time()
        held = self._held.get(key)
        if held is not None and held.since_s <= now_s < held.until_s:
            return held.price
        if len(model) > _MOST_NAME_CHARS:
            return None
        if len(self._held) >= _MOST_HELD:
            self._held.clear()
        held = self._held[key] = self._published(provider, model, service_tier, now_s)
        return held.price

    def _published(self, provider: str, model: str, service_tier: str, now_s: float) -> Published:
        listed = self._listed.get(provider)
        if listed is None:
            return published(provider, model, service_tier, now_s)
        found = published(listed.door, model, service_tier, now_s)
        if found.price is None and model in listed.same_as:
            found = published(listed.door, listed.same_as[model], service_tier, now_s)
        return found

    def _own_version(self) -> str:
        text = repr(sorted((key, price.version) for key, price in self._own.items()))
        return f"configured {_short_hash(text)}"


def _configured(price: OwnRates) -> SheetPrice:
    """
    Raises:
        ValueError: it is no finite number of at least 0.
    """
    rates = Rates(
        input=_checked(price.input),
        cached=None if price.cached_input is None else _checked(price.cached_input),
        cache_write=None if price.cache_write is None else _checked(price.cache_write),
        output=_checked(price.output),
    )
    return SheetPrice(rates, version=f"configured {_short_hash(repr(tuple(rates)[:4]))}")


def _checked(dollars_per_million: float) -> int:
    if not 0 <= dollars_per_million < FOREVER_S:
        raise ValueError(f"{dollars_per_million} is no price")
    return pico_of(dollars_per_million)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
