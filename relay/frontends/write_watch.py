"""Who does not read its answer: the bytes of one connection that wait to be written, and for how
long none of them has gone.

A transport keeps what its client does not take, and `close` waits for it: without a limit such a
connection lives for ever, whether its answer is still being made or is long complete.
"""

from __future__ import annotations

import asyncio


class WriteWatch:
    """Writes for one connection, and aborts it when its client takes nothing.

    It looks when told to (`look_later`) and then every `limit_s` seconds until nothing waits:
    when nothing was taken between two looks, the connection is aborted, so after one to two times
    `limit_s`. A look that finds nothing waiting is the last; there is no timer for a client that
    reads.
    """

    __slots__ = ("_limit_s", "_loop", "_taken_bytes", "_timer", "_transport", "_written_bytes")

    def __init__(
        self, transport: asyncio.Transport, limit_s: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport = transport
        self._limit_s = limit_s
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._written_bytes = 0
        self._taken_bytes = -1
        """At the last look; -1 before there was one."""

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport; never waits."""
        self._written_bytes += len(data)
        self._transport.write(data)

    def look_later(self) -> None:
        """Something may wait for the client to read: call when the transport says that it holds
        much, when an answer is complete, and before a close."""
        if self._timer is None and self._transport.get_write_buffer_size():
            self._taken_bytes = -1
            self._timer = self._loop.call_later(self._limit_s, self._look)

    def stop(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        waiting_bytes = self._transport.get_write_buffer_size()
        if not waiting_bytes:
            return
        taken_bytes = self._written_bytes - waiting_bytes
        if taken_bytes <= self._taken_bytes:
            self._transport.abort()
            return
        self._taken_bytes = taken_bytes
        self._timer = self._loop.call_later(self._limit_s, self._look)
