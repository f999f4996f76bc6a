"""From how many turns on `hedge.keep_second_warm` keeps a session's prefix at a second place."""

from __future__ import annotations

from typing import Final

from relay.prices import known_price
from relay.routing.keep_warm import is_worth_keeping

MODELS: Final = (
    ("anthropic", "claude-haiku-4-5"),
    ("gemini", "gemini-2.5-flash"),
    ("openai", "gpt-4.1-mini"),
    ("openai", "gpt-4o-mini"),
)
SHARES: Final = (0.02, 0.05, 0.10, 0.15)
PREFIX_TOKENS: Final = 3000
TURN_S: Final = 10.0
MOST_TURNS: Final = 400


def least_turns(door: str, model: str, hedges: float) -> int | None:
    """Of a session that is worth it; None where none of `MOST_TURNS` is."""
    price = known_price(door, model)
    if price is None:
        raise LookupError(f"no price of {model}")
    for turns in range(1, MOST_TURNS + 1):
        lasts_s = TURN_S * turns
        if is_worth_keeping(price, PREFIX_TOKENS, hedges=hedges, turns=turns, lasts_s=lasts_s):
            return turns
    return None


def table() -> str:
    """For people."""
    lines = [f"turns of {TURN_S:g} s from which a second place pays, by hedges a turn"]
    lines.append(f"{'':32}" + "".join(f"{share:8.0%}" for share in SHARES))
    for door, model in MODELS:
        found = [least_turns(door, model, share) for share in SHARES]
        cells = "".join(f"{'-' if turns is None else turns:>8}" for turns in found)
        lines.append(f"{door + '/' + model:32}{cells}")
    return "\n".join(lines)
