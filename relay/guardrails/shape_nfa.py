"""Shapes as one nondeterministic automaton: which characters may come next in what may still match.

It says yes whenever a match is possible, and sometimes when none is: a repeat is followed exactly
for its first `_EXACT` rounds and without end after, assertions in the middle of a pattern hold
always. That keeps it small; scanners say what truly matches. Built by Python's own parser of
regular expressions (`re._parser`), after Thompson.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final

from relay.guardrails.scan import Fold, Shape
from relay.guardrails.term_tree import END, Place, onward

_EXACT: Final = 16
_MAX_SPREAD: Final = 4
"""Optional rounds behind the required ones that are still counted."""
_MAX_NODES: Final = 600
"""Of one pattern; beyond, repeats are not counted at all."""

Test = Callable[[str], bool]


class _TooLarge(Exception):
    """Its repeats must not be counted."""


class UnreadablePattern(ValueError):
    """The parser knows no such syntax, or means something else by it."""


@dataclass(slots=True)
class Node:
    """A state: reached by a character, or by the beginning of a shape."""

    scanner: int
    is_held: bool
    """Text that brought a shape here must not be released."""
    reach_chars: int
    edges: list[tuple[Test, int]] = field(default_factory=list)
    literal: dict[str, list[int]] = field(default_factory=dict)
    empty: list[int] = field(default_factory=list)
    """Reached from here by no character."""
    is_final: bool = False
    place: Place | None = None
    """In a tree of words: it has no edges of its own."""
    is_whole_words: bool = False
    """Of that tree."""


@dataclass(slots=True)
class Start:
    """Where a shape begins, and after what."""

    node: int
    fold: Fold
    after: list[tuple[int, bool]] = field(default_factory=list)
    """(condition, whether it must hold) of the character before."""
    is_boundary: bool = False
    """The characters before and here are not both, and not neither, of words."""
    is_word_start: bool = False
    """They are not both of words."""
    is_at_begin: bool = False
    """Nothing may be before."""


class ShapeNfa:
    """All shapes of some scanners."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.starts: list[Start] = []
        self.conditions: list[Test] = []
        """Of one character; a start names those that it needs by their places here."""
        self._condition_keys: dict[str, int] = {}
        self._places: dict[tuple[int, int, int], int] = {}
        """(scanner, its tree's identity, characters of a gap) -> node."""

    def add(self, shape: Shape, scanner: int, fold: Fold, window_chars: int) -> None:
        """One more shape of this scanner.

        Raises:
            UnreadablePattern: it is no pattern that Python's parser reads.
        """
        reach = shape.reach_chars or window_chars
        if shape.words:
            root = self.node(scanner, False, reach)
            self.nodes[root].place = Place(shape.words)
            self.nodes[root].is_whole_words = shape.is_whole_words
            self.starts.append(Start(root, fold, is_word_start=shape.is_whole_words))
        if shape.pattern:
            parsed = parse(shape.pattern, ignore_case=shape.ignore_case, ascii_only=shape.is_ascii)
            before = len(self.nodes), len(self.starts)
            try:
                _Pattern(self, parsed, scanner, fold, reach, _EXACT).build()
            except _TooLarge:
                del self.nodes[before[0] :], self.starts[before[1] :]
                _Pattern(self, parsed, scanner, fold, reach, 1).build()

    def condition(self, key: str, test: Test) -> int:
        """The place of a test of the character before a start."""
        at = self._condition_keys.get(key)
        if at is None:
            at = self._condition_keys[key] = len(self.conditions)
            self.conditions.append(test)
        return at

    def node(self, scanner: int, is_held: bool, reach: int) -> int:
        """A new one."""
        self.nodes.append(Node(scanner, is_held, reach))
        return len(self.nodes) - 1

    def onward(self, at: int, character: str) -> Iterable[int]:
        """The nodes that a character leads to from one, not those reached by none from there."""
        node = self.nodes[at]
        if node.place is not None:
            return self._in_tree(node, character)
        found = list(node.literal.get(character, ()))
        found += [after for test, after in node.edges if test(character)]
        return found

    def can_go_on(self, at: int) -> bool:
        """Whether any character leads on from a node."""
        node = self.nodes[at]
        if node.place is not None:
            return (node.is_final and node.is_whole_words) or node.place.tree.keys() != {END}
        return bool(node.edges or node.literal)

    def _in_tree(self, node: Node, character: str) -> Iterable[int]:
        # Nodes of a tree are made when a text comes to them: there may be a hundred thousand.
        if node.place is None:
            return
        for place in onward(node.place, character):
            key = node.scanner, id(place.tree), place.gap_chars
            known = self._places.get(key)
            if known is None:
                known = self._places[key] = self.node(node.scanner, True, node.reach_chars)
                made = self.nodes[known]
                made.place, made.is_final = place, place.is_end
                made.is_whole_words = node.is_whole_words
            yield known
        if node.is_final and node.is_whole_words:
            yield self._after(node)

    def _after(self, node: Node) -> int:
        key = node.scanner, 0, 0
        known = self._places.get(key)
        if known is None:
            known = self._places[key] = self.node(node.scanner, True, node.reach_chars)
        return known

    def closure(self, at: Iterable[int]) -> frozenset[int]:
        """These, and what is reached from them by no character."""
        seen = set(at)
        todo = list(seen)
        while todo:
            for after in self.nodes[todo.pop()].empty:
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        return frozenset(seen)


@lru_cache(maxsize=1024)
def parse(pattern: str, *, ignore_case: bool = False, ascii_only: bool = False) -> Any:
    """What Python's parser makes of it.

    Raises:
        UnreadablePattern: it does not read it.
    """
    flags = (re.IGNORECASE if ignore_case else 0) | (re.ASCII if ascii_only else 0)
    try:
        return parser.parse(pattern, flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise UnreadablePattern(str(error)) from error


def is_word(character: str) -> bool:
    """As `\\w` of Python has it; more than RE2's."""
    return character.isalnum() or character == "_"


_CATEGORIES: Final[dict[Any, Test]] = {
    op.CATEGORY_DIGIT: str.isdecimal,
    op.CATEGORY_NOT_DIGIT: lambda one: not ("0" <= one <= "9"),
    op.CATEGORY_SPACE: str.isspace,
    op.CATEGORY_NOT_SPACE: lambda one: one not in " \t\n\r\f",
    op.CATEGORY_WORD: is_word,
    op.CATEGORY_NOT_WORD: lambda one: not (one.isascii() and is_word(one)),
}
"""What either Python or RE2 has in it."""
_SURE: Final[dict[Any, Test]] = {
    op.CATEGORY_DIGIT: lambda one: "0" <= one <= "9",
    op.CATEGORY_NOT_DIGIT: lambda one: not one.isdecimal(),
    op.CATEGORY_SPACE: lambda one: one in " \t\n\r\f",
    op.CATEGORY_NOT_SPACE: lambda one: not one.isspace(),
    op.CATEGORY_WORD: lambda one: one.isascii() and is_word(one),
    op.CATEGORY_NOT_WORD: lambda one: not is_word(one),
}
"""What both have in it."""


def _variants(character: str) -> set[str]:
    return {
        one
        for form in (character.lower(), character.upper(), character.casefold())
        for one in (form, form.lower(), form.upper(), character)
    }


def test_of(item: tuple[Any, Any], *, ignore_case: bool) -> Test:
    """Whether a character may stand for one item of a parsed pattern that takes a character."""
    kind, value = item
    if kind is op.ANY:
        return lambda _one: True
    if kind is op.LITERAL:
        if not ignore_case:
            return chr(value).__eq__
        forms = _variants(chr(value))
        return lambda one: one in forms or not forms.isdisjoint(_variants(one))
    if kind is op.NOT_LITERAL:
        return lambda one: one != chr(value)
    if kind is op.IN:
        return _set_test(value, ignore_case=ignore_case)
    raise UnreadablePattern(f"{kind} is not one character")


def _set_test(items: list[tuple[Any, Any]], *, ignore_case: bool) -> Test:
    is_negated = bool(items) and items[0][0] is op.NEGATE
    categories: list[Any] = []
    singles: set[str] = set()
    ranges: list[tuple[str, str]] = []
    for kind, value in items[1 if is_negated else 0 :]:
        if kind is op.LITERAL:
            singles.add(chr(value))
        elif kind is op.RANGE:
            ranges.append((chr(value[0]), chr(value[1])))
        elif kind is op.CATEGORY:
            categories.append(value)
        else:
            raise UnreadablePattern(f"{kind} in a set")

    tests = [(_SURE if is_negated else _CATEGORIES)[category] for category in categories]

    def is_in(one: str) -> bool:
        return (
            one in singles
            or any(low <= one <= high for low, high in ranges)
            or any(test(one) for test in tests)
        )

    if is_negated:
        if ignore_case:  # of what has case, either form may be meant
            return lambda one: one.lower() != one.upper() or not is_in(one)
        return lambda one: not is_in(one)
    if ignore_case:
        return lambda one: any(is_in(form) for form in _variants(one) if len(form) == 1)
    return is_in


class _Pattern:
    """Builds the nodes of one pattern."""

    def __init__(
        self, nfa: ShapeNfa, parsed: Any, scanner: int, fold: Fold, reach: int, exact: int
    ) -> None:
        self._nfa = nfa
        self._parsed = parsed
        self._scanner = scanner
        self._fold: Fold = fold
        self._reach = reach
        self._exact = exact
        self._held_group = parsed.state.groupdict.get("held")
        self._is_held = self._held_group is None
        self._most_nodes = len(nfa.nodes) + _MAX_NODES if exact > 1 else None
        self._ignore_case = bool(parsed.state.flags & re.IGNORECASE)

    def build(self) -> None:
        items = list(self._parsed)
        begin = self._nfa.node(self._scanner, False, self._reach)
        start = Start(begin, self._fold)
        items = self._leading(items, start)
        self._nfa.starts.append(start)
        needs_next = _looks_around(items)
        end = self._sequence(items, begin)
        self._nfa.nodes[end].is_final = True
        if needs_next:  # whether it ends here is known by the next character
            after = self._nfa.node(self._scanner, True, self._reach)
            self._nfa.nodes[end].edges.append((lambda _one: True, after))

    def _leading(self, items: list[Any], start: Start) -> list[Any]:
        while items:
            kind, value = items[0]
            if kind is op.AT:
                if value is op.AT_BOUNDARY:
                    start.is_boundary = True
                elif value in (op.AT_BEGINNING, op.AT_BEGINNING_STRING):
                    is_lines = self._parsed.state.flags & re.MULTILINE
                    start.is_at_begin = value is op.AT_BEGINNING_STRING or not is_lines
            elif kind in (op.ASSERT, op.ASSERT_NOT) and value[0] < 0:
                self._look_behind(list(value[1]), kind is op.ASSERT, start)
            else:
                return items
            items = items[1:]
        return items

    def _look_behind(self, items: list[Any], must_hold: bool, start: Start) -> None:
        if len(items) != 1 or items[0][0] not in (op.LITERAL, op.NOT_LITERAL, op.IN):
            return  # not of one character: taken to hold
        is_caseless = items[0][0] is op.IN and all(
            kind in (op.CATEGORY, op.NEGATE) for kind, _ in items[0][1]
        )
        if must_hold or is_caseless or not self._ignore_case:
            test = test_of(items[0], ignore_case=self._ignore_case)
            key = f"{items[0]!r} {self._ignore_case}"
            start.after.append((self._nfa.condition(key, test), must_hold))

    def _sequence(self, items: Iterable[Any], at: int) -> int:
        for item in items:
            at = self._item(item, at)
            if self._most_nodes is not None and len(self._nfa.nodes) > self._most_nodes:
                raise _TooLarge
        return at

    def _item(self, item: Any, at: int) -> int:
        kind, value = item
        if kind in (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN):
            onward = self._nfa.node(self._scanner, self._is_held, self._reach)
            node = self._nfa.nodes[at]
            if kind is op.LITERAL and not self._ignore_case:
                node.literal.setdefault(chr(value), []).append(onward)
            else:
                node.edges.append((test_of(item, ignore_case=self._ignore_case), onward))
            return onward
        if kind is op.SUBPATTERN:
            return self._group(value, at)
        if kind is op.ATOMIC_GROUP:
            return self._sequence(value, at)
        if kind is op.BRANCH:
            end = self._joint()
            for branch in value[1]:
                self._nfa.nodes[self._sequence(branch, at)].empty.append(end)
            return end
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            return self._repeat(value, at)
        if kind in (op.AT, op.ASSERT, op.ASSERT_NOT):
            return at
        raise UnreadablePattern(f"{kind} cannot be followed")

    def _joint(self) -> int:
        return self._nfa.node(self._scanner, self._is_held, self._reach)

    def _group(self, value: Any, at: int) -> int:
        group, added, _removed, items = value
        was = self._ignore_case
        if added & re.IGNORECASE:
            self._ignore_case = True
        if group is not None and group == self._held_group:
            self._is_held = True
        at = self._sequence(items, at)
        self._ignore_case = was
        return at

    def _repeat(self, value: Any, at: int) -> int:
        least, most, items = value
        counted = min(int(least), self._exact)
        is_spread = self._exact > 1 and most != op.MAXREPEAT and most - least <= _MAX_SPREAD
        if counted == least and is_spread:
            return self._counted(items, at, counted, int(most) - counted)
        if counted == 0:
            return self._loop(items, at, is_needed=False)
        for _ in range(counted - 1):
            at = self._sequence(items, at)
        return self._loop(items, at, is_needed=True)

    def _counted(self, items: Any, at: int, needed: int, more: int) -> int:
        for _ in range(needed):
            at = self._sequence(items, at)
        end = self._joint()
        self._nfa.nodes[at].empty.append(end)
        for _ in range(more):
            at = self._sequence(items, at)
            self._nfa.nodes[at].empty.append(end)
        return end

    def _loop(self, items: Any, at: int, *, is_needed: bool) -> int:
        """Any number of rounds, at least one where it is needed."""
        loop = self._joint()
        self._nfa.nodes[at].empty.append(loop)
        end = self._sequence(items, loop)
        self._nfa.nodes[end].empty.append(loop)
        return end if is_needed else loop


def _looks_around(items: Iterable[Any]) -> bool:
    """Whether there is an assertion among them, however deep: it may stand at an end."""
    for kind, value in items:
        if kind in (op.AT, op.ASSERT, op.ASSERT_NOT):
            return True
        if kind is op.SUBPATTERN and _looks_around(value[-1]):
            return True
        if kind is op.ATOMIC_GROUP and _looks_around(value):
            return True
        if kind is op.BRANCH and any(map(_looks_around, value[1])):
            return True
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT) and _looks_around(value[2]):
            return True
    return False
