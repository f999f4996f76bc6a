"""Whether the wall clock was put forward: then leases look over that are not.

Leases are told by the wall clock, which all workers of a store have in common, and a clock that is
put forward by more than a lease ends all of them at once, though their owners live. Who sees the
step waits for one lease before he takes anybody for dead: by then whoever lives has renewed.

A pure state machine: times are arguments.
"""

from __future__ import annotations

_US = 1_000_000


class ClockSteps:
    """Of one worker.

    Args:
        lease_s: of everybody.
    """

    __slots__ = ("_ahead_s", "_calm_from_s", "_lease_s")

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._ahead_s: float | None = None
        self._calm_from_s = float("-inf")

    def is_calm(self, wall_us: int, now_s: float) -> bool:
        """Whether a lease that looks over is over; to be asked several times a lease.

        Args:
            wall_us: microseconds since 1970; `now_s`: monotonic.
        """
        ahead_s = wall_us / _US - now_s
        before_s, self._ahead_s = self._ahead_s, ahead_s
        # A third: as long as a living worker's lease has at least left.
        if before_s is not None and ahead_s - before_s > self._lease_s / 3:
            self._calm_from_s = now_s + self._lease_s
        return now_s >= self._calm_from_s
