"""A worker's part of the dashboard: hears of every end, keeps the last ones, answers who asks.

Per generation some microseconds, per token nothing, and nothing at all while nobody looks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from relay.observability.live.record import Record, record_of
from relay.observability.live.slices import COPIED, DIRECT, Slices
from relay.outcome import Ended

_log = structlog.get_logger("relay.live")

RECENT: Final = 256
"""Generations kept, of which each takes some two kilobytes."""
LIVE: Final = "live"
"""The question that `answer` answers."""


class Recorder:
    """Of one worker.

    Args:
        number: of the worker, from 0.
        instance: tells this worker from the one before it at its place.
        has_name: whether the configuration has made a name up, as it is now.
        state: what `/admin/state` shows of this worker.
        now_s: seconds since 1970.
    """

    def __init__(
        self,
        number: int,
        instance: str,
        has_name: Callable[[str], bool],
        state: Callable[[], dict[str, Any]],
        now_s: Callable[[], float],
    ) -> None:
        self._number = str(number)
        self._instance = instance
        self._has_name = has_name
        self._state = state
        self._now_s = now_s
        self._recent: deque[Record] = deque(maxlen=RECENT)
        self._slices = Slices()
        self._seq = 0

    def ended(self, told: Ended) -> None:
        """A generation is over. Never waits, never raises: nobody is refused for the dashboard."""
        end, request, generation_id, frontend = told[:4]
        try:
            now_s = self._now_s()
            self._seq += 1
            self._recent.append(
                record_of(
                    end,
                    request,
                    generation_id,
                    frontend,
                    seq=self._seq,
                    ended_ms=int(now_s * 1000),
                )
            )
            asked = request.asked_as or request.model
            alias = asked if self._has_name(asked) else DIRECT
            self._slices.take(COPIED if told.is_copy else alias, end, now_s)
        except Exception as error:  # noqa: BLE001 - a bug here must not cost an answer
            _log.error("live_bug", error=type(error).__name__, exc_info=error)

    def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What is new.

        Args:
            asked: `seen`: by the worker's number `[instance, seq, index]` as of the answer before,
                the index that of its last slice; without it, all there is. `state`: whether the
                state is wanted.
        """
        seen = asked.get("seen", {}).get(self._number)
        seq, index = 0, 0
        if isinstance(seen, list) and len(seen) == 3 and seen[0] == self._instance:
            seq, index = seen[1], seen[2]
        return {
            "instance": self._instance,
            "seq": self._seq,
            "ends": [record for record in self._recent if record["seq"] > seq],
            "slices": [each.to_dict() for each in self._slices.since(index)],
            **({"state": self._state()} if asked.get("state") else {}),
        }
