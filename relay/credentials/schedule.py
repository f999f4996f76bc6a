"""When a credential that ends is fetched anew, and whether it still serves: policy without I/O.

A value is renewed well before its end, at a moment drawn at random, so that workers and machines
that started together do not ask together. One that could not be renewed serves on until shortly
before its end; tries go on with full jitter (AWS Architecture Blog, "Exponential Backoff And
Jitter", 2015). All times are monotonic seconds, so that steps of the wall clock change nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

EARLY_S = 300.0
"""So long before the end it is renewed, or at half of a shorter life."""
SPREAD_S = 60.0
"""Earlier by up to so much, or a tenth of the life."""
MARGIN_S = 10.0
"""So long before its end it is used no more, or a tenth of the life: a request takes its time to
get there, and clocks differ."""
SAME_AGAIN_S = 30.0
"""After the endpoint has given what we have: metadata servers do, until minutes before its end."""
REFUSED_AGAIN_S = 30.0
"""A provider's refusals have it renewed no more often than that."""
MIN_BACKOFF_S = 0.1
MAX_BACKOFF_S = 60.0
_SOONEST_S = 0.25


class RenewalSchedule:
    """Told of each renewal; asked when the next is due. Not due again while one is under way is
    for its caller to see to."""

    __slots__ = (
        "_chance",
        "_due_s",
        "_ends_s",
        "_in_a_row",
        "_refused_s",
        "_unusable_s",
        "failures",
        "refreshes",
    )

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        """
        Args:
            chance: uniform in [0, 1).
        """
        self._chance = chance
        self._due_s = -math.inf
        self._ends_s = -math.inf
        self._unusable_s = -math.inf
        self._in_a_row = 0
        self._refused_s = -math.inf
        self.refreshes = 0
        """Renewals that went well."""
        self.failures = 0
        """Those that did not."""

    def renewed(self, now_s: float, from_s: float, life_s: float, *, is_new: bool) -> None:
        """It was fetched.

        Args:
            from_s: what its life is counted from; not after `now_s`.
            life_s: until it ends; infinite for one that does not.
            is_new: it is not what we had.
        """
        self._in_a_row = 0
        self.refreshes += 1
        self._ends_s = from_s + life_s
        self._unusable_s = self._ends_s - min(MARGIN_S, life_s / 10)
        left_s = max(self._ends_s - now_s, 0.0)
        if math.isinf(life_s):
            self._due_s = math.inf
        elif is_new:
            early_s = min(EARLY_S, life_s / 2) + self._chance() * min(SPREAD_S, life_s / 10)
            self._due_s = max(self._ends_s - early_s, now_s + _SOONEST_S)
        else:
            wait_s = max(min(SAME_AGAIN_S, left_s / 4), _SOONEST_S)
            usual_s = self._ends_s - min(EARLY_S, life_s / 2)
            # Where much of its life is left, there is no reason to ask so often.
            self._due_s = max(now_s + wait_s, usual_s if left_s > 2 * EARLY_S else -math.inf)

    def failed(self, now_s: float) -> None:
        """It could not be fetched; what we have serves on."""
        most_s = min(MAX_BACKOFF_S, 2.0 ** min(self._in_a_row, 16))
        self._in_a_row += 1
        self.failures += 1
        self._due_s = now_s + max(MIN_BACKOFF_S, self._chance() * most_s)

    def refused(self, now_s: float) -> bool:
        """A provider refused it: due at once, but not again and again.

        Returns:
            Whether it is due because of that.
        """
        if now_s - self._refused_s < REFUSED_AGAIN_S or self._in_a_row:
            return False
        self._refused_s = now_s
        self._due_s = now_s
        return True

    def due_s(self, now_s: float) -> float:
        """Seconds until it should be fetched; 0: now."""
        return max(self._due_s - now_s, 0.0)

    def is_usable(self, now_s: float) -> bool:
        """Whether what was fetched may be sent."""
        return now_s < self._unusable_s

    def wait_s(self, now_s: float) -> float:
        """0 if usable; else until the next try, 0.001 at least."""
        return 0.0 if now_s < self._unusable_s else max(self._due_s - now_s, 0.001)

    def unusable_for_s(self, now_s: float) -> float | None:
        """For how long it has not been usable; None: it is, or there was none yet."""
        if now_s < self._unusable_s or math.isinf(self._unusable_s):
            return None
        return now_s - self._unusable_s

    def expires_in_s(self, now_s: float) -> float | None:
        """None: it does not end, or there is none."""
        return None if math.isinf(self._ends_s) else max(self._ends_s - now_s, 0.0)
