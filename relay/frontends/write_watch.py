"""Who does not read its answer: the bytes of one connection that wait to be written, and for how
long none of them has gone.

A transport keeps what its client does not take, and `close` waits for it: without a limit such a
connection lives for ever, whether its answer is still being made or is long complete.
"""

from __future__ import annotations

import asyncio
from typing import Final

from relay.frontends.connection_reset import reset

LOOKS: Final = 4
"""In the time that a client is given: so much more of it, at most a quarter, passes unseen."""


class WriteWatch:
    """Writes for one connection, and resets it when its client takes nothing.

    It looks when told to (`look_later`) and then four times every `limit_s` seconds until nothing
    waits: when four looks on end find that nothing was taken, the connection is reset, so after
    one to one and a quarter times `limit_s`. A look that finds nothing waiting is the last; there
    is no timer for a client that reads.
    """

    __slots__ = (
        "_idle_looks",
        "_limit_s",
        "_loop",
        "_taken_bytes",
        "_timer",
        "_transport",
        "_written_bytes",
    )

    def __init__(
        self, transport: asyncio.Transport, limit_s: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport = transport
        self._limit_s = limit_s
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._written_bytes = 0
        self._taken_bytes = 0
        """At the last look."""
        self._idle_looks = 0
        """On end, that found no more taken than the one before."""

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport; never waits."""
        self._written_bytes += len(data)
        self._transport.write(data)

    def look_later(self) -> None:
        """Something may wait for the client to read: call when the transport says that it holds
        much, when an answer is complete, and before a close."""
        waiting_bytes = self._transport.get_write_buffer_size()
        if self._timer is None and waiting_bytes:
            self._taken_bytes = self._written_bytes - waiting_bytes
            self._idle_looks = 0
            self._timer = self._loop.call_later(self._limit_s / LOOKS, self._look)

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
        self._idle_looks = self._idle_looks + 1 if taken_bytes <= self._taken_bytes else 0
        if self._idle_looks == LOOKS:
            reset(self._transport)
            return
        self._taken_bytes = taken_bytes
        self._timer = self._loop.call_later(self._limit_s / LOOKS, self._look)
