"""The comparison of an experiment's arms as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from relay.observability.experiments.compare import METRICS, Arm, Comparison, Metric
from relay.observability.experiments.copies import MEASURES, CopyReport
from relay.observability.experiments.estimates import Difference, Estimate
from relay.observability.experiments.rows import Notes
from relay.observability.report.blocks import Block, Grid, Heading, Items, Words
from relay.observability.report.words import NOTHING, count, lines


def page(found: Sequence[Comparison], notes: Notes) -> list[Block]:
    """All of them, one after the other."""
    blocks: list[Block] = [Heading("Experiments", 1)]
    if not found:
        blocks.append(Words("No answer of an experiment is in the range."))
    for one in found:
        blocks += _of_one(one)
    said = []
    if notes.unreadable:
        said.append(f"{lines(notes.unreadable)} of the log could not be read.")
    if notes.sampled:
        said.append(f"{lines(notes.sampled)} of the log stand for several answers each.")
    if notes.open:
        said.append(f"{count(notes.open)} generations of the range are not over, and not counted.")
    if said:
        blocks += [Heading("Sources"), Items(said)]
    return blocks


def copies_page(found: Sequence[CopyReport], confidence: float) -> list[Block]:
    """Of shadows, one after the other."""
    blocks: list[Block] = [Heading("Shadows", 1)]
    if not found:
        blocks.append(Words("No copy is in the range."))
    for one in found:
        rows = []
        for name, label in MEASURES.items():
            value: Estimate | None = getattr(one, name)
            if value is not None:
                low, high = (NOTHING if end is None else f"{end:,.3f}" for end in value[1:3])
                rows.append((label, f"{value.value:,.3f}", f"{low} to {high}"))
        blocks += [
            Heading(one.name),
            Words(
                f"{count(one.copies)} copies, each beside its original; bounds are those of"
                f" {_percent(confidence, 0)} confidence."
            ),
            Grid(("", "value", "bounds"), rows),
        ]
        if one.reasons:
            blocks.append(Words(f"Failures: {_shares(one.reasons)}."))
    return blocks


def _of_one(one: Comparison) -> Iterator[Block]:
    yield Heading(one.name)
    yield Words(
        f"{_moment(one.first_us)} to {_moment(one.last_us)} (UTC). Bounds are those of"
        f" {_percent(one.confidence, 0)} confidence, each by itself, with units (users, sessions,"
        " ...) as what is independent."
    )
    yield Items(list(_remarks(one)))
    yield Grid(
        ("arm", "units", "answers", "refused", "rated", "finished"),
        [
            (
                f"{arm.name} (control)" if arm.is_control else arm.name,
                count(arm.units),
                count(arm.answers),
                count(arm.refused),
                count(arm.rated),
                _shares(arm.finishes) or NOTHING,
            )
            for arm in one.arms
        ],
    )
    yield Grid(
        ("", *(arm.name for arm in one.arms)),
        [
            (_named(metric), *(_estimate(metric, arm.estimates[metric.name]) for arm in one.arms))
            for metric in METRICS
        ],
    )
    for arm in one.arms[1:]:
        yield Heading(f"{arm.name} against {one.arms[0].name}", 3)
        yield Grid(
            ("", "difference", "bounds", "p", "p, corrected", "says"),
            [_difference(metric, arm) for metric in METRICS if arm.differences[metric.name]],
        )
        if arm.reasons:
            yield Words(f"Failures of {arm.name}: {_shares(arm.reasons)}.")


def _remarks(one: Comparison) -> Iterator[str]:
    if one.is_mismatched:
        yield (
            f"SAMPLE RATIO MISMATCH: units are not divided as the weights say (p ="
            f" {_p(one.mismatch_p)}). Weights that were changed, an arm that was stopped, or an arm"
            " whose answers are lost do that. Do not believe the numbers before it is explained."
        )
    elif one.mismatch_p is not None:
        yield f"Units are divided as the weights say (chi square, p = {_p(one.mismatch_p)})."
    elif not one.weights:
        yield "Whether units are divided as the weights say needs the file: -c relay.yaml."
    else:
        yield "There are too few units to say whether they are divided as the weights say."
    if one.crossed:
        yield (
            f"{count(one.crossed)} units were in more than one arm: weights were changed, or an arm"
            " was stopped. Each counts in both."
        )
    if one.lone:
        yield f"{count(one.lone)} answers are of requests that did not say whose they are."
    if one.comparisons:
        yield (
            f"p is corrected for {one.comparisons} comparisons (Holm). It is to be looked at once,"
            " at an end that was set before: who looks every day finds something. What is looked at"
            " all the time is the guard rails."
        )


def _named(metric: Metric) -> str:
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def _estimate(metric: Metric, found: Estimate | None) -> str:
    if found is None:
        return NOTHING
    bounds = _bounds(metric, found.low, found.high)
    shown = _value(metric, found.value)
    return f"{shown} ({bounds})" if bounds else shown


def _difference(metric: Metric, arm: Arm) -> tuple[str, ...]:
    found = arm.differences[metric.name]
    if found is None:
        return (_named(metric), *[NOTHING] * 5)
    adjusted = arm.adjusted_p.get(metric.name)
    return (
        _named(metric),
        _signed(metric, found.value),
        _bounds(metric, found.low, found.high, is_signed=True) or NOTHING,
        _p(found.p),
        _p(adjusted),
        _verdict(metric, found),
    )


def _verdict(metric: Metric, found: Difference) -> str:
    """By the bounds alone: p of ranks is of another question."""
    if found.low is None or found.high is None or found.low <= 0 <= found.high:
        return "no difference is shown"
    is_less = found.high < 0
    return "better" if is_less == metric.is_less_better else "worse"


def _bounds(
    metric: Metric, low: float | None, high: float | None, *, is_signed: bool = False
) -> str:
    if low is None and high is None:
        return ""
    write = _signed if is_signed else _value
    ends = [NOTHING if end is None else write(metric, end) for end in (low, high)]
    return " to ".join(ends)


def _value(metric: Metric, value: float) -> str:
    if metric.kind == "share":
        return f"{100 * value:.2f}"
    if metric.name == "score":
        return f"{value:.3f}"
    return f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def _signed(metric: Metric, value: float) -> str:
    shown = _value(metric, value)
    return shown if value < 0 else f"+{shown}"


def _p(value: float | None) -> str:
    if value is None:
        return NOTHING
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _percent(value: float, digits: int) -> str:
    return f"{100 * value:.{digits}f} %"


def _shares(counts: Mapping[str, float]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{name} {_percent(value / total, 1)}" for name, value in counts.items())


def _moment(at_us: int | None) -> str:
    if at_us is None:
        return NOTHING
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
