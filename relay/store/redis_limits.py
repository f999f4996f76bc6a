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

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from relay.store.limit_backend import INSTANCES, Answer, BackendDown, Batch, Reply

PREFIX: Final = "rtrelay:{limits}:"
_INSTANCES_KEY: Final = PREFIX + INSTANCES

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
        timeout_s: of one connect, one write, one read.
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
        timeout_s: float = 0.5,
        script: str | None = None,
    ) -> None:
        self._script = script or script_text()
        self._sha = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()
        self._instance_id = instance_id
        self._lease_ms = round(lease_s * 1000)
        try:
            self._client = Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),  # who waits here is an admission
                max_connections=2,
                client_name="rtrelay-limits",
            )
        except ValueError:
            # redis-py's own message may quote a part with the password.
            raise ValueError(
                "store.redis: a redis://, rediss:// or unix:// URL is expected"
            ) from None

    async def exchange(self, batch: Batch) -> Answer:
        """See `Backend`."""
        commands = self._commands(batch)
        try:
            results = await self._run(commands)
            missing = [i for i, result in enumerate(results) if isinstance(result, NoScriptError)]
            if missing:
                await self._client.script_load(self._script)
                for i, result in zip(
                    missing, await self._run([commands[i] for i in missing]), strict=True
                ):
                    results[i] = result
        except (RedisError, OSError, TimeoutError) as error:
            raise BackendDown(type(error).__name__) from None
        for result in results:
            if isinstance(result, Exception):
                raise BackendDown(type(result).__name__)
        first_hold = len(batch.corrections)
        first_take = first_hold + len(batch.held)
        replies: list[Reply] = []
        is_known = True
        for text in results[first_take:]:
            granted, known, *after = map(int, text.split())
            replies.append(Reply(granted == 1, after))
            is_known = is_known and known == 1
        return Answer(replies, results[first_hold:first_take], is_known)

    async def aclose(self) -> None:
        """See `Backend`."""
        try:
            await self._client.aclose()
        except (RedisError, OSError, TimeoutError):
            pass

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
        """Answers, or the errors of single commands, in order."""
        if len(commands) == 1:
            try:
                return [await self._client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
            except NoScriptError as error:
                return [error]
        async with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute(raise_on_error=False)
