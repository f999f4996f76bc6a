"""A response body that can fail in the middle.

granian turns the end of a response stream into a clean END_STREAM whatever the application does,
and only an I/O error of a file response resets the stream. So a stream that is to be reset is
served as a "file": the slave side of a pseudo-terminal in raw mode, of which the emulator holds
the master. Closing the master makes the server's next read fail with EIO, and hyper answers with
RST_STREAM(INTERNAL_ERROR), or closes an HTTP/1.1 socket inside the chunked body.

The price: granian does not tell of a client that leaves a file response, so a cancel of such a
stream shows in the report as nothing but the reset that follows.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import termios
import tty

DRAIN_S = 0.02
"""Time for the server to write what it has read: a reset throws away what is still queued."""


class ResettableBody:
    """A pseudo-terminal that a file response reads from.

    It has no clean end: closing it always fails the server's read.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._pending = b""
        self._is_closed = False

    @property
    def is_read(self) -> bool:
        """Whether the server has read everything that was sent."""
        if self._is_closed:
            return True
        if self._pending:
            return False
        unread = fcntl.ioctl(self._slave, termios.FIONREAD, b"\0" * 4)
        return bool(struct.unpack("i", unread)[0] == 0)

    def send_bytes(self, data: bytes) -> None:
        """Pass bytes to the reader; what exceeds the terminal's queue (4 KiB) follows later."""
        if self._is_closed:
            return
        if self._pending:
            self._pending += data
            return
        if self._write(data):
            self._loop.add_writer(self._master, self._flush)

    def _flush(self) -> None:
        if not self._write(self._pending):
            self._loop.remove_writer(self._master)

    def _write(self, data: bytes) -> bytes:
        """What is left over."""
        try:
            written = os.write(self._master, data)
        except BlockingIOError:
            written = 0
        self._pending = data[written:]
        return self._pending

    def close(self) -> None:
        """Hang up: the reader fails. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_writer(self._master)
            os.close(self._slave)
            os.close(self._master)
