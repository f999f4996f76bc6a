"""One Converse stream: a task that reads and a task that writes, and nobody else does either.

grpc.aio ends the whole RPC when a task that waits in `read()` or `write()` is cancelled. So the
tasks of callers only ever put frames into a queue here and are told of frames by their flows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import grpc.aio

from rtrelay.errors import STREAM_LOST, RelayError, from_rpc
from rtrelay.v1 import ConverseRequest, ConverseResponse, Ping, Ready, RelayServiceStub, Setup

if TYPE_CHECKING:
    from rtrelay._channels import Channels
    from rtrelay._flow import Flow

LATE_S = 0.05
"""A timer that fires so much after its time waits as long again."""


class LinkOwner(Protocol):
    """Who is told what happens on a stream. Both are called by its reader and must not wait."""

    def took(self, link: Link, frame: ConverseResponse) -> None:
        """A frame came."""

    def lost(self, link: Link) -> None:
        """The stream is over; `link.error` says how. Called once."""


class Link:
    """One stream. It runs while the task that `begin` gives does; whoever made it awaits that."""

    def __init__(
        self,
        channels: Channels,
        address: str,
        setup: Setup,
        metadata: tuple[tuple[str, str], ...],
        owner: LinkOwner,
        silence_s: float = 0.0,
    ) -> None:
        """
        Args:
            silence_s: `Reconnect.silence_s`.
        """
        self.address = address
        self.flows: dict[str, Flow] = {}
        """Generations that run on it, by their id on the wire."""
        self.ready: Ready | None = None
        self.ready_at_s = 0.0
        """When it became ready, by the loop's clock."""
        self.is_draining = False
        self.error: RelayError | None = None
        """How it ended; None while it goes on."""
        self.has_unclear_end = False
        """The relay ended it, and gRPC lost what it said."""
        self.opened = asyncio.Event()
        """Set when it is ready, and when it is over."""
        self._owner = owner
        self._channels = channels
        self._channel: grpc.aio.Channel | None = None
        self._metadata = metadata
        self._call: Any = None
        self._outgoing = deque([ConverseRequest(setup=setup)])
        self._has_outgoing = asyncio.Event()
        self._is_finishing = False
        self._has_failed_write = False
        self._has_ended = False
        """Nothing is read any more, so nothing is to be written."""
        self._is_over = False
        self._silence_s = silence_s
        self._watch: asyncio.TimerHandle | None = None
        self._has_heard = False
        """A frame came since the watch looked last."""
        self._has_asked = False

    def begin(self) -> asyncio.Task[None]:
        """Open it, and read until it is over.

        If the task is cancelled the RPC is cancelled. In any case the owner is told, and no other
        task is left.
        """
        task = asyncio.create_task(self._run(), name=f"rtrelay stream to {self.address}")
        # A task that is cancelled before its turn has run nothing of the above.
        task.add_done_callback(lambda _: self._over(_lost("the session was closed")))
        return task

    def send(self, frame: ConverseRequest) -> None:
        """Put a frame into the queue; after `finish` it is dropped."""
        if not self._is_finishing and not self._has_ended:
            self._outgoing.append(frame)
            self._has_outgoing.set()

    def watch(self) -> None:
        """Something runs: see that the relay lives, for as long as anything does."""
        if self._watch is None and self._silence_s > 0 and not self._is_over:
            self._has_heard, self._has_asked = True, False
            self._look_after(self._silence_s)

    def _look_after(self, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._watch = loop.call_at(loop.time() + delay_s, self._look, loop.time() + delay_s)

    def _look(self, due_s: float) -> None:
        self._watch = None
        if not self.flows or self._is_over:
            return
        if asyncio.get_running_loop().time() - due_s > LATE_S:
            self._look_after(LATE_S)  # this loop was blocked, and what came is still to be read
            return
        if self._has_heard or self.ready is None:  # until it is ready others wait for it
            self._has_heard = self._has_asked = False
        elif not self._has_asked:
            self._has_asked = True
            self.send(ConverseRequest(ping=Ping()))
        else:
            self.abort(_lost(f"{self.address} does not answer"))
            return
        self._look_after(self._silence_s)

    def finish(self) -> None:
        """Half-close once the queue is written: what runs may end, then the stream does."""
        self._is_finishing = True
        self._has_outgoing.set()

    def leave_connection(self) -> None:
        """Its worker drains: streams after this one get a connection of their own."""
        if self._channel is not None:
            self._channels.retire(self.address, self._channel)

    def abort(self, error: RelayError) -> None:
        """End it at once; `error` is what is told of it."""
        if self.error is None:
            self.error = error
        if self._call is not None:
            self._call.cancel()

    async def _run(self) -> None:
        ending = _lost("the reader failed")
        try:
            if self.error is None:  # else it was aborted before it began
                self._open()
                ending = await self._read_and_write()
        except asyncio.CancelledError:
            ending = _lost("the session was closed")
            raise
        except (TypeError, ValueError, RuntimeError) as error:  # gRPC cannot make such a call
            ending = _lost(f"{self.address}: {error}")
        finally:
            self._over(ending)
            channel, self._channel, self._call = self._channel, None, None
            if channel is not None:
                await self._channels.release(channel)

    def _open(self) -> None:
        self._channel = self._channels.acquire(self.address)
        stub: Any = RelayServiceStub(self._channel)
        self._call = stub.Converse(metadata=self._metadata)

    def _over(self, ending: RelayError) -> None:
        if self._is_over:
            return
        self._is_over = True
        self.error = self.error or ending
        self.opened.set()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self.error.reason == "DRAINING":
            self.leave_connection()
        self._owner.lost(self)

    async def _read_and_write(self) -> RelayError:
        writer = asyncio.create_task(self._write(), name="rtrelay writer")
        writer.add_done_callback(self._wrote)
        try:
            ending = await self._read()
        finally:
            self._call.cancel()
            await self._stop(writer)
            if self._has_failed_write:
                await self._read_rest()
        if self._has_failed_write and ending.code == grpc.StatusCode.INTERNAL:
            # gRPC's own status of a call that ended while it was written to; the relay's word on
            # it is lost for good.
            self.has_unclear_end = True
            return _lost("the stream ended while it was written to")
        return ending

    async def _stop(self, writer: asyncio.Task[None]) -> None:
        """End the writer of a call that is over: by itself if it can, since gRPC completes a write
        that was cancelled here at some later time, by which a program may have closed its loop. It
        cannot where the call was cancelled before it was sent: gRPC leaves its write waiting."""
        self._outgoing.clear()
        self._has_ended = True
        self._has_outgoing.set()
        try:
            await asyncio.wait([writer], timeout=0.1)
        finally:
            if not writer.done():
                writer.cancel()
                await asyncio.wait([writer], timeout=1.0)

    async def _read(self) -> RelayError:
        try:
            while True:
                frame = await self._call.read()
                if not isinstance(frame, ConverseResponse):  # grpc.aio.EOF
                    return _lost("the relay ended the stream")
                self._has_heard = True
                if frame.HasField("ready"):
                    self.ready = frame.ready
                    self.ready_at_s = asyncio.get_running_loop().time()
                    self.opened.set()
                else:
                    self._owner.took(self, frame)
        except grpc.aio.AioRpcError as error:
            return from_rpc(error)
        except asyncio.CancelledError:
            if _is_task_cancelled():
                raise
            return _lost("the stream was cancelled")  # by abort

    async def _read_rest(self) -> None:
        """Take and drop what gRPC still holds of a call whose write failed.

        grpc.aio (1.76 to 1.85) gives such a call a status of its own and then neither reads nor
        cancels it, while the task that waits for the true status does so until all messages are
        read: for ever. No public method gets at them.
        """
        inner = getattr(self._call, "_cython_call", None)
        receive = getattr(inner, "receive_serialized_message", None)
        if receive is None:
            return
        try:
            async with asyncio.timeout(1.0):
                while isinstance(await receive(), bytes):
                    pass
        except TimeoutError:
            return

    async def _write(self) -> None:
        try:
            while True:
                while self._outgoing:
                    await self._call.write(self._outgoing.popleft())
                if self._has_ended:
                    return
                if self._is_finishing:
                    await self._call.done_writing()
                    return
                self._has_outgoing.clear()
                await self._has_outgoing.wait()
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            self._has_failed_write = True  # the stream is over, and the reader learns how
        except asyncio.CancelledError:
            if _is_task_cancelled():
                raise

    def _wrote(self, writer: asyncio.Task[None]) -> None:
        """A stream on which nothing is written any more must not look alive."""
        if not writer.cancelled() and (error := writer.exception()) is not None:
            self.abort(_lost(f"{self.address}: a frame could not be written: {error}"))


def _is_task_cancelled() -> bool:
    """Whether a CancelledError is for the task: grpc.aio raises it for cancelled calls too."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _lost(message: str) -> RelayError:
    return RelayError(STREAM_LOST, grpc.StatusCode.UNAVAILABLE, message)
