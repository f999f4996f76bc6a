"""A response body that can fail in the middle.

granian turns the end of a response stream into a clean END_STREAM whatever the application does,
and only an I/O error of a file response resets the stream. So a stream that is to be reset is
served as a "file": the slave side of a pseudo-terminal in raw mode, of which the emulator holds
the master. Closing the master makes the server's next read fail with EIO, and hyper answers with
RST_STREAM(INTERNAL_ERROR), or closes an HTTP/1.1 socket inside the chunked body.
"""

from __future__ import annotations

import os
import pty
import tty

DRAIN_S = 0.02
"""Time for the server to read what was written: a hang-up throws away what is still queued."""


class ResettableBody:
    """A pseudo-terminal that a file response reads from.

    It has no clean end: closing it always fails the server's read.
    """

    def __init__(self) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._is_closed = False

    def send_bytes(self, data: bytes) -> None:
        """Pass bytes to the reader; blocks beyond the terminal's 4 KiB queue."""
        if not self._is_closed:
            os.write(self._master, data)

    def close(self) -> None:
        """Hang up: the reader fails. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            os.close(self._slave)
            os.close(self._master)
