"""Several workers' snapshots as one.

Counters and buckets add up, those of processes that are gone among them: what they had told last is
kept, so that no counter goes down. Gauges are of the workers that answered now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from relay.observability.metrics.families import FAMILIES, SEPARATOR, Kind
from relay.observability.metrics.snapshot import Rows, Series, Snapshot, Value, add


class WorkersJoin:
    """Of one supervisor, from its start on."""

    def __init__(self) -> None:
        self._gone: Series = {}
        """Of processes whose place another has taken."""
        self._last: dict[int, Snapshot] = {}

    def take(self, answers: Mapping[int, Snapshot | None]) -> None:
        """Remember what workers have told, by number; None of those that have not answered."""
        for number, snapshot in answers.items():
            if snapshot is None:
                continue
            last = self._last.get(number)
            if last is not None and last.id != snapshot.id:
                add(self._gone, last.series)
            self._last[number] = snapshot

    def joined(self, answered: Iterable[int]) -> Series:
        """All that was told so far; gauges of these workers."""
        found: Series = {}
        add(found, self._gone)
        for snapshot in self._last.values():
            add(found, snapshot.series)
        for number in answered:
            snapshot = self._last[number]
            for name, rows in snapshot.series.items():
                if FAMILIES[name].kind is Kind.GAUGE:
                    _join(found.setdefault(name, {}), rows, FAMILIES[name].join, str(number))
        return found


def alone(snapshot: Snapshot) -> Series:
    """The same of a worker that is alone; nothing of the snapshot is changed, nor kept but its
    rows."""
    return {
        name: {_of_worker(key, "0"): value for key, value in rows.items()}
        if FAMILIES[name].join == "worker"
        else dict(rows)
        for name, rows in snapshot.series.items()
    }


def _of_worker(key: str, worker: str) -> str:
    return f"{key}{SEPARATOR}{worker}" if key else worker


def _join(into: Rows, rows: Rows, how: str, worker: str) -> None:
    for key, value in rows.items():
        if how == "worker":
            into[_of_worker(key, worker)] = value
            continue
        held = into.get(key)
        into[key] = value if held is None else _joined(held, value, how)


def _joined(one: Value, other: Value, how: str) -> Value:
    if isinstance(one, list) or isinstance(other, list):
        return one
    if how == "min":
        return min(one, other)
    return max(one, other) if how == "max" else one + other
