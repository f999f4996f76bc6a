"""Numbers as a report writes them. What is not known is a dash, never a 0."""

from __future__ import annotations

from relay.observability.report.scorecard import Share
from relay.observability.report.sketch import FEW, Curve

NOTHING = "-"


def printable(text: str) -> str:
    """A text that does nothing to whoever shows it."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def count(value: float) -> str:
    """A whole number, or what an estimate makes of one."""
    return f"{value:,.0f}"


def lines(number: int) -> str:
    """How many."""
    return "1 line" if number == 1 else f"{count(number)} lines"


def percent(value: float | None, digits: int = 1) -> str:
    """Of a share; never rounded up to all of it, or down to nothing."""
    if value is None:
        return NOTHING
    shown = f"{100 * value:.{digits}f} %"
    step = 10.0 ** -(digits + 2)
    if value < 1 and shown.startswith("100"):
        return f"> {100 - 100 * step:.{digits}f} %"
    if value > 0 and float(shown.split()[0]) == 0:
        return f"< {100 * step:.{digits}f} %"
    return shown


def share(found: Share, digits: int = 2) -> str:
    """With the bounds of what it can be."""
    if found.value is None:
        return NOTHING
    low, high = 100 * (found.low or 0.0), 100 * (found.high or 0.0)
    return f"{percent(found.value, digits)} ({low:.{digits}f} to {high:.{digits}f})"


def ms(value_us: float | None) -> str:
    """Milliseconds."""
    return NOTHING if value_us is None else f"{value_us / 1000:,.0f} ms"


def quantile(curve: Curve, wanted: float) -> str:
    """`~` before what rests on few; `>` before what lies beyond all that was waited for."""
    if not curve.known:
        return NOTHING
    value_us = curve.quantile_us(wanted)
    if value_us is None:
        return f"> {ms(curve.longest_us)}"
    few = curve.known * (1 - wanted) < FEW * 0.01 or curve.known < 20
    return f"{'~' if few else ''}{ms(value_us)}"


def length(value_us: float) -> str:
    """A sum of waits."""
    seconds = value_us / 1e6
    if seconds < 120:
        return f"{seconds:,.1f} s"
    minutes = seconds / 60
    return f"{minutes:,.1f} min" if minutes < 600 else f"{minutes / 60:,.1f} h"


def money(micro: float | None, unpriced: int = 0) -> str:
    """Dollars; at least that where some have no price."""
    if micro is None:
        return NOTHING
    if unpriced and not micro:
        return "no price"
    dollars = micro / 1e6
    digits = 2 if abs(dollars) >= 100 else 4
    return f"{'at least ' if unpriced else ''}${dollars:,.{digits}f}"


def rate(value: float | None) -> str:
    """Of a burn."""
    return NOTHING if value is None else f"{value:,.2f}x"
