"""Whether slowness is everybody's: then it is ours, and hedges would only add to it.

Hedging helps against a slow provider. When the way out of this machine is slow (DNS, the uplink, an
overloaded loop), all providers seem slow together, every timer fires and each hedge makes it worse.
So timed hedges are suspended, and failover is not, when either

- at least 2 groups each had 8 or more attempts judged in 5 s, with 30 % or more of them beyond
  their p95, or
- at least 2 groups took a second or longer to connect to in 10 s: a lost SYN is sent again after
  1 s (RFC 6298), a lost DNS question not before; a handshake that loses nothing takes three round
  trips, under a second from anywhere.

"Two providers beyond their p95 in the same 5 s" is not enough: at 5 to 10 attempts/s and 5 % each,
it is so by chance for a fifth to half of the time. This rule is by chance for less than 0.01 %, for
0.3 % where each group's slowness clusters (lag-1 0.4); and when half of everything is beyond, it
holds for 77 % of the time at 5 attempts/s and 95 % at 10 (tests/resilience/test_common_mode.py).

A group is what fails together upstream: an origin, or all endpoints of one provider. Two doors to
the same host are one group, or its trouble would be taken for ours.

An attempt is judged once: when its first token comes within the p95 (not beyond), or when its p95
has passed without one (beyond: when the hedge's timer would fire). One that is cancelled before
either is not judged. So the parts are exact, none is counted before it could have been beyond.

A pure state machine: time is an argument, in seconds of a monotonic clock; a reading before the
latest one counts as the latest. O(1) an event; memory is bounded by `max_groups`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

WINDOW_SLOTS: Final = 10
"""The window moves in tenths: it holds between 0.9 and 1 of its length."""


@dataclass(frozen=True, slots=True)
class CommonModeSettings:
    """What is too much at once."""

    groups: int = 2
    """So many groups, of either sign, are common mode."""
    window_s: float = 5.0
    min_judged: int = 8
    """Of fewer attempts in the window nothing is concluded."""
    beyond_ratio: float = 0.3
    slow_connect_s: float = 1.0
    """A connection that took so long, DNS and TLS included, lost something on the way."""
    connect_window_s: float = 10.0
    """Connections are rare while pools are warm, so their word counts for longer."""
    max_groups: int = 64
    """Of more, the one heard of longest ago is forgotten."""

    def __post_init__(self) -> None:
        if self.groups < 2 or self.min_judged < 1 or self.max_groups < self.groups:
            raise ValueError("groups is at least 2 and at most max_groups, min_judged at least 1")
        if min(self.window_s, self.connect_window_s, self.slow_connect_s) <= 0:
            raise ValueError("times are positive")
        if not 0 < self.beyond_ratio <= 1:
            raise ValueError("beyond_ratio is in (0, 1]")


class CommonMode:
    """What all targets of a worker show together."""

    __slots__ = ("_groups", "_latest_s", "_settings", "_slow_connect", "_slow_first_token")

    def __init__(self, settings: CommonModeSettings) -> None:
        self._settings = settings
        self._groups: OrderedDict[str, _Judged] = OrderedDict()
        # Group -> until when its last word counts. Mostly empty; no larger than `max_groups`.
        self._slow_first_token: OrderedDict[str, float] = OrderedDict()
        self._slow_connect: OrderedDict[str, float] = OrderedDict()
        self._latest_s = float("-inf")

    def judged(self, group: str, now_s: float, *, is_beyond: bool) -> None:
        """An attempt's first token came in time, or its p95 passed without one."""
        self._latest_s = now_s = max(now_s, self._latest_s)
        settings = self._settings
        judged = self._groups.get(group)
        if judged is None:
            judged = self._groups[group] = _Judged(settings.window_s)
            if len(self._groups) > settings.max_groups:
                forgotten, _ = self._groups.popitem(last=False)
                self._slow_first_token.pop(forgotten, None)
        else:
            self._groups.move_to_end(group)
        total, beyond = judged.add(now_s, is_beyond)
        if total >= settings.min_judged and beyond >= settings.beyond_ratio * total:
            self._slow_first_token[group] = now_s + settings.window_s
        else:
            self._slow_first_token.pop(group, None)

    def connected(self, group: str, took_s: float, now_s: float) -> None:
        """A connection was made, or was given up after so long; a quick one takes back a slow."""
        self._latest_s = now_s = max(now_s, self._latest_s)
        if took_s < self._settings.slow_connect_s:
            self._slow_connect.pop(group, None)
            return
        self._slow_connect[group] = now_s + self._settings.connect_window_s
        self._slow_connect.move_to_end(group)
        if len(self._slow_connect) > self._settings.max_groups:
            self._slow_connect.popitem(last=False)

    def is_suspended(self, now_s: float) -> bool:
        """Whether timed hedges are to wait."""
        now_s = max(now_s, self._latest_s)
        return self._is_common(self._slow_first_token, now_s) or self._is_common(
            self._slow_connect, now_s
        )

    def _is_common(self, slow: OrderedDict[str, float], now_s: float) -> bool:
        groups = self._settings.groups
        return len(slow) >= groups and sum(until > now_s for until in slow.values()) >= groups

    def describe(self, now_s: float) -> dict[str, object]:
        """Who is slow now, for people."""
        return {
            "suspended": self.is_suspended(now_s),
            "slow_first_token": [g for g, until in self._slow_first_token.items() if until > now_s],
            "slow_connect": [g for g, until in self._slow_connect.items() if until > now_s],
        }


class _Judged:
    """Attempts of one group in a sliding window, in slots; times do not decrease."""

    __slots__ = ("_beyond", "_beyond_sum", "_slot", "_slot_s", "_total", "_total_sum")

    def __init__(self, window_s: float) -> None:
        self._slot_s = window_s / WINDOW_SLOTS
        self._slot = 0
        """Number of the newest slot, counted from the clock's zero."""
        self._total = [0] * WINDOW_SLOTS
        self._beyond = [0] * WINDOW_SLOTS
        self._total_sum = 0
        self._beyond_sum = 0

    def add(self, now_s: float, is_beyond: bool) -> tuple[int, int]:
        """Count one; how many there are in the window, and of these beyond."""
        slot = int(now_s // self._slot_s)
        for old in range(self._slot + 1, min(slot, self._slot + WINDOW_SLOTS) + 1):
            index = old % WINDOW_SLOTS
            self._total_sum -= self._total[index]
            self._beyond_sum -= self._beyond[index]
            self._total[index] = self._beyond[index] = 0
        self._slot = slot
        index = slot % WINDOW_SLOTS
        self._total[index] += 1
        self._total_sum += 1
        if is_beyond:
            self._beyond[index] += 1
            self._beyond_sum += 1
        return self._total_sum, self._beyond_sum
