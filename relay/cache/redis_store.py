"""Kept answers in Redis, for all workers and machines: bounded in time, never in the way.

Whatever Redis does, a look-up says "not here" within `patience_s`. A time-out or a failure costs
one request that; after `FAILURES` of them in a row Redis is left alone, look-ups say so at once,
and a probe in the background asks again, each time after a longer while, up to `MAX_PAUSE_S`.
Writes go on in the background, a bounded number of them; what does not fit is not kept.

A connection is used for one command at a time, and given up whenever that did not come to its end:
an answer that came late would be taken for the next one's. (This is how other people's chats were
shown on 2023-03-20.) Behind that stands a second line: a value holds the key it was written under,
and is nobody's answer under another one.

How much Redis holds is its own affair: `maxmemory` with `allkeys-lru` or `volatile-ttl`; each value
has its time. A server, or a name that leads to the present primary, is expected, no cluster.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final

import structlog
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from relay.deadline import Clock

_log = structlog.get_logger("relay.cache")

PREFIX: Final = b"rtrelay:cache:1:"
"""With the form of what is behind it."""
FAILURES: Final = 3
PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 30.0
CONNECTIONS: Final = 8
MAX_WRITES: Final = 64
"""Under way at once."""
_QUIET_S: Final = 1.0
"""After so long a connection is looked at before it is used."""
_CLOSE_S: Final = 0.5
_AWAY = (RedisError, OSError, TimeoutError)


class RedisStore:
    """See the module.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as redis-py reads it; never shown.
        patience_s: that a look-up takes at most.
        clock: monotonic.

    Raises:
        ValueError: it is no such URL.
    """

    def __init__(self, url: str, *, patience_s: float, clock: Clock) -> None:
        try:
            self._pool = ConnectionPool.from_url(  # only how redis-py reads a URL
                url,
                socket_timeout=None,  # every use has a limit of its own
                socket_connect_timeout=None,
                retry=Retry(NoBackoff(), 0),
                client_name="rtrelay-cache",
            )
        except ValueError:
            # redis-py's own message may quote a part with the password.
            raise ValueError(
                "store.redis: a redis://, rediss:// or unix:// URL is expected"
            ) from None
        self._patience_s = patience_s
        self._clock = clock
        self._free: list[tuple[Any, float]] = []
        """Connections that nobody uses, and when each was last used."""
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._writes: set[asyncio.Task[None]] = set()
        self._probe: asyncio.Task[None] | None = None
        self._is_closed = False
        self._in_a_row = 0
        self._pauses = 0
        self._away_until_s = -math.inf
        self.is_away = False
        """It is left alone for now."""
        self.times_away = 0
        self.failures = 0
        self.dropped_writes = 0

    async def get(self, key: bytes, max_bytes: int) -> bytes | None:
        """What is kept under a key; None also where Redis cannot say so in time, or where it is
        larger than `max_bytes`.

        Never raises. Cancelled: nothing is held.
        """
        if not self._may_ask():
            return None
        most = len(key) + max_bytes  # one byte more is read than may be there
        found = await self._ask("GETRANGE", PREFIX + key.hex().encode(), 0, most)
        if not isinstance(found, bytes) or len(found) > most or not found.startswith(key):
            return None
        return found[len(key) :]

    def put(self, key: bytes, written: bytes, ttl_s: float) -> None:
        """Keep it for so long, in the background. Never raises."""
        ttl_ms = math.floor(ttl_s * 1000)
        if ttl_ms <= 0 or not self._may_ask():
            return
        if len(self._writes) >= MAX_WRITES:
            self.dropped_writes += 1
            return
        task = asyncio.get_running_loop().create_task(
            self._write("SET", PREFIX + key.hex().encode(), key + written, "PX", ttl_ms),
            name="cache write",
        )
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    def describe(self) -> dict[str, object]:
        """For people."""
        return {
            "is_away": self.is_away,
            "times_away": self.times_away,
            "failures": self.failures,
            "dropped_writes": self.dropped_writes,
        }

    async def aclose(self) -> None:
        """Let the writes come to their end, for a short while, and disconnect. Idempotent."""
        self._is_closed = True
        if self._writes:
            await asyncio.wait(self._writes, timeout=_CLOSE_S)
        tasks = [*self._writes, *([self._probe] if self._probe is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        while self._free:
            connection, _ = self._free.pop()
            await connection.disconnect(nowait=True)

    # --- one command ------------------------------------------------------------------------

    async def _write(self, *command: bytes | str | int) -> None:
        await self._ask(*command)

    async def _ask(self, *command: bytes | str | int) -> object:
        """What it says; None where it fails or takes too long, which is noted."""
        try:
            async with asyncio.timeout(self._patience_s):
                async with self._slots:
                    found = await self._exchange(command)
        except ResponseError as error:  # it lives: full, read-only, another type of value
            self.failures += 1
            self._in_a_row = 0
            _log.debug("cache_store_refuses", why=type(error).__name__)
            return None
        except _AWAY as error:
            self._failed(type(error).__name__)
            return None
        self._in_a_row = 0
        return found

    async def _exchange(self, command: tuple[bytes | str | int, ...]) -> object:
        connection = await self._connected()
        try:
            await connection.send_packed_command(
                connection.pack_command(*command), check_health=False
            )
            found = await connection.read_response()
        except ResponseError:  # a whole answer
            self._free.append((connection, self._clock()))
            raise
        except BaseException:  # what comes on it would answer something else
            await connection.disconnect(nowait=True)
            raise
        self._free.append((connection, self._clock()))
        return found

    async def _connected(self) -> Any:
        """A connection that nobody else uses. A server may have hung up while it was quiet."""
        while self._free:
            connection, used_s = self._free.pop()
            if self._clock() - used_s <= _QUIET_S:
                return connection
            try:
                is_dead = await connection.can_read()
            except RedisError:
                is_dead = True
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            if not is_dead:
                return connection
            await connection.disconnect(nowait=True)
        connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    # --- away and back ----------------------------------------------------------------------

    def _may_ask(self) -> bool:
        if self._is_closed:
            return False
        if self.is_away and self._probe is None and self._clock() >= self._away_until_s:
            self._probe = asyncio.get_running_loop().create_task(self._try(), name="cache probe")
            self._probe.add_done_callback(self._tried)
        return not self.is_away

    async def _try(self) -> None:
        """Whether it is back."""
        if await self._ask("PING") is None:
            return
        self.is_away = False
        self._pauses = 0
        _log.info("cache_store_back")

    def _tried(self, task: asyncio.Task[None]) -> None:
        self._probe = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("cache_bug", exc_info=error)

    def _failed(self, why: str) -> None:
        self.failures += 1
        self._in_a_row += 1
        if self._in_a_row < FAILURES and not self.is_away:
            return
        pause_s = min(MAX_PAUSE_S, PAUSE_S * 2**self._pauses)
        self._pauses = min(self._pauses + 1, 10)
        self._away_until_s = self._clock() + pause_s
        if not self.is_away:
            self.is_away = True
            self.times_away += 1
            _log.warning("cache_store_away", why=why, pause_s=pause_s)
