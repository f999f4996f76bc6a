"""CPU of a whole generation without network or frontend: plan, race, attempt, codec, timeline, end.

    python -m bench.micro.path

An in-memory transport hands out prepared chunks at once. Two lengths of answer tell apart what a
request costs (`path_request`: everything up to its end, its first token included) from what one
more token costs (`path_event`). Best of several rounds, microseconds. Log lines are not written.
"""

from __future__ import annotations

import asyncio
import logging
import time
import timeit
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Self

import orjson
import structlog

from bench.micro.codec import HEAD, PAYLOAD
from relay.config import parse
from relay.content import GenerateRequest, Message, Role, TextPart
from relay.dispatch import Services
from relay.generation import Generation
from relay.governance.ledger import NullLedger
from relay.reaper import Reaper
from relay.routing.catalog import Catalog
from relay.transport.base import Headers, Origin, OriginState, PhaseMark, UpstreamRequest

_SHORT, _LONG = 1, 101
_FINISH = f'data: {HEAD}{{}},"finish_reason":"stop"}}]}}\n\n'.encode()
_TOKEN = b"data: %b\n\n" % PAYLOAD


class _Stream:
    """A response whose chunks are all there."""

    status = 200
    headers: Headers = [("content-type", "text/event-stream")]  # noqa: RUF012 - never changed
    http_version: Literal["1.1", "2"] = "2"

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._next = iter(chunks)

    def chunks(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._next:
            return chunk
        raise StopAsyncIteration

    def abort(self) -> None: ...

    async def aclose(self) -> None: ...


class _Transport:
    """Always the same answer."""

    def __init__(self, tokens: int) -> None:
        self._chunks = [*[_TOKEN] * tokens, _FINISH, b"data: [DONE]\n\n"]

    async def open(
        self,
        origin: Origin,
        request: UpstreamRequest,
        *,
        connect_timeout_s: float,
        mark: PhaseMark | None = None,
    ) -> _Stream:
        if mark is not None:
            mark("pool_wait")
            mark("request_sent")
        return _Stream(self._chunks)

    async def warm(
        self,
        origin: Origin,
        connections: int,
        *,
        probe_path: str | None = None,
        max_streams: int | None = None,
    ) -> None: ...

    def retain(self, origins: Collection[Origin]) -> None: ...

    def describe(self) -> list[OriginState]:
        return []

    async def aclose(self, grace_s: float = 0.0) -> None: ...


@contextmanager
def _without_log() -> Iterator[None]:
    kept = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        yield
    finally:
        structlog.configure(**kept)


async def _generate(tokens: int, count: int) -> float:
    """Seconds for `count` generations, one after another."""
    provider = {"wire": "openai_chat", "base_url": "https://lab.test/v1", "auth": "none"}
    reaper = Reaper()
    services = Services(
        catalog=Catalog(parse({"providers": {"lab": provider}})),
        transport=_Transport(tokens),
        ledger=NullLedger(),
        reaper=reaper,
        clock=time.monotonic,
    )
    request = GenerateRequest(
        model="lab/m", messages=(Message(Role.USER, (TextPart("Good morning!"),)),)
    )
    began_s = time.perf_counter()
    for number in range(count):
        generation = Generation(services, request, generation_id=f"gen_{number}", frontend="bench")
        async with generation:
            if await generation.commit():
                async for _ in generation:
                    generation.released()
        if generation.end is None or generation.end.error is not None:
            raise RuntimeError(f"a generation failed: {generation.end}")
    elapsed_s = time.perf_counter() - began_s
    await reaper.aclose()
    return elapsed_s


def measure(rounds: int = 7, number: int = 200) -> dict[str, float]:
    """Microseconds for each named piece of work."""
    reference = timeit.repeat(lambda: orjson.loads(PAYLOAD), repeat=rounds, number=20_000)
    with _without_log():
        short_s = min(asyncio.run(_generate(_SHORT, number)) for _ in range(rounds)) / number
        long_s = min(asyncio.run(_generate(_LONG, number // 4)) for _ in range(rounds))
    event_s = (long_s / (number // 4) - short_s) / (_LONG - _SHORT)
    return {
        "orjson_loads_reference": round(min(reference) / 20_000 * 1e6, 3),
        "path_request": round(short_s * 1e6, 3),
        "path_event": round(event_s * 1e6, 3),
    }


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:28} {value:7.2f} us")
