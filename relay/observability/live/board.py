"""Slices of all workers laid upon one another, and what can be read off them with the workers'
states: per target, per alias, and money."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from relay.observability.live import state_view
from relay.observability.live.quantiles import Counts, add, quantile
from relay.observability.live.slices import ALIAS_FIELDS, PAIR_FIELDS, SLICE_S, SLICES

SHARES: Final = (0.5, 0.95, 0.99)
MINUTE: Final = 6
"""Slices of the last minute, with the one that is being filled one more."""
_PAIR: Final = {name: index for index, name in enumerate(PAIR_FIELDS, 4)}
_ALIAS: Final = {name: index for index, name in enumerate(ALIAS_FIELDS)}


class Board:
    """Of one process."""

    def __init__(self) -> None:
        self._slices: dict[int, dict[str, dict[str, Any]]] = {}
        """By index, then by worker."""
        self._points: dict[int, dict[str, list[Any]]] = {}
        """What was worked out of a slice."""

    def take(self, worker: str, told: dict[str, Any]) -> None:
        """A worker's slice as it is now, in place of what it was."""
        self._slices.setdefault(told["index"], {})[worker] = told
        self._points.pop(told["index"], None)

    def _between(self, first: int, last: int) -> Iterable[dict[str, Any]]:
        for index in range(first, last + 1):
            yield from self._slices.get(index, {}).values()

    def _forget(self, index: int) -> None:
        for old in [one for one in self._slices if one < index]:
            del self._slices[old]
            self._points.pop(old, None)

    def points(self, now_s: float, last: int | None = None) -> dict[str, list[list[Any]]]:
        """For charts: by target `[seconds since 1970, n, p50, p95, p99]` of each slice in which
        something was asked, oldest first; milliseconds, None where it is not known.

        Args:
            last: so many slices; None: all.
        """
        now = int(now_s // SLICE_S)
        found: dict[str, list[list[Any]]] = {}
        for index in range(now - (SLICES if last is None else last) + 1, now + 1):
            if index not in self._slices:
                continue
            points = self._points.get(index)
            if points is None:
                points = self._points[index] = _points_of(index, self._slices[index].values())
            for target, point in points.items():
                found.setdefault(target, []).append(point)
        return found

    def picture(self, states: list[Mapping[str, Any]], now_s: float) -> dict[str, Any]:
        """Everything but who the workers are.

        Args:
            states: of the workers that answer.
        """
        now = int(now_s // SLICE_S)
        self._forget(now - SLICES)
        minute = list(self._between(now - MINUTE, now))
        quarter = list(self._between(now - SLICES + 1, now))
        recent, usual = _Sum(minute), _Sum(quarter)
        before = _Sum(self._between(now - SLICES + 1, now - MINUTE - 1))
        targets = state_view.targets(states)
        for name in {*recent.targets, *usual.targets}:
            targets.setdefault(name, state_view.unknown_target())
        aliases = state_view.aliases(states)
        for name in usual.aliases:
            aliases.setdefault(name, state_view.unknown_alias())
        return {
            "slice_s": SLICE_S,
            "window_s": SLICE_S * (SLICES - 1),
            "targets": {
                name: {
                    **row,
                    "minute": recent.target(name),
                    "quarter": usual.target(name),
                    "before": before.target(name),
                }
                for name, row in sorted(targets.items())
            },
            "aliases": {
                name: {**row, "minute": recent.alias(name), "quarter": usual.alias(name)}
                for name, row in sorted(aliases.items())
            },
            "total": {"minute": recent.total(), "quarter": usual.total()},
            "origins": state_view.origins(states),
            "credentials": state_view.credentials(states),
            "common_mode": state_view.common_mode(states),
        }


def _points_of(index: int, slices: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for target, (finished, censored) in _Sum(slices).latency.items():
        count = sum(finished.values()) + sum(censored.values())
        if count:
            shares = [_ms(finished, censored, share) for share in SHARES]
            found[target] = [index * SLICE_S, count, *shares]
    return found


def _ms(finished: Counts, censored: Counts, share: float) -> float | None:
    found = quantile(finished, censored, share)
    return None if found is None else round(found.us / 1000, 1)


class _Sum:
    """Of some slices."""

    def __init__(self, slices: Iterable[dict[str, Any]]) -> None:
        self.latency: dict[str, tuple[Counts, Counts]] = {}
        self.targets: dict[str, dict[str, float]] = {}
        self.pairs: dict[str, dict[str, dict[str, float]]] = {}
        """By alias, then by target."""
        self.aliases: dict[str, dict[str, Any]] = {}
        self.ttft: dict[str, Counts] = {}
        for each in slices:
            for row in each["pairs"]:
                self._pair(row)
            for name, row in each["aliases"].items():
                self._alias(name, row)

    def _pair(self, row: list[Any]) -> None:
        alias, target = row[0], row[1]
        finished, censored = self.latency.setdefault(target, ({}, {}))
        add(finished, _numbered(row[2]))
        add(censored, _numbered(row[3]))
        for sums in (
            self.targets.setdefault(target, dict.fromkeys(PAIR_FIELDS, 0)),
            self.pairs.setdefault(alias, {}).setdefault(target, dict.fromkeys(PAIR_FIELDS, 0)),
        ):
            for name, index in _PAIR.items():
                sums[name] += row[index]

    def _alias(self, name: str, row: list[Any]) -> None:
        add(self.ttft.setdefault(name, {}), _numbered(row[_ALIAS["ttft"]]))
        sums = self.aliases.setdefault(name, _no_alias())
        for field in ("fates", "reasons", "refused"):
            for word, count in row[_ALIAS[field]].items():
                sums[field][word] = sums[field].get(word, 0) + count
        for field in ("fired", "hedge_won", "cost", "added_cost"):
            sums[field] += row[_ALIAS[field]]

    def target(self, name: str) -> dict[str, Any]:
        """Of a target: counts, and first tokens as `latency_of`."""
        finished, censored = self.latency.get(name, ({}, {}))
        sums = self.targets.get(name) or dict.fromkeys(PAIR_FIELDS, 0)
        return {**_told(sums), "ttft": latency_of(finished, censored)}

    def alias(self, name: str) -> dict[str, Any]:
        """Of an alias: fates and money, first tokens as clients had them, and its race: by target
        what started and what came of it."""
        sums = self.aliases.get(name) or _no_alias()
        return {
            **sums,
            "generations": sum(sums["fates"].values()),
            "cost": round(sums["cost"]),
            "added_cost": round(sums["added_cost"]),
            "ttft": latency_of(self.ttft.get(name, {}), {}),
            "race": {target: _told(row) for target, row in self.pairs.get(name, {}).items()},
        }

    def total(self) -> dict[str, Any]:
        """Of all aliases together."""
        every: Counts = {}
        for counts in self.ttft.values():
            add(every, counts)
        sums = _no_alias()
        for row in self.aliases.values():
            for fate, count in row["fates"].items():
                sums["fates"][fate] = sums["fates"].get(fate, 0) + count
            for field in ("fired", "hedge_won", "cost", "added_cost"):
                sums[field] += row[field]
        return {
            "generations": sum(sums["fates"].values()),
            "fates": sums["fates"],
            "fired": sums["fired"],
            "hedge_won": sums["hedge_won"],
            "cost": round(sums["cost"]),
            "added_cost": round(sums["added_cost"]),
            "ttft": latency_of(every, {}),
        }


def latency_of(finished: Counts, censored: Counts) -> dict[str, Any]:
    """`n`, `given_up` of them, and p50, p95, p99 in milliseconds; `floor` names those of which it
    is only known that they are more."""
    given_up = sum(censored.values())
    told: dict[str, Any] = {"n": sum(finished.values()) + given_up, "given_up": given_up}
    floor: list[str] = []
    for share in SHARES:
        found = quantile(finished, censored, share)
        name = f"p{round(share * 100)}"
        told[name] = None if found is None else round(found.us / 1000, 1)
        if found is not None and found.is_floor:
            floor.append(name)
    return {**told, "floor": floor}


def _told(sums: Mapping[str, float]) -> dict[str, Any]:
    lost = sums["lost"]
    return {
        **{name: round(value) for name, value in sums.items() if name != "lost_us"},
        "lost_at_ms": round(sums["lost_us"] / lost / 1000, 1) if lost else None,
    }


def _no_alias() -> dict[str, Any]:
    return {
        "fates": {},
        "reasons": {},
        "refused": {},
        "fired": 0,
        "hedge_won": 0,
        "cost": 0.0,
        "added_cost": 0.0,
    }


def _numbered(counts: Mapping[Any, int]) -> Counts:
    """Keys that went through JSON are texts."""
    return {int(bucket): count for bucket, count in counts.items()}
