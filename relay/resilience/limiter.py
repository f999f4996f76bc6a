"""How many requests one target may have in flight: found by asking, not by being told.

Latency says that a queue has formed before any 429 does. After Netflix/concurrency-limits,
`Gradient2Limit` (averages, because single times to first token differ by their prompts) behind its
`WindowedLimit` (one update for each window of samples), for each window with its average `short`:

    long     = exponential average of `short` over 600 windows, a plain mean of the first 10;
               x 0.9 whenever long > 2 * short, so that a bad hour is soon forgotten
    gradient = tolerance * long / short, within [0.5, 1]     tolerance 1.5: what is no queue yet
    next     = gradient * limit + queue                      queue 4: what it grows by while well
    limit    = 0.8 * limit + 0.2 * next, within [min, max]   smoothing 0.2

so it grows by 0.8 a window, and shrinks by at most a tenth. The long average learns from a lasting
queue too, so callers that always take all there is push the limit slowly up to the next 429 or to
the maximum; it slows a surge down, it is no wall. It stays as it is while the target is
under-used (less than half of it in flight): nothing was tried that could have shown a limit.

A 429 or 503 (`dropped`) says it outright: limit x 0.9 (AIMD), once for all that was in flight when
it did so, as TCP reduces once a round trip. Fifty requests refused together are one refusal.

The limiter pattern of the same library: `acquire` gives a slot, which ends in exactly one of three
ways. The unit of `rtt` is anything that grows with load and not with the prompt: the normalised
TTFT. A pure state machine: time is an argument, in seconds of a monotonic clock; O(1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

WARM_UP_WINDOWS: Final = 10
"""So many windows are averaged plainly before the exponential average begins."""


@dataclass(frozen=True, slots=True)
class LimiterSettings:
    """The constants of the formula, and where it may go."""

    initial_limit: int = 100
    """A guess on the high side: what is too much is soon said, and growth takes a second a
    request."""
    min_limit: int = 4
    max_limit: int = 1000
    smoothing: float = 0.2
    tolerance: float = 1.5
    queue: float = 4.0
    long_windows: int = 600
    drop_factor: float = 0.9
    window_samples: int = 10
    """A window is at least so many successes,"""
    window_s: float = 1.0
    """and so long."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_limit <= self.initial_limit <= self.max_limit:
            raise ValueError("limits are 1 <= min_limit <= initial_limit <= max_limit")
        if not 0 < self.smoothing <= 1 or not 0 < self.drop_factor < 1 or self.tolerance < 1:
            raise ValueError("smoothing is in (0, 1], drop_factor in (0, 1), tolerance from 1")
        if self.queue < 0 or self.window_samples < 1 or self.long_windows < 1 or self.window_s < 0:
            raise ValueError("queue, samples and windows are counts")


class Slot:
    """The right to have one request in flight. The first of its three ends counts, further ones do
    nothing."""

    __slots__ = ("_cuts", "_is_over", "_limiter")

    def __init__(self, limiter: Limiter, cuts: int) -> None:
        self._limiter = limiter
        self._cuts = cuts  # how often the limit had been cut when this was taken
        self._is_over = False

    def success(self, rtt: float, now_s: float) -> None:
        """The request is over and went well; `rtt` is its normalised time to first token."""
        if self._end() and rtt > 0:
            self._limiter.sampled(rtt, now_s)

    def dropped(self, now_s: float) -> None:
        """The target said that it has too much to do: 429 or 503."""
        if self._end():
            self._limiter.overloaded(self._cuts, now_s)

    def ignored(self, now_s: float) -> None:
        """The request says nothing about load: cancelled, lost, failed otherwise."""
        del now_s  # the same three arguments for all ends
        self._end()

    def _end(self) -> bool:
        if self._is_over:
            return False
        self._is_over = True
        self._limiter.released()
        return True


class Limiter:
    """The concurrency limit of one target."""

    __slots__ = (
        "_cuts",
        "_limit",
        "_long",
        "_settings",
        "_window_at_s",
        "_window_count",
        "_window_most",
        "_window_sum",
        "_windows",
        "in_flight",
    )

    def __init__(self, settings: LimiterSettings) -> None:
        self._settings = settings
        self.in_flight = 0
        """Slots taken and not ended; above the limit only by force, or after the limit shrank."""
        self._limit = float(settings.initial_limit)
        self._cuts = 0
        self._long = 0.0
        self._windows = 0
        self._window_at_s: float | None = None
        self._window_count = 0
        self._window_sum = 0.0
        self._window_most = 0  # in flight, the most since the window began

    @property
    def limit(self) -> int:
        """How many may be in flight."""
        return int(self._limit)

    @property
    def utilisation(self) -> float:
        """Requests in flight as a part of the limit; over 1 when forced."""
        return self.in_flight / self.limit

    def acquire(self, now_s: float, *, forced: bool = False) -> Slot | None:
        """Take a slot, before anything is sent.

        Args:
            forced: take it though there is none: for the last member of a class.

        Returns:
            None if the limit is reached. Whoever gets a slot owes it an end.
        """
        if not forced and self.in_flight >= self.limit:
            return None
        self.in_flight += 1
        if self.in_flight > self._window_most:
            self._window_most = self.in_flight
        if self._window_at_s is None:
            self._window_at_s = now_s
        return Slot(self, self._cuts)

    # --- told by slots ----------------------------------------------------------------------

    def released(self) -> None:
        """A slot ended (called by it)."""
        self.in_flight -= 1

    def sampled(self, rtt: float, now_s: float) -> None:
        """Take a success into the window, and end the window if it is complete."""
        self._window_count += 1
        self._window_sum += rtt
        began_s = now_s if self._window_at_s is None else self._window_at_s
        # A clock that went back ends it: rather a short window than one that lasts for ever.
        is_long_enough = not 0.0 <= now_s - began_s < self._settings.window_s
        if is_long_enough and self._window_count >= self._settings.window_samples:
            self._update(self._window_sum / self._window_count, self._window_most)
            self._begin_window(now_s)

    def overloaded(self, cuts: int, now_s: float) -> None:
        """Cut the limit, unless it was since this slot was taken."""
        if cuts == self._cuts:
            self._cuts += 1
            self._limit = max(self._limit * self._settings.drop_factor, self._settings.min_limit)
            self._begin_window(now_s)

    def _begin_window(self, now_s: float) -> None:
        self._window_at_s = now_s
        self._window_count, self._window_sum = 0, 0.0
        self._window_most = self.in_flight

    def _update(self, short: float, most: int) -> None:
        settings = self._settings
        self._windows += 1
        weight = (
            1 / self._windows
            if self._windows <= WARM_UP_WINDOWS
            else 2 / (settings.long_windows + 1)
        )
        self._long += weight * (short - self._long)
        gradient = max(0.5, min(1.0, settings.tolerance * self._long / short))
        if self._long > 2 * short:
            self._long *= 0.9
        if 2 * most < self._limit:
            return
        target = gradient * self._limit + settings.queue
        limit = self._limit + settings.smoothing * (target - self._limit)
        self._limit = max(settings.min_limit, min(settings.max_limit, limit))
