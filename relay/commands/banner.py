"""What `relay serve` tells the person who started it, on standard output.

Nobody may be there to read it: a pipe that is full, a reader that has gone, a disk without room. A
relay serves all the same, so what cannot be said now is not said.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import TextIO


def tell(text: str, stream: TextIO) -> None:
    """Write a text of a few lines past the stream's buffer; never waits, never raises OSError.

    Args:
        text: shorter than `select.PIPE_BUF`, so that a pipe that takes anything takes it whole.
    """
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # no file of the system's, but something of a test's
        stream.write(text)
        return
    with contextlib.suppress(OSError):
        stream.flush()
        # Left in the buffer it would be tried again at the end, and the exit status tell of it.
        _, is_ready, _ = select.select((), (descriptor,), (), 0)
        if is_ready:
            os.write(descriptor, text.encode())
