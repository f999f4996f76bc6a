"""Counts what policies, caches and guardrails decided, once a generation at its end."""

from __future__ import annotations

from typing import Final

from relay.decision import Decision
from relay.observability.metrics import families as of
from relay.observability.metrics.families import key_of
from relay.observability.metrics.names import Names
from relay.observability.metrics.snapshot import Series

MAX_NAMES: Final = 500
"""Of rules, experiments with their arms, cascades, panels and guardrails: names of configurations,
those of earlier ones among them."""


class PolicyCounts:
    """Of one worker; all of it in the loop's thread."""

    def __init__(self) -> None:
        self._lookups: dict[tuple[str, str], int] = {}
        self._saved_micro: dict[str, int] = {}
        self._choices: dict[tuple[str, str, str], int] = {}
        self._verdicts: dict[tuple[str, str, str], int] = {}
        self._names = Names(MAX_NAMES)

    def ended(self, decision: Decision, alias: str) -> None:
        """
        Args:
            alias: its row's label.
        """
        if decision.cache != "off":
            looked = (alias, decision.cache)
            self._lookups[looked] = self._lookups.get(looked, 0) + 1
            if decision.saved_micro:
                saved = self._saved_micro.get(alias, 0)
                self._saved_micro[alias] = saved + decision.saved_micro
        if decision.rule:
            self._choose("rule", decision.rule, "matched")
        if decision.experiment:
            self._choose("experiment", decision.experiment, self._names.of(decision.arm))
        if decision.composition:
            self._choose(decision.composition, decision.name, decision.outcome or "failed")
        for verdict in decision.guards:
            found = (self._names.of(verdict.guardrail), verdict.side, verdict.action)
            self._verdicts[found] = self._verdicts.get(found, 0) + 1

    def _choose(self, kind: str, name: str, outcome: str) -> None:
        chosen = (kind, self._names.of(name), outcome)
        self._choices[chosen] = self._choices.get(chosen, 0) + 1

    def fill(self, series: Series) -> None:
        """Write all of it into a snapshot's series."""
        for family, rows in (
            (of.CACHE_LOOKUPS, self._lookups),
            (of.POLICY_CHOICES, self._choices),
            (of.GUARDRAIL_VERDICTS, self._verdicts),
        ):
            if rows:
                series.setdefault(family.name, {}).update(
                    {key_of(*labels): count for labels, count in rows.items()}
                )
        if self._saved_micro:
            series.setdefault(of.CACHE_SAVED.name, {}).update(
                {key_of(alias): micro / 1e6 for alias, micro in self._saved_micro.items()}
            )
