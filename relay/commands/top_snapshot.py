"""What `/admin/state` held at one moment, of one worker or of several, in one shape.

Fields that are missing are taken for empty: the relay may be older than this command, or younger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

State = Mapping[str, Any]
_MOST: Final = float(1 << 53)


class NoState(ValueError):
    """What came is not what an admin listener shows."""


class WorkerRow(NamedTuple):
    """One worker, as its supervisor sees it; a worker that is alone has no row."""

    number: str
    status: str
    """`starting`, `ready`, `draining`, `gone`, ..."""
    restarts: int
    silent_s: float | None
    """Since its last sign of life; None where there is no process."""
    why: str
    """It did not answer for this; empty for one that did."""


class Snapshot(NamedTuple):
    """One reading."""

    at_s: float
    """Of our own monotonic clock."""
    uptime_s: float
    is_draining: bool
    workers: tuple[WorkerRow, ...]
    states: Mapping[tuple[str, int], State]
    """What each worker that answered holds, by its number and process."""


def snapshot(document: object, at_s: float) -> Snapshot:
    """
    Args:
        document: the answer of `/admin/state`, parsed.
        at_s: when it came.

    Raises:
        NoState: it is something else.
    """
    if not isinstance(document, dict) or "uptime_s" not in document:
        raise NoState("it has no uptime_s")
    uptime_s, is_draining = number(document, "uptime_s"), bool(document.get("draining"))
    rows = document.get("workers")
    if not isinstance(rows, dict):
        return Snapshot(at_s, uptime_s, is_draining, (), {("0", 0): document})
    workers: list[WorkerRow] = []
    states: dict[tuple[str, int], State] = {}
    for name, row in sorted(rows.items(), key=lambda pair: (len(pair[0]), pair[0])):
        if not isinstance(row, dict):
            continue
        workers.append(
            WorkerRow(
                name,
                text(row, "status"),
                int(number(row, "restarts")),
                maybe(row, "silent_s"),
                text(row, "why"),
            )
        )
        state = row.get("state")
        if isinstance(state, dict):
            states[name, int(number(row, "pid"))] = state
    return Snapshot(at_s, uptime_s, is_draining, tuple(workers), states)


# --- reading what may be anything -----------------------------------------------------------


def number(row: State, key: str) -> float:
    """0 where there is none."""
    value = row.get(key)
    return _bounded(value) if isinstance(value, int | float) else 0.0


def maybe(row: State, key: str) -> float | None:
    """None where there is none: nobody knows is not 0."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return _bounded(value)


def _bounded(value: float) -> float:
    """What stays a number of JSON when it is summed: no count of ours is larger."""
    return max(-_MOST, min(float(value), _MOST)) if value == value else 0.0


def text(row: State, key: str) -> str:
    """Empty where there is none."""
    value = row.get(key)
    return value if isinstance(value, str) else ""


def inner(row: State, *path: str) -> State:
    """What is at a path; empty where there is nothing."""
    found: Any = row
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def rows(state: State, key: str) -> list[State]:
    """A list of mappings."""
    value = state.get(key)
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
