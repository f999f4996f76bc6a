"""Three brakes on extra attempts: how it goes, how many there are, and what the server asked for.

Each answers one question of a race before it starts another attempt; a primary asks none of them.
Pure state machines, O(1); time is an argument, in seconds of a monotonic clock.
"""

from __future__ import annotations

from typing import Final

MAX_HOLD_S: Final = 60.0
"""A server's push-back is kept no longer than this: after it one hedge finds out."""

_TOKEN: Final = 1000
"""Tokens are counted in thousandths, as gRPC's implementations do: a tenth has no exact float."""


class RetryThrottle:
    """gRPC's retryThrottling for one target (gRFC A6, "Throttling Retry Attempts and Hedged RPCs").

    Every failed attempt costs a token, every success brings `token_ratio` of one, up to
    `max_tokens`; with half of them or less there are no retries and no hedges. With the defaults, 5
    failures in a row stop them and 1 failure in 11 can be kept up for ever. The first attempt of
    a request is always sent, and counts like any other.

    What counts as a failure there: a status that may be retried, or a push-back that says not to.
    Neither the caller's mistakes nor lost races count at all.
    """

    __slots__ = ("_max", "_milli_tokens", "_per_success")

    def __init__(self, max_tokens: int = 10, token_ratio: float = 0.1) -> None:
        if not 0 < max_tokens <= 1000 or not token_ratio > 0:  # A6, "Throttling Configuration"
            raise ValueError("max_tokens is in (0, 1000], token_ratio positive")
        self._max = max_tokens * _TOKEN
        self._per_success = max(1, int(token_ratio * _TOKEN + 1e-9))
        self._milli_tokens = self._max

    @property
    def tokens(self) -> float:
        """Tokens left, of `max_tokens`."""
        return self._milli_tokens / _TOKEN

    @property
    def admits(self) -> bool:
        """Whether there may be retries and hedges."""
        return 2 * self._milli_tokens > self._max

    def success(self) -> None:
        """An attempt went well."""
        self._milli_tokens = min(self._max, self._milli_tokens + self._per_success)

    def failure(self) -> None:
        """An attempt failed in a way that another might not."""
        self._milli_tokens = max(0, self._milli_tokens - _TOKEN)


class Retry:
    """One retry in flight. The first `end` counts."""

    __slots__ = ("_budget", "_is_over")

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget
        self._is_over = False

    def end(self) -> None:
        """It is over, whatever came of it."""
        if not self._is_over:
            self._is_over = True
            self._budget.retries -= 1


class RetryBudget:
    """How many retries and failovers may be in flight: a fifth of the active requests, and three.

    The shape of Envoy's `retry_budget` (circuit_breaker.proto: budget_percent 20,
    min_retry_concurrency 3): bound to what is going on now, it needs no window, costs an idle relay
    nothing and lets a storm of retries grow no further than 1.2 times the load.

    Active are requests, not attempts: a retry makes no room for others.
    """

    __slots__ = ("_min_retries", "_percent", "active", "retries")

    def __init__(self, percent: int = 20, min_retries: int = 3) -> None:
        if not 0 <= percent <= 100 or min_retries < 0:
            raise ValueError("percent is in [0, 100], min_retries not negative")
        self._percent = percent
        self._min_retries = min_retries
        self.active = 0
        """Requests begun and not ended."""
        self.retries = 0
        """Retries in flight. Over the limit only when active requests have ended since."""

    def begin(self) -> None:
        """A request becomes active."""
        self.active += 1

    def end(self) -> None:
        """A request is over; once for each `begin`."""
        if self.active == 0:
            raise RuntimeError("a request ended that had not begun")
        self.active -= 1

    @property
    def limit(self) -> int:
        """How many retries may be in flight now."""
        return max(self._min_retries, self.active * self._percent // 100)

    def take(self) -> Retry | None:
        """The right to one retry, None if as many are in flight as may be; owed an `end`."""
        if self.retries >= self.limit:
            return None
        self.retries += 1
        return Retry(self)


class PushBack:
    """Whether a server has asked to be left alone: `grpc-retry-pushback-ms`, Retry-After.

    No hedges to that target until then (A6, "Pushback"). Who names no time has asked for nothing:
    it is not told here. The latest moment asked for counts: a shorter word, maybe older, does not
    take back a longer one.
    """

    __slots__ = ("_until_s",)

    def __init__(self) -> None:
        self._until_s = float("-inf")

    def said(self, delay_s: float, now_s: float) -> None:
        """The server asked for so long a delay; negative or NaN: not to be tried again, which is
        kept for `MAX_HOLD_S`."""
        hold_s = min(delay_s, MAX_HOLD_S) if delay_s >= 0 else MAX_HOLD_S
        if now_s + hold_s > self._until_s or self.admits(now_s):
            self._until_s = now_s + hold_s

    def admits(self, now_s: float) -> bool:
        """Whether a hedge may be sent."""
        # Nobody can have asked for twice the most: if it seems so, the clock has gone back.
        return not 0.0 < self._until_s - now_s < 2 * MAX_HOLD_S
