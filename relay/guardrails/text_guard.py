"""One choice's text on its way out: what is found is taken out, and little is held back.

The text is cut nowhere for who reads it: released text and findings are those of the whole text,
however it came in chunks. How it works:

1. `hold_back` says from where on something may have begun. What is before is *decided*.
2. Where it says that something may have been met, the scanners concerned search what is undecided,
   with a little of what is before as context. A match counts once it starts in what is decided for
   its scanner.
3. Matches are applied by their starts. Where two overlap, the one that starts first counts, then
   the longer, then the earlier rule's; what the other one reaches beyond is replaced as well, by
   its own word. A block counts before all others at the same start.

Positions are characters of the stream from its beginning, so nothing moves when what is behind is
forgotten.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, NamedTuple

from relay.guardrails.guard_plan import GuardPlan
from relay.guardrails.normalise import Folded, InvisibleRuns, folded, seen_from_end
from relay.guardrails.replacements import masked, redacted
from relay.guardrails.scan import Action, Finding, Fold, Match

_SLICE_CHARS: Final = 4096
"""Long pieces are taken in slices, so that what is searched again has a bound."""
_FORGET_CHARS: Final = 256
"""That are behind before they are forgotten, so that not every token moves the text."""
_MAX_WORKED_OUT: Final = 20_000
"""New steps of the automaton that one text may need: about a fifth of a second. Beyond, the whole
window is held back instead, which needs none."""


class _Found(NamedTuple):
    """A match in the stream; sorts as it is applied."""

    start: int
    rank: int
    """0: a block."""
    beyond: int
    """Minus the end."""
    rule: int
    label: str
    action: Action
    text: str
    """What stands in its place; of a block or flag nothing."""


class TextGuard:
    """See the module, and `scan.StreamGuard` for what each call promises."""

    __slots__ = (
        "_at",
        "_base",
        "_context",
        "_counts",
        "_decided",
        "_end",
        "_found",
        "_free",
        "_hits",
        "_is_sorted",
        "_pieces",
        "_plan",
        "_runs",
        "_searched",
        "_state",
        "_text",
        "_worked_out",
        "is_blocked",
        "most_held_chars",
    )

    def __init__(self, plan: GuardPlan) -> None:
        self._plan = plan
        self._context = plan.context_chars
        is_streamed = plan.automaton is not None and not plan.is_whole
        self._state = plan.automaton.start() if plan.automaton and is_streamed else None
        self._worked_out = 0
        """Steps of the automaton that this text was the first to need."""
        self._runs = InvisibleRuns()
        self._pieces: list[str] = []
        """All of it, where nothing is released before the end."""
        self._text = ""
        """From `_base` on: context, and what is undecided or held."""
        self._base = 0
        self._end = 0
        """Of all that was fed."""
        self._at = 0
        """Before it, everything was released or replaced."""
        self._decided = 0
        """No match that is not known yet starts before it."""
        self._free = 0
        """The same for those matches that change the text."""
        self._hits = 0
        """Scanners that may have a match in what is undecided."""
        self._searched: dict[int, int] = {}
        """Scanner -> where its search goes on."""
        self._found: list[_Found] = []
        """Known and not applied, in their order where `_is_sorted`."""
        self._is_sorted = True
        self._counts: dict[tuple[int, str, Action], tuple[int, int]] = {}
        """(rule, label, action) -> (where it was met first, how often)."""
        self.is_blocked = False
        self.most_held_chars = 0

    @property
    def is_whole(self) -> bool:
        return self._plan.is_whole

    @property
    def is_slow(self) -> bool:
        return self._plan.is_slow

    @property
    def held_chars(self) -> int:
        if self.is_blocked:
            return 0
        end = self._end
        for one in self._found:
            if one.action == "block":  # that it is one is known, and what is behind never goes
                end = one.start
                break
        return max(0, end - self._at)

    @property
    def findings(self) -> list[Finding]:
        rules = self._plan.rules
        return [
            Finding(rules[rule].name, label, action, count)
            for (rule, label, action), (_, count) in sorted(
                self._counts.items(), key=lambda each: (each[1][0], each[0])
            )
        ]

    def feed(self, text: str) -> str:
        if self.is_blocked or not text:
            return ""
        text = self._runs.feed(text)
        if self._state is None:
            self._pieces.append(text)
            self._end += len(text)
            self.most_held_chars = self._end
            return ""
        if len(text) <= _SLICE_CHARS:
            released = self._slice(text)
        else:
            released = "".join(
                self._slice(text[at : at + _SLICE_CHARS])
                for at in range(0, len(text), _SLICE_CHARS)
            )
        if self._end - self._at > self.most_held_chars:
            self.most_held_chars = max(self.most_held_chars, self.held_chars)
        return released

    def finish(self) -> str:
        if self.is_blocked:
            return ""
        if self._state is None:
            self._text = "".join(self._pieces)
            self._hits = self._met(self._text)
        since = self._decided
        self._decided = self._free = self._end
        self._search(0, since)
        return self._apply()

    def _met(self, whole: str) -> int:
        """The scanners that need to look at a whole text."""
        automaton = self._plan.automaton
        if automaton is None:
            return self._plan.every
        state = automaton.start()
        hits = self._plan.windowless
        known_steps = automaton.worked_out
        for at in range(0, len(whole), _SLICE_CHARS):
            for character in whole[at : at + _SLICE_CHARS]:
                state = state[character]
                if not state.is_quiet:
                    hits |= state.accepts
            if automaton.worked_out - known_steps > _MAX_WORKED_OUT:
                return self._plan.every
        return hits

    def _slice(self, text: str) -> str:
        """Run the automaton over a piece; the usual one is released at once."""
        state = self._state
        automaton = self._plan.automaton
        if state is None or automaton is None:
            raise RuntimeError("a whole text is not taken in pieces")
        known_steps = automaton.worked_out
        quiet = free = idle = hits = 0
        for at, character in enumerate(text, 1):
            state = state[character]
            if state.is_quiet:
                quiet = at
            else:
                hits |= state.accepts
                if not state.holding:
                    free = at
                    if not state.alive:
                        idle = at
        self._state = state
        before = self._end
        end = self._end = before + len(text)
        if quiet == len(text) and not (hits or self._hits) and self._at == before:
            self._at = self._decided = self._free = end
            known = self._text + text
            self._text = known[seen_from_end(known, self._context) :]
            self._base = end - len(self._text)
            return text
        self._text += text
        self._hits |= hits
        if quiet > idle:
            idle = quiet
        if quiet > free:
            free = quiet
        self._worked_out += automaton.worked_out - known_steps
        if self._worked_out > _MAX_WORKED_OUT:
            state = self._state = automaton.saturated
            self._hits = self._plan.every
            idle = free = 0
        was_decided = self._decided
        if idle:
            self._decided = before + idle
        if free:
            self._free = before + free
        if state.alive:
            self._decided = max(self._decided, self._back(state.keep_chars))
        if state.holding:
            self._free = max(self._free, self._back(state.reach_chars))
        if self._hits:
            self._search(state.alive, was_decided)
        elif not self._found:
            return self._pass_on()
        return self._apply()

    def _pass_on(self) -> str:
        """Release what may go, where nothing is known that would change it."""
        free, base = self._free, self._base
        released = ""
        if free > self._at:
            released = self._text[self._at - base : free - base]
            self._at = free
        self._forget()
        return released

    def _back(self, count: int) -> int:
        """The position so many characters that can be seen before the end."""
        return self._base + seen_from_end(self._text, count)

    def _search(self, alive: int, since: int = 0) -> None:
        """Let the scanners that may have met something look at what is undecided.

        Args:
            alive: bits of the scanners that may be within a match; of those, what starts in the
                last window is left for later.
            since: everything before was decided already.
        """
        views: dict[Fold, Folded] = {}
        hits = self._hits
        rule = -1
        while hits >> (rule := rule + 1):
            if not hits >> rule & 1:
                continue
            is_open = bool(alive >> rule & 1)
            begin = max(since, self._searched.get(rule, 0))
            until = self._bound(rule) if is_open else self._end
            if until > begin:
                fold = self._plan.scanners[rule].fold
                view = views.get(fold)
                if view is None:
                    view = views[fold] = folded(self._text, fold)
                self._find(rule, view, begin, until)
            if not is_open:
                self._hits &= ~(1 << rule)

    def _bound(self, rule: int) -> int:
        """Where what this scanner may be within has not begun yet."""
        # Others may still run where this one has come to its end, so each has its own bound.
        decided = self._decided if self._plan.flagging >> rule & 1 else self._free
        return max(decided, self._back(self._plan.scanners[rule].window_chars or 0))

    def _find(self, rule: int, view: Folded, begin: int, until: int) -> None:
        """Note the matches that start from one position up to another, which the text after it
        cannot change any more."""
        scanner = self._plan.scanners[rule]
        text, origins = view
        start, limit = self._folded_at(view, begin), self._folded_at(view, until)
        is_again = start < limit
        while is_again:
            is_again = False
            for match in scanner.find(text, start):
                if match.start >= limit:
                    break
                self._note(rule, match, view)
                start = match.end
                if origins and start < len(text) and origins[start] == origins[start - 1]:
                    # It ends within a character that was folded to several: which goes as a whole.
                    start = bisect_left(origins, origins[start] + 1)
                    is_again = True
                    break
        done = self._base + (view.origin(start) if start < len(text) else len(self._text))
        self._searched[rule] = max(until, done)

    def _folded_at(self, view: Folded, position: int) -> int:
        at = position - self._base
        return at if view.origins is None else bisect_left(view.origins, at)

    def _note(self, rule: int, match: Match, view: Folded) -> None:
        start = self._base + view.origin(match.start)
        end = self._base + view.origin(match.end - 1) + 1
        action = self._plan.rules[rule].action_of(match.label)
        text = ""
        if action == "redact":
            text = redacted(match.label) if match.replacement is None else match.replacement
        elif action == "mask":
            text = masked(match.label, view.text[match.start : match.end])
        rank = 0 if action == "block" else 1
        self._found.append(_Found(start, rank, -end, rule, match.label, action, text))
        self._is_sorted = False

    def _apply(self) -> str:
        """Release what may go by now, and apply what is known to start in it."""
        out: list[str] = []
        found = self._found
        if not self._is_sorted:
            found.sort()
            self._is_sorted = True
        done = 0
        free = self._free
        decided = self._decided
        waiting: list[_Found] = []
        for one in found:
            if one.start >= free and one.start >= decided:
                break
            done += 1
            if one.action == "flag":
                if one.start < decided:
                    self._count(one)
                else:
                    waiting.append(one)
            elif one.action == "block":
                if one.start >= decided or one.start >= free:
                    # Something that is only told may start before it, and is not known yet.
                    done -= 1
                    free = min(free, one.start)
                    break
                self._release(one.start, out)
                self._count(one)
                self._block()
                return "".join(out)
            elif one.start < free:
                self._release(one.start, out)
                if -one.beyond > self._at:
                    out.append(one.text)
                    self._at = -one.beyond
                self._count(one)
            else:
                waiting.append(one)
        if done:
            self._found = waiting + found[done:]
        self._release(free, out)
        self._forget()
        return "".join(out)

    def _release(self, until: int, out: list[str]) -> None:
        if until > self._at:
            out.append(self._text[self._at - self._base : until - self._base])
            self._at = until

    def _count(self, one: _Found) -> None:
        key = one.rule, one.label, one.action
        first, count = self._counts.get(key, (one.start, 0))
        self._counts[key] = min(first, one.start), count + 1

    def _block(self) -> None:
        self.is_blocked = True
        self._text = ""
        self._found = []

    def _forget(self) -> None:
        """Of what is behind, keep only what scanners look back at."""
        until = min(self._at, self._decided) - self._base
        if until > self._context + _FORGET_CHARS:
            keep = seen_from_end(self._text[:until], self._context)
            self._text = self._text[keep:]
            self._base += keep
