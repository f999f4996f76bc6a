"""`relay replay`: what another policy would have done, from the relay's own log.

The recorded requests are played again, in their order and at their times, through the planner and
the race that serve, under the policy's file. A target that was asked does again what it did; one
that was not is drawn from all that the log shows of it. Several replays with other draws say how
much of the answer is chance.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relay.config import ConfigError, load
from relay.routing.catalog import Catalog
from relay.whatif.draws import Draws, TooFewSamples
from relay.whatif.figures import DEAD_AIR_S, Figures, of_log, of_replay
from relay.whatif.recorded import SPEAKABLE_TOKENS, Log, read_log
from relay.whatif.simulation import simulate

FEW_FOR_P999: Final = 10_000
"""Fewer requests have less than ten beyond their p99.9."""


_PLACEHOLDER: Final = "placeholder-0123456789-ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class ReplayError(Exception):
    """The log cannot answer; the message says why."""


class _Placeholders(dict[str, str]):
    """The environment, with a word for what is not set: nothing is sent, so no key is needed.
    The word would be taken for a pepper too."""

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key) or _PLACEHOLDER


class Answer(NamedTuple):
    """Of one alias."""

    alias: str
    before: Figures
    """As recorded."""
    after: Figures
    """Under the policy: the median of the replays, figure by figure."""
    low: Figures
    high: Figures
    """The extreme replays, figure by figure."""


class Answers(NamedTuple):
    """What the log says."""

    answers: tuple[Answer, ...]
    targets: dict[str, tuple[int, float]]
    """By name: first tokens in the log, and the share that is longer than any of them."""
    passed_over: int
    unknown: int
    """Requests for names that the policy does not know."""
    runs: int
    seed: int
    notes: tuple[str, ...] = ()
    """What was asked that cannot bring anything about."""

    def assumptions(self) -> list[str]:
        """What the answer rests on."""
        found = [
            "A target that was asked does again what it did; else its time is drawn from all that"
            " the log has of it, by the prompt's length, and its failures at their share. Draws"
            " are independent: slow episodes of a target that was not asked are spread out.",
            "Providers are not slowed by the extra requests, and callers speak when they did.",
            "The replay begins with nothing learnt, as a new worker does.",
            f"Dead air: the first {SPEAKABLE_TOKENS} tokens, coming evenly at the pace of their"
            f" answer, are later than {DEAD_AIR_S:g} s; unanswered requests count.",
            "Money before is as booked in the log, after as the policy's file prices it; attempts"
            " that lost are booked with their prompt, and in full where the provider is not known"
            " to stop.",
        ]
        open_ended = [name for name, (_, share) in self.targets.items() if share > 0.005]
        if open_ended:
            found.append(
                "Times longer than any that was waited for are put at the longest:"
                f" {', '.join(open_ended)} (slower than said)."
            )
        if any(answer.before.answered < FEW_FOR_P999 for answer in self.answers):
            found.append(f"With under {FEW_FOR_P999} answers a p99.9 is a rough figure.")
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "aliases": {
                one.alias: {
                    "before": one.before.to_dict(),
                    "after": one.after.to_dict(),
                    "low": one.low.to_dict(),
                    "high": one.high.to_dict(),
                }
                for one in self.answers
            },
            "targets": {
                name: {"first_tokens": samples, "longer_than_any": share}
                for name, (samples, share) in self.targets.items()
            },
            "notes": list(self.notes),
            "passed_over": self.passed_over,
            "unknown": self.unknown,
            "runs": self.runs,
            "seed": self.seed,
            "assumptions": self.assumptions(),
        }

    def show(self, console: Console) -> None:
        """For people."""
        for one in self.answers:
            title = f"{one.alias}: {one.before.requests} requests, {one.before.answered} answered"
            table = Table("", "recorded", "would be", "change", "replays", title=title)
            for row in _rows(one):
                table.add_row(*row)
            console.print(table)
        for note in self.notes:
            console.print(f"[yellow]note:[/yellow] {escape(note)}", highlight=False)
        for name, (samples, _) in self.targets.items():
            console.print(f"{name}: {samples} first tokens in the log", highlight=False)
        if self.passed_over:
            console.print(f"{self.passed_over} generations say nothing and are left out")
        if self.unknown:
            console.print(f"{self.unknown} requests are for names that the policy does not know")
        for text in self.assumptions():
            console.print(f"- {escape(text)}", highlight=False)


def replay(
    policy: Path, logs: Sequence[Path], *, alias: str | None, runs: int, seed: int
) -> Answers:
    """Answer from files.

    Args:
        alias: this one alone; None for every alias of the policy that was asked.
        runs: how many replays, each with draws of its own.

    Raises:
        ReplayError: the policy cannot be used, a log cannot be read, or the logs know too little.
    """
    try:
        catalog = Catalog(load(policy, _Placeholders(os.environ)))
    except ConfigError as error:
        faults = _with_unset(policy, str(error).splitlines())
        raise ReplayError("\n".join(f"--policy {policy}: {fault}" for fault in faults)) from error
    log = read_log(_lines(logs))
    if not log.requests:
        names = ", ".join(map(str, logs))
        why = f"; {log.passed_over} say nothing" if log.passed_over else ""
        raise ReplayError(
            f"--from {names}: there is no generation in the log{why} (it is what `relay serve`"
            " writes to standard error: relay serve 2> relay.log)"
        )
    return answer(catalog, log, alias=alias, runs=runs, seed=seed)


def _with_unset(policy: Path, faults: list[str]) -> list[str]:
    """Faults as `relay check` tells them: where a placeholder was at fault, that the variable is
    not set."""
    try:
        load(policy)
    except ConfigError as error:
        told = {line.partition(": ")[0]: line for line in str(error).splitlines()}
        return [told.get(fault.partition(": ")[0], fault) for fault in faults]
    return faults


def _lines(paths: Sequence[Path]) -> Iterator[bytes]:
    """
    Raises:
        ReplayError: a file cannot be read.
    """
    for path in paths:
        try:
            with path.open("rb") as lines:
                yield from lines
        except OSError as error:
            raise ReplayError(f"--from {path}: cannot be read: {error.strerror}") from error


def answer(catalog: Catalog, log: Log, *, alias: str | None, runs: int, seed: int) -> Answers:
    """Answer from a log that was read.

    Raises:
        ReplayError: it knows too little.
    """
    asked = {one.asked for one in log.requests}
    if not asked:
        raise ReplayError("there is no generation in the log")
    names = [name for name in catalog.routes if name in asked]
    if alias is not None:
        if alias not in catalog.routes:
            raise ReplayError(f"the policy has no alias {alias!r}")
        names = [name for name in names if name == alias]
    if not names:
        raise ReplayError(
            f"nobody asked for {alias or 'an alias of the policy'} in the log"
            f" (asked were: {', '.join(sorted(asked)[:5])})"
        )
    draws = Draws(log.requests)
    found: dict[str, list[Figures]] = {name: [] for name in names}
    used: dict[str, None] = {}
    played = 0
    try:
        for run in range(runs):
            replayed = simulate(catalog, log.requests, draws, seed=seed + run)
            played = len(replayed)
            for name in names:
                mine = [one for one in replayed if one.recorded.asked == name]
                found[name].append(of_replay(mine))
                used.update(
                    (f"{record.provider}/{record.model}", None)
                    for one in mine
                    for record in one.attempts
                )
    except TooFewSamples as error:
        raise ReplayError(str(error)) from error
    answers = tuple(
        Answer(
            name,
            of_log(one for one in log.requests if one.asked == name),
            _each(found[name], statistics.median),
            _each(found[name], min),
            _each(found[name], max),
        )
        for name in names
    )
    return Answers(
        answers=answers,
        targets={name: (draws.samples(name), draws.open_share(name)) for name in used},
        passed_over=log.passed_over,
        unknown=len(log.requests) - played,
        runs=runs,
        seed=seed,
        notes=_notes(answers, catalog),
    )


def _notes(answers: Sequence[Answer], catalog: Catalog) -> tuple[str, ...]:
    """Of aliases whose hedging was asked about with a policy that sends no hedges; not of those
    whose log has some, since what it was without them is a question too."""
    return tuple(
        f"{one.alias}: a policy of `mode: {mode}` sends no hedges, so hedging changes nothing here;"
        " `mode: active` is what to ask for"
        for one in answers
        if (mode := catalog.routes[one.alias].hedge.mode) == "shadow"
        or (
            mode == "disabled"
            and not one.before.hedges
            and len(catalog.routes[one.alias].candidates) > 1
        )
    )


def _each(figures: Sequence[Figures], pick: Any) -> Figures:
    """Figure by figure."""
    return Figures(*(pick(values) for values in zip(*figures, strict=True)))


def _rows(one: Answer) -> Iterator[tuple[str, str, str, str, str]]:
    """The table's rows: name, before, after, change, range of the replays."""
    before, after = one.before, one.after
    per_thousand = 1000 / max(1, before.requests)
    shown = (
        ("first token p50, s", "p50_s", 1.0, ".3f"),
        ("first token p95, s", "p95_s", 1.0, ".3f"),
        ("first token p99, s", "p99_s", 1.0, ".3f"),
        ("first token p99.9, s", "p999_s", 1.0, ".3f"),
        ("dead air, % of requests", "dead_air", 100.0, ".2f"),
        ("extra requests, %", "hedges", 100.0, ".2f"),
        ("failovers, %", "failovers", 100.0, ".2f"),
        ("answered", "answered", 1.0, ".0f"),
        ("money, $ per 1,000 requests", "cost", per_thousand, ".4f"),
        ("  at most", "cost_upper", per_thousand, ".4f"),
    )
    for name, figure, factor, form in shown:
        was, now = getattr(before, figure) * factor, getattr(after, figure) * factor
        low, high = getattr(one.low, figure) * factor, getattr(one.high, figure) * factor
        change = "" if not was or math.isnan(now - was) else f"{100 * (now - was) / was:+.1f} %"
        yield (
            name,
            _shown(was, form),
            _shown(now, form),
            change,
            "" if math.isnan(low) else f"{low:{form}} .. {high:{form}}",
        )


def _shown(value: float, form: str) -> str:
    return "price unknown" if math.isnan(value) else f"{value:{form}}"
