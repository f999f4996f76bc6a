"""CPU of a whole generation without network or frontend: plan, race, attempt, codec, timeline, end.

    python -m bench.micro.path

An in-memory transport hands out prepared chunks at once. Two lengths of answer tell apart what a
request costs (`path_request`: everything up to its end, its first token included) from what one
more token costs (`path_event`). `path_request_unhedged` and `path_request_hedged` ask an alias of
two candidates without and with a hedge that is never due; `hedge_a_request` and `hedge_an_event`
are what that difference is. Best of several rounds, microseconds. Log lines are not written.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import timeit
from collections.abc import Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Self

import orjson
import structlog
import uvloop

from bench.micro.codec import HEAD, PAYLOAD
from relay.config import parse
from relay.content import GenerateRequest, Message, Role, TextPart
from relay.dispatch import Services
from relay.generation import Generation
from relay.governance.ledger import NullLedger
from relay.reaper import Reaper
from relay.routing.catalog import Catalog
from relay.transport.base import (
    Headers,
    Origin,
    OriginState,
    PhaseMark,
    UpstreamRequest,
    UsedConnection,
)

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
        used: UsedConnection | None = None,
        apart_from: UsedConnection | None = None,
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


_CONFIG: dict[str, Any] = {
    "providers": {
        name: {
            "wire": "openai_chat",
            "base_url": f"https://{name}.test/v1",
            "auth": "none",
            "cancel_billing": "stops",
            "prices": {"m": {"input": 1.0, "output": 4.0}},
        }
        for name in ("lab", "other")
    },
    "models": {
        mode: {
            "candidates": [{"provider": name, "model": "m"} for name in ("lab", "other")],
            "hedge": {"mode": mode},
        }
        for mode in ("disabled", "active")
    },
}


async def _generate(tokens: int, count: int, model: str = "lab/m") -> float:
    """Seconds for `count` generations, one after another."""
    reaper = Reaper()
    services = Services(
        catalog=Catalog(parse(_CONFIG)),
        transport=_Transport(tokens),
        ledger=NullLedger(),
        reaper=reaper,
        clock=time.monotonic,
    )
    request = GenerateRequest(
        model=model, messages=(Message(Role.USER, (TextPart("Good morning!"),)),)
    )
    began_s = time.perf_counter()
    for number in range(count):
        generation = Generation(services, request, generation_id=f"gen_{number}", frontend="bench")
        async with generation:
            if await generation.commit():
                async for _ in generation:
                    generation.released()
        end = generation.end
        if end is None or end.error is not None or len(end.attempts) != 1:
            raise RuntimeError(f"a generation failed, or was hedged: {end}")
    elapsed_s = time.perf_counter() - began_s
    await reaper.aclose()
    return elapsed_s


def _run(work: Coroutine[Any, Any, float]) -> float:
    """On the loop that the relay runs on: with hedges, a request takes more of its turns."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def generate(tokens: int, count: int) -> None:
    """So many generations of so many tokens, one after another, on a loop of their own."""
    with _without_log():
        _run(_generate(tokens, count))


def measure(rounds: int = 7, number: int = 200) -> dict[str, float]:
    """Microseconds for each named piece of work."""
    reference = timeit.repeat(lambda: orjson.loads(PAYLOAD), repeat=rounds, number=20_000)
    models = {"": "lab/m", "_unhedged": "disabled", "_hedged": "active"}
    request_s = dict.fromkeys(models, math.inf)
    long_s = dict.fromkeys(models, math.inf)
    with _without_log():
        for _ in range(rounds):
            for name, model in models.items():  # in turns, so that all meet the quiet moments
                took_s = _run(_generate(_SHORT, number, model)) / number
                request_s[name] = min(request_s[name], took_s)
                took_s = _run(_generate(_LONG, number // 4, model)) / (number // 4)
                long_s[name] = min(long_s[name], took_s)
    event_s = {name: (long_s[name] - request_s[name]) / (_LONG - _SHORT) for name in models}
    found = {"orjson_loads_reference": min(reference) / 20_000}
    for name in models:
        found[f"path_request{name}"] = request_s[name]
        found[f"path_event{name}"] = event_s[name]
    found["hedge_a_request"] = request_s["_hedged"] - request_s["_unhedged"]
    found["hedge_an_event"] = event_s["_hedged"] - event_s["_unhedged"]
    return {name: round(value * 1e6, 3) for name, value in found.items()}


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:28} {value:7.2f} us")
