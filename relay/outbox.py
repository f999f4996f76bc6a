"""What leaves one client stream: one writer, control frames first, one lane a generation.

A gRPC stream takes one write at a time, and a cancelled write ends the whole RPC, so a single task
that is never cancelled does all writing. Each generation has a lane of events that were not
written yet. They are encoded when the writer comes to them: while it is busy, deltas of the same
generation merge into the next frame. No timer, no added delay; a slow client holds one frame of
at most `lane_bytes`, and its generation is not read further (the generation's watchdog counts how
long).

Order: within a lane as pushed, the end last. Between lanes, round robin. Control frames go before
whatever waits.

A client that takes nothing at all for `slow_s` while a frame waits is too slow, however little that
is: the generations whose output waited all that time are told, and may end.

Answers to the client's own frames (control frames and ends) never wait to be queued, so whoever
reads the client awaits `room` before each read: a client that asks without reading is not heard
further until it does.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from relay.content import Events, StreamEvent, TextDelta
from relay.deadline import Clock
from relay.event_size import held_bytes


class Frames(Protocol):
    """Encodes one generation's output for the wire of the client."""

    def output(self, events: Events) -> Sequence[bytes]:
        """The frames of some events, merged where the wire allows; possibly none."""
        ...


MAX_ANSWERS = 64
"""Control frames and ends that may wait before `room` does: far above what a client that reads has
open, and some kilobytes in all."""


class Lane:
    """The pending output of one generation."""

    __slots__ = (
        "_drained",
        "_events",
        "_frames",
        "_is_queued",
        "_max_bytes",
        "_on_first_write",
        "_on_stall",
        "_outbox",
        "_pending_bytes",
        "_tail",
        "queued_s",
    )

    def __init__(
        self,
        outbox: Outbox,
        frames: Frames,
        max_bytes: int,
        on_first_write: Callable[[], None],
        on_stall: Callable[[], object] | None,
    ) -> None:
        self._outbox = outbox
        self._frames = frames
        self._max_bytes = max_bytes
        self._on_first_write: Callable[[], None] | None = on_first_write
        self._on_stall = on_stall
        self._events: list[StreamEvent] = []
        self._pending_bytes = 0
        self._tail: Callable[[], Sequence[bytes]] | None = None
        self._is_queued = False
        self._drained: asyncio.Future[None] | None = None
        self.queued_s = 0.0
        """Since when something waits; while nothing does, without meaning."""

    def push(self, events: Events) -> bool:
        """Add events; whether the lane is now full and `drained` should be awaited.

        For a client that is gone nothing is kept.
        """
        if self._outbox.is_closed:
            return False
        self._events += events
        for event in events:
            if type(event) is TextDelta and event.text.isascii():  # the common case
                self._pending_bytes += len(event.text)
            else:
                self._pending_bytes += held_bytes(event)
        self._queue()
        return self._pending_bytes >= self._max_bytes

    def pour(self, delta: TextDelta) -> Awaitable[None] | None:
        """`push` of one piece of text; what to await where the lane is full now."""
        return self.drained() if self.push((delta,)) else None

    def finish(
        self, make_frames: Callable[[], Sequence[bytes]], *, drop_pending: bool = False
    ) -> None:
        """The generation's last frames; nothing may be pushed after them. Never waits.

        Args:
            make_frames: called when the writer comes to it, after what is pending was encoded.
            drop_pending: output that waits is not wanted any more (a cancel).
        """
        if drop_pending:
            self._events = []
        self._tail = make_frames
        self._outbox.tail_queued()
        self._queue()

    def _queue(self) -> None:
        if not self._is_queued:
            self._is_queued = True
            self.queued_s = self._outbox.clock()
            self._outbox.ready(self)

    async def drained(self) -> None:
        """Return when what was pending has been handed to the stream, or the outbox is closed.

        Cancelled: nothing is lost; what is pending is still written.
        """
        if self._events and not self._outbox.is_closed:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def take(self) -> Sequence[bytes]:
        """The frames to write now (the writer's)."""
        self._is_queued = False
        frames: Sequence[bytes] = ()
        if self._events:
            events, self._events = self._events, []
            self._pending_bytes = 0
            frames = self._frames.output(events)
        if self._tail is not None:
            frames = [*frames, *self._tail()]
            self._tail = None
            self._outbox.tail_taken()
        return frames

    def wrote(self, frames: int) -> None:
        """What `take` returned, so many frames, is handed to the stream (the writer's)."""
        if frames and self._on_first_write is not None:
            self._on_first_write()
            self._on_first_write = None
        if not self._events:  # else more was pushed meanwhile, and the next write tells
            self._wake_producer()

    def stalled(self) -> None:
        """The client has taken nothing for too long (the outbox's)."""
        if self._on_stall is not None:
            self._on_stall()

    def drop(self) -> None:
        """The client is gone: forget what waits, and wake whoever waits in `drained`."""
        self._events = []
        self._pending_bytes = 0
        self._wake_producer()

    def _wake_producer(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None


class Outbox:
    """The single writer of one client stream."""

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[object]],
        clock: Clock = time.monotonic,
        slow_s: float | None = None,
    ) -> None:
        """
        Args:
            slow_s: how long a client may take nothing while a frame waits; None is for ever.
        """
        self._write = write
        self.clock = clock
        self._slow_s = slow_s
        self._writing: Lane | None = None
        self._writing_since_s: float | None = None  # None while nothing is being written
        self._watch: asyncio.TimerHandle | None = None
        self._control: deque[bytes] = deque()
        self._ready: deque[Lane] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._tails = 0  # ends that wait in their lanes
        self._room: asyncio.Future[None] | None = None
        self._is_closing = False
        self._closed_s = 0.0
        self.is_closed = False
        """The stream takes no more frames."""

    def control(self, frame: bytes) -> None:
        """Send a frame before anything that waits. Never waits; dropped after the end."""
        if not self.is_closed:
            self._control.append(frame)
            self._notify()

    @property
    def is_full(self) -> bool:
        """Whether `MAX_ANSWERS` wait to be written: await `room` before causing more."""
        return len(self._control) + self._tails >= MAX_ANSWERS and not self.is_closed

    async def room(self) -> None:
        """Return when fewer than `MAX_ANSWERS` wait, or the outbox is closed. One waiter at a time.

        Cancelled: nothing is lost; what waits is still written.
        """
        while self.is_full:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def tail_queued(self) -> None:
        """A lane has its last frame (the lane's)."""
        self._tails += 1

    def tail_taken(self) -> None:
        """A lane's last frame is being written (the lane's)."""
        self._tails -= 1
        self._make_room()

    def lane(
        self,
        frames: Frames,
        max_bytes: int,
        on_first_write: Callable[[], None],
        on_stall: Callable[[], object] | None = None,
    ) -> Lane:
        """A lane for one generation.

        Args:
            on_stall: called when output waits and the client has taken nothing for `slow_s`;
                again while that lasts; by a timer.
        """
        return Lane(self, frames, max_bytes, on_first_write, on_stall)

    def ready(self, lane: Lane) -> None:
        """The lane has something to write (the lane's)."""
        if self.is_closed:
            lane.drop()
            return
        self._ready.append(lane)
        self._notify()

    def _notify(self) -> None:
        wake = self._wake
        if wake is not None:
            self._wake = None
            if not wake.done():
                wake.set_result(None)

    def patience_s(self) -> float | None:
        """How much longer the client may take nothing; 0 when it is over, None without a limit.
        Closing gives it the whole time once more: it may yet take the last frames."""
        if self._slow_s is None:
            return None
        since_s = self._writing_since_s
        if since_s is None:
            return self._slow_s
        return max(0.0, max(since_s, self._closed_s) + self._slow_s - self.clock())

    def _look(self) -> None:
        """The timer of the watch: one for many frames, since it looks at when the last began."""
        self._watch = None
        slow_s, left_s = self._slow_s, self.patience_s()
        if slow_s is None or left_s is None or self._writing_since_s is None:
            return  # the next write starts it again
        if left_s <= 0:
            left_s, now_s = slow_s, self.clock()
            waiting = [] if self._writing is None else [self._writing]
            for lane in self._ready:
                if lane is not self._writing:
                    lane_left_s = lane.queued_s + slow_s - now_s
                    if lane_left_s <= 0:
                        waiting.append(lane)
                    else:
                        left_s = min(left_s, lane_left_s)
            for lane in waiting:
                lane.stalled()
        self._arm(left_s)

    def _arm(self, delay_s: float) -> None:
        self._watch = asyncio.get_running_loop().call_later(max(delay_s, 0.001), self._look)

    def close(self) -> None:
        """Write what is pending, then `run` returns. Idempotent."""
        if not self._is_closing:
            self._is_closing = True
            self._closed_s = self.clock()
        self._notify()

    def give_up(self) -> None:
        """Forget what waits; `run` returns when the write that is pending does. Idempotent."""
        self.is_closed = True
        self.close()
        self._drop()

    def _drop(self) -> None:
        """Release the lanes, and whoever waits for room."""
        for lane in self._ready:
            lane.drop()
        self._ready.clear()
        self._control.clear()
        self._make_room()

    async def run(self) -> None:
        """Write until closed. The task that runs this is not cancelled while the stream lives.

        Raises:
            Whatever `write` raises when the client is gone, or a bug in the encoding of a frame;
            then every lane is released, and whoever waits for room.
        """
        control, ready, write, clock = self._control, self._ready, self._write, self.clock
        writing: Lane | None
        try:
            while True:
                while control or ready:
                    if self._watch is None and self._slow_s is not None:
                        self._arm(self._slow_s)
                    if control:
                        frame = control.popleft()
                        self._make_room()
                        self._writing_since_s = clock()
                        await write(frame)
                        continue
                    self._writing = writing = ready.popleft()
                    frames = writing.take()
                    for frame in frames:
                        self._writing_since_s = clock()
                        await write(frame)
                        if self.is_closed:  # given up meanwhile
                            return
                    writing.wrote(len(frames))
                    self._writing = None
                # While nothing is to be written, nothing of what was is kept: a lane has its whole
                # generation, prompt and all.
                frame, frames, writing = b"", (), None
                self._writing_since_s = None
                if self._is_closing:
                    return
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
        finally:
            self.is_closed = True
            if self._watch is not None:
                self._watch.cancel()
                self._watch = None
            if self._writing is not None:
                self._writing.drop()
                self._writing = None
            self._drop()
