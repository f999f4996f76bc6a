"""A kept answer, given again: an `Answer` with nobody behind it.

At once, or as it came the first time (`paced`): a voice then hears what it would have heard, and a
client that throttles by the rhythm of tokens sees none that no model has. The first content comes
at once in any case. Gaps are counted from the beginning, so that a slow reader is not slowed again,
and none is longer than the operator allows.

The response gets an id and a time of its own, since clients tell answers apart by their ids
(LangGraph puts a message in place of an earlier one with the same id); ids of tool calls stay,
since what providers want back with a call is bound to its id.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import Final

from msgspec.structs import replace

from relay.answer import TextSource
from relay.cache.stored import Stored
from relay.content import Events, ResponseInfo, StreamEvent, Usage
from relay.deadline import Clock
from relay.errors import UpstreamError
from relay.routing.route import Timeouts
from relay.timeline import AttemptMarks

MAX_EVENTS: Final = 1024
"""Handed on at once; as of an attempt."""
_TIMEOUTS: Final = Timeouts(connect_s=1.0, first_token_s=1.0, inter_token_s=60.0, total_s=86_400.0)
"""There is nobody to wait for but for the gaps, which are shorter."""
MAX_GAP_S: Final = 30.0
"""That an operator may allow: well within `_TIMEOUTS`."""
_PREFIX: Final = re.compile(r"[A-Za-z]+[-_]")


class StoredAnswer:
    """See the module. Nothing has to be closed.

    Args:
        max_gap_s: between two batches; 0: everything comes at once.
        clock: monotonic.
        wall_clock: seconds since 1970: when the response is made.
    """

    def __init__(
        self, stored: Stored, *, max_gap_s: float, clock: Clock, wall_clock: Clock
    ) -> None:
        self._stored = stored
        self._clock = clock
        now_s = clock()
        self.timeouts: Timeouts = _TIMEOUTS
        """Nothing that would ever be over."""
        self.marks = AttemptMarks(now_s)
        """All of it took no time."""
        self.marks.at_s["first_content"] = now_s
        self._due: list[tuple[float, Events]] = []
        """What is to come and when, the last first."""
        at_s = now_s
        for batch in stored.batches:
            at_s += min(batch.gap_us / 1e6, max_gap_s)
            self._due.append((at_s, batch.events))
        self._due.reverse()
        self.prelude: Events = _as_new(self._until_content(), int(wall_clock()))
        """Up to the first content, or everything."""

    @property
    def provider(self) -> str:
        """Who had answered."""
        return self._stored.provider

    @property
    def model(self) -> str:
        """Which had answered, as the provider calls it."""
        return self._stored.model

    @property
    def name(self) -> str:
        """`provider/model`."""
        return f"{self._stored.provider}/{self._stored.model}"

    @property
    def is_over(self) -> bool:
        """Nothing is left."""
        return not self._due

    @property
    def output_bytes(self) -> None:
        """What `read` gives is all there is."""
        return None

    def _until_content(self) -> list[StreamEvent]:
        """What is due by now, and as much more as there must be some content."""
        events: list[StreamEvent] = []
        while self._due and len(events) < MAX_EVENTS:
            at_s, more = self._due[-1]
            if at_s > self.marks.started_s and any(event.is_content for event in events):
                break
            self._take(events, more)
        return events

    async def read(self) -> Events:
        """See `Answer`. Raises nothing."""
        if not self._due:
            return ()
        wait_s = self._due[-1][0] - self._clock()
        await asyncio.sleep(max(0.0, wait_s))
        now_s = self._clock()
        events: list[StreamEvent] = []
        while self._due and len(events) < MAX_EVENTS and (not events or self._due[-1][0] <= now_s):
            self._take(events, self._due[-1][1])
        return events

    def _take(self, events: list[StreamEvent], more: Events) -> None:
        """Move the next batch, or as much of it as there is room for."""
        at_s, _ = self._due.pop()
        room = MAX_EVENTS - len(events)
        events += more[:room]
        if len(more) > room:
            self._due.append((at_s, more[room:]))

    def text_source(self) -> TextSource | None:
        """None: what there is comes in few pieces."""
        return None

    def spent(self, usage: Usage) -> None:
        """Nothing was."""

    def abort(self) -> None:
        """See `Answer`."""
        self._due.clear()

    def fail(self, error: UpstreamError) -> None:
        """See `Answer`; there is nobody to blame."""
        self._due.clear()


def _as_new(events: list[StreamEvent], now_s: int) -> list[StreamEvent]:
    """As of a response that is made now."""
    for place, event in enumerate(events):
        if type(event) is ResponseInfo:
            events[place] = replace(
                event, response_id=_another_id(event.response_id), created_s=now_s
            )
    return events


def _another_id(response_id: str) -> str:
    """With the letters in front that say what kind of id it is."""
    if not response_id:
        return ""
    prefix = _PREFIX.match(response_id)
    return (prefix.group() if prefix else "") + uuid.uuid4().hex
