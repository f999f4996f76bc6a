"""What policies did, as rows of a slice: by kind, name and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from relay.decision import Decision
from relay.observability.live.quantiles import Counts, bucket_of
from relay.observability.live.record import cost_micro, ttft_us
from relay.outcome import GenerationEnd, fate_of

MAX_ROWS: Final = 128
"""Of a slice; what comes beyond is left out."""

PolicyName = tuple[str, str, str]
"""Kind (`rule`, `experiment`, `cascade`, `panel`, `cache`, `guardrail`), name, outcome: of an
experiment the arm, of a cache its verdict under the alias's name, of a guardrail what was done."""


class PolicyRow:
    """Generations with one decision."""

    __slots__ = ("cost", "failed", "n", "saved", "ttft")

    def __init__(self) -> None:
        self.n = self.failed = self.saved = 0
        self.cost = 0.0
        self.ttft: Counts = {}

    def take(self, end: GenerationEnd) -> None:
        """One more."""
        self.n += 1
        self.failed += fate_of(end.error) == "failed"
        self.cost += cost_micro(end) or 0.0
        if end.decision is not None:
            self.saved += end.decision.saved_micro
        first_us = ttft_us(end)
        if first_us is not None:
            bucket = bucket_of(first_us)
            self.ttft[bucket] = self.ttft.get(bucket, 0) + 1

    def to_list(self) -> list[Any]:
        """As JSON data, in the order of `POLICY_FIELDS`."""
        return [getattr(self, name) for name in POLICY_FIELDS]


POLICY_FIELDS: Final = ("n", "failed", "saved", "cost", "ttft")


def names_of(decision: Decision, alias: str) -> Iterator[PolicyName]:
    """The rows that a generation counts in, each once."""
    if decision.rule:
        yield "rule", decision.rule, "matched"
    if decision.experiment:
        yield "experiment", decision.experiment, decision.arm
    if decision.composition:
        yield decision.composition, decision.name, decision.outcome or "failed"
    if decision.cache not in ("off", "bypass"):
        yield "cache", alias, decision.cache
    yield from {
        ("guardrail", one.guardrail, f"{one.action} ({one.side})"): None for one in decision.guards
    }


def take_row(rows: dict[PolicyName, PolicyRow], name: PolicyName, end: GenerationEnd) -> None:
    """Count it, if there is room."""
    row = rows.get(name)
    if row is None:
        if len(rows) >= MAX_ROWS:
            return
        row = rows[name] = PolicyRow()
    row.take(end)
