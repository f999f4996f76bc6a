"""Amounts of money: whole micro-dollars (1e-6 USD), and prices in whole pico-dollars (1e-12 USD).

A dollar per million tokens is a micro-dollar a token, and published prices have six digits after
the point at most (but a few that a division has made): a million pico-dollars a token keep them
exactly, and nothing is ever added up in floating point.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation
from typing import Final

PICO: Final = 1_000_000
"""Pico-dollars in a micro-dollar."""
MICRO: Final = 1_000_000
"""Micro-dollars in a dollar."""
MOST_MICRO: Final = 1 << 62
"""More than this fits no column of 64 bits with room to add to it."""
_EXACT: Final = Context(traps=[Inexact])


def micro_half_up(pico: int) -> int:
    """Pico-dollars, at least 0, as the nearest micro-dollars; the half goes up."""
    return (pico + PICO // 2) // PICO


def micro_up(pico: int) -> int:
    """Pico-dollars, at least 0, as micro-dollars that are no less."""
    return -(-pico // PICO)


def pico_of(dollars_per_million: Decimal | float) -> int:
    """Pico-dollars a token, of a price in dollars per million tokens; the nearest, half up.

    A float counts as the number that it is written as: 0.1 is a tenth.
    """
    price = (
        dollars_per_million
        if isinstance(dollars_per_million, Decimal)
        else Decimal(repr(dollars_per_million))
    )
    return int((price * PICO).to_integral_value(ROUND_HALF_UP))


def micro_from_dollars(text: str) -> int:
    """Micro-dollars of an amount as people write it: `12.50`.

    Raises:
        ValueError: it is no amount, is below 0, too large, or has parts of a micro-dollar.
    """
    try:
        amount = Decimal(text.strip())
    except InvalidOperation:
        raise ValueError(f"{text[:32]!r} is no amount in dollars") from None
    if not amount.is_finite() or amount.is_signed() or amount > MOST_MICRO // MICRO:
        raise ValueError(f"{text[:32]!r} is no amount from 0 to {MOST_MICRO // MICRO} dollars")
    try:
        micro = _EXACT.multiply(amount, MICRO)
    except Inexact:  # more digits than are reckoned with, so more than six after the point
        micro = amount
    if micro is amount or micro != int(micro):
        raise ValueError(f"{text[:32]!r} has more than six digits after the point")
    return int(micro)


def dollars(micro: int) -> str:
    """An amount as people read it, exact: `12.5`, `0.000001`, `-3`."""
    whole, part = divmod(abs(micro), MICRO)
    sign = "-" if micro < 0 else ""
    return f"{sign}{whole}" + (f".{part:06d}".rstrip("0") if part else "")
