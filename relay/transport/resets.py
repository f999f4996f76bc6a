"""When a connection has been reset so often that the provider may soon take us for an attacker.

Barge-ins and lost races reset a fifth to a half of all streams, and servers count resets for each
connection: Envoy closes one at 250 early resets or at half of 500 streams, Netty at 200 within
30 s, others judge from about a hundred streams on. A connection is replaced before any is near.

What that costs: one dial in the background, some three round trips and a handshake on another
thread (0.03 ms in the loop), and the new connection begins with a small congestion window, so a
long prompt takes a round trip or two more. Nobody waits for it, unless the origin is one that is
not kept warm: its next request may find no connection. With a share of resets of 0.2 one connection
in fourteen is replaced early, with 0.4 each after some 40 streams; those early ones are bounded by
the minute, so that a busy origin is not dialled for every 25 streams. What is over its share at
`reset_limit_from` streams is replaced in any case: that is a dial for as many streams at most.

GOAWAY with ENHANCE_YOUR_CALM says that we had the limit wrong: from then on half the share is
allowed, for an hour, as the code has other reasons too (pings, load) and a wrong guess must end.

A pure state machine: time is an argument, in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from relay.transport.engine import TransportSettings

MIN_RESET_SHARE: Final = 0.1
"""However often a provider asks for calm: below it every few cancels would cost a connection."""
CALM_S: Final = 3600.0
"""How long a lowered share holds after the latest GOAWAY that asked for it."""
ONE_EVENT_S: Final = 10.0
"""All streams of a connection, and often all connections, are told at once: that is one word."""


class ResetLimit:
    """What share of its streams a connection to one origin may have reset."""

    __slots__ = ("_calmed_s", "_early", "_settings", "_share", "calmed")

    def __init__(self, settings: TransportSettings) -> None:
        self._settings = settings
        self._share = settings.max_reset_share
        self._calmed_s = float("-inf")
        self._early: deque[float] = deque(maxlen=settings.early_rotations)
        """When the latest ones were granted, oldest first."""
        self.calmed = 0
        """How many times the provider has asked for calm."""

    def share(self, now_s: float) -> float:
        """The share allowed now."""
        if now_s >= self._calmed_s + CALM_S:
            self._share = self._settings.max_reset_share
        return self._share

    def calm(self, now_s: float) -> None:
        """The provider asked for calm."""
        if now_s < self._calmed_s + ONE_EVENT_S:
            return
        share = self.share(now_s)
        self._share = min(share, max(MIN_RESET_SHARE, share / 2))
        self._calmed_s = now_s
        self.calmed += 1

    def replaces(self, streams: int, resets: int, now_s: float) -> bool:
        """Whether a connection with so many streams and resets is to be replaced now.

        Asked after a reset, and no more once it has said yes: an early yes uses up one of the
        minute's.
        """
        settings = self._settings
        if streams < settings.judged_from:
            return False
        if resets >= settings.max_resets:
            return True
        if resets < self.share(now_s) * streams:
            return False
        if streams >= settings.reset_limit_from:
            return True
        early = self._early
        if len(early) == early.maxlen and (not early or now_s < early[0] + 60.0):
            return False
        early.append(now_s)
        return True
