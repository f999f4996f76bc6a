"""Keeps a directory up to what the store says: a look every few hundred milliseconds.

A look is one question where nothing has changed. It is made in a thread of its own that nobody has
to wait for: one that hangs in a dead connection does not keep the process from ending, and there is
never more than one. After a look that came to nothing the next one reads everything: what comes
back may be another database (a failover, a restored copy).

Every worker looks for itself, a little apart from the others, so a change holds everywhere within
`interval_s` and the time of a look; `look_now` is for who knows that there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import structlog

from relay.deadline import Clock
from relay.governance.directory import Directory
from relay.store.base import StoreUnavailable
from relay.store.directory_rows import Changes

_log = structlog.get_logger("relay.keys")

LOOK_S: Final = 5.0
"""For a look; what takes longer has failed, and is waited for before the next one."""
FIRST_LOOK_S: Final = 10.0
"""For the one at the start, which reads everything."""
MAX_PAUSE_S: Final = 2.0
"""Between looks that fail."""
_JITTER: Final = 0.1
_STOP_S: Final = 1.0

T = TypeVar("T")
InBackground = Callable[[Callable[[], Changes]], "asyncio.Future[Changes]"]


class Reader(Protocol):
    """`relay.store.directory_reader`, or a fake."""

    def changes(self, since: int | None) -> Changes:
        """Blocking; raises StoreUnavailable."""
        ...


class DirectorySync:
    """`start` before requests are served, `aclose` after."""

    def __init__(
        self,
        directory: Directory,
        reader: Reader,
        clock: Clock,
        *,
        interval_s: float = 0.25,
        look_s: float = LOOK_S,
        in_background: InBackground | None = None,
    ) -> None:
        """
        Args:
            clock: of the directory.
            in_background: runs what blocks; a thread of its own if None.
        """
        self._in_background = in_background or in_a_thread
        self._directory = directory
        self._reader = reader
        self._clock = clock
        self._interval_s = interval_s
        self._look_s = look_s
        self._failures = 0
        self._must_read_all = True
        self._late: asyncio.Future[Changes] | None = None
        """A look that was given up and still runs."""
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> bool:
        """Look once, and begin to look again and again.

        Returns:
            Whether the store could be read; if not, it is tried further.
        """
        is_read = await self.look(FIRST_LOOK_S)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="directory sync")
        return is_read

    def look_now(self) -> None:
        """Somebody knows of a change: do not wait for the next look."""
        self._wanted.set()

    async def aclose(self) -> None:
        """Stop looking. Idempotent; a look that hangs is left behind."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_STOP_S)
            self._task = None
        if self._late is not None:
            self._late.cancel()
            self._late = None

    async def _run(self) -> None:
        while True:
            pause_s = self._interval_s
            if self._failures:
                pause_s = min(MAX_PAUSE_S, pause_s * 2**self._failures)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s * random.uniform(1 - _JITTER, 1 + _JITTER)):  # noqa: S311
                    await self._wanted.wait()
            self._wanted.clear()
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - a bug must not end it: nobody would look any more
                self._note_failure(f"a bug: {type(error).__name__}")
                _log.error("directory_bug", exc_info=error)

    async def look(self, look_s: float | None = None) -> bool:
        """One look at the store, its changes taken up.

        Returns:
            Whether it could be read.

        Cancelled: what was taken up stays; the next look takes up the rest.
        """
        began_s = self._clock()
        try:
            changes = await self._read(look_s or self._look_s)
        except TimeoutError:
            self._note_failure("the store does not answer")
            return False
        except StoreUnavailable as error:
            self._note_failure(str(error))
            return False
        directory = self._directory
        for _ in directory.applying(changes, began_s):
            await asyncio.sleep(0)
        self._must_read_all = False
        if self._failures:
            _log.info("keys_up_to_date", failed_looks=self._failures)
            self._failures = 0
        if unverifiable := directory.unverifiable(changes):
            _log.error(
                "credentials_of_another_pepper",
                count=unverifiable,
                hint="auth.old_peppers must name the pepper they were made with",
            )
        return True

    async def _read(self, look_s: float) -> Changes:
        """
        Raises:
            StoreUnavailable: what the look came to.
            TimeoutError: it came to nothing yet.
        """
        async with asyncio.timeout(look_s):
            if self._late is not None:
                await asyncio.wait([self._late])
                self._late.exception()  # whatever it was: it is too old
                self._late = None
            since = None if self._must_read_all else self._directory.revision
            look = self._in_background(lambda: self._reader.changes(since))
            try:
                await asyncio.wait([look])
            except asyncio.CancelledError:
                self._late = look
                raise
        return look.result()

    def _note_failure(self, why: str) -> None:
        if not self._failures:
            _log.warning("keys_not_up_to_date", why=why)
        self._failures = min(self._failures + 1, 10)
        self._must_read_all = True
        self._directory.failed()


def in_a_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run something blocking in a thread that the process does not wait for when it ends.

    Cancelled: the future is; the thread goes on, and what it comes to is dropped.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(set_it: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            set_it(value)

    def run() -> None:
        outcome: tuple[Callable[[Any], None], Any]
        try:
            outcome = (future.set_result, work())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            outcome = (future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, *outcome)

    threading.Thread(target=run, name="directory look", daemon=True).start()
    return future
