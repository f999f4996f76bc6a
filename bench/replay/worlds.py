"""The worlds of `hedge_tail`, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from bench.replay import data
from bench.replay.world import EQUAL, Price, Provider, Trouble, WorldSpec
from relay.prices import known_price

_RUN: Final = 300
"""Requests of one stretch of trouble."""


def _host(
    row: str, model: str, source: str, published: str, price: Price = EQUAL, rate: float = 80.0
) -> Provider:
    return Provider(row, model, data.published(source, published), price, rate)


def _direct(row: str, model: str, price: Price = EQUAL) -> Provider:
    return _host(row, model, "modelstats", model, price)


def _agent(row: str, model: str, published: str) -> Provider:
    return _host(row, model, "aiewf", published)


def _flash(price: Price = EQUAL) -> Provider:
    return _direct("gemini", "gemini-2.5-flash", price)


def _mini(price: Price = EQUAL) -> Provider:
    return _direct("openai", "gpt-4o-mini", price)


def _haiku(price: Price = EQUAL) -> Provider:
    return _direct("anthropic", "claude-haiku-4.5", price)


def _class_a() -> tuple[Provider, ...]:
    return (_flash(), _mini(), _haiku())


def _priced(row: str, model: str, asked: str) -> Price:
    price = known_price(row, asked)
    if price is None:
        raise LookupError(f"no price of {asked}")
    return Price(price.input, price.cached_input, price.output)


def _class_a_priced() -> tuple[Provider, ...]:
    """The same with published prices."""
    return (
        _flash(_priced("gemini", "gemini-2.5-flash", "gemini-2.5-flash")),
        _mini(_priced("openai", "gpt-4o-mini", "gpt-4o-mini")),
        _haiku(_priced("anthropic", "claude-haiku-4.5", "claude-haiku-4-5")),
    )


def _runs(
    provider: int | None, *, every: int, factor: float = 1.0, refuses: bool = False
) -> Callable[[int], tuple[Trouble, ...]]:
    """Stretches of trouble, from the middle of each `every` requests on."""

    def trouble(requests: int) -> tuple[Trouble, ...]:
        return tuple(
            Trouble(provider, at, _RUN, factor, refuses)
            for at in range(every // 2, requests - _RUN, every)
        )

    return trouble


_MAKERS: Final[dict[str, Callable[[], WorldSpec]]] = {
    "flash": lambda: WorldSpec("flash", _class_a()),
    "flash-lite": lambda: WorldSpec(
        "flash-lite",
        (
            _direct("gemini", "gemini-2.5-flash-lite"),
            _mini(),
            _direct("openai", "gpt-4.1-mini"),
        ),
    ),
    "gpt-4o": lambda: WorldSpec(
        "gpt-4o",
        (
            _direct("openai", "gpt-4o"),
            _direct("openai", "gpt-4.1"),
            _direct("anthropic", "claude-sonnet-4.6"),
        ),
    ),
    "steady": lambda: WorldSpec(
        "steady",
        (
            _agent("openai", "gpt-4.1", "gpt-4.1"),
            _agent("anthropic", "claude-haiku-4.5", "claude-haiku-4-5"),
            _agent("gemini", "gemini-3.6-flash", "gemini-3.6-flash (minimal)"),
        ),
    ),
    "agent-gemma": lambda: WorldSpec(
        "agent-gemma",
        (
            _agent("baseten", "gemma-4-31b", "gemma-4-31b-it (thinking off)"),
            _agent("openai", "gpt-4.1", "gpt-4.1"),
            _agent("gemini", "gemini-3.6-flash", "gemini-3.6-flash (minimal)"),
        ),
    ),
    "agent-haiku": lambda: WorldSpec(
        "agent-haiku",
        (
            _agent("anthropic", "claude-haiku-4.5", "claude-haiku-4-5"),
            _agent("openai", "gpt-5.1", "gpt-5.1"),
            _agent("azure", "gpt-5.6-terra", "gpt-5.6-terra (medium)"),
        ),
    ),
    "light": lambda: WorldSpec(
        "light",
        (
            Provider("anyscale", "llama-70b-a", data.measured("anyscale", "llama-2-70b-chat")),
            Provider("perplexity", "llama-70b-p", data.measured("perplexity", "llama-2-70b-chat")),
        ),
    ),
    "correlated": lambda: WorldSpec("correlated", _class_a(), rho=0.3),
    "episodes": lambda: WorldSpec("episodes", _class_a(), lag1=0.4),
    "voice": lambda: WorldSpec("voice", _class_a_priced(), prompts="voice"),
    "voice-equal": lambda: WorldSpec("voice-equal", _class_a(), prompts="voice"),
    "cold": lambda: WorldSpec("cold", _class_a_priced(), prompts="cold"),
    "cold-equal": lambda: WorldSpec("cold-equal", _class_a(), prompts="cold"),
    "brown-out": lambda: WorldSpec(
        "brown-out", (_mini(), _flash()), trouble=_runs(0, every=10_000, factor=6.0)
    ),
    "brown-out-best": lambda: WorldSpec(
        "brown-out-best", _class_a(), trouble=_runs(0, every=10_000, factor=6.0)
    ),
    "common-mode": lambda: WorldSpec(
        "common-mode", (_mini(), _flash()), trouble=_runs(None, every=10_000, factor=6.0)
    ),
    "outage": lambda: WorldSpec("outage", _class_a(), trouble=_runs(0, every=10_000, refuses=True)),
    "mute": lambda: WorldSpec("mute", _class_a(), trouble=_runs(0, every=10_000, factor=math.inf)),
}

NAMES: Final = tuple(_MAKERS)


def spec(name: str) -> WorldSpec:
    """The spec of a world."""
    return _MAKERS[name]()
