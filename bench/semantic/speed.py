"""What a look-up takes, as a worker makes it: digest, vector, neighbours, guard, answer."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import resource
import time
from dataclasses import dataclass
from typing import Any, Final, cast

from bench.semantic.pairs import families
from relay.cache.base import CacheScope
from relay.cache.embed_base import Embedder
from relay.cache.semantic import SemanticCache
from relay.cache.semantic_memory import MemoryVectors
from relay.cache.stored import Batch, Stored
from relay.config.semantic_cache import SemanticCacheConfig
from relay.content import GenerateRequest, Message, Role, TextDelta, TextPart
from relay.policy.base import Legs

SCOPE: Final = CacheScope("team", "key", "fast", "", "v1")
LEGS: Final = cast(Legs, None)
SYSTEM: Final = "You are the voice of a shop. Answer in one or two short sentences. " * 6
ANSWER: Final = (
    "It takes three to five working days, and you are told by mail when it is sent. " * 3
)
_PACE_S: Final = 0.005
_SETTLE_EVERY: Final = 500
_THINGS: Final = (
    "router phone laptop invoice ticket camera printer parcel garden kitchen engine battery "
    "contract licence report window bicycle heater carpet ladder"
)


def turns(count: int, seed: int = 7) -> list[str]:
    """So many different ones, alike as the turns of one application are: those of the labelled set
    with words of other ones put in."""
    chance = random.Random(seed)
    firsts = [family.first for family in families() if family.first.isascii()]
    words = sorted({word for first in firsts for word in first.split()} | {*_THINGS.split(" ")})
    found: dict[str, None] = {}
    while len(found) < count:
        chosen = chance.choice(firsts).split()
        for _ in range(2):
            chosen[chance.randrange(len(chosen))] = chance.choice(words)
        found[" ".join(chosen)] = None
    return [*found]


def request_of(turn: str) -> GenerateRequest:
    """Behind a system prompt of 400 characters."""
    return GenerateRequest(
        "fast",
        (Message(Role.SYSTEM, (TextPart(SYSTEM),)), Message(Role.USER, (TextPart(turn),))),
    )


@dataclass
class Times:
    """Of one kind of look-up, microseconds: by the clock, and of the loop's own thread, which
    others on the machine do not lengthen."""

    took_us: list[tuple[float, float]]

    def at(self, share: float) -> float:
        return self._at(share, 0)

    def cpu_at(self, share: float) -> float:
        return self._at(share, 1)

    def _at(self, share: float, which: int) -> float:
        ordered = sorted(row[which] for row in self.took_us)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


@dataclass
class Speed:
    """Of one size."""

    entries: int
    hit: Times
    miss: Times
    keep: Times
    during: Times
    """Look-ups while a thread moves vectors into the graph, a new entry every 5 ms."""
    fill_s: float
    entry_bytes: float
    """Of the process, an entry."""


async def measured(embedder: Embedder, entries: int, looks: int) -> Speed:
    """Fill one partition with so many entries, and look up."""
    config = SemanticCacheConfig(
        routes={"fast": {}}, embeddings="wordllama", max_entries=entries + 10 * looks,
        max_bytes=1 << 40,
    )  # fmt: skip
    store = MemoryVectors(config.max_entries, config.max_bytes, clock=time.monotonic)
    cache = SemanticCache(config, store, embedder, wall_clock=time.time)
    kept = turns(entries)
    asked = turns(entries + looks, seed=8)[-looks:]
    stored = Stored("acme", "large", time.time(), 70, [Batch(0, [TextDelta(ANSWER)])])
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # as `relay serve` does
    before = _resident_bytes()
    began_s = time.perf_counter()
    for number, turn in enumerate(kept):
        await _kept(cache, turn, stored)
        if number % _SETTLE_EVERY == 0:
            await store.settled()
    await store.settled()
    filled_s = time.perf_counter() - began_s
    grown = _resident_bytes() - before
    chosen = random.Random(1).choices(kept, k=looks)
    hit = Times([await _looked_paced(cache, turn) for turn in chosen])
    miss = Times([await _looked_paced(cache, turn) for turn in asked])
    keep = Times([])
    during = Times([])
    for turn, known in zip(turns(entries + 2 * looks, seed=9)[-looks:], chosen, strict=True):
        keep.took_us.append(await _kept(cache, turn, stored))
        await asyncio.sleep(_PACE_S)
        is_growing = store.is_growing
        took = await _looked(cache, known)
        if is_growing:
            during.took_us.append(took)
    await store.aclose()
    return Speed(entries, hit, miss, keep, during, filled_s, grown / entries)


async def _kept(cache: SemanticCache, turn: str, stored: Stored) -> tuple[float, float]:
    look = await cache.look(request_of(turn), SCOPE, LEGS, is_refresh=True, max_age_s=math.inf)
    assert look is not None
    began, cpu = time.perf_counter(), time.thread_time()
    look.keep(stored)
    return _since(began, cpu)


async def _looked(cache: SemanticCache, turn: str) -> tuple[float, float]:
    request = request_of(turn)
    began, cpu = time.perf_counter(), time.thread_time()
    await cache.look(request, SCOPE, LEGS, is_refresh=False, max_age_s=math.inf)
    return _since(began, cpu)


async def _looked_paced(cache: SemanticCache, turn: str) -> tuple[float, float]:
    """As requests come: one after the other without a pause would be one long computation, which
    schedulers break up, and would find everything in the processor's caches."""
    await asyncio.sleep(_PACE_S)
    return await _looked(cache, turn)


def _since(began: float, cpu: float) -> tuple[float, float]:
    return (time.perf_counter() - began) * 1e6, (time.thread_time() - cpu) * 1e6


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def price_of_parts(embedder: Any, text: str, rounds: int = 2000) -> dict[str, float]:
    """Microseconds of each part, the best of five rounds."""
    from relay.cache.guard_meaning import difference, meaning_of
    from relay.cache.guard_text import readable
    from relay.cache.semantic_turn import last_turn

    request = request_of(text)
    read = readable(text, max_chars=500) or ""
    meaning = meaning_of(read)
    parts: dict[str, Any] = {
        "digest of all but the last turn": lambda: last_turn(
            request, SCOPE, share="tenant", epoch=0, embedder="e", max_chars=500
        ),
        "vector": lambda: embedder.embed(read),
        "meaning of a turn": lambda: meaning_of(read),
        "guard, of two meanings": lambda: difference(meaning, meaning),
    }
    found: dict[str, float] = {}
    for name, work in parts.items():
        count = rounds if name != "vector" else max(20, rounds // 20)
        best = math.inf
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(count):
                work()
            best = min(best, (time.perf_counter() - began) / count)
        found[name] = best * 1e6
    return found
