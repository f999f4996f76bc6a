"""What a guard must come to, worked out from the whole text with no stream and no automaton."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from relay.guardrails.guard_plan import GuardPlan
from relay.guardrails.normalise import InvisibleRuns, folded
from relay.guardrails.replacements import masked, redacted
from relay.guardrails.scan import Rule
from relay.guardrails.text_guard import TextGuard

Counts = dict[tuple[str, str], int]


class Result(NamedTuple):
    """Of one text."""

    released: str
    is_blocked: bool
    counts: Counts
    """(label, action) -> how often, of all rules."""


def matches(rule: Rule, text: str) -> Iterable[tuple[int, int, str, str]]:
    """Those of one rule: (start, end, label, folded text), in the original's characters."""
    view = folded(text, rule.scanner.fold)
    at = 0
    while True:
        found = [one for one in rule.scanner.find(view.text, at) if one.start >= at]
        if not found:
            return
        one = found[0]
        start, end = view.origin(one.start), view.origin(one.end - 1) + 1
        yield start, end, one.label, view.text[one.start : one.end]
        at = one.end
        while at < len(view.text) and view.origin(at) < end:
            at += 1


def expected(rules: Sequence[Rule], text: str) -> Result:
    """See `text_guard` for the rules."""
    text = InvisibleRuns().feed(text)
    found = sorted(
        (
            start,
            0 if rule.action_of(label) == "block" else 1,
            -end,
            at,
            label,
            rule.action_of(label),
            what,
        )
        for at, rule in enumerate(rules)
        for start, end, label, what in matches(rule, text)
    )
    out, done = "", 0
    counts: Counter[tuple[str, str]] = Counter()
    for start, _, minus_end, _, label, action, what in found:
        counts[label, action] += 1
        if action == "flag":
            continue
        out += text[done:start]
        done = max(done, start)
        if action == "block":
            return Result(out, True, dict(counts))
        if -minus_end > done:
            out += redacted(label) if action == "redact" else masked(label, what)
            done = -minus_end
    return Result(out + text[done:], False, dict(counts))


def streamed(plan: GuardPlan, chunks: Iterable[str]) -> tuple[Result, TextGuard]:
    """The same through a guard."""
    guard = TextGuard(plan)
    out = [guard.feed(chunk) for chunk in chunks]
    out.append(guard.finish())
    counts: Counter[tuple[str, str]] = Counter()
    for one in guard.findings:
        counts[one.label, one.action] += one.count
    return Result("".join(out), guard.is_blocked, dict(counts)), guard


def cut(text: str, cuts: Iterable[int]) -> list[str]:
    """The text in chunks, some perhaps empty."""
    places = sorted({min(at, len(text)) for at in cuts})
    return [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]
