"""The client for programs without an event loop.

    with SyncClient("127.0.0.1:50051", model="fast") as client:
        for event in client.generate("Why is the sky blue?"):
            if isinstance(event, TextDelta): ...

A thread of its own runs the loop of a `Client`; each call here hands one coroutine over and waits
for it. That costs some tens of microseconds an event, and keeps all rules of `Session`: bounded
buffers, cancels that wait for nothing, restarts. All methods may be called from any thread but
the loop's own (so not from within callbacks, which is why there are none here). It is for programs
that have no loop: grpc.aio supports one loop that uses it per process at a time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from rtrelay._flow import Misuse
from rtrelay._takeover import Via
from rtrelay.client import Client
from rtrelay.events import Event
from rtrelay.session import Generation, Input
from rtrelay.stats import Stats
from rtrelay.v1 import CancelReason, End

T = TypeVar("T")

_THREAD_STOP_S = 5.0
"""How long closing waits for the thread; what it closes is bounded far below."""


class ClientClosed(RuntimeError):
    """The client is not open, or was closed meanwhile."""


class SyncClient:
    """A client with its sessions, kept while the block lasts: one, and another where more threads
    ask at once than the relay allows a session.

    Use it in `with`. Entering starts the thread and waits until a relay is ready; leaving cancels
    what runs, closes everything and ends the thread.
    """

    def __init__(self, addresses: str | list[str] | tuple[str, ...], **options: Any) -> None:
        """
        Args:
            options: those of `Client`.
        """
        self._addresses = addresses
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: Client | None = None
        # Held while work is handed to the loop, so that none is handed over after the last: it
        # would never run. Reentrant, because a reader may be dropped (`__del__`) at any point.
        self._handing_over = threading.RLock()

    def __enter__(self) -> Self:
        """
        Raises:
            RelayError: no address gave a stream. Nothing is left open then.
            ValueError: the options are wrong.
        """
        if self._loop is not None:
            raise RuntimeError("the client is open")
        loop = asyncio.new_event_loop()
        self._loop = loop
        self._thread = threading.Thread(
            target=_run_loop, args=(loop,), name="rtrelay loop", daemon=True
        )
        self._thread.start()
        try:
            self._call(self._open())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what runs, close everything, end the thread. Idempotent."""
        with self._handing_over:
            loop, thread, client = self._loop, self._thread, self._client
            self._loop = self._thread = self._client = None
        if loop is None or thread is None:
            return
        try:
            if client is not None:
                asyncio.run_coroutine_threadsafe(client.aclose(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_THREAD_STOP_S)

    def generate(self, prompt: Input, **options: Any) -> SyncGeneration:
        """Start a generation; nothing is waited for but the loop's own thread.

        Args:
            prompt: as for `Session.start`.
            options: those of `Session.start`, without the callbacks; `supersedes` takes what this
                method returned.

        Raises:
            ClientClosed: the client is not open.
            TypeError: the options are wrong.
        """
        if {"on_event", "on_end"} & options.keys():
            raise TypeError("there are no callbacks here: they would run in the loop's thread")
        client = self._client
        if client is None:
            raise ClientClosed("the client is not open")
        given = options.pop("supersedes", ())
        several = (given,) if isinstance(given, SyncGeneration) else given
        supersedes = [other.generation for other in several]

        async def start() -> Generation:
            return client.generate(prompt, supersedes=supersedes, **options)

        return SyncGeneration(self._call(start()), self)

    def feedback(self, request_id: str, **word: Any) -> bool:
        """As `Client.feedback`.

        Raises:
            RelayError: no relay took it.
            ClientClosed: the client is not open.
        """
        client = self._client
        if client is None:
            raise ClientClosed("the client is not open")
        return self._call(client.feedback(request_id, **word))

    @property
    def stats(self) -> Stats:
        """As `Client.stats`, of the time since the client was opened.

        Raises:
            ClientClosed: it is not open.
        """
        client = self._client
        if client is None:
            raise ClientClosed("the client is not open")
        return client.stats

    async def _open(self) -> None:
        self._client = Client(self._addresses, **self._options)
        await self._client.open()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it in the loop and wait. Interrupted here (KeyboardInterrupt), it is cancelled."""
        with self._handing_over:
            loop = self._loop
            if loop is None:
                work.close()
                raise ClientClosed("the client is not open")
            if threading.current_thread() is self._thread:
                work.close()
                raise RuntimeError("this is the loop's own thread: it cannot wait for itself")
            future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ClientClosed("the client was closed meanwhile") from None
        finally:
            future.cancel()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """For generations: run it in the loop and wait."""
        return self._call(work)

    def call_soon(self, work: Any, *arguments: Any) -> None:
        """For generations: have it called in the loop, and wait for nothing. Does nothing once the
        client is closed."""
        with self._handing_over:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(work, *arguments)


class SyncGeneration:
    """One answer in the making; made by `SyncClient.generate`.

    Leaving its loop or its block cancels it, as `Generation` says; the relay is not waited for.
    """

    def __init__(self, generation: Generation, client: SyncClient) -> None:
        self.generation = generation
        """What runs in the loop; not to be touched from other threads."""
        self._client = client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel()

    def __iter__(self) -> Iterator[Event]:
        """
        Raises:
            RelayError: from the loop, after all that came before the failure.
        """
        return _Reading(self, self._client)

    @property
    def via(self) -> Via:
        """Which way it goes, as `Generation.via`."""
        return self.generation.via

    @property
    def is_cancelled(self) -> bool:
        """It was cancelled on this side; a cancel takes a moment to get to the loop's thread."""
        return self.generation.is_cancelled

    @property
    def end(self) -> End | None:
        """How it ended; None until then."""
        return self.generation.end

    @property
    def decision(self) -> Mapping[str, Any] | None:
        """As `Generation.decision`."""
        return self.generation.decision

    def cancel(
        self, reason: CancelReason.ValueType = CancelReason.CANCEL_REASON_UNSPECIFIED
    ) -> None:
        """Stop it. Idempotent, waits for nothing."""
        self._client.call_soon(self.generation.cancel, reason)

    def commit(self) -> None:
        """The speculation is wanted. Idempotent, waits for nothing."""
        self._client.call_soon(self.generation.commit)

    def ended(self) -> End:
        """Wait for the end, whatever it is.

        Raises:
            RelayError: there is no end: the stream was lost, or none was to be had.
        """
        return self._client.call(self.generation.ended())

    def text(self) -> str:
        """Read it to its end and return the text of the first choice.

        Raises:
            RelayError: it failed.
        """
        return self._client.call(self.generation.text())


class _Reading:
    """One loop over a generation; when CPython drops it unfinished, the generation is cancelled."""

    def __init__(self, generation: SyncGeneration, client: SyncClient) -> None:
        self._generation: SyncGeneration | None = generation
        self._client = client

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        generation = self._generation
        if generation is None:
            raise StopIteration
        try:
            event = self._client.call(generation.generation.flow.next_event())
        except ClientClosed:  # which cancelled it
            self._generation = None
            raise StopIteration from None
        except Misuse:
            self._generation = None
            raise
        except BaseException:  # KeyboardInterrupt among them
            self._generation = None
            generation.cancel()
            raise
        if event is None:
            self._generation = None
            raise StopIteration
        return event

    def __del__(self) -> None:
        if self._generation is not None:
            self._generation.cancel()


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    """The thread: run the loop until it is stopped, then end what is left in it."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(_end_tasks())
    finally:
        loop.close()


async def _end_tasks() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_THREAD_STOP_S)
