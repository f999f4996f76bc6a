"""What the scripted servers share: a listener, one task a script, and waiting for conditions.

`until` is woken by what happens on connections, never by a clock, so tests need no sleeps.
"""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self


class ScriptedServer(ABC):
    """Base of the fake servers: `async with Server(...) as server`.

    Leaving the block breaks every connection and awaits every script; a script that failed
    raises there, so that a broken fake cannot pass for a working client.
    """

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.tls = tls
        self.port = 0
        """Chosen on entering; set before to listen on a given one."""
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._waiters: list[tuple[Callable[[], object], asyncio.Future[None]]] = []

    @property
    def url(self) -> str:
        """`scheme://127.0.0.1:port`."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def until(self, condition: Callable[[], object], *, timeout_s: float = 5.0) -> None:
        """Wait until `condition()` is true; it is asked again after everything that happens.

        Raises:
            TimeoutError: with the server's last records in its message.
        """
        if condition():
            return
        waiter = asyncio.get_running_loop().create_future()
        entry = (condition, waiter)
        self._waiters.append(entry)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            raise TimeoutError(f"not seen; last: {self.last_records()}") from None
        finally:
            if entry in self._waiters:
                self._waiters.remove(entry)

    def wake(self) -> None:
        """Ask the waiting conditions again."""
        for condition, waiter in list(self._waiters):
            if not waiter.done() and condition():
                waiter.set_result(None)

    def start(self, script: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a script as a task of the server's."""
        task = asyncio.ensure_future(script)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failures.append(failure)
        self.wake()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            self.new_connection, "127.0.0.1", self.port, ssl=self.tls
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
        if exc is None and self._failures:
            raise BaseExceptionGroup("scripts of the fake server failed", self._failures)

    def stop_listening(self) -> None:
        """Take no new connections; those there go on."""
        if self._listener is not None:
            self._listener.close()

    async def aclose(self) -> None:
        """Close the listener, break every connection, await every script. Idempotent."""
        self.stop_listening()
        self.abort_all()
        await self.until(self.all_gone)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._listener is not None:
            await self._listener.wait_closed()

    @abstractmethod
    def new_connection(self) -> asyncio.Protocol: ...

    @abstractmethod
    def abort_all(self) -> None: ...

    @abstractmethod
    def all_gone(self) -> bool: ...

    @abstractmethod
    def last_records(self) -> object: ...
