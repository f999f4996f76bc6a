"""What an answer says, as far as it counts in a vote, and when two answers say the same.

tool calls       by names and arguments, whatever text stands beside them
a refusal        is one with every other refusal, unless the equality is `exact`
cut, blocked     an answer that ended by its length or a filter agrees with none, unless `exact`
nothing to say   no number, no JSON, no such field: agrees with none
"""

from __future__ import annotations

from collections.abc import Hashable
from decimal import Decimal
from typing import Final, NamedTuple

from relay.config.panels import EqualityConfig, NumberEqualityConfig
from relay.content import FinishReason, ToolCallDone
from relay.policy.base import Whole
from relay.policy.panel_json import NotComparable, comparable, field_of, parsed, pointer_steps
from relay.policy.panel_numbers import last_number
from relay.policy.panel_text import normalised

_BROKEN_OFF: Final = (FinishReason.LENGTH, FinishReason.CONTENT_FILTER)


class Said(NamedTuple):
    """What one answer says."""

    key: Hashable = None
    """Equal for answers that say the same; None where none can be equal to it."""
    number: Decimal | None = None
    """Of answers that are compared as numbers; in place of a key."""


ALONE: Final = Said()
"""Of an answer that agrees with no other."""


def is_silent(whole: Whole) -> bool:
    """Whether there is nothing in an answer that could be given to anybody."""
    return not whole.text.strip() and not whole.refusals.get(0) and not calls_of(whole)


def calls_of(whole: Whole) -> tuple[ToolCallDone, ...]:
    """Tool calls of the first choice."""
    return tuple(call for call in whole.tool_calls if call.choice == 0)


class Equality:
    """One way of comparing; made once a configuration."""

    def __init__(self, way: str | EqualityConfig) -> None:
        self._is_exact = way == "exact"
        self._steps: tuple[str, ...] | None = None
        self._number: NumberEqualityConfig | None = None
        if isinstance(way, EqualityConfig):
            self._number = way.number
            if way.json_field is not None:
                self._steps = pointer_steps(way.json_field)
        if self._number is not None:
            self._tolerance_abs = Decimal(repr(self._number.tolerance_abs))
            self._tolerance_rel = Decimal(repr(self._number.tolerance_rel))

    def said(self, whole: Whole) -> Said:
        """What an answer says; see the module."""
        text = whole.text
        refusal = whole.refusals.get(0, "")
        calls = calls_of(whole)
        if self._is_exact:
            raw = tuple((call.name, call.arguments) for call in calls)
            return Said(("exact", text, refusal, raw))
        if whole.finish.get(0) in _BROKEN_OFF or any(call.is_partial for call in calls):
            return ALONE
        if calls:
            return _said_by(calls)
        if refusal:
            return Said("refusal")
        if self._number is not None:
            number = last_number(text, self._number.decimal)
            return ALONE if number is None else Said(number=number)
        if self._steps is not None:
            try:
                value = field_of(parsed(text), self._steps)
                return Said(("json", comparable(value, folds_text=True)))
            except NotComparable:
                return ALONE
        return Said(("text", normalised(text) or text.strip()))

    def distance(self, one: Decimal, other: Decimal) -> Decimal | None:
        """How far two numbers are from each other; None: further than is allowed."""
        apart = abs(one - other)
        within = max(self._tolerance_abs, self._tolerance_rel * max(abs(one), abs(other)))
        return apart if apart <= within else None


def _said_by(calls: tuple[ToolCallDone, ...]) -> Said:
    """Calls in any order: most models mean none by it."""
    try:
        keys = [(call.name, _arguments(call)) for call in calls]
    except NotComparable:
        return ALONE
    counted: dict[Hashable, int] = {}
    for key in keys:
        counted[key] = counted.get(key, 0) + 1
    return Said(("calls", frozenset(counted.items())))


def _arguments(call: ToolCallDone) -> Hashable:
    """Their values; of what is no JSON the text (a custom tool's input)."""
    text = call.arguments.strip()
    if not text:
        return ("object", frozenset())  # as {}
    try:
        value = parsed(text)
    except NotComparable:
        return ("raw", text)
    return comparable(value, folds_text=False)
