"""What guardrails found in one generation, as its decision tells it."""

from __future__ import annotations

from typing import Literal

from relay.decision import Decision, GuardVerdict
from relay.guardrails.rail import Side

Did = Literal["block", "redact", "mask", "flag", "error"]


class Notes:
    """Counts of one side, by what was found and what was done; written to a decision."""

    __slots__ = ("_counts", "_decision", "_side", "_signs")

    def __init__(self, decision: Decision, side: Side) -> None:
        self._decision = decision
        self._side: Side = side
        self._counts: dict[tuple[str, str, Did, bool], int] = {}
        self._signs: dict[str, set[str]] = {}

    def add(
        self, guardrail: str, label: str, did: Did, count: int = 1, *, is_open: bool = False
    ) -> None:
        """Note something."""
        key = (guardrail, label, did, is_open)
        self._counts[key] = self._counts.get(key, 0) + count

    def sign(self, guardrail: str, label: str) -> set[str]:
        """Note a sign. Returns all labels of this guardrail's by now."""
        found = self._signs.setdefault(guardrail, set())
        found.add(label)
        return found

    def write(self) -> None:
        """Put what was noted since the last call into the decision."""
        for (guardrail, label, did, is_open), count in self._counts.items():
            self._decision.guards.append(
                GuardVerdict(guardrail, label, self._side, did, count, is_open)
            )
        self._counts.clear()
