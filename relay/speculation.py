"""What is withheld of an answer that the client may yet discard.

A voice agent starts to answer before it is sure that the person has finished. Until it commits, no
tool call leaves the relay, since tools have effects; with `hold_until_commit` nothing does. What is
withheld is let go at the commit, in order, and dropped with a cancel. The provider is read on until
`max_bytes` are held, so that a commit finds the answer there.

No I/O; one task reads (`let_go`, `until_committed`), another commits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from relay.content import (
    Events,
    StreamEvent,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
)

LONGEST_S: Final = 60.0
"""A speculation that nobody commits ends after it: the turn has gone elsewhere."""

_OF_A_TOOL: Final = (ToolCallStart, ToolArgumentsDelta, ToolCallDone)


class Speculation:
    """Of one generation.

    Args:
        holds_all: withhold everything, not tool calls and what comes after them alone.
        max_bytes: how much is held before the provider is not read further.
        count: the size of an event, bytes.
    """

    __slots__ = ("_committed", "_count", "_held", "_held_bytes", "_holds", "_max_bytes")

    def __init__(
        self, *, holds_all: bool, max_bytes: int, count: Callable[[StreamEvent], int]
    ) -> None:
        self._holds = holds_all
        self._max_bytes = max_bytes
        self._count = count
        self._held: list[StreamEvent] = []
        self._held_bytes = 0
        self._committed: asyncio.Event | None = asyncio.Event()

    @property
    def is_committed(self) -> bool:
        """The client wants the answer."""
        return self._committed is None

    @property
    def is_holding(self) -> bool:
        """Something is withheld, or will be: the answer's end waits too."""
        return self._holds and not self.is_committed

    @property
    def is_full(self) -> bool:
        """As much is held as may be: the provider is not read until the commit."""
        return self.is_holding and self._held_bytes >= self._max_bytes

    def let_go(self, events: Events) -> Events:
        """What of these may be sent now; the rest is kept. All of it after the commit."""
        if self._committed is None:
            return events
        now: Events = ()
        if not self._holds:
            first = next(
                (at for at, event in enumerate(events) if isinstance(event, _OF_A_TOOL)), None
            )
            if first is None:
                return events
            self._holds = True
            now, events = events[:first], events[first:]
        self._held += events
        self._held_bytes += sum(map(self._count, events))
        return now

    def commit(self) -> Events:
        """The answer is wanted. Returns what was withheld, to be sent before what comes next;
        nothing if it was committed before."""
        if self._committed is None:
            return ()
        self._committed.set()
        self._committed = None
        held, self._held, self._held_bytes = self._held, [], 0
        return held

    async def until_committed(self) -> None:
        """Return when the answer is wanted. Cancelled: nothing has changed."""
        if self._committed is not None:
            await self._committed.wait()
