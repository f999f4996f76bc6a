"""Slices of all workers laid upon one another, and what can be read off them with the workers'
states: per target, per alias, and money."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

from relay.observability.live import state_view
from relay.observability.live.slices import SLICE_S, SLICES
from relay.observability.live.sums import SHARES, Slice, Sums, quantile_ms

MINUTE: Final = 6
"""Slices of the last minute, with the one that is being filled one more."""


class Board:
    """Of one process. What is older than a minute is summed once and slides: a picture costs what
    the last minute does, since it is drawn every second in the loop of a worker."""

    def __init__(self) -> None:
        self._slices: dict[int, dict[str, Slice]] = {}
        """By index, then by worker."""
        self._points: dict[int, dict[str, list[Any]]] = {}
        """What was worked out of a slice."""
        self._older = Sums()
        self._summed: dict[tuple[int, str], Slice] = {}
        """What is in it."""
        self._now = 0

    def take(self, worker: str, told: Mapping[str, Any]) -> None:
        """A worker's slice as it is now, in place of what it was."""
        one = Slice.of(told)
        self._slices.setdefault(one.index, {})[worker] = one
        self._points.pop(one.index, None)
        before = self._summed.get((one.index, worker))
        if before is not None:
            self._older.add(before, -1)
            self._older.add(one)
            self._summed[one.index, worker] = one

    async def settle(self) -> None:
        """Work out points ahead, a slice at a time, so that others are served in between."""
        for index in list(self._slices):
            if index not in self._points and index in self._slices:
                self._points[index] = _points_of(index, self._slices[index].values())
                await asyncio.sleep(0)

    def _slide(self, now: int) -> None:
        """Let go of what is too old, and sum what is older than a minute."""
        if now < self._now:  # a clock that was put back
            self._older, self._summed = Sums(), {}
        self._now = now
        for index in [one for one in self._slices if one <= now - SLICES]:
            for worker in self._slices.pop(index):
                gone = self._summed.pop((index, worker), None)
                if gone is not None:
                    self._older.add(gone, -1)
            self._points.pop(index, None)
        for index, row in self._slices.items():
            if index < now - MINUTE:
                for worker, one in row.items():
                    if (index, worker) not in self._summed:
                        self._summed[index, worker] = one
                        self._older.add(one)

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
        self._slide(now)
        recent, before = Sums(), self._older
        for index in range(now - MINUTE, now + 1):
            for one in self._slices.get(index, {}).values():
                recent.add(one)
        usual = before.plus(recent)
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
            "policies": usual.policy_rows(),
            "origins": state_view.origins(states),
            "credentials": state_view.credentials(states),
            "common_mode": state_view.common_mode(states),
            "overload": state_view.overload(states),
        }


def _points_of(index: int, slices: Iterable[Slice]) -> dict[str, list[Any]]:
    sums = Sums()
    for one in slices:
        sums.add(one)
    found: dict[str, list[Any]] = {}
    for target, (finished, censored) in sums.latency.items():
        count = sum(finished.values()) + sum(censored.values())
        if count:
            shares = [quantile_ms(finished, censored, share) for share in SHARES]
            found[target] = [index * SLICE_S, count, *shares]
    return found
