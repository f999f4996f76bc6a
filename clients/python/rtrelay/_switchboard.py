"""Which stream each generation of a session runs on, and what happens when a stream goes.

Strategy: new generations go to `current`. When the relay drains, `current` is given up at once, so
that the next generation goes to a fresh stream while those that run finish on the old one. When a
stream breaks, generations without output wait for the next stream and are started again on it;
those with output fail, since what was heard cannot be unsaid. One task opens streams, address
after address, with full jitter between rounds, and only while there is a reason to.

Everything but `open` and `aclose` is synchronous: nothing that a caller's task does here can be
cut in the middle.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import grpc

from rtrelay._arguments import duration
from rtrelay._channels import Channels
from rtrelay._detour import Detour
from rtrelay._flow import Flow, slow_consumer
from rtrelay._link import Link
from rtrelay.errors import STREAM_LOST, RelayError, from_status, stream_lost
from rtrelay.events import from_retract
from rtrelay.v1 import (
    Cancel,
    CancelReason,
    Close,
    Commit,
    ConverseRequest,
    ConverseResponse,
    NoticeKind,
    Setup,
)

if TYPE_CHECKING:
    from rtrelay._standby import Standby
    from rtrelay.stats import Counts

MOST_RESTARTS = 3
"""Of one generation after streams that had worked: what kills relays must not visit them all."""

LONG_OUTAGE_PAUSES = 5.0
"""By so much pauses are longer once `Reconnect.give_up_s` has passed, where nobody gives up."""

OPEN_WITHIN_S = 1.0
"""How long a session that can go round the relay waits for it when it is opened."""

LIVE_UNTIL_KNOWN = 4
"""Generations at once that any relay is taken to allow before it has told its limit."""

SHORT_LIVED_S = 1.0
"""A stream that was ready for less time counts as a failed try: see `_open`."""

_LASTING = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
"""Statuses of a stream after which another would end the same. RESOURCE_EXHAUSTED is one: of a
frame that gRPC itself finds too large."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How streams are opened. Times are in seconds."""

    connect_timeout_s: float = 3.0
    """Until an address has said `ready`; then the next one is tried."""
    give_up_s: float = 5.0
    """After so long without a stream what waits for one fails. Later starts try anew."""
    backoff_s: float = 0.05
    """Bound of the pause after each address was tried once; it doubles with every try."""
    max_backoff_s: float = 1.0
    """Bound of that bound. The pause itself is drawn evenly between 0 and the bound."""
    silence_s: float = 1.5
    """While something runs and nothing comes for so long, a ping asks whether the relay lives;
    without an answer for as long again the stream is given up. 0: it is never asked."""

    def __post_init__(self) -> None:
        """
        Raises:
            TypeError, ValueError: a time is none.
        """
        for name in (
            "connect_timeout_s",
            "give_up_s",
            "backoff_s",
            "max_backoff_s",
            "silence_s",
        ):
            duration(name, getattr(self, name))


class Switchboard:
    """The streams and generations of one session."""

    def __init__(
        self,
        addresses: Sequence[str],
        channels: Channels,
        setup: Setup,
        metadata: tuple[tuple[str, str], ...],
        reconnect: Reconnect,
        counts: Counts,
        standby: Standby | None = None,
    ) -> None:
        self.current: Link | None = None
        """Where new generations go; None while there is no stream to be had."""
        self._addresses = addresses
        self._next_address = 0
        self._channels = channels
        self._setup = setup
        self._metadata = metadata
        self._reconnect = reconnect
        self._waiting: deque[Flow] = deque()
        self._links: dict[Link, asyncio.Task[None]] = {}
        self._opener: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()
        """Somebody waits who did not when the pause between two tries began."""
        self._open_error: RelayError | None = None
        self.is_closed = False
        """`aclose` was called."""
        self._max_frame_bytes = 0
        self._short_lived = 0  # streams in a row that were ready and soon lost
        self._ids = count(1)
        self._counts = counts
        self._standby = standby
        self._detour: Detour | None = None

    def _begin(self) -> None:
        """In the loop, with the first use: nothing is made before.

        Raises:
            RuntimeError: the client belongs to another loop.
        """
        self._channels.check_loop()
        if self._standby is not None and self._detour is None:
            self._detour = Detour(self._standby, self._setup, self)

    # --- life -------------------------------------------------------------------------------

    async def open(self) -> None:
        """Have a stream that is ready, or know that generations go round the relay.

        If it is cancelled here, the opening goes on until `aclose`.

        Raises:
            RelayError: no address gave one in time, and there is no other way.
        """
        self._begin()
        self._open_soon()
        if self._detour is not None:
            await self._open_or_leave(self._detour)
        while self._opener is not None and not self.is_closed and not self._is_away:
            await asyncio.wait([self._opener])
        if self.is_closed:
            raise _no_stream("the session was closed")
        if self.current is None and not self._is_away:
            raise self._open_error or _no_stream("the session has no stream")

    @property
    def _is_away(self) -> bool:
        return self._detour is not None and self._detour.left.is_set()

    async def _open_or_leave(self, detour: Detour) -> None:
        """Nobody has asked anything yet, so a relay far away gets more time than for a call."""
        opener = self._opener
        if opener is None or detour.left.is_set():
            return
        leaves = asyncio.create_task(detour.left.wait(), name="rtrelay opening")
        try:
            await asyncio.wait(
                [opener, leaves],
                timeout=max(OPEN_WITHIN_S, detour.after_s),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            leaves.cancel()
            await asyncio.wait([leaves])
        if not opener.done() and not self.is_closed:
            detour.away("no_connection")

    def prepare(self) -> None:
        """Begin to open a stream if there is none."""
        self._begin()
        self._open_soon()

    async def aclose(self, timeout_s: float) -> None:
        """Cancel what runs, end the streams, leave no task. Idempotent.

        Waits up to `timeout_s` seconds for the ends that the relay sends. If it is cancelled here,
        it still ends every task, without those ends.
        """
        self.is_closed = True
        reason = CancelReason.CANCEL_REASON_SESSION_END
        for flow in list(self._waiting):
            flow.drop_unread()
            flow.finish_unsent(reason)
        self._waiting.clear()
        if self._detour is not None:
            self._detour.stop()
        for link in self._links:
            for flow in link.flows.values():
                flow.drop_unread()
            link.send(ConverseRequest(close=Close()))
        tasks = set(self._links.values())
        if self._opener is not None:
            self._opener.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=timeout_s)
        finally:
            for task in tasks:
                task.cancel()
            if self._opener is not None:
                tasks.add(self._opener)
                self._opener = None  # whose last frame knows us
            if self._detour is not None:
                tasks |= self._detour.tasks
            if tasks:
                await asyncio.wait(tasks, timeout=timeout_s)

    # --- generations ------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """It is open, and what it has at the relay is below the relay's limit."""
        if self.is_closed:
            return False
        link = self.current
        if link is None or link.ready is None:
            limit = LIVE_UNTIL_KNOWN
        else:
            limit = link.ready.limits.max_concurrent_generations
        running = len(self._waiting) + (len(link.flows) if link is not None else 0)
        return limit == 0 or running < limit

    def start(self, flow: Flow, supersedes: Iterable[Flow]) -> None:
        """Start a generation on the current stream, or on the next one that there is.

        Raises:
            RuntimeError: the session is closed, or the client belongs to another loop.
        """
        if self.is_closed:
            raise RuntimeError("the session is closed")
        self._begin()
        reason = CancelReason.CANCEL_REASON_SUPERSEDED
        is_direct = self._detour is not None and self._detour.is_direct
        for other in supersedes:
            link = None if is_direct else other.link
            if link is not None and link is self.current and not other.is_cancelled:
                # The relay cancels it, before it starts the new one.
                flow.start.supersedes.append(other.start.generation_id)
                other.drop_unread()
            else:
                self.cancel(other, reason)
        self._send(flow)
        if flow.link is None and flow.via == "relay":  # it waits, so the next try must not
            self._asked.set()

    def _send(self, flow: Flow) -> None:
        """To the current stream, or the next; or round the relay."""
        if self._detour is not None and self._detour.takes(flow):
            self._open_soon()
        elif self.current is not None:
            self._place(flow, self.current)
        else:
            self._waiting.append(flow)
            self._open_soon()

    def cancel(self, flow: Flow, reason: CancelReason.ValueType) -> None:
        """Deliver nothing more of it, and tell the relay. Idempotent."""
        is_first = not flow.is_cancelled
        flow.drop_unread()
        flow.drop_patience()
        if flow.over.is_set() or not is_first:
            return
        if flow.via == "direct" and self._detour is not None:
            self._detour.cancel(flow, reason)
            return
        if flow.link is None:
            if flow in self._waiting:  # else it is just being placed or failed, by a caller of ours
                self._waiting.remove(flow)
            flow.finish_unsent(reason)
            return
        cancel = Cancel(generation_id=flow.start.generation_id, reason=reason)
        flow.link.send(ConverseRequest(cancel=cancel))

    def commit(self, flow: Flow) -> None:
        """A speculation is wanted. Idempotent; does nothing for what is over."""
        is_first = not flow.is_committed
        flow.is_committed = True
        if is_first and flow.via == "direct" and self._detour is not None:
            self._detour.commit(flow)
        elif is_first and flow.link is not None:
            commit = Commit(generation_id=flow.start.generation_id)
            flow.link.send(ConverseRequest(commit=commit))

    def withdraw(self, flow: Flow) -> None:
        """Take a generation from where it waits or runs; the relay's word on it is not heard."""
        link = flow.link
        if link is None:
            if flow in self._waiting:
                self._waiting.remove(flow)
            return
        flow.link = None
        name = flow.start.generation_id
        reason = CancelReason.CANCEL_REASON_CLIENT_TIMEOUT
        link.send(ConverseRequest(cancel=Cancel(generation_id=name, reason=reason)))
        link.flows.pop(name, None)
        self._end_if_drained(link)

    def next_id(self) -> str:
        """An id that the session has not used."""
        return _base36(next(self._ids))

    def _place(self, flow: Flow, link: Link) -> None:
        """Send its start over a stream, under an id that this session has not used."""
        if flow.over.is_set():  # a callback of another one has cancelled it meanwhile
            return
        flow.start.generation_id = self.next_id()
        frame = ConverseRequest(start=flow.start)
        if 0 < self._max_frame_bytes < frame.ByteSize():
            # Far larger ones would end the stream, and with it the generations of others. What it
            # was to supersede is not heard any more here: it has to stop there too.
            superseded = CancelReason.CANCEL_REASON_SUPERSEDED
            for name in flow.start.supersedes:
                cancel = Cancel(generation_id=name, reason=superseded)
                link.send(ConverseRequest(cancel=cancel))
            flow.fail(
                RelayError(
                    "REQUEST_TOO_LARGE",
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"the start is larger than the {self._max_frame_bytes} bytes of a frame",
                    details={"limit_bytes": str(self._max_frame_bytes)},
                )
            )
            return
        flow.link = link
        link.flows[flow.start.generation_id] = flow
        link.send(frame)
        link.watch()
        if flow.is_committed:
            link.send(ConverseRequest(commit=Commit(generation_id=flow.start.generation_id)))

    def _start_again(self, flow: Flow) -> None:
        """Give a generation that had no output to the live stream, or to the next one."""
        if flow.is_started:
            flow.drop_patience()  # the relay had it: it may be waited for anew
        flow.link = None
        flow.is_started = False
        del flow.start.supersedes[:]  # they were cancelled, or went with the stream
        self._send(flow)

    # --- what streams tell ------------------------------------------------------------------

    def took(self, link: Link, frame: ConverseResponse) -> None:
        """A frame of the relay; of kinds and generations that are not known it is ignored."""
        kind = frame.WhichOneof("frame")
        if kind == "notice":
            self._took_notice(link, frame)
            return
        if kind == "pong" and self._detour is not None:
            self._detour.pong(link, frame.pong.nonce)
        if kind not in ("started", "delta", "segment", "tool_call", "end"):
            return
        flow = link.flows.get(getattr(frame, kind).generation_id)
        if flow is None:
            return
        if kind == "started":
            self._took_started(link, flow)
        elif kind == "end":
            self._took_end(link, flow, frame)
        elif not flow.take(kind, frame):
            self.cancel(flow, CancelReason.CANCEL_REASON_UNSPECIFIED)
            if not flow.has_callback:
                # Its consumer is told why; what the relay still sends finds no flow.
                del link.flows[flow.start.generation_id]
                flow.is_cancelled = False
                flow.fail(slow_consumer())
                self._end_if_drained(link)

    def _took_started(self, link: Link, flow: Flow) -> None:
        if not flow.is_counted:
            flow.is_counted = True
            self._counts.relay += 1
        flow.is_started = True
        if self._detour is not None:
            self._detour.has(flow, link)

    def _took_end(self, link: Link, flow: Flow, frame: ConverseResponse) -> None:
        del link.flows[flow.start.generation_id]
        end = frame.end
        is_refused = end.HasField("error") and from_status(end.error).reason == "DRAINING"
        if is_refused and self._may_restart(flow) and flow.restarts < MOST_RESTARTS:
            flow.restarts += 1
            self._give_up_on(link)
            self._start_again(flow)
        else:
            flow.finish(end)
        self._end_if_drained(link)

    def _took_notice(self, link: Link, frame: ConverseResponse) -> None:
        notice = frame.notice
        if notice.kind == NoticeKind.NOTICE_KIND_DRAIN:
            self._give_up_on(link)
            self._end_if_drained(link)
        elif notice.kind == NoticeKind.NOTICE_KIND_FRAME_REJECTED:
            flow = link.flows.get(notice.generation_id)
            if flow is not None and not flow.is_started:
                del link.flows[notice.generation_id]
                flow.fail(from_status(notice.error))
                self._end_if_drained(link)
        elif notice.kind == NoticeKind.NOTICE_KIND_RETRACT:
            flow = link.flows.get(notice.generation_id)
            if flow is not None and not flow.put([from_retract(notice)]):
                self.cancel(flow, CancelReason.CANCEL_REASON_UNSPECIFIED)

    def _give_up_on(self, link: Link) -> None:
        """Send nothing new over a stream that drains; have another one before it is needed."""
        link.is_draining = True
        link.leave_connection()
        if self.current is link:
            self.current = None
        self._open_soon()

    def _end_if_drained(self, link: Link) -> None:
        if link.is_draining and not link.flows:
            link.finish()

    def lost(self, link: Link) -> None:
        """A stream is over: its generations wait for another one, or fail."""
        self._links.pop(link, None)
        was_current = self.current is link
        if was_current:
            self.current = None
        if link.ready is not None:
            is_short = asyncio.get_running_loop().time() - link.ready_at_s < SHORT_LIVED_S
            self._short_lived = self._short_lived + 1 if is_short else 0
        error = link.error or _no_stream("the stream is over")
        if self._detour is not None:
            self._detour.lost(link, was_current=was_current)
        flows = list(link.flows.values())
        link.flows.clear()
        for flow in flows:
            if flow.has_output or flow.is_cancelled or self.is_closed:
                flow.fail(error if error.code in _LASTING else stream_lost(error))
            elif not self._may_restart(flow, error):
                flow.fail(error)
            elif flow.restarts >= MOST_RESTARTS:
                if self._detour is not None:
                    self._detour.take(flow, "stream_lost")
                else:
                    flow.fail(error)
            else:
                # Where it was never ready, the start was hardly seen.
                flow.restarts += link.ready is not None
                self._start_again(flow)
        is_idle = error.reason == "SESSION_IDLE"  # who wants nothing needs no stream
        if self._waiting or (was_current and not is_idle and error.code not in _LASTING):
            self._open_soon()

    def _may_restart(self, flow: Flow, error: RelayError | None = None) -> bool:
        is_lasting = error is not None and error.code in _LASTING
        return not (flow.has_output or flow.is_cancelled or self.is_closed or is_lasting)

    # --- opening streams --------------------------------------------------------------------

    def _open_soon(self) -> None:
        if self._opener is None and self.current is None and not self.is_closed:
            self._opener = asyncio.create_task(self._open(), name="rtrelay opener")

    async def _open(self) -> None:
        """Try addresses until one is ready, or give up: then what waits fails."""
        loop = asyncio.get_running_loop()
        # A relay that takes streams and drops them must not be asked in a tight loop.
        await self._was_asked_within(self._pause_s(self._short_lived))
        give_up_at_s = loop.time() + self._reconnect.give_up_s
        failures = 0  # since somebody asked
        for tries in count(1):
            link = self._make_link()
            try:
                async with asyncio.timeout(self._reconnect.connect_timeout_s):
                    await link.opened.wait()
            except TimeoutError:
                link.abort(_no_stream(f"{link.address} was not ready in time"))
                task = self._links.get(link)
                if task is not None:
                    await asyncio.wait([task], timeout=self._reconnect.connect_timeout_s)
            if link.ready is not None and self.current is link:
                self._max_frame_bytes = link.ready.limits.max_frame_bytes
                self._opener = None
                if self._detour is not None:
                    self._detour.answered(link.ready.session_id)
                return
            error = link.error or _no_stream(f"{link.address} drains")
            failures += 1
            pause_s = self._pause_s(failures // len(self._addresses))
            if error.code in _LASTING:
                break
            if self._detour is not None:
                # A refusal (of a key, say) may be what gRPC lost: the next try tells.
                if tries % len(self._addresses) == 0 and not link.has_unclear_end:
                    self._leave(self._detour)
                if loop.time() >= give_up_at_s:
                    pause_s *= LONG_OUTAGE_PAUSES
            elif loop.time() + pause_s >= give_up_at_s:
                break
            if await self._was_asked_within(pause_s):
                failures = 0
        self._give_up(error)

    async def _was_asked_within(self, pause_s: float) -> bool:
        """The pause before the next try: for as long as nobody asks anything."""
        self._asked.clear()
        try:
            async with asyncio.timeout(pause_s):
                await self._asked.wait()
        except TimeoutError:
            return False
        return True

    def _leave(self, detour: Detour) -> None:
        """Every address was tried in vain: what waits need not wait longer."""
        detour.away("no_connection")
        waiting = list(self._waiting)
        self._waiting.clear()
        for flow in waiting:
            if not flow.over.is_set():
                detour.take(flow, "stream_lost" if flow.restarts else "no_connection")

    def _pause_s(self, failures: int) -> float:
        """How long to wait after so many failures in a row; not at all after none. Full jitter, so
        that the clients of a relay that went do not come back in step."""
        if not failures:
            return 0.0
        bound_s = self._reconnect.backoff_s * 2.0 ** min(failures - 1, 16)
        return random.uniform(0.0, min(bound_s, self._reconnect.max_backoff_s))  # noqa: S311

    def _give_up(self, error: RelayError) -> None:
        self._open_error = error
        # First: whoever hears of a failure below may start again, and needs a new opener then.
        self._opener = None
        if self._detour is not None:
            self._detour.refused()
        waiting = list(self._waiting)
        self._waiting.clear()
        for flow in waiting:
            flow.fail(error)

    def _make_link(self) -> Link:
        """Begin a stream to the next address. What waits is sent with its setup: no generation
        waits for `ready`."""
        address = self._addresses[self._next_address % len(self._addresses)]
        self._next_address += 1
        silence_s = self._reconnect.silence_s
        link = Link(self._channels, address, self._setup, self._metadata, self, silence_s)
        self._links[link] = link.begin()
        self.current = link
        waiting = list(self._waiting)
        self._waiting.clear()
        for flow in waiting:
            self._place(flow, link)
        return link


def _no_stream(message: str) -> RelayError:
    return RelayError(STREAM_LOST, grpc.StatusCode.UNAVAILABLE, message)


def _base36(number: int) -> str:
    """A short id: every delta carries it."""
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits
