"""Shapes against their scanners: no match may come where nothing was held back."""

from __future__ import annotations

import re

import pytest

from relay.guardrails.hold_back import HoldAutomaton
from relay.guardrails.normalise import folded
from relay.guardrails.patterns import OwnPattern
from relay.guardrails.regex_scanner import RegexScanner
from relay.guardrails.scan import Scanner
from relay.guardrails.shape_nfa import ShapeNfa, UnreadablePattern, parse
from tests.guardrails.all_scanners import scanners
from tests.guardrails.secret_samples import AFTER, SECRETS

REGEX = [one for one in scanners() if isinstance(one, RegexScanner)]


def _held(parsed: object) -> object:
    """The part of a pattern that is the match."""
    state = parsed.state  # type: ignore[attr-defined]
    group = state.groupdict.get("held")
    if group is None:
        return parsed
    todo = list(parsed)  # type: ignore[call-overload]
    while todo:
        kind, value = todo.pop()
        if str(kind) == "SUBPATTERN":
            if value[0] == group:
                return value[-1]
            todo += list(value[-1])
    raise AssertionError("the group is not at the top")


@pytest.mark.parametrize("scanner", REGEX, ids=lambda one: one.name)
def test_window_has_room_for_the_longest_match(scanner: RegexScanner) -> None:
    if scanner.name == "pii.card":
        return  # its pattern is only where to look
    parsed = parse(scanner._pattern.pattern)
    assert _held(parsed).getwidth()[1] <= scanner.window_chars  # type: ignore[attr-defined]


@pytest.mark.parametrize("scanner", REGEX, ids=lambda one: one.name)
def test_context_has_room_for_what_stands_before(scanner: RegexScanner) -> None:
    parsed = parse(scanner._pattern.pattern)
    if "held" in parsed.state.groupdict:
        before = parsed.getwidth()[1] - _held(parsed).getwidth()[1]  # type: ignore[attr-defined]
        assert before <= scanner.context_chars
    assert scanner.context_chars >= 1


def _scanner_of(label: str) -> Scanner:
    return next(one for one in scanners() if one.name == label)


@pytest.mark.parametrize("kind", SECRETS)
def test_every_beginning_of_a_secret_is_held_back(kind: str) -> None:
    before, secret = SECRETS[kind]
    scanner = _scanner_of(f"secret.{kind}")
    automaton = HoldAutomaton([scanner], 1)
    state = automaton.start()
    for one in f"see {before}":
        state = state[one]
    met = 0
    for at, one in enumerate(secret, 1):
        state = state[one]
        met |= state.accepts
        assert state.alive or at == len(secret), secret[:at]
    for one in AFTER.get(kind, "") + " ":
        state = state[one]
        met |= state.accepts
    assert met == 1


def test_a_shape_sees_folded_text() -> None:
    automaton = HoldAutomaton([_scanner_of("denied")], 1)
    state = automaton.start()
    for one in "ЅＥ\u200bсrеＴ":
        state = state[one]
        assert state.holding
    assert state.accepts
    assert folded("ЅＥ\u200bсrеＴ", "skeleton").text == "secret"


@pytest.mark.parametrize("pattern", [r"(a)\1", "(?P<x>a)(?P=x)"])
def test_unreadable(pattern: str) -> None:
    from relay.guardrails.scan import Shape

    re.compile(pattern)
    with pytest.raises(UnreadablePattern):
        ShapeNfa().add(Shape(pattern), 0, "plain", 5)


def test_nested_repeats_stay_small() -> None:
    scanner = OwnPattern("p", "(?:(?:(?:a{2,5}b){2,5}c){2,5}d){2,5}x")
    assert len(HoldAutomaton([scanner], 1).nfa.nodes) < 1000
