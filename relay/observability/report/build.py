"""A report out of a stream of generations, in memory that does not grow with their number.

    builder = Builder(Settings(objectives=(...,)))
    for generation in source:
        builder.add(generation)
    report = builder.done(since_us, until_us)

What is kept grows with days, weeks, targets and groups alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, Literal, TypeVar
from zoneinfo import ZoneInfo

from relay.observability.report.calendar import Calendar
from relay.observability.report.minutes import MinuteCounts
from relay.observability.report.objectives import Burn, Objective, burns
from relay.observability.report.rows import ABANDONED, CALLERS, Generation, SourceNotes, joined
from relay.observability.report.scorecard import Score
from relay.observability.report.sketch import FEW, Curve, Sketch
from relay.observability.report.waits import Bought, Waits, bought

_Name = TypeVar("_Name")
By = Literal["", "alias", "team", "key"]
MAX_GROUPS: Final = 50
MAX_TARGETS: Final = 500
MAX_SPAN: Final = 4000
"""Days or weeks in a row; a line with a wrong date makes no plot of fifty years."""
OTHERS: Final = "(others)"
DEAD_AIR_MS: Final = 1500.0
"""As `relay replay` counts it, but of the first content and not of the first words."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked for."""

    objectives: tuple[Objective, ...] = ()
    dead_air_ms: float = DEAD_AIR_MS
    by: By = ""
    where: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    """Whose days and weeks."""


@dataclass(slots=True)
class Totals:
    """Of a part of the generations: all, a week, a day, a group."""

    generations: int = 0
    failed: int = 0
    refused: int = 0
    """For what was asked, or what its caller may (`rows.CALLERS`): no failures."""
    left: int = 0
    """The client went, before or in the midst of the answer."""
    abandoned: int = 0
    """Their worker died."""
    ttft: Sketch = field(default_factory=Sketch)
    waits: Waits = field(default_factory=Waits)
    good: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    """By objective."""
    cost_micro: int = 0
    upper_micro: int = 0
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """`Totals` with what hedges bought resolved."""

    name: str
    totals: Totals
    bought: Bought
    curve: Curve


@dataclass(frozen=True, slots=True)
class Kept:
    """One objective over the range."""

    objective: Objective
    good: int
    bad: int
    burns: tuple[Burn, ...]

    @property
    def share(self) -> float | None:
        """Of those that count, the good ones."""
        total = self.good + self.bad
        return self.good / total if total else None

    @property
    def burnt(self) -> float | None:
        """Of the error budget of the range; over 1: more than there was."""
        total = self.good + self.bad
        return self.bad / (total * self.objective.budget_share) if total else None


@dataclass(frozen=True, slots=True)
class Report:
    """All that is told."""

    settings: Settings
    since_us: int
    until_us: int
    first_us: int | None
    """The first generation; None without any."""
    last_us: int | None
    whole: Part
    weeks: tuple[tuple[date, Part], ...]
    days: tuple[tuple[date, Totals], ...]
    groups: tuple[Part, ...]
    """Of `settings.by`; the most generations first."""
    kept: tuple[Kept, ...]
    providers: tuple[tuple[str, Score], ...]
    """The most attempts first."""
    targets: tuple[tuple[str, Score], ...]
    weekly: Mapping[tuple[date, str], Sketch]
    """Times to first content by week and provider."""
    notes: SourceNotes


class Builder:
    """See the module."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._calendar = Calendar(settings.where)
        self._threshold_us = round(settings.dead_air_ms * 1000)
        self._whole = Totals()
        self._weeks: dict[date, Totals] = {}
        self._days: dict[date, Totals] = {}
        self._groups: dict[str, Totals] = {}
        self._minutes = {one.name: MinuteCounts() for one in settings.objectives}
        self._scores: dict[str, Score] = {}
        self._sketches: dict[tuple[date, str], Sketch] = {}
        """By week and target."""
        self._first_us: int | None = None
        self._last_us: int | None = None

    def add(self, one: Generation) -> None:
        """Count one generation; in any order."""
        at_us = one.received_us
        if self._first_us is None or at_us < self._first_us:
            self._first_us = at_us
        if self._last_us is None or at_us > self._last_us:
            self._last_us = at_us
        week, day = self._calendar.week(at_us), self._calendar.day(at_us)
        tried = list(joined(one.tried))
        parts = [self._whole, _of(self._weeks, week), _of(self._days, day)]
        if self.settings.by:
            parts.append(self._group(one))
        for part in parts:
            _count(part, one)
            part.waits.add(one, tried, self._threshold_us)
        for objective in self.settings.objectives:
            verdict = objective.verdict(one)
            if verdict is not None:
                self._minutes[objective.name].add(at_us, verdict, one.times)
                for part in parts:
                    (part.good if verdict else part.bad)[objective.name] += one.times
        is_hedge_won = any(each.is_winner and each.role == "hedge" for each in tried)
        for each in tried:
            target = each.target
            if target not in self._scores and len(self._scores) >= MAX_TARGETS:
                target = f"{each.provider}/{OTHERS}"
            score = self._scores.get(target)
            if score is None:
                score = self._scores[target] = Score()
            score.add(each, is_hedge_won=is_hedge_won, times=one.times)
            key = (week, target)
            sketch = self._sketches.get(key)
            if sketch is None:
                sketch = self._sketches[key] = Sketch()
            if each.first_us is not None:
                sketch.add(each.first_us, one.times)
            elif each.outcome == "ignored":
                sketch.add_censored(max(0, each.ended_us - each.started_us), one.times)

    @property
    def last_us(self) -> int | None:
        """When the latest generation was received; None without any."""
        return self._last_us

    def _group(self, one: Generation) -> Totals:
        name: str = getattr(one, self.settings.by) or "-"
        if name not in self._groups and len(self._groups) >= MAX_GROUPS:
            name = OTHERS
        return _of(self._groups, name)

    def done(self, since_us: int | None, until_us: int, notes: SourceNotes) -> Report:
        """
        Args:
            since_us: the range that was asked for; None: from the first generation on.
            until_us: its end; what is later was not given to `add`.
        """
        first_us = self._first_us
        begin_us = (
            since_us if since_us is not None else (until_us if first_us is None else first_us)
        )
        burning_us = begin_us if first_us is None else max(begin_us, first_us)
        providers: dict[str, Score] = {}
        weekly: dict[tuple[date, str], Sketch] = {}
        for target, score in self._scores.items():
            providers.setdefault(target.partition("/")[0], Score()).merge(score)
        for (week, target), sketch in self._sketches.items():
            weekly.setdefault((week, target.partition("/")[0]), Sketch()).merge(sketch)
        return Report(
            self.settings,
            begin_us,
            until_us,
            first_us,
            self._last_us,
            self._weekly_part("all"),
            tuple(
                (week, self._part(str(week), self._weeks.get(week) or Totals(), week))
                for week in _unbroken(self._weeks, 7)
            ),
            tuple((day, self._days.get(day) or Totals()) for day in _unbroken(self._days, 1)),
            self._grouped(notes),
            tuple(self._kept(one, burning_us, until_us) for one in self.settings.objectives),
            _most(providers),
            _most(self._scores),
            weekly,
            notes,
        )

    def _weekly_part(self, name: str) -> Part:
        """The whole as the sum of its weeks: each by what its own week knows."""
        found = [self._part("", totals, week).bought for week, totals in self._weeks.items()]
        if not found:
            return self._part(name, self._whole, None)
        added = Bought(*(sum(column) for column in zip(*found, strict=True)))
        return Part(name, self._whole, added, self._whole.ttft.curve())

    def _part(self, name: str, totals: Totals, week: date | None) -> Part:
        def curve_of(target: str) -> Curve | None:
            sketch = None if week is None else self._sketches.get((week, target))
            if sketch is None or sketch.known < FEW:
                score = self._scores.get(target)
                sketch = None if score is None else score.ttft
            return None if sketch is None or sketch.known < FEW else sketch.curve()

        resolved = bought(totals.waits, curve_of, self._threshold_us)
        return Part(name, totals, resolved, totals.ttft.curve())

    def _grouped(self, notes: SourceNotes) -> tuple[Part, ...]:
        ordered = sorted(self._groups.items(), key=lambda row: (-row[1].generations, row[0]))
        return tuple(
            self._part(notes.names.get(name, name), totals, None) for name, totals in ordered
        )

    def _kept(self, objective: Objective, since_us: int, until_us: int) -> Kept:
        counts = self._minutes[objective.name]
        return Kept(
            objective,
            self._whole.good[objective.name],
            self._whole.bad[objective.name],
            tuple(burns(objective, counts, since_us, until_us)),
        )


def _of(found: dict[_Name, Totals], name: _Name) -> Totals:
    totals = found.get(name)
    if totals is None:
        totals = found[name] = Totals()
    return totals


def _unbroken(found: Mapping[date, Totals], step_days: int) -> list[date]:
    """Days, or Mondays, with those between them on which there was nothing; of ages without
    anything only those that are there."""
    if not found:
        return []
    first, last = min(found), max(found)
    count = (last - first).days // step_days + 1
    if count > MAX_SPAN:
        return sorted(found)
    return [first + timedelta(days=step_days * index) for index in range(count)]


def _most(scores: Mapping[str, Score]) -> tuple[tuple[str, Score], ...]:
    return tuple(sorted(scores.items(), key=lambda row: (-row[1].attempts, row[0])))


def _count(part: Totals, one: Generation) -> None:
    times = one.times
    part.generations += times
    if one.reason == "CLIENT_CANCELLED":
        part.left += times
    elif one.reason == ABANDONED:
        part.abandoned += times
    elif one.reason in CALLERS:
        part.refused += times
    elif one.reason:
        part.failed += times
    if one.ttft_us is not None:
        part.ttft.add(one.ttft_us, times)
    for each in one.tried:
        if each.cost_micro is None:
            part.unpriced += times
        else:
            upper_micro = each.cost_micro if each.upper_micro is None else each.upper_micro
            part.cost_micro += times * each.cost_micro
            part.upper_micro += times * upper_micro
