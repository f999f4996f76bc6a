"""How much one target may still be asked, by its provider's headers and by the operator's limits.

Two sources, one answer. What a provider says of its windows counts until the window's reset: a
window with nothing left is a certain 429, so the target is asked last; how much is left of the
tightest one is told to those who may do without (hedges). What the operator sets
(`rpm`, `tpm`, for providers that say nothing) is kept here: requests by the generic cell rate
algorithm, which spaces nothing and allows a whole minute's worth at once after a quiet minute;
tokens as a debt, since what an answer costs is known when it ends: after it the target waits
until the debt is paid back at `tpm` a minute.

A pure state machine: time is an argument, in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

MINUTE_S: Final = 60.0
MAX_HOLD_S: Final = 60.0
"""A window is believed empty, or nearly so, no longer than this: after it one request finds out."""


class Window(Protocol):
    """What is read of a provider's window."""

    @property
    def limit(self) -> float | None: ...

    @property
    def remaining(self) -> float | None: ...

    @property
    def reset_s(self) -> float: ...


class Headroom:
    """The state of one target.

    Args:
        rpm: requests a minute that the operator allows, None for no limit of ours.
        tpm: tokens a minute, likewise.
    """

    __slots__ = (
        "_full_until_s",
        "_left",
        "_requests_paid_at_s",
        "_rpm",
        "_tokens_paid_at_s",
        "_tpm",
    )

    def __init__(self, rpm: int | None = None, tpm: int | None = None) -> None:
        self._rpm = rpm
        self._tpm = tpm
        self._full_until_s = 0.0
        self._left: list[tuple[float, float]] = []
        """Of the windows that the last response told with their limits: until when, what share."""
        self._requests_paid_at_s = 0.0
        """When the bucket of requests would be full again (the theoretical arrival time)."""
        self._tokens_paid_at_s = 0.0

    def limit(self, rpm: int | None, tpm: int | None) -> None:
        """Take the limits of a new configuration; what was used stays used."""
        self._rpm = rpm
        self._tpm = tpm

    def observe(self, windows: Iterable[Window], now_s: float) -> None:
        """Take what a response says; the last one counts, also when it says that there is room."""
        full_until_s, has_said = 0.0, False
        left: list[tuple[float, float]] = []
        for window in windows:
            remaining, limit = window.remaining, window.limit
            if remaining is not None:
                has_said = True
                until_s = now_s + min(window.reset_s, MAX_HOLD_S)
                if remaining <= 0:
                    full_until_s = max(full_until_s, until_s)
                # Some tell no limit: 7 left may be much or little.
                elif limit is not None and limit > remaining:
                    left.append((until_s, remaining / limit))
        if has_said:
            self._full_until_s = full_until_s
            self._left = left

    def refused(self, retry_after_s: float | None, now_s: float) -> None:
        """The provider answered 429; it is full for so long, one second where it does not say."""
        hold_s = 1.0 if retry_after_s is None else min(retry_after_s, MAX_HOLD_S)
        self._full_until_s = max(self._full_until_s, now_s + hold_s)

    def upstream_wait_s(self, now_s: float) -> float:
        """How long the provider will refuse, by its own word; 0 if it will not."""
        return max(0.0, self._full_until_s - now_s)

    def own_wait_s(self, now_s: float) -> float:
        """How long until the operator's limits admit another request; 0 if they do now."""
        wait_s = 0.0
        if self._rpm is not None:
            # A whole minute's worth may be open, less the request asked about.
            slack_s = MINUTE_S - MINUTE_S / self._rpm
            wait_s = self._requests_paid_at_s - slack_s - now_s
        if self._tpm is not None:
            wait_s = max(wait_s, self._tokens_paid_at_s - MINUTE_S - now_s)
        # Rounding must not make a caller wait for a femtosecond.
        return wait_s if wait_s > 1e-9 else 0.0

    def wait_s(self, now_s: float) -> float:
        """How long the target is certain to refuse, by either source; 0 if it may be asked."""
        wait_s = self._full_until_s - now_s
        if self._rpm is not None or self._tpm is not None:
            wait_s = max(wait_s, self.own_wait_s(now_s))
        return wait_s if wait_s > 0.0 else 0.0

    def left_share(self, now_s: float) -> float:
        """What is left, at least, of the tightest window: 1 all of it, or nothing is known; 0 none.

        A provider's windows refill until their reset in a way of its own; what it told is taken to
        stand until then. O(1): a response tells a few windows.
        """
        if self._full_until_s > now_s:
            return 0.0
        share = 1.0
        for until_s, left in self._left:
            if left < share and until_s > now_s:
                share = left
        if self._rpm is not None:
            share = min(share, 1.0 - (self._requests_paid_at_s - now_s) / MINUTE_S)
        if self._tpm is not None:
            share = min(share, 1.0 - (self._tokens_paid_at_s - now_s) / MINUTE_S)
        return max(0.0, share)

    def take(self, now_s: float) -> float:
        """Count one request if the operator's limits admit it; how long to wait otherwise (0:
        counted). A refused one counts nothing."""
        wait_s = self.own_wait_s(now_s)
        if wait_s == 0.0 and self._rpm is not None:
            paid_at_s = max(self._requests_paid_at_s, now_s)
            self._requests_paid_at_s = paid_at_s + MINUTE_S / self._rpm
        return wait_s

    def spend(self, tokens: int, now_s: float) -> None:
        """Count the tokens of an attempt that is over, whatever it ended like."""
        if self._tpm is not None and tokens > 0:
            paid_at_s = max(self._tokens_paid_at_s, now_s)
            self._tokens_paid_at_s = paid_at_s + MINUTE_S * tokens / self._tpm
