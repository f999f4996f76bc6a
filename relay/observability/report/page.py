"""A report as a page: what stands in which order, and what is said of what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from relay.observability.report import words
from relay.observability.report.blocks import (
    Block,
    Grid,
    Heading,
    Items,
    Plot,
    Series,
    Words,
)
from relay.observability.report.build import Kept, Part, Report, Totals
from relay.observability.report.calendar import Calendar
from relay.observability.report.objectives import LEAST, Burn
from relay.observability.report.scorecard import Score
from relay.observability.report.sketch import FEW
from relay.observability.report.waits import Waits

MOST_PLOTTED: Final = 6
MOST_TARGETS: Final = 40
MOST_DAYS: Final = 92
"""With more of them plots are by week."""


def page(report: Report) -> list[Block]:
    """All of it."""
    calendar = Calendar(report.settings.where)
    begin, end = calendar.text(report.since_us), calendar.text(report.until_us)
    blocks: list[Block] = [
        Heading(title(report), 1),
        Words(f"From {begin} to {end}, {report.settings.where.key}; weeks begin on Monday."),
    ]
    if not report.whole.totals.generations:
        blocks.append(Words("There is no generation in this range."))
        return [*blocks, *_missing(report)]
    blocks += [Items(list(_short(report))), *_budget(report, calendar), *_weeks(report)]
    blocks += [*_providers(report), *_dead_air(report), *_hedges(report), *_groups(report)]
    return [*blocks, *_missing(report)]


def title(report: Report) -> str:
    """Of the page."""
    calendar = Calendar(report.settings.where)
    last_us = max(report.since_us, report.until_us - 1)
    return f"Relay report, {calendar.day(report.since_us)} to {calendar.day(last_us)}"


def _short(report: Report) -> Iterator[str]:
    totals, curve = report.whole.totals, report.whole.curve
    yield (
        f"{words.count(totals.generations)} generations: {words.count(totals.failed)} failed,"
        f" {words.count(totals.refused)} were refused for what was asked,"
        f" {words.count(totals.left)} were left by their clients"
        + (f", {totals.abandoned} ended with their worker" if totals.abandoned else "")
        + "."
    )
    p50, p95, p99 = (words.quantile(curve, share) for share in (0.5, 0.95, 0.99))
    yield f"First content: p50 {p50}, p95 {p95}, p99 {p99}."
    for kept in report.kept:
        if kept.burnt is None:
            yield f"{_named(kept)}: nothing counts for it."
        else:
            yield (
                f"{_named(kept)}: {words.percent(kept.share, 2)} kept it,"
                f" {words.percent(kept.burnt)} of the error budget is burnt."
            )
    found = report.whole.bought
    yield (
        f"Dead air (beyond {report.settings.dead_air_ms:,.0f} ms):"
        f" {_dead(found.dead, found.counted)} of waits, {words.length(found.dead_us)};"
        f" without hedges {_about(report.whole)}{_dead(found.dead_before, found.counted)},"
        f" {words.length(found.dead_before_us)}."
    )
    waits = report.whole.totals.waits
    if waits.hedged:
        yield (
            f"Hedges: {words.count(waits.hedged)} sent, {words.count(waits.hedge_won)} answered;"
            f" they cost {_extra(waits)} and saved"
            f" {_about(report.whole)}{words.length(found.saved_us)} of waiting."
        )
    else:
        yield "Hedges: none was sent."
    yield f"Cost: {words.money(totals.cost_micro, totals.unpriced)}."


def _named(kept: Kept) -> str:
    one = kept.objective
    of = f" of {', '.join(one.aliases)}" if one.aliases else ""
    return f"{one.name} ({one.percent:g} %{of} within {one.within_ms:,.0f} ms)"


def _dead(part: float, of: int) -> str:
    return words.percent(part / of if of else None, 2)


def _extra(waits: Waits) -> str:
    if waits.extra_unpriced and not waits.extra_micro:
        return "what nobody knows (no price)"
    return words.money(waits.extra_micro, waits.extra_unpriced)


def _about(part: Part) -> str:
    return "about " if part.bought.estimated else ""


# --- error budget ---------------------------------------------------------------------------


def _budget(report: Report, calendar: Calendar) -> Iterator[Block]:
    yield Heading("Error budget")
    if not report.kept:
        yield Words(
            "No objective is set: give objectives in the configuration, or --objective and"
            " --within."
        )
        return
    rows = [
        (
            _named(kept),
            words.count(kept.good + kept.bad),
            words.count(kept.bad),
            words.percent(kept.share, 3),
            words.count((kept.good + kept.bad) * kept.objective.budget_share),
            words.percent(kept.burnt),
        )
        for kept in report.kept
    ]
    headers = ("objective", "count", "missed", "kept", "budget", "burnt")
    yield Grid(headers, rows)
    labels, parts = _spans(report)
    series = []
    for kept in report.kept:
        total = kept.good + kept.bad
        allowed = total * kept.objective.budget_share
        missed = 0
        left: list[float | None] = []
        for part in parts:
            missed += part.bad[kept.objective.name]
            left.append(100.0 * (1 - missed / allowed) if allowed else None)
        series.append(Series(kept.objective.name, left))
    yield Plot("Error budget left", "% of that of the whole range", labels, series)
    yield Heading("Burn rates", 3)
    yield Words(
        "A rate of 1 spends the budget of a stretch in that stretch. Two windows must both be over,"
        " so that it matters and still goes on (Google, The Site Reliability Workbook, chapter 5)."
    )
    pairs = [(kept, burn, _burn(burn, calendar)) for kept in report.kept for burn in kept.burns]
    yield Grid(
        ("objective", "windows", "told", "over", "times", "worst", "when", "at the end"),
        [(kept.objective.name, *cells) for kept, _, cells in pairs],
        words=3,
    )


def _burn(burn: Burn, calendar: Calendar) -> Sequence[str]:
    window = burn.window
    name = f"{_minutes(window.long_min)} and {_minutes(window.short_min)} over {window.burn:g}x"
    if not burn.judged_min:
        return (name, window.told, "not judged", "-", "-", "-", words.rate(burn.last))
    at = "-" if burn.worst_at_us is None or not burn.worst else calendar.text(burn.worst_at_us)
    return (
        name,
        window.told,
        words.length(burn.held_min * 60e6) if burn.held_min else "never",
        words.count(burn.episodes),
        words.rate(burn.worst),
        at,
        words.rate(burn.last),
    )


def _minutes(minutes: int) -> str:
    if minutes % 1440 == 0:
        return f"{minutes // 1440} d"
    return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"


def _spans(report: Report) -> tuple[list[str], list[Totals]]:
    if len(report.days) <= MOST_DAYS:
        return [f"{day:%m-%d}" for day, _ in report.days], [part for _, part in report.days]
    return [f"{day}" for day, _ in report.weeks], [part.totals for _, part in report.weeks]


# --- weeks ----------------------------------------------------------------------------------


def _weeks(report: Report) -> Iterator[Block]:
    yield Heading("Week by week")
    names = [kept.objective.name for kept in report.kept]
    rows = []
    for monday, part in report.weeks:
        totals, found = part.totals, part.bought
        kept = []
        for name in names:
            good, bad = totals.good[name], totals.bad[name]
            kept.append(words.percent(good / (good + bad) if good + bad else None, 2))
        rows.append(
            (
                str(monday),
                words.count(totals.generations),
                words.count(totals.failed),
                *kept,
                *(words.quantile(part.curve, share) for share in (0.5, 0.95, 0.99)),
                _dead(found.dead, found.counted),
                words.length(found.dead_us),
                words.money(totals.cost_micro, totals.unpriced),
            )
        )
    kept_headers = [f"{name} kept" for name in names]
    yield Grid(
        (
            "week",
            "generations",
            "failed",
            *kept_headers,
            "p50",
            "p95",
            "p99",
            "dead",
            "dead air",
            "cost",
        ),
        rows,
    )
    labels, parts = _spans(report)
    curves = [part.ttft.curve() for part in parts]
    series = [
        Series(
            name,
            [
                None if (value := curve.quantile_us(wanted)) is None else value / 1000
                for curve in curves
            ],
        )
        for name, wanted in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    ]
    yield Plot("Time to first content", "ms", labels, series)


# --- providers ------------------------------------------------------------------------------


def _providers(report: Report) -> Iterator[Block]:
    yield Heading("Providers")
    yield Grid(_ANSWERS, [_answers(name, score) for name, score in report.providers])
    yield Grid(_HEDGED, [_hedged(name, score) for name, score in report.providers])
    mondays = [monday for monday, _ in report.weeks]
    plotted = [name for name, _ in report.providers[:MOST_PLOTTED]]
    series = []
    for name in plotted:
        values: list[float | None] = []
        for monday in mondays:
            sketch = report.weekly.get((monday, name))
            value_us = None if sketch is None else sketch.quantile_us(0.95)
            values.append(None if value_us is None else value_us / 1000)
        series.append(Series(name, values))
    yield Plot("p95 of first contents by provider", "ms", [str(each) for each in mondays], series)
    yield Heading("Targets", 3)
    yield Grid(
        ("target", *_ANSWERS[1:]),
        [_answers(name, score) for name, score in report.targets[:MOST_TARGETS]],
    )
    if (more := len(report.targets) - MOST_TARGETS) > 0:
        yield Words(f"{more} more targets are in --json.")


_ANSWERS: Final = (
    "provider",
    "attempts",
    "availability",
    "p50",
    "p95",
    "p99",
    "failed",
    "truncated",
    "too busy",
    "429",
    "rejected",
    "left",
)


def _answers(name: str, score: Score) -> Sequence[str]:
    curve = score.ttft.curve()
    return (
        name,
        words.count(score.attempts),
        words.share(score.availability),
        *(words.quantile(curve, wanted) for wanted in (0.5, 0.95, 0.99)),
        words.count(score.failed),
        words.count(score.truncated),
        words.count(score.refused),
        words.count(score.rate_limited),
        words.count(score.rejected),
        words.count(score.left),
    )


_HEDGED: Final = (
    "provider",
    "answers",
    "hedges here",
    "won",
    "lost",
    "outrun by a hedge",
    "cost",
    "at most",
    "per 1k answers",
)


def _hedged(name: str, score: Score) -> Sequence[str]:
    return (
        name,
        words.count(score.wins),
        words.count(score.hedges),
        words.count(score.hedges_won),
        words.count(score.hedges_lost),
        words.count(score.outrun),
        words.money(score.cost_micro, score.unpriced),
        words.money(score.upper_micro, score.unpriced),
        words.money(score.cost_per_1k_micro, score.unpriced),
    )


# --- dead air, and hedges -------------------------------------------------------------------


def _dead_air(report: Report) -> Iterator[Block]:
    yield Heading("Dead air")
    yield Words(
        f"What clients waited for a first content beyond {report.settings.dead_air_ms:,.0f} ms, as"
        " it was, and as it would have been without hedges."
    )
    parts = [(str(monday), part) for monday, part in report.weeks]
    rows = []
    for name, part in (*parts, ("all", report.whole)):
        found = part.bought
        of_wait = found.dead_us / found.waited_us if found.waited_us else None
        rows.append(
            (
                name,
                words.count(found.counted),
                words.count(found.dead),
                _dead(found.dead, found.counted),
                _dead(found.dead_before, found.counted),
                words.length(found.dead_us),
                words.length(found.dead_before_us),
                words.percent(of_wait),
            )
        )
    yield Grid(
        (
            "week",
            "waits",
            "dead",
            "share",
            "without hedges",
            "dead air",
            "without hedges",
            "of all waiting",
        ),
        rows,
    )
    before: list[float | None] = []
    after: list[float | None] = []
    for _, part in parts:
        found = part.bought
        before.append(100 * found.dead_before / found.counted if found.counted else None)
        after.append(100 * found.dead / found.counted if found.counted else None)
    labels = [name for name, _ in parts]
    series = [Series("without hedges", before), Series("as it was", after)]
    yield Plot("Waits with dead air", "% of waits", labels, series, "bars")


def _hedges(report: Report) -> Iterator[Block]:
    yield Heading("Hedge money")
    parts = [(str(monday), part) for monday, part in report.weeks]
    yield Grid(
        (
            "week",
            "hedged",
            "won",
            "spent",
            "at most",
            "waiting saved",
            "dead air avoided",
            "per minute saved",
            "estimated",
            "not rated",
        ),
        [_spent(name, part) for name, part in (*parts, ("all", report.whole))],
    )
    if not report.whole.totals.waits.hedged:
        return
    labels = [name for name, _ in parts]
    spent = [part.totals.waits.extra_micro / 1e6 for _, part in parts]
    saved = [part.bought.saved_us / 60e6 for _, part in parts]
    yield Plot("Spent on hedges", "$", labels, [Series("spent", spent)], "bars")
    yield Plot("Waiting saved by hedges", "minutes", labels, [Series("saved", saved)], "bars")


def _spent(name: str, part: Part) -> Sequence[str]:
    waits, found = part.totals.waits, part.bought
    minutes = found.saved_us / 60e6
    per_minute = waits.extra_micro / minutes if minutes >= 0.1 else None
    return (
        name,
        words.count(waits.hedged),
        words.count(waits.hedge_won),
        words.money(waits.extra_micro, waits.extra_unpriced),
        words.money(waits.extra_upper_micro, waits.extra_unpriced),
        words.length(found.saved_us),
        words.length(max(0.0, found.dead_before_us - found.dead_us)),
        words.money(per_minute, waits.extra_unpriced),
        words.count(found.estimated),
        words.count(found.unrated),
    )


# --- groups, and what is missing ------------------------------------------------------------


def _groups(report: Report) -> Iterator[Block]:
    by = report.settings.by
    if not by:
        return
    yield Heading(f"By {by}")
    names = [kept.objective.name for kept in report.kept]
    rows = []
    for part in report.groups:
        totals, found = part.totals, part.bought
        kept = []
        for name in names:
            good, bad = totals.good[name], totals.bad[name]
            kept.append(words.percent(good / (good + bad) if good + bad else None, 2))
        waits = totals.waits
        rows.append(
            (
                part.name,
                words.count(totals.generations),
                words.count(totals.failed),
                *kept,
                *(words.quantile(part.curve, share) for share in (0.5, 0.95, 0.99)),
                _dead(found.dead, found.counted),
                words.length(found.dead_us),
                words.length(found.dead_before_us),
                words.money(waits.extra_micro, waits.extra_unpriced),
                words.money(totals.cost_micro, totals.unpriced),
            )
        )
    yield Grid(
        (
            by,
            "generations",
            "failed",
            *(f"{name} kept" for name in names),
            "p50",
            "p95",
            "p99",
            "dead",
            "dead air",
            "without hedges",
            "hedge money",
            "cost",
        ),
        rows,
    )


def _missing(report: Report) -> Iterator[Block]:
    yield Heading("What this rests on")
    yield Items(list(_notes(report)))


def _notes(report: Report) -> Iterator[str]:
    totals, found, notes = report.whole.totals, report.whole.bought, report.notes
    calendar = Calendar(report.settings.where)
    day_us = 86_400_000_000
    if report.first_us is not None and report.first_us - report.since_us > day_us:
        yield f"There is nothing before {calendar.text(report.first_us)}: the range is not full."
    if report.last_us is not None and report.until_us - report.last_us > day_us:
        yield f"There is nothing after {calendar.text(report.last_us)}."
    if notes.open:
        yield f"{words.count(notes.open)} generations are not over, and in none of the numbers."
    if notes.unreadable:
        yield f"{words.lines(notes.unreadable)} of the log could not be read."
    if not notes.has_teams:
        yield (
            "From a log: costs are estimates, and generations that were not logged are not counted."
        )
    if notes.sampled:
        yield (
            f"{words.count(notes.sampled)} lines of a sampled log stand for"
            f" {words.count(notes.stand_for)} generations: sums are estimates, and bounds and what"
            " counts as few take each of these for one that was seen."
        )
    if totals.abandoned:
        yield (
            f"{words.count(totals.abandoned)} generations ended with their worker: what their"
            " clients saw is not known, and they count for no objective and no wait."
        )
    if totals.unpriced:
        yield (
            f"{words.count(totals.unpriced)} attempts have no price: sums of money are at least"
            " what is shown."
        )
    estimated = sum(score.estimated_micro for _, score in report.providers)
    if estimated:
        yield (
            f"{words.money(estimated)} of {words.money(totals.cost_micro)} is an estimate; all"
            f" of it is at most {words.money(totals.upper_micro)}."
        )
    if 0 < totals.ttft.known < FEW:
        yield f"There are {totals.ttft.known} first contents: under {FEW} a p99 is a guess (~)."
    few = [name for name, score in report.providers if score.ttft.known < FEW]
    if few and totals.ttft.known >= FEW:
        yield f"Under {FEW} first contents each: {', '.join(few)}."
    for kept in report.kept:
        unjudged = [_minutes(burn.window.long_min) for burn in kept.burns if not burn.judged_min]
        if unjudged:
            yield (
                f"{kept.objective.name}: windows of {', '.join(unjudged)} are not judged: the range"
                f" is shorter, or they never had {LEAST} generations."
            )
    if found.estimated:
        yield (
            f"What {words.count(found.estimated)} hedges saved is estimated: the first attempt was"
            " cancelled, and would have taken what its target's other attempts of that age took,"
            " prompts and slow episodes left aside."
        )
    if found.unrated:
        yield (
            f"Of {words.count(found.unrated)} hedges that answered nobody can say what they saved"
            f" (under {FEW} first contents of the first target): they count as having saved"
            " nothing."
        )
    yield (
        "Percentiles are within 1 %. ~: few samples. >: longer than all that was waited for. Bounds"
        " of an availability hold 95 times of 100 (Wilson)."
    )
