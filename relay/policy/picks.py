"""`pick`: one of several names, by their order, their price or what was learnt of their latency.

Prices and latencies are asked for at each choice, so a name that has become slow is left at once
and taken again when it is well. What is not asked is not learnt of: a small share of requests
(`explore`) goes to one of the others, a session with all its turns, so that a name which once was
slow is not slow for ever, and one that nobody knows becomes known.

Of two names that are about equally fast, the one taken last stays: prompt caches are warm there.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from relay.config.rules import PickConfig
from relay.policy.conditions import QUANTILES
from relay.policy.facts import Facts
from relay.prices import UNSET_OUTPUT_TOKENS

HYSTERESIS: Final = 0.9
"""Another must be faster by a tenth to be taken instead."""

_INFINITE: Final = float("inf")
_NAMES: Final = {share: name for name, share in QUANTILES.items()}


class Candidate(NamedTuple):
    """A name that a pick looked at, for people."""

    name: str
    price_usd: tuple[float, float] | None
    """Of input and output, per million tokens; None also where nobody asked."""
    latencies_ms: tuple[tuple[str, float | None], ...]
    """At every quantile that matters (`p50`, `p95`); None where it is not known."""
    why_not: str
    """Empty for those that it may be."""


class Pick:
    """See the module. It remembers what it took last, and nothing else."""

    def __init__(
        self,
        name: str,
        config: PickConfig,
        tagged: Mapping[str, Sequence[str]],
        draw: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            name: of the rule.
            tagged: aliases by their tags, in the file's order.
            draw: from 0 to 1, for what explores without a session.
        """
        self._name = name.encode()
        self._config = config
        self.names = tuple(tagged.get(config.tag, ()) if config.tag else config.among or ())
        self._draw = draw
        self._last = ""
        self._bounds_ms = [
            (QUANTILES[quantile], bound)
            for quantile, bound in (("p50", config.max_p50_ms), ("p95", config.max_p95_ms))
            if bound is not None
        ]
        self._quantile = QUANTILES[config.quantile]
        self._explores = config.explore if config.looks_at_latency else 0.0

    def choose(self, facts: Facts, *, is_limited: bool) -> str:
        """A name; empty where none is left.

        Args:
            is_limited: to those that the caller's key may ask for itself.
        """
        names: Sequence[str] = self.names
        if is_limited:
            names = [name for name in names if facts.surroundings.allowed(name)]
        if self._config.has_price_bounds:
            names = [name for name in names if self._is_within_price(facts, name)]
        fit = names
        if self._bounds_ms:
            fit = [name for name in names if self._is_within_ms(facts, name)]
        best = self._best(facts, fit)
        if self._explores and len(names) > 1:
            place = self._place(facts)
            if place < self._explores:
                others = [name for name in names if name != best]
                return others[int(place / self._explores * len(others))]
        return best

    def _best(self, facts: Facts, names: Sequence[str]) -> str:
        if not names:
            return ""
        if self._config.by == "order" or len(names) == 1:
            return names[0]
        if self._config.by == "price":
            return min(names, key=lambda name: self.cost(facts, name))
        latency_ms = facts.surroundings.latency_ms
        found_ms = {name: latency_ms(name, self._quantile) for name in names}
        best = min(names, key=lambda name: _or_never(found_ms[name]))
        last_ms = found_ms.get(self._last)
        if last_ms is not None and _or_never(found_ms[best]) > HYSTERESIS * last_ms:
            return self._last
        self._last = best
        return best

    def cost(self, facts: Facts, name: str) -> float:
        """What such a request is likely to cost there, micro-dollars; infinite where no price is
        known, which is no bargain."""
        price = facts.surroundings.price(name)
        if price is None:
            return _INFINITE
        most = facts.request.sampling.max_output_tokens or UNSET_OUTPUT_TOKENS
        output_tokens = min(most, UNSET_OUTPUT_TOKENS)
        return facts.surroundings.prompt_tokens * price[0] + output_tokens * price[1]

    def _place(self, facts: Facts) -> float:
        """From 0 to 1: the same for all turns of a session."""
        session = facts.request.policy.session_id
        if not session:
            return self._draw()
        return zlib.crc32(session.encode("utf-8", "surrogatepass"), zlib.crc32(self._name)) / 2**32

    def _is_within_price(self, facts: Facts, name: str) -> bool:
        price = facts.surroundings.price(name)
        if price is None:
            return False
        config = self._config
        return _is_between(price[0], config.min_input_usd, config.max_input_usd) and _is_between(
            price[1], config.min_output_usd, config.max_output_usd
        )

    def _is_within_ms(self, facts: Facts, name: str) -> bool:
        for quantile, bound_ms in self._bounds_ms:
            value_ms = facts.surroundings.latency_ms(name, quantile)
            if value_ms is not None and value_ms > bound_ms:
                return False
        return True

    def looked_at(self, facts: Facts, *, is_limited: bool) -> list[Candidate]:
        """Every name with what was known of it, for people."""
        found: list[Candidate] = []
        around, config = facts.surroundings, self._config
        asked = dict.fromkeys(quantile for quantile, _ in self._bounds_ms)
        if config.by == "latency":
            asked[self._quantile] = None
        for name in self.names:
            why_not = ""
            if is_limited and not around.allowed(name):
                why_not = "the key may not ask for it"
            elif config.has_price_bounds and not self._is_within_price(facts, name):
                is_known = around.price(name) is not None
                why_not = "its price is out of bounds" if is_known else "no price is known"
            elif not self._is_within_ms(facts, name):
                why_not = "it is too slow at present"
            looks_at_price = config.by == "price" or config.has_price_bounds
            found.append(
                Candidate(
                    name,
                    around.price(name) if looks_at_price else None,
                    tuple((_NAMES[one], around.latency_ms(name, one)) for one in sorted(asked)),
                    why_not,
                )
            )
        return found


def _or_never(value: float | None) -> float:
    return _INFINITE if value is None else value


def _is_between(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)
