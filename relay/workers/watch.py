"""Whether a worker is stuck: from its beats, and from how the supervisor itself has slept.

A worker's loop beats twice a second. One that is silent for the limit will not come back by itself,
since nothing of ours blocks a loop for seconds; its streams stand still meanwhile. The supervisor
judges only what it has seen: when it was stopped itself (a paused container, a machine under water)
it cannot know who beat, so everyone is given a fresh start.

A pure state machine: times are arguments, seconds of a monotonic clock.
"""

from __future__ import annotations

from typing import Final

BEAT_S: Final = 0.5
LOOK_S: Final = 0.5
"""Between two looks of the supervisor."""
OWN_PAUSE_S: Final = 2.0
"""A look that comes so late says that the supervisor was stopped."""
START_LIMIT_S: Final = 60.0
"""For a new process, until its loop runs: a cold disk, a machine that is busy."""


class Watch:
    """Of one worker process.

    Args:
        limit_s: of silence; 0: whatever it does, it is not replaced.
    """

    __slots__ = ("_has_beaten", "_heard_at_s", "_limit_s", "_looked_at_s")

    def __init__(self, now_s: float, limit_s: float) -> None:
        self._limit_s = limit_s
        self._heard_at_s = now_s
        self._looked_at_s = now_s
        self._has_beaten = False

    def beat(self, now_s: float) -> None:
        """It lives."""
        self._has_beaten = True
        self._heard_at_s = max(now_s, self._heard_at_s)

    @property
    def has_beaten(self) -> bool:
        """Whether its loop has run."""
        return self._has_beaten

    def silent_s(self, now_s: float) -> float:
        """Since its last beat, or since it was started."""
        return max(0.0, now_s - self._heard_at_s)

    def is_stuck(self, now_s: float) -> bool:
        """Look: whether it is to be replaced. To be called every `LOOK_S`."""
        slept_s, self._looked_at_s = now_s - self._looked_at_s, now_s
        if slept_s > OWN_PAUSE_S:
            self._heard_at_s = now_s
            return False
        if self._limit_s <= 0:
            return False
        limit_s = self._limit_s if self._has_beaten else max(START_LIMIT_S, self._limit_s)
        return self.silent_s(now_s) > limit_s
