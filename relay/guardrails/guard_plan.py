"""The rules of a guard, made ready once for all streams."""

from __future__ import annotations

from collections.abc import Sequence

from relay.guardrails.hold_back import HoldAutomaton
from relay.guardrails.scan import Action, Fold, Rule


class GuardPlan:
    """What streams with the same rules share. Built once, when the configuration is loaded: that
    takes some tens of milliseconds. Any thread may use it.

    Args:
        rules: where two of them find something at one place, the earlier one counts.

    Raises:
        UnreadablePattern: a scanner's shape is no pattern: a mistake of the scanner.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.scanners = tuple(rule.scanner for rule in rules)
        self.is_whole = any(scanner.window_chars is None for scanner in self.scanners)
        """A scanner needs the whole text, so nothing is released before the end."""
        self.is_slow = any(scanner.is_slow for scanner in self.scanners)
        self.flagging = sum(1 << at for at, rule in enumerate(self.rules) if _only_flags(rule))
        """Bits of the rules that change nothing in the text."""
        self.every = (1 << len(self.rules)) - 1
        self.context_chars = (
            max((scanner.context_chars for scanner in self.scanners), default=0) + 1
        )
        """That stay known of what was released. One at least, so that no text that goes on looks
        as if it began."""
        self.window_chars: int | None = None
        """The most that is held back, in characters that can be seen; None: the whole text."""
        self.automaton: HoldAutomaton | None = HoldAutomaton(
            self.scanners, self.every & ~self.flagging
        )
        """None: there is nobody to say who need not look, so all do."""
        self.automaton.warm()
        self.windowless = sum(
            1 << at for at, scanner in enumerate(self.scanners) if scanner.window_chars is None
        )
        """Bits of the scanners that need the whole text."""
        if not self.is_whole:
            self.window_chars = max(
                (
                    scanner.window_chars
                    for at, scanner in enumerate(self.scanners)
                    if scanner.window_chars is not None and not self.flagging >> at & 1
                ),
                default=0,
            )

    def folds(self, bits: int) -> set[Fold]:
        """That these scanners need."""
        return {scanner.fold for at, scanner in enumerate(self.scanners) if bits >> at & 1}


def _only_flags(rule: Rule) -> bool:
    actions: set[Action] = {rule.action_of(label) for label in rule.scanner.classes}
    return actions <= {"flag"} and rule.action == "flag"
