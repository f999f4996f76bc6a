"""The worlds of `hedge_tail`, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

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
            _open("anyscale", "llama-70b-a"),
            _open("perplexity", "llama-70b-p"),
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

# --- the same model through another door ---------------------------------------------------------

RHOS: Final = (0.0, 0.3, 0.6)
"""Of the times of two doors for one request: nobody has published any."""
AZURE_MEDIAN: Final = 0.60
"""Over OpenAI's: gpt-4-1106-preview, the middle of five regions (503 of 839 ms), three samples a
door, May 2024 (thefastest). A median; of tails it says nothing."""
BEDROCK_MEDIAN: Final = 1.2
"""Over Anthropic's own: a guess."""
_HAIKU: Final = "claude-haiku-4-5"


def _suffix(rho: float) -> str:
    return f" rho {rho:g}" if rho else ""


def _open(host: str, model: str) -> Provider:
    """Measured."""
    return Provider(host, model, data.measured(host, "llama-2-70b-chat"), same="llama-2-70b")


def _of_class(provider: Provider, same: str, **changes: Any) -> Provider:
    return replace(provider, same=same, **changes)


def _doors_of_mini() -> tuple[Provider, Provider]:
    """OpenAI's published curve, and the same once more: Azure's with its median's part."""
    price = _priced("openai", "gpt-4o-mini", "gpt-4o-mini")
    direct = _of_class(_mini(price), "gpt-4o-mini")
    shifted = data.Shifted(direct.tail, AZURE_MEDIAN)
    return direct, _of_class(direct, "gpt-4o-mini", row="azure", tail=shifted)


def _same_model(rho: float) -> WorldSpec:
    direct, azure = _doors_of_mini()
    return WorldSpec(f"same-model{_suffix(rho)}", (direct, azure), rho=rho)


def _same_or_other() -> WorldSpec:
    """Beside the second door another model with a lighter tail: class against p99."""
    direct, azure = _doors_of_mini()
    flash = _flash(_priced("gemini", "gemini-2.5-flash", "gemini-2.5-flash"))
    return WorldSpec("same-or-other", (direct, azure, flash), rho=0.3)


def _same_claude(rho: float) -> WorldSpec:
    """Bedrock is taken to bill an answer that is left to its end."""
    price = _priced("anthropic", "claude-haiku-4.5", _HAIKU)
    direct = _of_class(_haiku(price), _HAIKU)
    bedrock = _of_class(
        direct,
        _HAIKU,
        row="bedrock",
        tail=data.Shifted(direct.tail, BEDROCK_MEDIAN),
        billing="full",
    )
    return WorldSpec(f"same-claude{_suffix(rho)}", (direct, bedrock), rho=rho)


def _same_open() -> WorldSpec:
    hosts = ("perplexity", "anyscale", "groq", "fireworks", "together")
    return WorldSpec("same-open", tuple(_open(host, "llama-2-70b") for host in hosts))


def _with_tier(direct: Provider) -> Provider:
    """Its priority tier, at the published price."""
    price = known_price(direct.row, direct.model, "priority")
    if price is None:
        raise LookupError(f"no priority price of {direct.model}")
    tail = data.Steadied(direct.tail)
    return replace(direct, tail=tail, price=Price(*price), tier="priority")


def _escalate(rho: float) -> WorldSpec:
    direct, _ = _doors_of_mini()
    name = "escalate" if rho == RHOS[1] else f"escalate{_suffix(rho)}"
    return WorldSpec(name, (direct, _with_tier(direct)), rho=rho, shares_again=True)


def _escalate_or_door() -> WorldSpec:
    direct, azure = _doors_of_mini()
    slower = replace(azure, tail=direct.tail)
    return WorldSpec("escalate-or-door", (direct, slower, _with_tier(direct)), rho=0.3)


_DOORS: Final[dict[str, Callable[[], WorldSpec]]] = {
    **{f"same-model{_suffix(rho)}": partial(_same_model, rho) for rho in RHOS},
    **{f"same-claude{_suffix(rho)}": partial(_same_claude, rho) for rho in RHOS},
    "same-or-other": _same_or_other,
    "same-open": _same_open,
    "escalate": partial(_escalate, 0.3),
    "escalate rho 0.6": partial(_escalate, 0.6),
    "escalate-or-door": _escalate_or_door,
}

_ALL: Final = {**_MAKERS, **_DOORS}
NAMES: Final = tuple(_ALL)
SAME_MODEL: Final = tuple(name for name in NAMES if name.startswith("same-"))
ESCALATING: Final = tuple(name for name in NAMES if name.startswith("escalate"))


def spec(name: str) -> WorldSpec:
    """The spec of a world."""
    return _ALL[name]()
