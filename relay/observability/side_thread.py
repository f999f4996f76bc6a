"""A thread beside the loop that works off what the loop puts down, and is waited for at the end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable


class SideThread:
    """Started by `start`, ended by `aclose`.

    Args:
        name: of the thread.
        work: all that it does; returns soon after `is_stopping` is set, and waits on `wake` alone.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._name = name
        self._work = work
        self._thread: threading.Thread | None = None
        self._ended: Callable[[], object] = lambda: None
        self.wake = threading.Event()
        self.is_stopping = False
        """Nothing more comes: what is there is the last."""

    def start(self) -> None:
        """A daemon: it keeps no process."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended()

    async def aclose(self, within_s: float) -> bool:
        """Let it come to its end, for no longer than that. Idempotent.

        Returns:
            Whether it did; True too where it was never started.

        Cancelled: it goes on for as long as the process does.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(done.set)

        self._ended = tell
        self.is_stopping = True
        self.wake.set()
        if not thread.is_alive():
            tell()
        try:
            async with asyncio.timeout(within_s):
                await done.wait()
        except TimeoutError:
            return False
        return True
