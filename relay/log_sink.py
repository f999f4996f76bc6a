"""Where lines of the log go: a bounded queue, and a thread that writes them.

Whoever reads our standard error may be slow, or have stopped: the pipe is full then, and a write
waits. Only this thread waits for it. What finds no room is dropped and counted, and the count is
the next line that gets through. Lines that come close together are written together, which costs
less than a write each.
"""

from __future__ import annotations

import atexit
import os
import queue
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

GATHER_S: Final = 0.1
"""From the first line to the write: each waking of the thread costs the loop the interpreter."""
LEAVE_S: Final = 1.0
"""For what waits, when the process ends."""
DEFAULT_WAITING_BYTES: Final = 4 * 1024 * 1024


class LineSink:
    """Takes lines from any thread, never blocks, never raises.

    Args:
        descriptor: what is written to; stays its owner's.
        dropped_line: the line that tells how many were dropped, without a line break.
        gather_s: as `GATHER_S`.
    """

    def __init__(
        self,
        descriptor: int,
        dropped_line: Callable[[int], bytes],
        *,
        max_waiting_bytes: int = DEFAULT_WAITING_BYTES,
        gather_s: float = GATHER_S,
    ) -> None:
        self.max_waiting_bytes = max_waiting_bytes
        self._descriptor = descriptor
        self._dropped_line = dropped_line
        self._gather_s = gather_s
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._is_closed = False
        self._untold = 0
        self._is_torn = False
        """The last write ended within a line."""
        self.dropped_lines = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def put(self, line: bytes) -> None:
        """
        Args:
            line: without its line break.
        """
        size = len(line) + 1
        with self._lock:
            if self._is_closed:
                return
            if self._waiting_bytes + size > self.max_waiting_bytes:
                self.dropped_lines += 1
                self._untold += 1
                return
            self._waiting_bytes += size
        self._lines.put(line)

    def close(self, within_s: float = LEAVE_S) -> None:
        """Write what waits, for no longer than that; later lines are lost. Idempotent."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        atexit.unregister(self.close)
        self._lines.put(None)
        self._thread.join(within_s)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            first = self._lines.get()
            if first is not None and not self._is_closed:
                time.sleep(self._gather_s)
            lines: list[bytes | None] = [first]
            while True:
                try:
                    lines.append(self._lines.get_nowait())
                except queue.Empty:
                    break
            is_last = None in lines
            self._write([line for line in lines if line is not None])

    def _write(self, lines: list[bytes]) -> None:
        size = sum(len(line) + 1 for line in lines)
        with self._lock:
            untold, self._untold = self._untold, 0
        if untold:
            lines.append(self._dropped_line(untold))
        for piece, count in _pieces(lines):
            if not self._write_whole(piece):
                with self._lock:
                    self.dropped_lines += count
                    self._untold += count
        with self._lock:
            self._waiting_bytes -= size

    def _write_whole(self, piece: bytes) -> bool:
        """Whether it got out; waits for who reads slowly, whether the descriptor blocks or not."""
        whole = b"\n" + piece if self._is_torn else piece
        rest = memoryview(whole)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError as error:
                    _, ready, _ = select.select((), (self._descriptor,), (), 0.5)
                    if not ready and self._is_closed:  # nobody waits for us any more
                        raise OSError(error.errno, "left") from error
        except OSError:  # nobody reads any more, or the disk is full
            self._is_torn = self._is_torn or len(rest) < len(whole)
            return False
        self._is_torn = False
        return True


def _pieces(lines: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Whole lines, with how many they are, for one write each: a pipe that several processes write
    to keeps together what is no more than `PIPE_BUF` (POSIX, write). A longer line is one alone."""
    piece, count = b"", 0
    for line in lines:
        if piece and len(piece) + len(line) + 1 > select.PIPE_BUF:
            yield piece, count
            piece, count = b"", 0
        piece += line + b"\n"
        count += 1
    if piece:
        yield piece, count
