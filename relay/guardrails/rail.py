"""One guardrail as it runs, and what of a request or an answer it looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from relay.errors import GuardrailBlocked
from relay.guardrails.scan import Action, Rule
from relay.guardrails.timed import Timed

Side = Literal["input", "output"]

TEXT: Final = 0
"""What was said: prompts, answers, texts to embed."""
TOOL: Final = 1
"""Of tools: definitions, arguments, results."""
REASONING: Final = 2
NAME: Final = 3
"""Of a tool: nothing can stand in its place, so a finding in it is a block."""

Kind = Literal[0, 1, 2, 3]


@dataclass(frozen=True, slots=True)
class Asking:
    """How somebody is asked; units as of `relay.config.guardrail_scans.AskingConfig`."""

    timed: Timed
    label: str
    """What stands in the decision: `moderation`, `webhook`, `judge`."""
    is_before: bool
    every_chars: int
    overlap_chars: int
    is_new_only: bool


@dataclass(frozen=True, slots=True)
class Rail:
    """Either `rules` or `asking` is set."""

    name: str
    sides: frozenset[Side]
    action: Action
    is_open: bool
    message: str
    """For the caller."""
    looks_at_tools: bool
    looks_at_reasoning: bool
    blocks_unreadable: bool
    is_barrier: bool
    rules: tuple[Rule, ...] = ()
    """Named as this is."""
    asking: Asking | None = None
    least_score: float | None = None
    """Of signs that are only told: so much of them together, and it blocks after all."""

    def looks_at(self, kind: Kind) -> bool:
        """Whether texts of this kind are its business."""
        if kind == TEXT:
            return True
        return self.looks_at_reasoning if kind == REASONING else self.looks_at_tools

    @property
    def stops(self) -> bool:
        """What it finds does not go on as it is."""
        return self.action != "flag"

    def blocked(self, side: Side) -> GuardrailBlocked:
        """What the caller is told."""
        message = self.message or f"the guardrail {self.name} does not allow this"
        return GuardrailBlocked(message, guardrail=self.name, side=side)
