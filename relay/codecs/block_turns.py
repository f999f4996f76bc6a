"""Turns of a conversation on wires where both sides must alternate (Anthropic's, Bedrock's)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Block = dict[str, Any]


@dataclass(slots=True)
class Turn:
    """What one side says until the other one does."""

    role: str
    results: list[Block] = field(default_factory=list)
    """Of tools: they stand before all else."""
    blocks: list[Block] = field(default_factory=list)

    @property
    def content(self) -> list[Block]:
        """Everything, in the order in which it is sent."""
        return self.results + self.blocks


def turn_of(turns: list[Turn], role: str) -> Turn:
    """The last turn if it is this side's, else a new one."""
    if not turns or turns[-1].role != role:
        turns.append(Turn(role))
    return turns[-1]
