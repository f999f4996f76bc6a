"""A target's present level of TTFT: quick to see trouble, deaf to single stragglers.

An exponential average of the logarithm, one step a sample. Times to first token are heavy-tailed:
Finagle's and Linkerd's peak-EWMA, which a sample above the level raises at once, sends everybody
elsewhere after each straggler, so among three healthy providers it asks each about as often, the
slow ones too. Over the logarithm a straggler weighs what it is, a twentieth of one sample; four
samples of six times the usual raise the level by a quarter, which is more than hysteresis forgives.

    relative error of the level = spread of log TTFT (0.3 to 0.5) * sqrt(weight / (2 - weight))

is 5 to 8 %, under that hysteresis. Without samples it drifts back to the typical value, since a
target is only known to be well again when it has been asked.

A pure state machine: times are arguments, seconds of a monotonic clock.
"""

from __future__ import annotations

import math
from typing import Final

WEIGHT: Final = 0.05
"""Of one sample."""
PEAK_LIMIT: Final = 3.0
"""A sample counts as at most so many typical values, and at least as the same part of one."""
DRIFT_S: Final = 10.0
"""Time constant of the way back without samples."""


class Level:
    """The level of one target; seconds."""

    __slots__ = ("_at_s", "_log_level")

    def __init__(self) -> None:
        self._log_level: float | None = None
        self._at_s = 0.0

    def observe(self, value_s: float, typical_s: float, now_s: float) -> None:
        """A first token took this long, or an attempt that was given up had this age.

        Args:
            typical_s: the target's long-run median, to know a straggler by.
        """
        log_value = math.log(min(max(value_s, typical_s / PEAK_LIMIT), PEAK_LIMIT * typical_s))
        log_level = self._log_level
        if log_level is None:
            log_level = math.log(typical_s)
        self._log_level = log_level + WEIGHT * (log_value - log_level)
        self._at_s = max(now_s, self._at_s)

    def level_s(self, typical_s: float, now_s: float) -> float:
        """The level now."""
        log_level = self._log_level
        if log_level is None:
            return typical_s
        weight = math.exp(-max(0.0, now_s - self._at_s) / DRIFT_S)
        return math.exp(math.log(typical_s) * (1.0 - weight) + log_level * weight)
