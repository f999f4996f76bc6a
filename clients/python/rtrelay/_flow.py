"""What a session knows of one generation: its start, its unread events, its end.

It does no I/O. The session's reader puts frames in (`take_...`), one consumer takes events out
(`next_event`), and nothing here ever makes the reader wait: a consumer that is slow gets its
pieces merged.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import grpc

from rtrelay._report import report
from rtrelay.errors import RelayError, from_status
from rtrelay.events import Event, from_delta, from_segment, from_tool_call, merged, size_of
from rtrelay.v1 import CancelReason, ConverseResponse, End, Outcome, Start

if TYPE_CHECKING:
    from rtrelay._link import Link
    from rtrelay._takeover import Via

MERGE_AT = 256
"""Unread events of one generation at which they are merged: some seconds of fast speech, so that
only who does not read at all sees it."""
MOST_UNREAD = 4 * MERGE_AT
"""What cannot be merged (segments, tool calls) may wait up to so many events; more are the end of
the generation."""
MOST_UNREAD_BYTES = 8 << 20
"""So much text (in characters) and sound may wait, which is looked at when they are merged."""


class Misuse(RuntimeError):
    """A caller's mistake that says nothing of the generation, which goes on."""


class Flow:
    """One generation inside the client. Used by one event loop."""

    def __init__(
        self,
        start: Start,
        *,
        on_event: Callable[[Event], object] | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> None:
        self.start = start
        """What is sent, again after a reconnect; its id is filled in then."""
        self.link: Link | None = None
        """The stream it runs on; None while it waits for one and after its end."""
        self.via: Via = "relay"
        """Which way it goes."""
        self.asked_at_s = asyncio.get_running_loop().time()
        """When it was started, by the loop's clock."""
        self.patience: asyncio.TimerHandle | None = None
        """Until when it waits for the relay, where there is another way."""
        self.restarts = 0
        """How often it was started again on another stream."""
        self.is_started = False
        self.is_counted = False
        self.has_output = False
        self.is_committed = False
        self.is_cancelled = False
        """Cancelled on this side: no event is delivered from then on."""
        self.end: End | None = None
        self.error: RelayError | None = None
        self.over = asyncio.Event()
        """Set once either of the two is known."""
        self._unread: deque[Event] = deque()
        self._merge_at = MERGE_AT
        self._waiter: asyncio.Future[None] | None = None
        self._on_event = on_event
        self._on_end = on_end
        self.has_callback = on_event is not None
        """Events go to a callback and are not kept."""
        # Callbacks run where the reader does, but see the variables of who started the generation.
        self._run = contextvars.copy_context().run if on_event or on_end else _run

    # --- the session's side -----------------------------------------------------------------

    def take(self, kind: str, frame: ConverseResponse) -> bool:
        """Take a frame of output.

        Returns:
            Whether the generation can go on. If not it is to be cancelled: too much is unread, or
            its callback raised.
        """
        self.has_output = True
        if self.is_cancelled:
            return True
        if kind == "delta":
            return self._add(from_delta(frame.delta))
        if kind == "segment":
            return self._add([from_segment(frame.segment)])
        return self._add([from_tool_call(frame.tool_call)])

    def put(self, events: Iterable[Event]) -> bool:
        """Take output that did not come in frames; the same."""
        self.has_output = True
        return True if self.is_cancelled else self._add(events)

    def _add(self, events: Iterable[Event]) -> bool:
        if self._on_event is not None:
            return self._call_back(self._on_event, events)
        self._unread.extend(events)
        if len(self._unread) > self._merge_at:
            self._unread = deque(merged(self._unread))
            # Twice what is left, so that merging stays linear where little can be merged.
            self._merge_at = max(MERGE_AT, 2 * len(self._unread))
            if len(self._unread) > MOST_UNREAD or self._unread_bytes() > MOST_UNREAD_BYTES:
                return False
        self._wake()
        return True

    def _unread_bytes(self) -> int:
        return sum(size_of(event) for event in self._unread)

    def _call_back(self, on_event: Callable[[Event], object], events: Iterable[Event]) -> bool:
        for event in events:
            if self.is_cancelled:  # by the callback itself
                break
            if not self._called("on_event", on_event, event):
                return False
        return True

    def _called(self, name: str, work: Callable[..., object], *arguments: object) -> bool:
        """Call back; whether it did not raise. Whatever it raises, other generations go on: also a
        CancelledError, such as the result of a task that was cancelled."""
        try:
            self._run(work, *arguments)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - told to the loop
            report(error, f"the {name} of a generation raised")
            return False
        return True

    def finish(self, end: End) -> None:
        """Its end came."""
        if self.over.is_set():
            return
        self.end = end
        if end.outcome == Outcome.OUTCOME_FAILED:
            self.error = from_status(end.error, end)
        self._set_over()

    def finish_unsent(self, reason: CancelReason.ValueType) -> None:
        """It was cancelled while no stream had it, so its end is made here."""
        self.finish(
            End(
                outcome=Outcome.OUTCOME_CANCELLED,
                cancel_reason=reason,
                turn_id=self.start.turn_id,
            )
        )

    def fail(self, error: RelayError) -> None:
        """It is over without an end of the relay."""
        if self.over.is_set():
            return
        self.error = error
        self._set_over()

    def drop_patience(self) -> None:
        """The relay answered, or need not any more."""
        if self.patience is not None:
            self.patience.cancel()
            self.patience = None

    def _set_over(self) -> None:
        self.link = None
        self.drop_patience()
        self.over.set()
        self._wake()
        # Dropped, since `on_end` knows the generation, and that this flow.
        on_end, self._on_end, self._on_event = self._on_end, None, None
        if on_end is not None:
            self._called("on_end", on_end)

    def drop_unread(self) -> None:
        """Deliver nothing any more; whoever waits for an event is told that there is none."""
        self.is_cancelled = True
        self._unread.clear()
        self._wake()

    # --- the consumer's side ----------------------------------------------------------------

    async def next_event(self) -> Event | None:
        """The next event; None if there will be none.

        If it is cancelled here no event is lost; what becomes of the generation is the caller's
        business.

        Raises:
            RelayError: the generation failed, and all that came before was delivered.
            Misuse: two tasks wait at once, or events go to a callback.
        """
        if self.has_callback:
            raise Misuse("the events of this generation go to its callback")
        while True:
            if self.is_cancelled:
                return None
            if self._unread:
                return self._unread.popleft()
            if self.error is not None:
                raise self.error.with_traceback(None)  # it may be raised many times
            if self.over.is_set():
                return None
            if self._waiter is not None:
                raise Misuse("another task waits for the events of this generation")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _run(work: Callable[..., object], *arguments: object) -> object:
    return work(*arguments)


def slow_consumer() -> RelayError:
    """Too many events are unread."""
    return RelayError(
        "SLOW_CONSUMER",
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"more than {MOST_UNREAD} events or {MOST_UNREAD_BYTES} bytes were not read",
    )
