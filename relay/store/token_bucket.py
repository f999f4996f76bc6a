"""How full a bucket of tokens is: whole numbers, so that every store comes to the same.

A bucket holds one minute's worth of its limit, is full when nobody has used it for long, and fills
evenly, `limit` a minute. So in any window of time no more is granted than

    limit x window + limit

however it is asked. Its state is two integers: what is in it, in thousandths of what is counted,
and the moment for which that holds, in microseconds. Refilling rounds down and keeps the part of
the time that was worth no whole thousandth, so a bucket that is asked every microsecond fills as
fast as one that is left alone (less than a thousandth is lost a grant).

A correction may take the level below nothing: a debt, paid back at the same pace. It ends at an
hour's worth, so that one absurd count keeps nobody away for ever.

The clock may be stepped. Back: a bucket gains nothing until the clock is where it was, or, where
that is more than `MAX_STEP_BACK_US` off, from now on as ever. Forward: it is full, not more.
`relay/store/limits.lua` says the same in Lua, whose numbers are exact up to 2^53; a test holds the
two together. The shape is that of the generic cell rate algorithm (ITU-T I.371), told by levels and
not by arrival times, so that a changed limit needs no conversion.
"""

from __future__ import annotations

from typing import Final

MILLI: Final = 1000
"""Thousandths in one."""
US_A_MILLI: Final = 60_000
"""Microseconds in which a limit of one a minute gains a thousandth."""
MINUTE_US: Final = 60_000_000
MAX_LIMIT: Final = 1_000_000_000
"""A minute. Above it Lua's numbers would not be exact."""
MAX_DEBT_MINUTES: Final = 60
FULL_AFTER_US: Final = (MAX_DEBT_MINUTES + 1) * MINUTE_US
"""After so long every bucket is full, whatever it owed."""
MAX_STEP_BACK_US: Final = 10_000_000
"""Processes that share a bucket read their clocks a moment before they write."""


def refilled(level_milli: int, at_us: int, limit: int, now_us: int) -> tuple[int, int]:
    """What is in a bucket now, and the moment for which that is exact (now, or just before).

    A refusal need not be written, but for a bucket whose clock `was_stepped_back`: it would not
    fill until the clock is where it was.
    """
    full = limit * MILLI
    if level_milli > full:  # the limit was lowered
        level_milli = full
    elapsed_us = now_us - at_us
    if elapsed_us <= 0:
        return level_milli, (now_us if was_stepped_back(at_us, now_us) else at_us)
    if elapsed_us >= FULL_AFTER_US:
        return full, now_us
    gained, rest = divmod(elapsed_us * limit, US_A_MILLI)
    level_milli += gained
    if level_milli >= full:
        return full, now_us
    return level_milli, now_us - rest // limit


def was_stepped_back(at_us: int, now_us: int) -> bool:
    """Whether the clock is so far behind a bucket that it counts from now on."""
    return at_us - now_us > MAX_STEP_BACK_US


def corrected(level_milli: int, limit: int, by: int) -> int:
    """The level after `by` more were used than was charged (fewer, below 0)."""
    full = limit * MILLI
    return min(max(level_milli - by * MILLI, -MAX_DEBT_MINUTES * full), full)


def wait_us(level_milli: int, limit: int, amount: int) -> int:
    """How long until `amount` is there, if nobody else takes any; 0 if it is."""
    lacking = amount * MILLI - level_milli
    return 0 if lacking <= 0 else -(-lacking * US_A_MILLI // limit)
