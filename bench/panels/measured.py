"""The same panel through a relay process and the emulator, over sockets, a quarter of the time.

Every answer is scripted with the times of one draw, so what an early stop must come to is known
for each request before it is asked (`world.predicted`). Tokens are the emulator's own count of what
it has written until the stream was reset; costs are the relay's account. Requests go one by one.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench import emulated
from bench.panels.world import Draw, World, cost_of, predicted
from bench.paths import HttpPath
from bench.processes import BenchError, EmulatorProcess, RelayProcess

SCALE: Final = 0.25
PROMPT_TOKENS: Final = 10
"""Reported by the emulator; near what the relay estimates of the short prompt that is sent, since
what a stopped leg has cost rests on the estimate."""
NAME: Final = "panel"


class Measured(NamedTuple):
    """Of one arm; lists by request."""

    ttft_s: list[float]
    predicted_s: list[float]
    tokens: list[int]
    predicted_tokens: list[int]
    cost: list[float]
    """Micro-dollars, by the relay's account."""
    predicted_cost: list[float]
    stopped: int


def scaled(draw: Draw) -> Draw:
    return draw._replace(ttft_s=draw.ttft_s * SCALE, tokens_per_s=draw.tokens_per_s / SCALE)


def measure(
    world: World, requests: int, directory: Path, *, early_stop: bool, say: Callable[[str], None]
) -> Measured:
    """Ask so many of the world's requests.

    Raises:
        BenchError: one failed.
    """
    home = directory / ("early" if early_stop else "late")
    home.mkdir()
    emulator = EmulatorProcess(home)
    relay: RelayProcess | None = None
    names = [f"m{number}" for number in range(len(world.providers))]
    rows = {
        name: {
            "cancel_billing": "stops",
            "prices": {name: provider.price._asdict()},
        }
        for name, provider in zip(names, world.providers, strict=True)
    }
    panel = {
        "models": names,
        "decide": {"majority": {"equality": {"number": {}}}},
        "early_stop": early_stop,
    }
    try:
        relay = RelayProcess(
            emulator,
            home,
            rows=rows,
            models={name: {"candidates": [{"provider": name, "model": name}]} for name in names},
            sections={"policies": {"panels": {NAME: panel}}},
        )
        return asyncio.run(_ask_all(world, requests, emulator, relay, names, early_stop, say))
    finally:
        if relay is not None:
            relay.stop()
        emulator.stop()


async def _ask_all(
    world: World,
    requests: int,
    emulator: EmulatorProcess,
    relay: RelayProcess,
    names: list[str],
    early_stop: bool,
    say: Callable[[str], None],
) -> Measured:
    path = HttpPath(f"http://127.0.0.1:{relay.http_port}")
    found = Measured([], [], [], [], [], [], 0)
    stopped = 0
    for number, draws in enumerate(world.requests[: requests + 1]):
        if number % 50 == 0:
            say(f"panel, early stop {early_stop}: {number} of {requests}")
        members = tuple(scaled(draw) for draw in draws)
        for name, draw in zip(names, members, strict=True):
            _script(emulator, name, draw)
        since = emulated.last_id(emulator)
        ttft_s = await _ask(path)
        streams = await _streams(emulator, since, len(names))
        if number == 0:
            continue  # it connects
        found.ttft_s.append(ttft_s)
        promise = predicted(members, early_stop=early_stop)
        found.predicted_s.append(promise.decided_s)
        found.predicted_tokens.append(sum(promise.tokens))
        found.predicted_cost.append(
            sum(
                cost_of(provider, tokens, PROMPT_TOKENS)
                for provider, tokens in zip(world.providers, promise.tokens, strict=True)
            )
        )
        found.tokens.append(sum(stream["tokens"] for stream in streams))
        stopped += sum(stream["outcome"] == "abandoned" for stream in streams)
    found.cost.extend(_costs(relay)[1 : requests + 1])
    return found._replace(stopped=stopped)


def _script(emulator: EmulatorProcess, model: str, draw: Draw) -> None:
    """As many tokens as drawn: the emulator makes one of each word, and of the number."""
    behaviour = {
        "ttft": 1e3 * draw.ttft_s,
        "itl": 1e3 / draw.tokens_per_s,
        "text": " ".join([*["so"] * (draw.tokens - 1), str(draw.says)]),
        "in": PROMPT_TOKENS,
        "out": draw.tokens,
    }
    order = {"model": model, "behaviour": behaviour, "match": "next", "count": 1}
    emulated.ask(emulator, "/emulator/script", json.dumps(order).encode())


async def _streams(emulator: EmulatorProcess, since: int, count: int) -> list[dict[str, Any]]:
    """The records of one request's streams, all of them ended.

    Raises:
        BenchError: they do not end.
    """
    deadline_s = time.monotonic() + 5.0
    while time.monotonic() < deadline_s:
        rows: list[dict[str, Any]] = emulated.ask(emulator, f"/emulator/streams?since={since}")[
            "streams"
        ]
        if len(rows) == count and all(row["outcome"] != "open" for row in rows):
            return rows
        await asyncio.sleep(0.01)
    raise BenchError(f"streams do not end: {rows}")


async def _ask(path: HttpPath) -> float:
    began_s = time.monotonic()
    first_s: float | None = None
    async for chunk in path.chunks(NAME):
        if first_s is None and b'"content":"' in bytes(chunk):
            first_s = time.monotonic() - began_s
    if first_s is None:
        raise BenchError("an answer without content")
    return first_s


def _costs(relay: RelayProcess) -> list[float]:
    """What each generation has cost, in their order."""
    found = []
    for line in relay.error_file.read_text(errors="replace").splitlines():
        if line.startswith("{"):
            record = json.loads(line)
            if record.get("event") == "generation" and record.get("decision"):
                legs = record["decision"]["legs"]
                found.append(sum(leg["cost_micro"] for leg in legs))
    return found
