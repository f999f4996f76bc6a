"""A target's present level of TTFT, quick to see trouble and slow to forget it.

Peak-EWMA as Finagle and Linkerd balance by it: a sample above the level raises it at once, samples
below draw it down with a time constant, so one look tells whether a target is slow *now*. A single
straggler of a heavy tail is no trouble, though, and would send everybody elsewhere for half a
minute: a sample counts as at most `PEAK_LIMIT` times the typical value that the caller gives.

A pure state machine: times are arguments, seconds of a monotonic clock.
"""

from __future__ import annotations

import math
from typing import Final

DECAY_S: Final = 10.0
PEAK_LIMIT: Final = 3.0


class PeakEwma:
    """The level of one target; seconds."""

    __slots__ = ("_at_s", "_level_s")

    def __init__(self) -> None:
        self._level_s: float | None = None
        self._at_s = 0.0

    def observe(self, value_s: float, typical_s: float, now_s: float) -> None:
        """A first token took this long, or an attempt that was given up had this age.

        Args:
            typical_s: the target's long-run median, to know a straggler by.
        """
        value_s = min(value_s, PEAK_LIMIT * typical_s)
        level_s = self._level_s
        if level_s is None or value_s > level_s:
            # The first peak moves half the way: one straggler is not yet a brown-out, two are.
            self._level_s = value_s if level_s is None else level_s + 0.5 * (value_s - level_s)
        else:
            weight = math.exp(-max(0.0, now_s - self._at_s) / DECAY_S)
            # Samples in one instant must count too, however fast they come.
            weight = min(weight, 0.9)
            self._level_s = level_s * weight + value_s * (1.0 - weight)
        self._at_s = max(now_s, self._at_s)

    def level_s(self, typical_s: float, now_s: float) -> float:
        """The level now; without samples it drifts back to the typical value."""
        level_s = self._level_s
        if level_s is None:
            return typical_s
        weight = math.exp(-max(0.0, now_s - self._at_s) / (3 * DECAY_S))
        return typical_s + (level_s - typical_s) * weight
