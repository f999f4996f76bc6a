"""Messages over one end of a socket pair: JSON, each with its length before it.

Never waits: what the other end does not read is held up to a bound, and what comes beyond it is
dropped and counted. Whoever is at the other end may be stuck; we must not be.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, cast

import orjson

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""The state of a worker with a thousand targets is a hundredth of it."""
MAX_WAITING_BYTES: Final = 8 * 1024 * 1024
"""Not yet read by the other end."""
_LENGTH_BYTES: Final = 4

Message = dict[str, Any]


class Channel(asyncio.Protocol):
    """One end; made by `open_channel`, closed by `close` or by the other end."""

    def __init__(self, take: Callable[[Message], None], lost: Callable[[], None]) -> None:
        self._take = take
        self._lost = lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.dropped = 0
        """Messages that the other end had no room for."""

    # --- asked by its owner -----------------------------------------------------------------

    def send(self, message: Message) -> bool:
        """Hand a message over; never waits, never raises. Returns False if it was dropped: the
        other end is gone, or reads nothing.

        Args:
            message: JSON data.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        body = orjson.dumps(message, option=orjson.OPT_NON_STR_KEYS)
        waiting = transport.get_write_buffer_size()
        if len(body) > MAX_MESSAGE_BYTES or (waiting and waiting + len(body) > MAX_WAITING_BYTES):
            self.dropped += 1
            return False
        transport.write(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
        return True

    def close(self) -> None:
        """Idempotent; what was not written yet is dropped."""
        if self._transport is not None:
            self._transport.abort()

    # --- told by asyncio --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _LENGTH_BYTES:
            begin = at + _LENGTH_BYTES
            end = begin + int.from_bytes(buffer[at:begin], "big")
            if end - begin > MAX_MESSAGE_BYTES:  # not one of ours
                self.close()
                return
            if len(buffer) < end:
                break
            try:
                message = orjson.loads(memoryview(buffer)[begin:end])
            except orjson.JSONDecodeError:
                self.close()
                return
            at = end
            self._take(message)
        del buffer[:at]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost()


async def open_channel(
    sock: socket.socket, take: Callable[[Message], None], lost: Callable[[], None]
) -> Channel:
    """Begin to speak over one end of a socket pair, which is the channel's from then on.

    Args:
        take: is given each message, in order; must not raise.
        lost: is called once, when the other end is gone or `close` was called.
    """
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_unix_connection(lambda: Channel(take, lost), sock=sock)
    return channel
