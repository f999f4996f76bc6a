"""Reads PromQL far enough to hold an expression to the families that are exported: names, labels,
labels' values, what is a rate of what. No promtool is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.errors import Reason, Source
from relay.observability.metrics.families import FAMILIES, Kind
from relay.outcome import AttemptRole
from relay.resilience.breaker import BreakerState
from relay.timeline import PHASES

OF_PROMETHEUS: Final = {"job", "instance"}
VALUES: Final[dict[tuple[str, str], set[str]]] = {
    ("rtrelay_generations", "outcome"): {"ok", "cancelled", "error"},
    ("rtrelay_attempts", "outcome"): {"success", "failure", "overload", "cancelled", "lost"},
    ("rtrelay_passthrough", "outcome"): {
        "ok",
        "client_error",
        "server_error",
        "cancelled",
        "error",
    },
    ("rtrelay_requests_refused", "reason"): {reason.name.lower() for reason in Reason},
    ("", "role"): {role.value for role in AttemptRole},
    ("", "state"): {state.value for state in BreakerState},
    ("", "source"): {source.value for source in Source},
    ("", "phase"): set(PHASES),
    ("", "bound"): {"likely", "upper"},
    ("", "kind"): {"prompt", "cached", "completion"},
    ("rtrelay_audit_entries", "result"): {"written", "lost"},
    ("rtrelay_credential_refreshes", "result"): {"ok", "failed"},
    ("rtrelay_generation_errors", "reason"): {reason.name.lower() for reason in Reason},
    ("rtrelay_attempt_errors", "reason"): {reason.name.lower() for reason in Reason},
    ("rtrelay_refusals", "reason"): {reason.name.lower() for reason in Reason},
}
"""By family ("" for all) and label: all that there are."""
_RATES: Final = {"rate", "increase", "irate"}
_WORDS: Final = _RATES | {
    "sum", "min", "max", "avg", "topk", "by", "without", "on", "ignoring", "and", "or", "unless",
    "group_left", "group_right", "histogram_quantile",
}  # fmt: skip
_TOKEN: Final = re.compile(
    r'(?P<string>"[^"]*")|(?P<word>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?P<range>\[[^\]]*\])'
    r"|(?P<number>[0-9.]+(?:[eE][+-]?[0-9]+)?)|(?P<op>=~|!~|!=|==|>=|<=|[-+*/%^<>=,(){}])"
    r"|(?P<space>\s+)|(?P<odd>.)",
    re.DOTALL,
)


class Token(NamedTuple):
    kind: str
    text: str


class Selector(NamedTuple):
    """A metric as it is asked for."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]
    """Label, operator, value."""
    range: str


def samples() -> dict[str, tuple[str, Kind, set[str]]]:
    """By the name of a sample: its family, whether it must be asked for a rate, its labels."""
    found: dict[str, tuple[str, Kind, set[str]]] = {"up": ("up", Kind.GAUGE, set())}
    for name, family in FAMILIES.items():
        labels = set(family.labels)
        base = name.removesuffix("_total")
        if family.kind is Kind.HISTOGRAM:
            found[f"{name}_bucket"] = (base, Kind.COUNTER, labels | {"le"})
            for end in ("_sum", "_count"):
                found[f"{name}{end}"] = (base, Kind.COUNTER, labels)
        else:
            found[name] = (base, family.kind, labels)
    return found


def tokens(text: str) -> list[Token]:
    found = [Token(str(one.lastgroup), one.group()) for one in _TOKEN.finditer(text)]
    odd = [token.text for token in found if token.kind == "odd"]
    assert not odd, f"{text}: {odd}"
    return [token for token in found if token.kind != "space"]


def faults(expression: str) -> list[str]:
    """What is wrong with it; nothing for a good one."""
    found: list[str] = []
    row = tokens(expression)
    depth = 0
    for token in row:
        depth += (token.text in "({") - (token.text in ")}")
        if depth < 0:
            break
    if depth:
        found.append("its brackets do not match")
    known, labels = samples(), set(OF_PROMETHEUS)
    selectors, groups = list(_selectors(row)), list(_groups(row))
    for selector in selectors:
        if selector.name not in known:
            found.append(f"nobody exports {selector.name}")
            continue
        family, kind, own = known[selector.name]
        labels |= own
        for label, _, value in selector.matchers:
            if label not in own | OF_PROMETHEUS:
                found.append(f"{selector.name} has no label {label}")
            found += _odd_values(family, label, value)
        if (kind is Kind.COUNTER) != bool(selector.range):
            found.append(f"{selector.name} is {'no rate' if selector.range else 'a counter'}")
    for group in groups:
        found += [f"nobody has the label {label} of a group" for label in group - labels]
    if not selectors:
        found.append("it asks for nothing")
    for index, token in enumerate(row):
        if token.text == "histogram_quantile" and not _quantile_keeps_le(row[index:]):
            found.append("a quantile needs buckets by le")
    return found


def labels_after(expression: str) -> set[str]:
    """That the result may have: those of its groups, else those of its metrics."""
    row = tokens(expression)
    groups = list(_groups(row, is_by=True))
    if any(token.text in ("sum", "min", "max", "avg") for token in row):
        return set().union(*groups) if groups else set()
    known = samples()
    return OF_PROMETHEUS.union(*(known[one.name][2] for one in _selectors(row)))


def _selectors(row: list[Token]) -> Iterator[Selector]:
    inside = False
    for index, (kind, text) in enumerate(row):
        if text in ("by", "without", "on", "ignoring", "group_left", "group_right"):
            inside = True
        if inside:
            inside = text != ")"
            continue
        is_call = index + 1 < len(row) and row[index + 1].text == "("
        if kind != "word" or text in _WORDS or is_call or _in_braces(row, index):
            if kind == "word" and is_call:
                assert text in _WORDS, f"{text} is no function that is known here"
            continue
        matchers: list[tuple[str, str, str]] = []
        at = index + 1
        if at < len(row) and row[at].text == "{":
            at += 1
            while row[at].text != "}":
                label, operator, value = (token.text for token in row[at : at + 3])
                matchers.append((label, operator, value.strip('"')))
                at += 3
                at += row[at].text == ","
            at += 1
        span = row[at].text if at < len(row) and row[at].kind == "range" else ""
        yield Selector(text, tuple(matchers), span)


def _in_braces(row: list[Token], index: int) -> bool:
    before = [token.text for token in row[:index]]
    return before.count("{") > before.count("}")


def _groups(row: list[Token], *, is_by: bool = False) -> Iterator[set[str]]:
    words = ("by",) if is_by else ("by", "without", "on", "ignoring", "group_left", "group_right")
    for index, token in enumerate(row):
        if token.text in words:
            end = next(i for i in range(index, len(row)) if row[i].text == ")")
            yield {one.text for one in row[index + 2 : end] if one.kind == "word"}


def _quantile_keeps_le(row: list[Token]) -> bool:
    groups = list(_groups(row, is_by=True))
    buckets = [one for one in _selectors(row) if one.name.endswith("_bucket")]
    return bool(buckets) and bool(groups) and "le" in groups[0]


def _odd_values(family: str, label: str, value: str) -> list[str]:
    every = VALUES.get((family, label)) or VALUES.get(("", label))
    if every is None or value.startswith("$"):
        return []
    return [
        f"{family} has no {label} {one}" for one in value.split("|") if one and one not in every
    ]
