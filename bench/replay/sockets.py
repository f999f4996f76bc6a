"""The simulation against the thing itself: relay and emulator over sockets, a quarter of the time.

Two providers with the times of a world, four times as fast and four times as often asked, 2,000
requests. The simulated arm meets the same distributions, arrival rate and settings; its draws are
others, so figures agree as samples do. What the way through relay, emulator and client takes is
measured without hedging, and taken off the other arms.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.paths import HttpPath
from bench.processes import BenchError, EmulatorProcess, RelayProcess
from bench.replay import figures, worlds
from bench.replay.arms import ALIAS, Arm, Replay
from bench.replay.data import Tail
from bench.replay.world import TRACE_RATE, Provider, World, WorldSpec, draw

SCALE: Final = 0.25
REQUESTS: Final = 2000
_CONTROL: Final = Arm("not hedged", hedge="disabled")
_ARMS: Final = (_CONTROL, Arm("ordered"), Arm("race of 2", race=2))
_SHARES: Final = (
    *(percent / 100 for percent in range(0, 95, 5)),
    *(0.95 + permille / 1000 for permille in range(0, 49, 2)),
    0.9995,
)
_ANSWER_S: Final = 0.02
_TOKENS: Final = 10

TOLERANCE: Final = 0.15
TOLERANCE_S: Final = 0.015
"""What waits for a core now and then."""
TOLERANCE_EXTRA: Final = 0.015


class _Scaled:
    """Another's times, shorter."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail

    def at(self, share: float) -> float:
        return SCALE * self._tail.at(share)


class _Figures(NamedTuple):
    p50_s: float
    p95_s: float
    extra: float


def check(directory: Path, say: Callable[[str], None], is_quick: bool) -> str:
    """A table: figure by figure, measured and simulated.

    Raises:
        BenchError: a request failed.
    """
    requests = REQUESTS // 4 if is_quick else REQUESTS
    spec = WorldSpec(
        "sockets",
        tuple(
            Provider(row, row, _Scaled(provider.tail), tokens_per_s=100 / _ANSWER_S)
            for row, provider in zip(("one", "two"), worlds.spec("flash").providers, strict=False)
        ),
        prompts="poisson",
        rate=1 / SCALE,
    )
    world = draw(spec, requests)
    lines = [f"{requests} requests at {TRACE_RATE / SCALE:.0f} a second, times x {SCALE:g}"]
    way = _Figures(0.0, 0.0, 0.0)
    for arm in _ARMS:
        say(f"sockets: {arm.name}")
        measured = _measure(world, arm, directory)
        outcome = Replay(world, arm).run()
        simulated = _figures(outcome.ttft_s, sum(outcome.hedges))
        if arm is _CONTROL:
            way = _Figures(measured.p50_s - simulated.p50_s, measured.p95_s - simulated.p95_s, 0.0)
            lines.append(f"the way itself: p50 {way.p50_s:.4f} s, p95 {way.p95_s:.4f} s more")
            continue
        for name, got, more, theirs in zip(_Figures._fields, measured, way, simulated, strict=True):
            ours = got - more
            bound = max(TOLERANCE * theirs, TOLERANCE_S)
            if name == "extra":
                bound = TOLERANCE_EXTRA
            verdict = "agree" if abs(ours - theirs) <= bound else "DIFFER"
            lines.append(
                f"{arm.name:10} {name:6} measured {ours:7.4f}  simulated {theirs:7.4f}"
                f"  (within {bound:.4f}: {verdict})"
            )
    return "\n".join(lines)


def _figures(ttft_s: Sequence[float], hedges: int) -> _Figures:
    ordered = sorted(ttft_s)
    return _Figures(
        figures.quantile(ordered, 0.5), figures.quantile(ordered, 0.95), hedges / len(ordered)
    )


def _measure(world: World, arm: Arm, directory: Path) -> _Figures:
    home = directory / arm.name.replace(" ", "-")
    home.mkdir()
    emulator = EmulatorProcess(home)
    relay: RelayProcess | None = None
    try:
        for provider in world.spec.providers:
            _script(emulator, provider)
        relay = RelayProcess(
            emulator, home, rows={row.row: {} for row in world.spec.providers}, models=_aliases(arm)
        )
        ttft_s = asyncio.run(_load(world, relay.http_port))
    finally:
        if relay is not None:
            relay.stop()
        emulator.stop()
    hedges = 0
    for line in relay.error_file.read_text(errors="replace").splitlines():
        if line.startswith("{"):
            record = json.loads(line)
            attempts = record.get("attempts") or ()
            hedges += sum(attempt["role"] == "hedge" for attempt in attempts)
    return _figures(ttft_s, hedges)


def _aliases(arm: Arm) -> dict[str, Any]:
    hedge: dict[str, Any] = {"mode": arm.hedge}
    if arm.race:
        hedge |= {"delay": 1, "max_extra_requests": 1.0, "max_extra_cost": 10.0}
    candidates = [{"provider": row, "model": row} for row in ("one", "two")]
    return {ALIAS: {"candidates": candidates, "hedge": hedge, "choose": {"mode": arm.mode}}}


def _script(emulator: EmulatorProcess, provider: Provider) -> None:
    """Have the emulator answer as this provider does."""
    points = ";".join(f"{100 * share:.4g}={1e3 * provider.tail.at(share):.4g}" for share in _SHARES)
    behaviour = {
        "ttft": f"q:{points}",
        "itl": 1e3 * _ANSWER_S / _TOKENS,
        "tokens": _TOKENS,
        "seed": len(provider.row),
    }
    request = urllib.request.Request(
        f"{emulator.base_url}/emulator/script",
        data=json.dumps({"model": provider.model, "behaviour": behaviour}).encode(),
        headers={"content-type": "application/json"},
        method="POST",
    )
    context = ssl.create_default_context(cafile=emulator.ca_file)
    with urllib.request.urlopen(request, context=context, timeout=10) as response:
        if response.status >= 300:
            raise BenchError(f"the emulator refused its script: {response.status}")


async def _load(world: World, port: int) -> list[float]:
    """Open loop, at the world's arrivals."""
    path = HttpPath(f"http://127.0.0.1:{port}")
    await _ask(path)  # connects
    found: list[float] = []

    async def one(at_s: float) -> None:
        await asyncio.sleep(at_s - time.monotonic())
        found.append(await _ask(path))

    began_s = time.monotonic() + 0.2
    async with asyncio.TaskGroup() as group:
        for arrival_s in world.arrival_s:
            group.create_task(one(began_s + arrival_s))
    return found


async def _ask(path: HttpPath) -> float:
    """Seconds to the first content."""
    began_s = time.monotonic()
    first_s: float | None = None
    async for chunk in path.chunks(ALIAS):
        if first_s is None and b'"content":"' in bytes(chunk):
            first_s = time.monotonic() - began_s
    if first_s is None:
        raise BenchError("an answer without content")
    return first_s
