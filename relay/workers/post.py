"""The supervisor's end: what is known of one worker process."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import tempfile
from collections.abc import Callable
from typing import Any, Final, Self

from relay.workers.channel import Channel, Message, open_channel
from relay.workers.watch import Watch

MAX_STACKS_BYTES: Final = 16_384

_ids = itertools.count()


class NoAnswer(Exception):
    """A worker did not answer, or could not; the message says which."""


class Post:
    """Of one process, from before its start to after its end; `aclose` it then."""

    def __init__(self, number: int, watch: Watch, clock: Callable[[], float]) -> None:
        self.number = number
        self.watch = watch
        self.status = "starting"
        """As it says: `starting`, `ready` or `draining`."""
        self.ports: dict[str, int] = {}
        self.pid = 0
        self.on_status: Callable[[], None] | None = None
        self.on_hint: Callable[[dict[str, Any]], None] | None = None
        self._clock = clock
        self._channel: Channel | None = None
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._stacks = _memory_file()
        self._theirs: socket.socket | None = None
        """The worker's end, until it was given it."""

    @classmethod
    async def open(cls, number: int, watch: Watch, clock: Callable[[], float]) -> Self:
        """
        Raises:
            OSError: there are no descriptors left.
        """
        post = cls(number, watch, clock)
        try:
            ours, post._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            post._channel = await open_channel(ours, post._take, post._lost)
        except BaseException:
            await post.aclose()
            raise
        return post

    @property
    def descriptors(self) -> tuple[int, int]:
        """What the process is to inherit: its end, and the file for its stacks."""
        if self._theirs is None:
            raise RuntimeError("the process has its end already")
        return self._theirs.fileno(), self._stacks

    def given(self, pid: int) -> None:
        """The process has its end."""
        self.pid = pid
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None

    async def ask(self, what: str, timeout_s: float, *given: Any) -> Any:
        """
        Args:
            given: JSON data that the answer is to be made of.

        Raises:
            NoAnswer: it is stuck, gone, or does not know.
        """
        number = next(_ids)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        try:
            if self._channel is None or not self._channel.send(
                {"kind": "ask", "id": number, "what": what, "given": given}
            ):
                raise NoAnswer("it cannot be asked")
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise NoAnswer(f"no answer within {timeout_s:g} s") from None
        finally:
            self._asked.pop(number, None)

    def hint(self, hint: dict[str, Any]) -> bool:
        """Pass a hint to the worker; False if it was dropped."""
        return self._channel is not None and self._channel.send({"kind": "hint", "hint": hint})

    def stacks(self) -> str:
        """What its threads were at when it was last sent SIGUSR1; no values, no secrets."""
        written = os.pread(self._stacks, MAX_STACKS_BYTES, 0)
        return written.decode("utf-8", "replace").strip()

    async def aclose(self) -> None:
        """Idempotent."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None
            await asyncio.sleep(0)  # asyncio closes the socket in the loop's next turn
        if self._stacks >= 0:
            os.close(self._stacks)
            self._stacks = -1

    # --- inside -----------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        self.watch.beat(self._clock())
        kind = message.get("kind")
        if kind == "status":
            self.status = str(message.get("status", ""))
            self.ports = message.get("ports", {})
            if self.on_status is not None:
                self.on_status()
        elif kind == "answer":
            number = message.get("id")
            future = self._asked.pop(number, None) if isinstance(number, int) else None
            if future is None or future.done():  # too late
                return
            if "error" in message:
                future.set_exception(NoAnswer(f"it could not answer: {message['error']}"))
            else:
                future.set_result(message.get("value"))
        elif kind == "hint" and self.on_hint is not None and "hint" in message:
            self.on_hint(message["hint"])

    def _lost(self) -> None:
        self.status = "gone"
        for future in self._asked.values():
            if not future.done():
                future.set_exception(NoAnswer("it is gone"))


def _memory_file() -> int:
    """A descriptor of a file without a name, also where no disk may be written."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("relay-stacks")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
