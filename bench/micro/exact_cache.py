"""What the exact cache costs and saves: a whole generation without network or frontend, in one run.

    python -m bench.micro.exact_cache [--redis redis://127.0.0.1:6379/9]

`off`: no cache in the file. `bypass`: there is one, but not for this name. `miss`: looked for,
asked and kept. `hit`: found in memory. CPU of a request and of one more token, as in
`bench.micro.path`; `first content` is the median of what a client waits for it. Then the pieces
alone, what a token costs while it is taken down on the way without a coroutine, and what an entry
holds. With a Redis, which must be nobody else's, what is added by a look-up there.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
import timeit
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any, Final

import uvloop

from bench.micro import path
from bench.micro.codec import HEAD
from relay.cache.base import CacheScope
from relay.cache.key import key_of
from relay.cache.memory import ENTRY_BYTES, MemoryStore
from relay.cache.redis_store import RedisStore
from relay.cache.replay import StoredAnswer
from relay.cache.stored import Batch, Kept, Stored
from relay.cache.tape import Tape
from relay.config import parse
from relay.content import (
    ChoiceFinished,
    FinishReason,
    GenerateRequest,
    Message,
    ResponseInfo,
    Role,
    TextDelta,
    TextPart,
    Usage,
)
from relay.dispatch import Services
from relay.generation import Generation
from relay.governance.ledger import NullLedger
from relay.policies import Policies
from relay.reaper import Reaper
from relay.routing.catalog import Catalog

SHORT: Final = 1
LONG: Final = 301
ROUNDS: Final = 7
NUMBER: Final = 200
SCOPE: Final = CacheScope("team_0123456789", "key_0123456789", "lab/m", "", "0" * 32)
USAGE: Final = (
    f'data: {HEAD}{{}},"finish_reason":null}}],'
    '"usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}}\n\n'
).encode()


class Lab(path._Transport):  # noqa: SLF001 - the same bench in two files
    """The same answer, and what it used."""

    def __init__(self, tokens: int) -> None:
        super().__init__(tokens)
        self._chunks.insert(-1, USAGE)


def said(text: str, turns: int = 1) -> GenerateRequest:
    """A conversation whose last word is `text`."""
    earlier = [
        Message((Role.USER, Role.ASSISTANT)[turn % 2], (TextPart("What is there to say? " * 10),))
        for turn in range(turns - 1)
    ]
    last = Message(Role.USER, (TextPart(text),))
    return GenerateRequest(model="lab/m", messages=(*earlier, last))


def services_of(tokens: int, cache: dict[str, Any] | None) -> tuple[Services, Policies]:
    """A worker's parts; `cache` is the section `exact`."""
    section = {} if cache is None else {"cache": {"exact": cache}}
    config = parse({**path._CONFIG, **section})  # noqa: SLF001
    services = Services(
        catalog=Catalog(config),
        transport=Lab(tokens),
        ledger=NullLedger(),
        reaper=Reaper(),
        clock=time.monotonic,
    )
    policies = Policies(services)
    policies.take(config).use()
    return services, policies


MODES: Final[dict[str, dict[str, Any] | None]] = {
    "off": None,
    "bypass": {"not_models": ["lab/m"]},
    "miss": {},
    "hit": {},
}


async def generate(mode: str, number: int, services: Services) -> float:
    """One generation to its end. Returns: seconds to its first content."""
    request = said("again" if mode == "hit" else f"Good morning, {number}!")
    began_s = time.perf_counter()
    generation = Generation(services, request, generation_id=f"gen_{number}", frontend="bench")
    async with generation:
        if not await generation.commit():
            raise RuntimeError(f"a generation failed: {generation.end}")
        first_s = time.perf_counter() - began_s
        async for _ in generation:
            generation.released()
    decision = generation.decision
    found = "off" if decision is None else decision.cache
    if found != mode and number:  # the first one fills the cache, or is one to warm up
        raise RuntimeError(f"{found} where {mode} was wanted")
    return first_s


async def cpu_of(mode: str, tokens: int, count: int) -> float:
    """Seconds of CPU of one of `count` generations after another."""
    services, policies = services_of(tokens, MODES[mode])
    await generate(mode, 0, services)
    began_s = time.process_time()
    for number in range(1, count + 1):
        await generate(mode, number, services)
    elapsed_s = time.process_time() - began_s
    await policies.aclose()
    await services.reaper.aclose()
    return elapsed_s / count


async def first_contents(count: int) -> dict[str, float]:
    """By mode, the median of seconds; one generation of each in turns, so that all meet the same
    machine."""
    workers = {mode: services_of(LONG, cache) for mode, cache in MODES.items()}
    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    for number in range(count):
        for mode, (services, _) in workers.items():
            found[mode].append(await generate(mode, number, services))
    for services, policies in workers.values():
        await policies.aclose()
        await services.reaper.aclose()
    return {mode: statistics.median(values[1:]) for mode, values in found.items()}


def whole_generations() -> None:
    """All modes in turns; of CPU the best of several rounds."""
    best: dict[tuple[str, int], float] = {}
    quiet = path._without_log()  # noqa: SLF001
    with quiet, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(ROUNDS):
            for mode in MODES:
                for tokens, count in ((SHORT, NUMBER), (LONG, NUMBER // 4)):
                    took_s = runner.run(cpu_of(mode, tokens, count))
                    best[mode, tokens] = min(best.get((mode, tokens), took_s), took_s)
        first_s = runner.run(first_contents(3 * NUMBER))
    off_us = best["off", SHORT] * 1e6
    names = ("request", "over off", "a token", f"{LONG} tokens")
    print(f"{'':8} {' '.join(f'{name:>10}' for name in names)} {'first content':>14}")
    for mode in MODES:
        short_us, long_us = best[mode, SHORT] * 1e6, best[mode, LONG] * 1e6
        token_us = (long_us - short_us) / (LONG - SHORT)
        print(
            f"{mode:8} {short_us:10.1f} {short_us - off_us:10.1f} {token_us:10.3f} {long_us:10.1f}"
            f" {first_s[mode] * 1e6:14.1f}  us"
        )


def show(name: str, act: Callable[[], object], number: int = 2000) -> None:
    """The best of several rounds."""
    took_s = min(timeit.repeat(act, repeat=ROUNDS, number=number)) / number
    print(f"{name:44} {took_s * 1e6:9.2f} us")


def answer(tokens: int, *, is_joined: bool) -> Stored:
    """One that is kept."""
    words = ["".join([" word"] * tokens)] if is_joined else [" word"] * tokens
    info = ResponseInfo("chatcmpl-0123456789abcdef0123456789", "gpt-4o-mini-2024-07-18", 1)
    end: list[Kept] = [ChoiceFinished(FinishReason.STOP, "stop"), Usage(400, tokens, 400 + tokens)]
    return Stored("lab", "m", 1.0, 70, [Batch(0, [info, *map(TextDelta, words), *end])])


def pieces() -> None:
    """What a turn is made of."""

    def key(request: GenerateRequest) -> bytes | None:
        return key_of(request, SCOPE, share="tenant", epoch=0, max_bytes=1 << 24)

    small, long, huge = said("Hello"), said("Hello", 40), said("x" * 1_000_000)
    show("key of a small request", lambda: key(small))
    show("key of 40 turns, 9 kB", lambda: key(long))
    show("key of 1 MB", lambda: key(huge), 20)
    for is_joined in (True, False):
        stored = answer(300, is_joined=is_joined)
        written = stored.encode()
        kind = "joined" if is_joined else "token by token"
        show(f"write 300 tokens, {kind}, {len(written)} bytes", stored.encode)
        show(f"read them, {kind}", lambda written=written: Stored.decode(written))  # type: ignore[misc]
    stored = answer(300, is_joined=True)
    show(
        "make an answer of it",
        lambda: (
            StoredAnswer(stored, max_gap_s=0.0, clock=time.monotonic, wall_clock=time.time).prelude
        ),
    )


def tokens_taken_down() -> None:
    """A token on the way without a coroutine: the function that makes it, and the same taken
    down."""
    delta = TextDelta(" word")
    chunk = memoryview(b"x")

    def text_of(_: memoryview) -> TextDelta | None:
        return delta

    def bare() -> None:
        for _ in range(300):
            text_of(chunk)

    def taken(clock: Callable[[], float] | None) -> None:
        over = Tape(said("Hello"), 1 << 24, clock).over(text_of, lambda: None)
        for _ in range(300):
            over(chunk)

    def best_us(act: Callable[[], object]) -> float:
        return min(timeit.repeat(act, repeat=ROUNDS, number=200)) / 200 / 300 * 1e6

    bare_us = best_us(bare)
    print(
        f"{'a poured token, taken down':44} {best_us(lambda: taken(None)) - bare_us:9.3f} us more"
    )
    more_us = best_us(lambda: taken(time.monotonic)) - bare_us
    print(f"{'and its moment':44} {more_us:9.3f} us more")


def entries() -> None:
    """What one holds, over the bytes of its answer."""
    count = 20_000
    written = [number.to_bytes(4, "big") * 8 for number in range(count)]
    gc.collect()
    tracemalloc.start()
    store = MemoryStore(count, 1 << 40)
    for key in written:
        store.put(bytes(key), b"x" * 1000 + key[:4], 60.0, 0.0)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    beside = held / count - 1004
    print(f"{'an entry, beside its answer':44} {beside:9.0f} bytes (counted: {ENTRY_BYTES})")


async def in_redis(url: str) -> None:
    """A look-up, one after another."""
    store = RedisStore(url, patience_s=5.0, clock=time.monotonic)
    written = answer(300, is_joined=True).encode()
    key, other = b"k" * 32, b"o" * 32
    store.put(key, written, 60.0)
    await asyncio.sleep(0.2)

    async def median_us(act: Callable[[], Awaitable[object]]) -> float:
        took: list[float] = []
        for _ in range(3000):
            began_s = time.perf_counter()
            await act()
            took.append(time.perf_counter() - began_s)
        return statistics.median(took) * 1e6

    if await store.get(key, 1 << 20) != written:
        raise RuntimeError("Redis does not keep what it is given")
    print(
        f"{'Redis, found (median)':44} {await median_us(lambda: store.get(key, 1 << 20)):9.1f} us"
    )
    print(f"{'Redis, not there':44} {await median_us(lambda: store.get(other, 1 << 20)):9.1f} us")
    await store.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", help="URL of a Redis that is nobody else's")
    options = parser.parse_args()
    whole_generations()
    pieces()
    tokens_taken_down()
    entries()
    if options.redis:
        uvloop.run(in_redis(options.redis))
