"""The guardrails that hold for one sort of request, by what they look at. Made once a sort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.guardrails.rail import NAME, REASONING, TEXT, TOOL, Kind, Rail, Side
from relay.guardrails.text_rules import MakeGuards, TextRules

_KINDS: Final[tuple[Kind, ...]] = (TEXT, TOOL, REASONING, NAME)


class Rails:
    """Of one side; empty if nothing looks at it.

    Args:
        rails: in their order.
    """

    def __init__(self, rails: Sequence[Rail], side: Side, make_guards: MakeGuards) -> None:
        self.side: Side = side
        self.all = tuple(rail for rail in rails if side in rail.sides)
        self.texts = tuple(
            TextRules(
                [rail for rail in self.all if rail.rules and rail.looks_at(kind)],
                side,
                kind,
                make_guards,
            )
            for kind in _KINDS
        )
        self.asking = tuple(rail for rail in self.all if rail.asking is not None)
        self.is_slow = any(rules.is_slow for rules in self.texts)
        self.unreadable = next((rail for rail in self.all if rail.blocks_unreadable), None)
        """Who blocks what cannot be read."""
        self.looks_at_tools = any(rail.looks_at_tools for rail in self.all)
        self.looks_at_reasoning = any(rail.looks_at_reasoning for rail in self.all)
        self.stops = any(rail.stops for rail in self.all)
        self.is_barrier = any(rail.is_barrier for rail in self.all)

    def __bool__(self) -> bool:
        return bool(self.all)

    def asking_of(self, kind: Kind) -> tuple[Rail, ...]:
        """Those that ask somebody about texts of a kind."""
        return tuple(rail for rail in self.asking if rail.looks_at(kind))
