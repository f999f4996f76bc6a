"""The largest load at which something holds."""

from __future__ import annotations

from collections.abc import Callable


def largest(
    holds: Callable[[int], bool], start: int, *, limit: int, resolution: float = 0.05
) -> int:
    """Grow by half from `start` while it holds, then halve what is between; if it does not hold at
    `start`, shrink until it does.

    What is noisy is tried again by `holds` itself. Each number is asked once.

    Args:
        limit: not asked beyond; it is the answer if it holds there.
        resolution: how far the answer may be below a number that did not hold, as a share of it.

    Returns:
        The largest number at which it held; 0 if it held at none.
    """
    good, bad = 0, limit + 1
    number = min(start, limit)
    while number > 0 and not good:
        if holds(number):
            good = number
        else:
            bad, number = number, number // 2
    while good and bad > limit and good < limit:
        number = min(max(good + 1, good * 3 // 2), limit)
        if holds(number):
            good = number
        else:
            bad = number
    while good and bad <= limit and bad - good > max(1.0, resolution * bad):
        number = (good + bad) // 2
        if holds(number):
            good = number
        else:
            bad = number
    return good
