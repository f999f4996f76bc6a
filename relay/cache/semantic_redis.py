"""Answers by meaning in Redis, for all workers and machines: vector sets of Redis 8 (VADD, VSIM).

A partition is one vector set; its elements are digests of texts, and each has a value beside it
that holds text and answer and that expires by itself:

    rtrelay:meaning:1:v:PARTITION            the set
    rtrelay:meaning:1:e:PARTITION:ELEMENT    partition, text, answer

An element whose value is gone is taken out of the set by whoever finds it. A set expires when
nothing has been added to it for as long as an answer is kept. Vectors are held as Redis holds them
by default, a byte a number, so that similarities are right to about a hundredth.

Failures, time limits and writes are those of `RedisStore`: never in the way.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np

from relay.cache.embed_base import Vector
from relay.cache.redis_store import MAX_WRITES, RedisStore
from relay.cache.semantic_error import SemanticCacheError
from relay.cache.semantic_store import Neighbour
from relay.deadline import Clock

PREFIX: Final = b"rtrelay:meaning:1:"
_NEEDED: Final = ("VADD", "VSIM", "VREM", "VCARD", "VRANDMEMBER")
CHECK_S: Final = 2.0
_ELEMENT_BYTES: Final = 16
_SWEPT: Final = 8
"""Elements of a full set that are looked at with each new one."""


class _Value(msgspec.Struct, array_like=True):
    partition: bytes
    text: str
    written: bytes


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Value)


_KEEP: Final = """
local most = tonumber(ARGV[5])
if redis.call('VCARD', KEYS[1]) >= most then
  local some = redis.call('VRANDMEMBER', KEYS[1], tonumber(ARGV[6]))
  for _, element in ipairs(some) do
    if redis.call('EXISTS', ARGV[7] .. element) == 0 then
      redis.call('VREM', KEYS[1], element)
    end
  end
  if redis.call('VCARD', KEYS[1]) >= most then
    redis.call('VREM', KEYS[1], some[1])
    redis.call('DEL', ARGV[7] .. some[1])
  end
end
redis.call('VADD', KEYS[1], 'FP32', ARGV[2], ARGV[1])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return 1
"""
"""A full set loses what has expired among a few of its elements, or else one of them. The vector
comes first, so that one of another size than the set's leaves no value behind."""


class _Link(RedisStore):
    """Redis, with its time limits and its leaving alone, for other commands."""

    async def ask(self, *command: bytes | str | int) -> object:
        """None where it fails, takes too long or is left alone."""
        return await self._ask(*command) if self._may_ask() else None

    def later(self, *command: bytes | str | int) -> None:
        """The same in the background; dropped where too many wait."""
        if not self._may_ask():
            return
        if len(self._writes) >= MAX_WRITES:
            self.dropped_writes += 1
            return
        task = asyncio.get_running_loop().create_task(
            self._write(*command), name="semantic cache write"
        )
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)


class RedisVectors:
    """A `SemanticStore`.

    Args:
        url, patience_s, clock: as `RedisStore` has them; a look-up takes twice `patience_s`.
        max_entries: of one partition.

    Raises:
        ValueError: it is no such URL.
    """

    def __init__(self, url: str, *, patience_s: float, clock: Clock, max_entries: int) -> None:
        self._linked: Callable[[float], _Link] = lambda wait_s: _Link(
            url, patience_s=wait_s, clock=clock
        )
        self._link = self._linked(patience_s)
        self._max_entries = max_entries

    async def check(self) -> None:
        """Whether that server can search vectors. One that does not answer within `CHECK_S` is
        taken to be able to.

        Raises:
            SemanticCacheError: it cannot; says what is missing.
        """
        link = self._linked(CHECK_S)
        try:
            told = await link.ask("COMMAND", "INFO", *_NEEDED)
        finally:
            await link.aclose()
        if not isinstance(told, list):
            return
        missing = [name for name, row in zip(_NEEDED, told, strict=False) if not row]
        if missing:
            raise SemanticCacheError(
                f"cache.semantic.redis: the server of store.redis has no {', '.join(missing)}:"
                " vector sets came with Redis 8.0. Use such a server, or set `redis: false` for"
                " each worker's own memory"
            )

    async def nearest(
        self, partition: bytes, vector: Vector, *, count: int, at_least: float
    ) -> list[Neighbour]:
        """See `SemanticStore`."""
        members = _set_key(partition)
        found = await self._link.ask(
            "VSIM", members, "FP32", _packed(vector), "WITHSCORES", "COUNT", count
        )
        near = [row for row in _scored(found) if row[1] >= at_least]
        if not near:
            return []
        prefix = _value_prefix(partition)
        values = await self._link.ask("MGET", *(prefix + element for element, _ in near))
        if not isinstance(values, list) or len(values) != len(near):
            return []
        neighbours: list[Neighbour] = []
        for (element, similarity), raw in zip(near, values, strict=True):
            if raw is None:
                self._link.later("VREM", members, element)
            elif (value := _value(raw, partition)) is not None:
                neighbours.append(Neighbour(value.text, similarity, value.written, None))
        return neighbours

    def put(
        self,
        partition: bytes,
        vector: Vector,
        text: str,
        written: bytes,
        ttl_s: float,
        key: int | None = None,
    ) -> None:
        """See `SemanticStore`."""
        ttl_ms = math.floor(ttl_s * 1000)
        if ttl_ms <= 0:
            return
        element = hashlib.blake2b(text.encode(), digest_size=_ELEMENT_BYTES).hexdigest().encode()
        prefix = _value_prefix(partition)
        value = _ENCODER.encode(_Value(partition, text, written))
        self._link.later(
            "EVAL", _KEEP, 2, _set_key(partition), prefix + element,
            element, _packed(vector), value, ttl_ms, self._max_entries, _SWEPT, prefix,
        )  # fmt: skip

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """A partition that has more shrinks as it is added to no further; bytes are Redis's own."""
        self._max_entries = max_entries

    def used(self, partition: bytes, text: str) -> None:
        """Redis keeps no order of use here."""

    def describe(self) -> dict[str, object]:
        """See `SemanticStore`."""
        return self._link.describe()

    async def aclose(self) -> None:
        """See `SemanticStore`."""
        await self._link.aclose()


def _set_key(partition: bytes) -> bytes:
    return PREFIX + b"v:" + partition.hex().encode()


def _value_prefix(partition: bytes) -> bytes:
    return PREFIX + b"e:" + partition.hex().encode() + b":"


def _packed(vector: Vector) -> bytes:
    packed: bytes = np.ascontiguousarray(vector, dtype="<f4").tobytes()
    return packed


def _scored(found: object) -> list[tuple[bytes, float]]:
    """Elements and cosines out of VSIM's answer: RESP2 has element and score in turn, RESP3 a map;
    a score is (1 + cosine) / 2."""
    if isinstance(found, dict):
        rows = [*found.items()]
    elif isinstance(found, list):
        rows = [*zip(found[::2], found[1::2], strict=False)]
    else:
        return []
    try:
        return [(element, 2.0 * float(score) - 1.0) for element, score in rows]
    except (TypeError, ValueError):
        return []


def _value(raw: object, partition: bytes) -> _Value | None:
    """None where it is no value, or another partition's."""
    if not isinstance(raw, bytes):
        return None
    try:
        value = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return value if value.partition == partition else None
