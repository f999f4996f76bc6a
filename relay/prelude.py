"""What comes of an answer up to its first content, kept for whoever the answer will be given to.

As little of it as anybody will miss: reasoning that nobody asked for is one text, of which what is
over `MAX_UNHEARD_CHARS` is dropped, since it is only counted; of usage the last word stands.
"""

from __future__ import annotations

import io
from typing import Final

from relay.content import Events, OpaqueDelta, ReasoningDelta, StreamEvent, Usage
from relay.errors import EventTooLarge

MAX_PRELUDE_BYTES: Final = 16 * 1024 * 1024
"""What is held of an answer that has not begun: provider fields beside long reasoning, some hundred
bytes a token, are the most that is known."""

MAX_UNHEARD_CHARS: Final = 256 * 1024
"""Of reasoning that nobody asked for and that is kept to be counted; what is over is dropped."""

EVENT_BYTES: Final = 64
"""What a held event is counted with beside its content: the object and its place."""


class Prelude:
    """Of one attempt.

    Args:
        name: of its target, for errors.
    """

    __slots__ = ("_held_bytes", "_name", "_unheard", "_usage", "events")

    def __init__(self, name: str) -> None:
        self._name = name
        self.events: list[StreamEvent] = []
        """In the order of the wire, reasoning and usage at the end once `close` was called."""
        self._held_bytes = 0
        self._unheard: io.StringIO | None = None
        self._usage: Usage | None = None

    def hold(self, events: Events) -> Usage | None:
        """Keep what came before the first content.

        Returns:
            Usage that was among it, the last.

        Raises:
            EventTooLarge: it is over `MAX_PRELUDE_BYTES`.
        """
        found: Usage | None = None
        for event in events:
            if type(event) is ReasoningDelta:
                if self._unheard is None:
                    self._unheard = io.StringIO()
                self._unheard.write(event.text[: MAX_UNHEARD_CHARS - self._unheard.tell()])
                continue
            if type(event) is Usage:  # some providers count in every chunk; the last word stands
                found = self._usage = event
                continue
            self._held_bytes += EVENT_BYTES
            if type(event) is OpaqueDelta:
                self._held_bytes += len(event.value_json)
            self.events.append(event)
        if self._held_bytes > MAX_PRELUDE_BYTES:
            raise EventTooLarge(f"{self._name} sent over {MAX_PRELUDE_BYTES} bytes and no content")
        return found

    def close(self) -> None:
        """The first content is here, or the end: what was kept only to be counted follows."""
        if self._unheard is not None:
            self.events.append(ReasoningDelta(self._unheard.getvalue()))
            self._unheard = None
        if self._usage is not None:
            self.events.append(self._usage)
            self._usage = None
