"""Hints between machines, by Redis' publish and subscribe.

One connection to send, one to hear, of each supervisor (or of the worker that has none). Nothing is
kept in Redis. While it is down, slow or refuses us, hints are lost and counted, and that is all:
one line in the log says so, one that it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from relay.hints.bus import Take

_log = structlog.get_logger("relay.hints")

CHANNEL: Final = "rtrelay:hints"
"""With the number of the database behind it: Redis' channels know no databases."""
MAX_WAITING: Final = 256
MAX_MESSAGE_BYTES: Final = 4096
TIMEOUT_S: Final = 1.0
FIRST_WAIT_S: Final = 0.25
MAX_WAIT_S: Final = 10.0
_CLOSE_S: Final = 1.0
_FAULTS: Final = (RedisError, OSError, TimeoutError)


class RedisBus:
    """Made and `start`ed by whoever speaks for a machine; `aclose` it."""

    def __init__(
        self,
        url: str,
        sender: str,
        take: Take,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            url: of Redis; may hold a password, and is not shown anywhere.
            sender: our own name: what comes back with it is passed over.
            take: is given what others say.
            draw: from [0, 1), so that not all machines come back at once.
        """
        self._redis = Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # we have our own, which waits for longer
            **_keepalive(url),
        )
        number = self._redis.connection_pool.connection_kwargs.get("db") or 0
        self._channel = f"{CHANNEL}:{number}"
        self._sender = sender
        self._take = take
        self._draw = draw
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(MAX_WAITING)
        self._tasks: list[asyncio.Task[None]] = []
        self._is_resting = False  # since Redis did not take the last one
        self._is_sending_down = self._is_hearing_down = False  # as the log was told
        self._published = self._lost = self._received = self._strange = 0
        self.is_hearing = asyncio.Event()
        """Set while we are subscribed."""

    def start(self) -> None:
        """Begin; never waits for Redis."""
        self._tasks = [
            asyncio.create_task(self._send(), name="hints out"),
            asyncio.create_task(self._hear(), name="hints in"),
        ]

    def publish(self, hint: dict[str, Any]) -> bool:
        """See `HintBus`."""
        if self._is_resting:  # old ones are worth nothing when it comes back
            self._lost += 1
            return False
        try:
            self._waiting.put_nowait(orjson.dumps({"from": self._sender, "hint": hint}))
        except asyncio.QueueFull:
            self._lost += 1
            return False
        return True

    async def aclose(self) -> None:
        """Drop what waits, and disconnect. Idempotent, bounded in time."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        with contextlib.suppress(*_FAULTS):
            async with asyncio.timeout(_CLOSE_S):
                await self._redis.aclose()

    def describe(self) -> dict[str, Any]:
        """See `HintBus`."""
        return {
            "by": "redis",
            "up": self.is_hearing.is_set() and not self._is_sending_down,
            "published": self._published,
            "received": self._received,
            "strange": self._strange,
            "lost": self._lost,
        }

    # --- out --------------------------------------------------------------------------------

    async def _send(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            message = await self._waiting.get()
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self._redis.publish(self._channel, message)
            except _FAULTS as error:
                self._is_resting = True
                self._lost += 1 + self._drop_waiting()
                if not self._is_sending_down:
                    self._is_sending_down = True
                    # Not its words: they may hold the address.
                    _log.warning("hints_not_sent", why=type(error).__name__)
                await asyncio.sleep(wait_s * (0.5 + self._draw()))
                self._is_resting = False  # the next one tries again
                wait_s = min(2 * wait_s, MAX_WAIT_S)
            else:
                self._published += 1
                wait_s = FIRST_WAIT_S
                if self._is_sending_down:
                    self._is_sending_down = False
                    _log.info("hints_sent_again")

    def _drop_waiting(self) -> int:
        count = 0
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                self._waiting.get_nowait()
                count += 1
        return count

    # --- in ---------------------------------------------------------------------------------

    async def _hear(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(self._channel)
                    async for message in pubsub.listen():
                        if message["type"] == "subscribe":
                            self.is_hearing.set()
                            wait_s = FIRST_WAIT_S
                            if self._is_hearing_down:
                                self._is_hearing_down = False
                                _log.info("hints_heard_again")
                        elif message["type"] == "message":
                            self._heard(message["data"])
            except _FAULTS as error:
                if not self._is_hearing_down:
                    self._is_hearing_down = True
                    _log.warning("hints_not_heard", why=type(error).__name__)
            finally:
                self.is_hearing.clear()
            await asyncio.sleep(wait_s * (0.5 + self._draw()))
            wait_s = min(2 * wait_s, MAX_WAIT_S)

    def _heard(self, data: object) -> None:
        message = None
        if isinstance(data, bytes) and len(data) <= MAX_MESSAGE_BYTES:
            with contextlib.suppress(orjson.JSONDecodeError):
                message = orjson.loads(data)
        sender, hint = (
            (message.get("from"), message.get("hint"))
            if isinstance(message, dict)
            else (None, None)
        )
        if not isinstance(sender, str) or not isinstance(hint, dict):
            self._strange += 1
            return
        if sender != self._sender:
            self._received += 1
            self._take(hint)


def _keepalive(url: str) -> dict[str, Any]:
    """Whoever only listens is told by nobody but the kernel that the other machine is gone."""
    if urlsplit(url).scheme == "unix":
        return {}
    wanted = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}  # not all on every system
    return {
        "socket_keepalive": True,
        "socket_keepalive_options": {
            getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)
        },
    }
