"""How many hints at most: a pure state machine, times are arguments."""

from __future__ import annotations


class Allowance:
    """A token bucket: so many a second, so many at once."""

    __slots__ = ("_at_s", "_burst", "_left", "_per_s")

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = float(burst)
        self._at_s = 0.0

    def take(self, now_s: float) -> bool:
        """Whether one more is within it."""
        if now_s > self._at_s:
            self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s)
            self._at_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
