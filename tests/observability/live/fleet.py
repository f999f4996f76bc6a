"""Workers as the dashboard asks them, without processes: answers go through JSON as over a
supervisor's socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from relay.observability.live.recorder import LIVE, Recorder


def state(**more: Any) -> dict[str, Any]:
    """A worker's, as much of it as is read."""
    return {
        "uptime_s": 5.0,
        "generations": 1,
        "targets": {},
        "hedging": {"aliases": {}, "common_mode": {"suspended": False}},
        "origins": [],
        "credentials": {},
        **more,
    }


def target_state(word: str = "closed", **more: Any) -> dict[str, Any]:
    """Of a target in a worker's state."""
    return {
        "breaker": {
            "state": word,
            "share": 1.0,
            "reason": None,
            "retry_in_s": 0.0,
            "trips": 0,
            "suspected": False,
            **more.pop("breaker", {}),
        },
        "p50_ms": None,
        "p95_ms": None,
        "in_flight": 0,
        "limit": 100,
        "wait_s": 0.0,
        **more,
    }


class Fleet:
    """So many workers; `gone` names those that do not answer."""

    def __init__(self, *recorders: Recorder) -> None:
        self.recorders = dict(enumerate(recorders))
        self.gone: set[int] = set()
        self.asked = 0

    async def ask(
        self, what: str, *given: Any, of: Callable[[int], bool] = lambda _: True
    ) -> dict[int, Any]:
        assert what == LIVE
        self.asked += 1
        found: dict[int, Any] = {}
        for number, recorder in self.recorders.items():
            if number in self.gone:
                found[number] = TimeoutError("no answer within 1 s")
            elif of(number):
                answer = recorder.answer(*orjson.loads(orjson.dumps(given)))
                found[number] = orjson.loads(orjson.dumps(answer, option=orjson.OPT_NON_STR_KEYS))
        return found

    def places(self) -> dict[int, dict[str, Any]]:
        return {
            number: {"status": "ready", "restarts": 0, "pid": number, "silent_s": 0.1}
            for number in self.recorders
        }
