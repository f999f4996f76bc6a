"""What of an unfinished text must be held back, at the price of one dictionary look-up a character.

A deterministic automaton over the shapes of all scanners, made state by state as texts need it (as
RE2 does it). It runs over the original text; folding happens where a new step is worked out, so a
step that is known costs nothing for it. In most places of ordinary prose nothing can have begun,
and the text may go at once.

The states are shared by all streams of a worker. Any thread may use them: what is known is only
read, and new steps are worked out one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Final

from relay.guardrails.normalise import table
from relay.guardrails.scan import Fold, Scanner
from relay.guardrails.shape_nfa import ShapeNfa, Start, is_word

_MAX_STEPS: Final = 100_000
"""That are kept, of all states; then they are forgotten, and worked out again."""

_MAX_FIRSTS: Final = 2_000
"""Characters of which is kept what begins with them, by fold."""
_PROSE: Final = (
    "The quick brown fox jumps over the lazy dog. Sure! I can't say: it's 12,345.67 (or 8%) - see "
    'www.Example.com/a_b? "Yes"; No, You & We. How very odd, just 3 x 5 zinc jobs?\n* Keep going. '
    "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z 0 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k "
    "l m n o p q r s t u v w x y z Hello, here are some of the things that you may want to know."
)
_FOLDS: Final[tuple[Fold, ...]] = ("raw", "plain", "skeleton")


class _Before:
    """What the character before says about which shapes may start; of one fold."""

    __slots__ = ("conditions", "is_ascii_word", "is_begin", "is_word", "key")

    def __init__(self, character: str | None, nfa: ShapeNfa) -> None:
        self.is_begin = character is None
        self.is_word = character is not None and is_word(character)
        self.is_ascii_word = self.is_word and character is not None and character.isascii()
        self.conditions = tuple(
            character is not None and test(character) for test in nfa.conditions
        )
        self.key = self.is_begin, self.is_word, self.is_ascii_word, self.conditions

    def allows(self, start: Start, character: str) -> bool:
        """Whether a shape may start between that character and this one."""
        if start.is_at_begin and not self.is_begin:
            return False
        if start.is_word_start and self.is_word and is_word(character):
            return False
        if start.is_boundary:
            word = is_word(character)
            if self.is_word == word and self.is_ascii_word == (word and character.isascii()):
                return False
        return all(self.conditions[at] is must_hold for at, must_hold in start.after)


class State(dict[str, "State"]):
    """Where the automaton is: character -> the next state. Bits are scanners."""

    __slots__ = (
        "accepts",
        "alive",
        "before",
        "holding",
        "is_quiet",
        "keep_chars",
        "live",
        "owner",
        "reach_chars",
    )

    def __init__(
        self,
        owner: HoldAutomaton,
        live: frozenset[int],
        before: tuple[_Before, ...],
        accepts: int,
    ) -> None:
        super().__init__()
        self.owner = owner
        self.live = live
        self.before = before
        self.accepts = accepts
        """Those that may just have had a match."""
        nodes = owner.nfa.nodes
        running = [nodes[at] for at in live if nodes[at].is_held and owner.nfa.can_go_on(at)]
        self.alive = 0
        """Those that may be within a match."""
        self.holding = 0
        """Those of them for which text is held back."""
        self.reach_chars = 0
        """How far back what is alive may have begun, in characters that can be seen."""
        self.keep_chars = 0
        """The same of what is only told, and not held back for."""
        for node in running:
            bit = 1 << node.scanner
            self.alive |= bit
            self.keep_chars = max(self.keep_chars, node.reach_chars)
            if bit & owner.holding:
                self.holding |= bit
                self.reach_chars = max(self.reach_chars, node.reach_chars)
        self.is_quiet = not (self.alive or accepts)
        """Nothing is on its way, and nothing was met."""

    def __missing__(self, character: str) -> State:
        return self.owner.step(self, character)


class Saturated(State):
    """Holds back for every scanner whatever comes: for a text that keeps needing new states."""

    __slots__ = ()

    def __missing__(self, character: str) -> State:
        return self


class HoldAutomaton:
    """Of scanners with windows.

    Args:
        scanners: by their bits: None for one that has no window.
        holding: bits of those for which text is held back; the others are only told.

    Raises:
        UnreadablePattern: a shape is no pattern.
    """

    def __init__(self, scanners: Sequence[Scanner | None], holding: int) -> None:
        self.nfa = ShapeNfa()
        self.holding = holding
        self._lock = Lock()
        self.worked_out = 0
        """Steps so far: new ones are dear, some microseconds each."""
        every = 0
        folds: set[Fold] = set()
        reach_chars = keep_chars = 0
        for at, scanner in enumerate(scanners):
            if scanner is None or scanner.window_chars is None:
                continue
            every |= 1 << at
            folds.add(scanner.fold)
            keep_chars = max(keep_chars, scanner.window_chars)
            if holding >> at & 1:
                reach_chars = max(reach_chars, scanner.window_chars)
            for shape in scanner.shapes:
                self.nfa.add(shape, at, scanner.fold, scanner.window_chars)
        self._folds = tuple(fold for fold in _FOLDS if fold in folds)
        self._tables = tuple(table(fold) for fold in self._folds)
        self._starts = tuple(
            [
                (start, self.nfa.closure((start.node,)))
                for start in self.nfa.starts
                if start.fold == fold
            ]
            for fold in self._folds
        )
        self._fold_of = {
            at: self._folds.index(scanner.fold)
            for at, scanner in enumerate(scanners)
            if scanner is not None and every >> at & 1
        }
        self._known_firsts: tuple[dict[str, list[tuple[Start, frozenset[int]]]], ...] = tuple(
            {} for _ in self._folds
        )
        self._befores: dict[str, _Before] = {}
        self._states: dict[object, State] = {}
        self._steps = 0
        begin = _Before(None, self.nfa)
        self._begin = tuple(begin for _ in self._folds)
        self.saturated = Saturated(self, frozenset(), self._begin, every)
        self.saturated.alive = every
        self.saturated.holding = every & holding
        self.saturated.reach_chars = reach_chars
        self.saturated.keep_chars = keep_chars
        self.saturated.is_quiet = not every

    def start(self) -> State:
        """Of a text that begins."""
        return self._state(frozenset(), self._begin, 0)

    def warm(self) -> None:
        """Work out what usual prose needs, so that no request waits for it; some tens of ms."""
        state = self.start()
        for character in _PROSE:
            state = state[character]

    def step(self, state: State, character: str) -> State:
        """Works out where a character leads, and keeps it. Waits for a thread that does the same,
        for less than a millisecond."""
        with self._lock:
            return self._step(state, character)

    def _step(self, state: State, character: str) -> State:
        self.worked_out += 1
        live: set[int] = set()
        accepts = 0
        before = list(state.before)
        for fold, known in enumerate(self._tables):
            mine = {at for at in state.live if self._fold_of[self.nfa.nodes[at].scanner] == fold}
            for one in known[character]:
                mine = self._consume(mine, one, before[fold], fold)
                before[fold] = self._before(one)
                accepts |= self._accepted(mine)
            live |= mine
        if not any(known[character] for known in self._tables):
            after = self._state(state.live, state.before, 0)
        else:
            after = self._state(frozenset(live), tuple(before), accepts)
        self._steps += 1
        if self._steps > _MAX_STEPS:
            self._forget()
            return after
        state[character] = after
        return after

    def _consume(self, live: set[int], one: str, before: _Before, fold: int) -> set[int]:
        onward = self.nfa.onward
        reached = {after for at in live for after in onward(at, one)}
        for start, first in self._firsts(fold, one):
            if before.allows(start, one):
                reached |= first
        return set(self.nfa.closure(reached))

    def _firsts(self, fold: int, one: str) -> list[tuple[Start, frozenset[int]]]:
        """The shapes that may begin with a character, and where it leads in them."""
        known = self._known_firsts[fold].get(one)
        if known is None:
            if len(self._known_firsts[fold]) >= _MAX_FIRSTS:
                self._known_firsts[fold].clear()
            onward = self.nfa.onward
            known = self._known_firsts[fold][one] = [
                (start, reached)
                for start, closure in self._starts[fold]
                if (reached := frozenset(after for at in closure for after in onward(at, one)))
            ]
        return known

    def _before(self, one: str) -> _Before:
        known = self._befores.get(one)
        if known is None:
            if len(self._befores) >= _MAX_FIRSTS:
                self._befores.clear()
            known = self._befores[one] = _Before(one, self.nfa)
        return known

    def _accepted(self, live: set[int]) -> int:
        accepts = 0
        for at in live:
            node = self.nfa.nodes[at]
            if node.is_final:
                accepts |= 1 << node.scanner
        return accepts

    def _state(self, live: frozenset[int], before: tuple[_Before, ...], accepts: int) -> State:
        key = live, tuple(one.key for one in before), accepts
        known = self._states.get(key)
        if known is None:
            known = self._states[key] = State(self, live, before, accepts)
        return known

    def _forget(self) -> None:
        for state in list(self._states.values()):
            state.clear()
        self._states = {}
        self._steps = 0
