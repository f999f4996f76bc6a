"""Limits that workers and machines share in Redis: one Lua script per admission, by Redis' clock.

What an admission charges is decided in `limits.lua` in one step, so it is exact however many relays
ask at once. Admissions of the same moment go out in one write, each as a call of its own. All keys
have one prefix with a hash tag, so they are in one slot of a cluster; a server, a proxy or a
managed name that leads to the present primary is expected, no cluster client is in here.

Redis may lose what it has (it is emptied, restarted without a copy, or an older replica takes
over): buckets are full then, one more minute's worth at most, and leases are told again at once.
A script that is not there is loaded, and what had asked for it is asked again: it was not done.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from relay.store.limit_backend import INSTANCES, Answer, BackendDown, Batch, Reply

PREFIX: Final = "rtrelay:{limits}:"
_INSTANCES_KEY: Final = PREFIX + INSTANCES
_QUIET_S: Final = 1.0
"""After so long a connection is looked at before it is used."""
_CLOSE_S: Final = 0.5

Command = tuple[str | int, ...]


def script_text() -> str:
    """The Lua script as it is packaged."""
    return files("relay.store").joinpath("limits.lua").read_text(encoding="utf-8")


class RedisBackend:
    """One instance's connection.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as redis-py reads it; never shown.
        instance_id: unique among all that share the server.
        lease_s: after so long without a word from it an instance's leases are free.
        connect_timeout_s: of a connection, with its TLS and its password.
        script: what is run, for tests with a clock of their own.

    Raises:
        ValueError: it is no such URL.
    """

    name: Final = "redis"

    def __init__(
        self,
        url: str,
        *,
        instance_id: str,
        lease_s: float = 15.0,
        connect_timeout_s: float = 0.5,
        script: str | None = None,
    ) -> None:
        self._script = script or script_text()
        self._sha = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()
        self._instance_id = instance_id
        self._lease_ms = round(lease_s * 1000)
        try:
            # The pool is only how redis-py reads a URL: one connection is enough for one task, and
            # to hold it saves what a pool asks about it each time.
            self._pool = ConnectionPool.from_url(
                url,
                socket_timeout=None,  # whoever calls has a limit of its own
                socket_connect_timeout=connect_timeout_s,
                retry=Retry(NoBackoff(), 0),  # and is an admission that waits
                client_name="rtrelay-limits",
            )
        except ValueError:
            # redis-py's own message may quote a part with the password.
            raise ValueError(
                "store.redis: a redis://, rediss:// or unix:// URL is expected"
            ) from None
        self._connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        self._used_s = 0.0

    async def exchange(self, batch: Batch) -> Answer:
        """See `Backend`. Has no limit of its own but for connecting."""
        connection = self._connection
        try:
            await self._connect()
            commands = self._commands(batch)
            results = await self._run(commands)
            missing = [i for i, result in enumerate(results) if isinstance(result, NoScriptError)]
            if missing:
                await self._run([("SCRIPT", "LOAD", self._script)])
                again = await self._run([commands[i] for i in missing])
                for i, result in zip(missing, again, strict=True):
                    results[i] = result
            for result in results:
                if isinstance(result, RedisError):
                    raise result  # noqa: TRY301 - one way out for all of them
        except (RedisError, OSError, TimeoutError) as error:
            await connection.disconnect(nowait=True)
            raise BackendDown(type(error).__name__) from None
        except BaseException:  # what comes on this connection would answer something else
            await connection.disconnect(nowait=True)
            raise
        self._used_s = time.monotonic()
        return _answer(batch, results)

    async def aclose(self) -> None:
        """See `Backend`."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._connection.disconnect()
        except (RedisError, OSError, TimeoutError):
            pass

    async def _connect(self) -> None:
        """Be connected. A server, or something on the way, may have hung up while it was quiet."""
        connection = self._connection
        if connection.is_connected and time.monotonic() - self._used_s > _QUIET_S:
            try:
                is_dead = await connection.can_read()
            except RedisError:
                is_dead = True
            if is_dead:
                await connection.disconnect(nowait=True)
        if not connection.is_connected:
            await connection.connect()

    def _commands(self, batch: Batch) -> list[Command]:
        call: Command = ("EVALSHA", self._sha)
        whose = (self._instance_id, self._lease_ms)
        commands = [
            (*call, 1, PREFIX + bucket, "correct", limit, by)
            for bucket, limit, by in batch.corrections
        ]
        commands += [
            (*call, 1, PREFIX + bucket, "hold", *whose, units) for bucket, units in batch.held
        ]
        for charges in batch.takes:
            arguments: list[str | int] = ["take", *whose]
            for _, limit, amount, kind in charges:
                arguments += (kind, limit, amount)
            keys = [PREFIX + charge[0] for charge in charges]
            commands.append((*call, len(keys) + 1, _INSTANCES_KEY, *keys, *arguments))
        return commands

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        """Answers, or the errors of single commands, in order; one write."""
        connection = self._connection
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        results: list[Any] = []
        for _ in commands:
            try:
                results.append(await connection.read_response())
            except ResponseError as error:
                results.append(error)
        return results


def _answer(batch: Batch, results: Sequence[Any]) -> Answer:
    first_hold = len(batch.corrections)
    first_take = first_hold + len(batch.held)
    replies: list[Reply] = []
    is_known = True
    for text in results[first_take:]:
        granted, known, *after = map(int, text.split())
        replies.append(Reply(granted == 1, after))
        is_known = is_known and known == 1
    return Answer(replies, results[first_hold:first_take], is_known)
