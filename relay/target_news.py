"""Tells the log which targets were ejected and which came back, a line each.

By looking every few seconds at what breakers say and comparing it with the last look, so that no
request waits for a line.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import structlog

from relay.resilience.breaker import BreakerState
from relay.target_state import TargetState

_log = structlog.get_logger("relay.targets")


class _Seen(NamedTuple):
    state: BreakerState
    trips: int


_WELL: Final = _Seen(BreakerState.CLOSED, 0)


class TargetNews:
    """What the log was last told."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        """By target; those that never tripped are left out."""

    def tell(self, states: Iterable[tuple[str, TargetState]], now_s: float) -> None:
        """Log what is new since the last look.

        `target_ejected` is told once a trip, however many probes fail after it.
        """
        seen: dict[str, _Seen] = {}
        for name, state in states:
            breaker = state.breaker
            now, before = _Seen(breaker.state, breaker.trips), self._seen.get(name, _WELL)
            if now != _WELL:
                seen[name] = now
            if now == before:
                continue
            reason = None if breaker.reason is None else breaker.reason.value
            if now.trips > before.trips:
                retry_at_s = breaker.retry_at_s
                _log.info(
                    "target_ejected",
                    target=name,
                    reason=reason,
                    retry_in_s=None
                    if retry_at_s is None
                    else round(max(0.0, retry_at_s - now_s), 3),
                )
            if now.state is BreakerState.RAMP:
                _log.info(
                    "target_returning",
                    target=name,
                    reason=reason,
                    share=breaker.share(now_s),
                )
            elif now.state is BreakerState.CLOSED:
                _log.info("target_back", target=name, reason=reason)
        self._seen = seen
