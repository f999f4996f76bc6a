"""Which generations are copied to a shadow, and how many copies its budget has room for.

Pure: moments are arguments. One `ShadowPlan` a shadow and worker; it outlives reloads, so that a
budget of a day is not had twice.
"""

from __future__ import annotations

from collections import Counter, deque
from hashlib import blake2b
from typing import Any, Final, Literal

from relay.config.experiments import ShadowConfig

DAY_S: Final = 86_400
Dropped = Literal["rate", "concurrency", "cost", "unpriced", "load", "draining"]
_SCALE: Final = 2.0**-64


class ShadowPlan:
    """Of one shadow.

    Args:
        name: its own; with a generation's id it decides whether that is copied, so that shadows
            choose independently of each other.
    """

    def __init__(self, name: str, config: ShadowConfig) -> None:
        self.name = name
        self.config = config
        self.mark = blake2b(name.encode(), digest_size=4).hexdigest()
        """Of the ids of its copies: short, and another for each shadow."""
        self._key = blake2b(name.encode(), digest_size=32).digest()
        self._starts_s: deque[float] = deque()
        self._day = 0
        self._spent_micro = 0.0
        self._running = 0
        self._is_unpriced = False
        self._dearest_micro = 0.0
        self.started_count = 0
        self.failed_count = 0
        self.dropped: Counter[Dropped] = Counter()

    def wants(self, generation_id: str) -> bool:
        """Whether it is of the share that is copied; the same whenever it is asked."""
        config = self.config
        if not config.enabled or config.share >= 1.0:
            return config.enabled
        digest = blake2b(generation_id.encode(), key=self._key, digest_size=8).digest()
        return int.from_bytes(digest, "big") * _SCALE < config.share

    def begin(self, now_s: float, running: int) -> Dropped | None:
        """Ask for a copy, and begin it where there is room: whoever does owes `ended`.

        Args:
            now_s: wall clock, seconds since 1970.
            running: generations of clients that run in this worker.

        Returns:
            Why it is dropped, None where it may run.
        """
        found = self._why_not(now_s, running)
        if found is not None:
            self.dropped[found] += 1
            return found
        self._starts_s.append(now_s)
        self._running += 1
        self.started_count += 1
        return None

    def _why_not(self, now_s: float, running: int) -> Dropped | None:
        config, starts = self.config, self._starts_s
        if running >= config.max_running:
            return "load"
        if self._running >= config.max_concurrent:
            return "concurrency"
        while starts and starts[0] <= now_s - 60:
            starts.popleft()
        if len(starts) >= config.max_requests_per_min:
            return "rate"
        most_micro = config.max_cost_micro_per_day
        if not most_micro:
            return None
        if self._is_unpriced:
            return "unpriced"
        if (day := int(now_s // DAY_S)) != self._day:
            self._day, self._spent_micro = day, 0.0
        # Those that run are put aside for, as the dearest so far; so is this one.
        aside_micro = (self._running + 1) * self._dearest_micro
        return "cost" if self._spent_micro + max(aside_micro, 1.0) > most_micro else None

    def ended(self, cost_micro: float | None, *, is_failed: bool) -> None:
        """A copy is over.

        Args:
            cost_micro: None where it has no price: then no further one is begun, where cost is
                bounded.
        """
        self._running -= 1
        self.failed_count += is_failed
        if cost_micro is None:
            self._is_unpriced = True
        else:
            self._spent_micro += cost_micro
            self._dearest_micro = max(self._dearest_micro, cost_micro)

    def takes(self, config: ShadowConfig) -> None:
        """Go on by another configuration: what was spent stays spent."""
        if config.use != self.config.use:  # its prices are others
            self._is_unpriced, self._dearest_micro = False, 0.0
        self.config = config

    def describe(self) -> dict[str, Any]:
        """For `/admin/state`."""
        return {
            "model": self.config.model,
            "use": self.config.use,
            "enabled": self.config.enabled,
            "started": self.started_count,
            "running": self._running,
            "failed": self.failed_count,
            "dropped": dict(self.dropped),
            "spent_micro_today": round(self._spent_micro),
        }
