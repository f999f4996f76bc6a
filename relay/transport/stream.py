"""What the streams of all engines share: one end, told to the owner once, and never a false one.

An engine's stream is its own iterator, so that a chunk costs one coroutine and no more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Self

from relay.errors import StreamReset
from relay.transport.base import Headers
from relay.transport.engine import StreamEnd, StreamOwner


def reset_by_provider(message: str, headers_received: bool) -> tuple[StreamReset, StreamEnd]:
    """RST_STREAM, but for REFUSED_STREAM. Who sends it has seen the request and may bill it: no
    connection was stale, and no second try is free."""
    return StreamReset(message, headers_received=headers_received), StreamEnd.BROKEN


class EngineStream(ABC):
    """An `UpstreamStream`. Subclasses write `__anext__` and `_leave`.

    `__anext__` calls `_done()` at the engine's end of the body, `_broken(how)` before it raises
    for a failure, and `abort()` when it is cancelled.
    """

    __slots__ = ("_ahead", "_end", "_owner", "headers", "http_version", "read_next", "status")

    def __init__(
        self, status: int, headers: Headers, http_version: Literal["1.1", "2"], owner: StreamOwner
    ) -> None:
        self.status = status
        self.headers = headers
        self.http_version = http_version
        self._owner = owner
        self._end: StreamEnd | None = None
        self._ahead: Any = None
        self.read_next: Callable[[], Awaitable[Any]] | None = None
        """See `ReadsAhead`; None in engines that cannot."""

    def put_back(self, outcome: Any) -> None:
        """See `ReadsAhead`."""
        self._ahead = outcome

    def chunks(self) -> Self:
        """See `UpstreamStream.chunks`."""
        return self

    def __aiter__(self) -> Self:
        return self

    @abstractmethod
    async def __anext__(self) -> bytes | memoryview: ...

    def abort(self) -> None:
        """See `UpstreamStream.abort`."""
        if self._end is None:
            self._end = StreamEnd.ABORTED
            self._leave()
            self._owner.end(StreamEnd.ABORTED)

    async def aclose(self) -> None:
        """See `UpstreamStream.aclose`."""
        self.abort()

    @abstractmethod
    def _leave(self) -> None:
        """Reset the stream (close the HTTP/1.1 connection) now; a pending read must end."""

    def _done(self) -> StopAsyncIteration | StreamReset:
        """The engine says the body is over; what to raise.

        An aborted or broken stream ends like a complete one in some engines; not here.
        """
        if self._end is None:
            self._end = StreamEnd.DONE
            self._owner.end(StreamEnd.DONE)
        if self._end is StreamEnd.DONE:
            return StopAsyncIteration()
        return StreamReset("the stream was left before its end", headers_received=True)

    def _broken(self, how: StreamEnd) -> None:
        """The stream broke: the first failure counts."""
        if self._end is None:
            self._end = how
            self._owner.end(how)
