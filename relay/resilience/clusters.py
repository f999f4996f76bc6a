"""Whether a target's slowness comes in runs: then a second try there is as slow as the first.

A hedge at the same target keeps its prompt cache and its model, and costs a tenth where the prefix
is warm. It helps if what makes one request slow is that request's own (a busy host, a lost packet),
and not if it is the target's for a while. The two are told apart by how often a slow first token
follows a slow one, in the order in which they come:

    correlation = (P(slow | the one before was slow) - P(slow)) / (1 - P(slow))

over 0.3 it is called clustered (hedging notes, 2.8), and until some forty pairs have been seen.

A pure state machine without time; O(1) an event.
"""

from __future__ import annotations

from typing import Final

CLUSTERED: Final = 0.3
_RATE_WEIGHT: Final = 0.01
_PAIR_WEIGHT: Final = 0.04
_FIRST_RATE: Final = 0.1
_FIRST_PAIRS: Final = 0.8
"""Clustered until it is known better: some forty pairs of slow and next that were not both slow."""


class Clusters:
    """Slow or not, one first token after the other."""

    __slots__ = ("_after_slow", "_rate", "_was_slow")

    def __init__(self) -> None:
        self._rate = _FIRST_RATE
        self._after_slow = _FIRST_PAIRS
        self._was_slow = False

    def observe(self, is_slow: bool) -> None:
        """A first token has come, or was given up when it was slow already."""
        value = 1.0 if is_slow else 0.0
        if self._was_slow:
            self._after_slow += _PAIR_WEIGHT * (value - self._after_slow)
        self._rate += _RATE_WEIGHT * (value - self._rate)
        self._was_slow = is_slow

    @property
    def correlation(self) -> float:
        """Of one first token's slowness with the next one's."""
        rate = min(self._rate, 0.99)
        return (self._after_slow - rate) / (1.0 - rate)

    @property
    def is_clustered(self) -> bool:
        """Whether a second try would likely be slow too."""
        return self.correlation > CLUSTERED
