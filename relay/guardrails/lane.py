"""One kind of text of one choice on its way out: what is looked for here, then who is asked.

    pieces -> StreamGuard -> passed text -> windows for those who are asked -> cleared text

A run of text ends where something else comes, a tool call, say. What was held back of it is looked
at as it stands then and let go, since the other thing must not overtake it. A value that goes on
behind it is found all the same: what comes is looked at together with the end of what went out, and
what of the value was not out yet does not go out.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.guardrails.notes import Notes
from relay.guardrails.rail import Kind, Rail
from relay.guardrails.scan import StreamGuard
from relay.guardrails.text_rules import TextRules
from relay.guardrails.windows import Windows


class Lane:
    """See the module. After a block (`blocked_by`) it gives nothing more."""

    __slots__ = (
        "_context",
        "_guard",
        "_kept",
        "_lacks",
        "_notes",
        "_rules",
        "blocked_by",
        "length",
        "most_held_chars",
        "taken",
        "windows",
    )

    def __init__(
        self,
        rules: TextRules,
        asking: Sequence[Rail],
        notes: Notes,
        kind: Kind,
        *,
        is_text: bool,
    ) -> None:
        self._rules = rules
        self._notes = notes
        self._guard: StreamGuard | None = None
        self._context = ""
        """The end of what has passed, raw rules having been applied."""
        self._lacks = ""
        """Of the context, what the guard has not given back yet."""
        self._kept: list[str] = []
        """Passed and not taken."""
        self.length = 0
        """Characters passed so far."""
        self.taken = 0
        """Of those, taken."""
        self.blocked_by: Rail | None = None
        self.windows = Windows(asking, kind, is_text=is_text) if asking else None
        self.most_held_chars = 0

    @property
    def is_whole(self) -> bool:
        """Nothing passes before the end: pieces that others follow wait, and those with them."""
        return self._guard is not None and self._guard.is_whole

    @property
    def is_slow(self) -> bool:
        """`settle` takes long: call it in a thread."""
        return self._guard is not None and self._guard.is_slow

    @property
    def is_quiet(self) -> bool:
        """Nothing is held back: whatever comes may stand behind what has come."""
        guard = self._guard
        return (guard is None or not guard.held_chars) and self.cleared == self.length

    @property
    def held_chars(self) -> int:
        """Neither passed on nor let go."""
        inside = 0 if self._guard is None else self._guard.held_chars
        return inside + self.length - self.taken

    @property
    def cleared(self) -> int:
        """So many characters may go out."""
        return self.length if self.windows is None else self.windows.cleared(self.length)

    def feed(self, text: str) -> None:
        """The next piece."""
        if self.blocked_by is not None:
            return
        make = self._rules.stream
        if make is None:
            self._pass(text)
            return
        try:
            guard = self._guard
            if guard is None:
                guard = self._guard = make()
                if self._context:
                    self._lacks = self._context
                    self._pass(self._new(guard.feed(self._context)))
            self._pass(self._new(guard.feed(text)))
            if guard.is_blocked:
                self._over(guard)
        except Exception as error:  # noqa: BLE001 - a bug of a scanner must not open a barrier
            self._broke(error, text)

    def settle(self, *, is_end: bool = False) -> None:
        """The run is over: what was held back of it passes, or is blocked.

        Args:
            is_end: nothing more comes: what was only told is told too.
        """
        guard = self._guard
        if guard is None or self.blocked_by is not None:
            return
        if not is_end and not guard.held_chars:
            return  # it goes on, and knows what was before
        try:
            self._pass(self._new(guard.finish()))
        except Exception as error:  # noqa: BLE001 - as above
            self._broke(error, "")
            return
        self._over(guard)

    def tell(self) -> None:
        """It ends here, whatever is held: note what was found so far."""
        guard, self._guard = self._guard, None
        if guard is not None and self.blocked_by is None:
            self._rules.note(guard.findings, self._notes)

    def take(self, until: int) -> str:
        """What may go out up to there, and was not taken: `until` is at most `cleared`."""
        if until <= self.taken:
            return ""
        text = self._kept[0] if len(self._kept) == 1 else "".join(self._kept)
        size = until - self.taken
        self._kept = [text[size:]] if size < len(text) else []
        self.taken = until
        return text[:size]

    # --- inside -----------------------------------------------------------------------------

    def _new(self, text: str) -> str:
        """What of a guard's text was not out before."""
        lacks = self._lacks
        if not lacks or not text:
            return text
        if lacks.startswith(text):
            self._lacks = lacks[len(text) :]
            return ""
        if text.startswith(lacks):
            self._lacks = ""
            return text[len(lacks) :]
        # Something runs over what went out: from where it differs on all is new.
        self._lacks = ""
        at = next(
            at for at, (one, other) in enumerate(zip(lacks, text, strict=False)) if one != other
        )
        return text[at:]

    def _pass(self, text: str) -> None:
        if not text:
            return
        self._kept.append(text)
        self.length += len(text)
        most = self._rules.context_chars
        if most:
            self._context = (self._context + text)[-most:]
        if self.windows is not None:
            self.windows.add(text)

    def _over(self, guard: StreamGuard) -> None:
        self._guard = None
        self.most_held_chars = max(self.most_held_chars, guard.most_held_chars)
        self.blocked_by = self._rules.note(guard.findings, self._notes)

    def _broke(self, error: Exception, text: str) -> None:
        self._guard = None
        self.blocked_by = self._rules.failed(error, self._notes)
        if self.blocked_by is None:
            self._pass(text)
