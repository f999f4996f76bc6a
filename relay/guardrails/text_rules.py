"""What is looked for in texts here, of one side and kind of text: whole ones and streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import structlog

from relay.errors import GuardrailBlocked
from relay.guardrails.clean_texts import CleanTexts
from relay.guardrails.injection import injection_score
from relay.guardrails.notes import Notes
from relay.guardrails.rail import NAME, REASONING, TEXT, Kind, Rail, Side
from relay.guardrails.scan import Finding, Rule, StreamGuard

_log = structlog.get_logger("relay.guardrails")


class MakeGuards(NamedTuple):
    """Compiles rules, which takes milliseconds. What it returns makes a guard for one text."""

    whole: Callable[[Sequence[Rule]], Callable[[], StreamGuard]]
    """For texts that are there."""
    stream: Callable[[Sequence[Rule]], Callable[[], StreamGuard]]
    """For those that come in pieces: what can be released is, as they come."""


_SPARE_CHARS: Final = 16
_MOST_CONTEXT_CHARS: Final = 8_192


class TextRules:
    """Those of some guardrails; stateless but for what is known to be clean.

    Args:
        rails: those with rules that look at this kind of text, in their order.
    """

    def __init__(
        self, rails: Sequence[Rail], side: Side, kind: Kind, make_guards: MakeGuards
    ) -> None:
        self._rails = {rail.name: rail for rail in rails}
        self._side: Side = side
        self._kind = kind
        rules = [rule for rail in rails for rule in rail.rules]
        self._whole = make_guards.whole(rules) if rules else None
        is_streamed = side == "output" and kind in (TEXT, REASONING)
        self.stream = make_guards.stream(rules) if rules and is_streamed else None
        self.is_slow = any(rule.scanner.is_slow for rule in rules)
        self.stops = any(rail.stops for rail in rails)
        """Whether any of them keeps something back."""
        self.context_chars = _context_chars(rules)
        self._clean = CleanTexts()

    def __bool__(self) -> bool:
        return self._whole is not None

    def change(self, text: str, notes: Notes) -> str:
        """A whole text with what must not go on taken out; the same object if nothing is.

        Raises:
            GuardrailBlocked: it may not go on.
        """
        if self._whole is None or not text:
            return text
        digest = CleanTexts.digest(text)
        if digest and self._clean.has(digest):
            return text
        try:
            guard = self._whole()
            new = guard.feed(text) + guard.finish()
        except Exception as error:  # noqa: BLE001 - a bug of a scanner must not open a barrier
            return self._failed(error, text, notes)
        findings = guard.findings
        if not findings:
            self._clean.add(digest)
            return text
        blocked = self.note(findings, notes)
        if blocked is not None:
            raise blocked.blocked(self._side)
        if new == text:
            return text
        if self._kind == NAME:
            raise self._rails[findings[0].rule].blocked(self._side)
        return new

    def note(self, findings: Sequence[Finding], notes: Notes) -> Rail | None:
        """Write down what was found. Returns whose finding is a block, if there is one."""
        blocked: Rail | None = None
        for finding in findings:
            rail = self._rails[finding.rule]
            notes.add(finding.rule, finding.label, finding.action, finding.count)
            if rail.least_score is not None:
                signs = notes.sign(finding.rule, finding.label)
                if injection_score(signs) >= rail.least_score:
                    notes.add(finding.rule, "injection", "block")
                    blocked = blocked or rail
            elif finding.action == "block":
                blocked = blocked or rail
        return blocked

    def failed(self, error: Exception, notes: Notes) -> Rail | None:
        """A scanner has a bug. Returns whose block it is; None where all of them are open."""
        _log.error("scanner_bug", error=type(error).__name__, exc_info=error)
        closed = next((rail for rail in self._rails.values() if not rail.is_open), None)
        for rail in self._rails.values():
            notes.add(rail.name, "bug", "error", is_open=rail.is_open and closed is None)
        return closed

    def _failed(self, error: Exception, text: str, notes: Notes) -> str:
        closed = self.failed(error, notes)
        if closed is not None:
            raise closed.blocked(self._side) from None
        return text


def _context_chars(rules: Sequence[Rule]) -> int:
    """So much of what went out tells whether what comes now goes on with something."""
    longest = max(
        (
            (rule.scanner.window_chars or _MOST_CONTEXT_CHARS) + rule.scanner.context_chars
            for rule in rules
        ),
        default=0,
    )
    return min(_MOST_CONTEXT_CHARS, 2 * longest + _SPARE_CHARS) if rules else 0


__all__ = ["GuardrailBlocked", "MakeGuards", "TextRules"]
