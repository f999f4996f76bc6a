"""Shadow mode against the truth: what a replay of a shadow run foretells, and what comes of it.

Ten set-ups of two emulated providers. Each is run twice through `relay serve` over sockets with the
same draws of the emulator: in shadow mode, then active. From the log of the first, the core of
`relay replay` foretells the second: p99 of the first token, dead air, extra requests, money. Times
are about a third of real ones, and so is the limit of dead air.

The interval is what chance alone allows one run: its draws of the second provider are others, what
is known of that one is a sample itself (bootstrapped), and so is when figures are worked out. From
several replays, 95 % by Student's t. A miss inside it is chance.

What the machine adds is seen by the same request's time at the first provider in both runs
(`machine_ms`). A pair of runs that it has disturbed is run again, whatever came of it; a stall of
some 100 ms makes everybody slow at once, and the breaker for slowness then ejects somebody.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import ssl
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import uvloop
import yaml
from rtrelay.v1 import content_pb2, relay_pb2

from bench.processes import START_TIMEOUT_S, BenchError, EmulatorProcess, Process
from bench.result import CaseResult
from bench.rig import Rig
from relay.config import parse
from relay.routing.catalog import Catalog
from relay.whatif.draws import Draws
from relay.whatif.figures import Figures, of_log, of_replay, quantile
from relay.whatif.recorded import Kind, Recorded, read_log
from relay.whatif.simulation import simulate

DEAD_AIR_S: Final = 0.5
REPLAYS: Final = 6
STUDENT_T: Final = 2.57
"""Two-sided 95 % of 5 degrees of freedom."""
WITHIN: Final = 0.10
MACHINE_MS: Final = 20.0
"""A p95 of `machine_ms` over this: the machine was disturbed."""
TRIES: Final = 3
LEARN_S: Final = 3.3
"""A worker works its figures out every 3 s."""
RATE_PER_S: Final = 110.0
_PROMPT: Final = "Can you book the table by the window for seven tomorrow evening, please? " * 30


class Setup(NamedTuple):
    """Two providers and a policy."""

    name: str
    first: str
    """Distribution of its time to first token, ms."""
    second: str
    hedge: dict[str, Any] = {}  # noqa: RUF012 - read only
    second_price: float = 1.0
    """Times the first's."""
    second_billing: str = "stops"


# No more than 7 % beyond two medians: the breaker takes six such of ten for an illness, and with
# 20 % of them that comes by chance within a thousand requests.
HEAVY = "q:0=60;50=110;90=180;95=230;96=280;97=600;99=1200;100=1700"
STEADY = "q:0=70;50=140;90=190;99=300;100=400"
WIDE = "q:0=80;50=220;80=330;93=430;99=900;100=1400"
CLIFF = "q:0=90;50=150;94=210;94.01=800;100=1500"
LIGHT = "q:0=80;50=150;90=200;99=290;100=330"
SLOW = "q:0=150;50=270;90=360;99=600;100=800"
MIDDLING = "q:0=60;50=130;80=200;93=250;96=500;99=1100;100=1500"

SETUPS: Final = (
    Setup("heavy, steady second", HEAVY, STEADY),
    Setup("heavy, wide second", HEAVY, WIDE),
    Setup("both heavy", HEAVY, HEAVY, {"max_extra_requests": 0.08}),
    Setup("cliff, budget too small", CLIFF, STEADY),
    Setup("cliff, budget enough", CLIFF, WIDE, {"max_extra_requests": 0.15}),
    Setup("light tails", LIGHT, STEADY),
    Setup("slow second, cheap", MIDDLING, SLOW, {"max_extra_requests": 0.1}, 0.3),
    Setup("fixed delay", MIDDLING, WIDE, {"delay": 300, "max_extra_requests": 0.2}),
    Setup("dear second, money cap", HEAVY, WIDE, {"max_extra_cost": 0.03}, 4.0),
    Setup("second bills in full", MIDDLING, STEADY, {"max_extra_cost": 0.5}, 1.0, "full"),
)
QUICK_SETUPS: Final = (SETUPS[0], SETUPS[7])


class _Size(NamedTuple):
    """How many requests a run has."""

    first: int
    """Of the first provider by itself, before."""
    second: int
    measured: int


_FULL = _Size(first=500, second=400, measured=1500)
_QUICK = _Size(first=110, second=110, measured=320)


def run(rig: Rig) -> CaseResult:
    """Every set-up; some 12 minutes, quick under one (too short to judge by)."""
    is_quick = rig.options.is_quick
    setups, size = (QUICK_SETUPS, _QUICK) if is_quick else (SETUPS, _FULL)
    result = CaseResult(
        axes={
            "setups": [setup._asdict() for setup in setups],
            "requests": size._asdict(),
            "rate_per_s": RATE_PER_S,
            "dead_air_s": DEAD_AIR_S,
            "replays": REPLAYS,
        },
        notes=[
            "low and high: where 95 % of runs lie by chance alone; in_interval 1: the run does",
            "extra_usd (what hedges added), shadow_* (what shadow mode itself noted), demoted_%"
            " (requests whose first was not the first listed), machine_ms: no targets",
        ],
    )
    for number, setup in enumerate(setups):
        rig.say(setup.name)
        _check(result, setup, _World(rig, setup, number), size)
    wrong = [key for key, row in result.rows.items() if row.get("is_miss") == 1]
    by_chance = [key for key in wrong if result.rows[key]["in_interval"] == 1]
    judged = sum("is_miss" in row for row in result.rows.values())
    disturbed = [
        setup.name
        for setup in setups
        if result.rows[f"{setup.name}/machine_ms"]["p95"] > MACHINE_MS
    ]
    calm = [key for key in wrong if key.partition("/")[0] not in disturbed]
    result.notes.append(
        f"{judged - len(wrong)} of {judged} within {WITHIN:.0%}; of the {len(wrong)} misses"
        f" {len(by_chance)} are within what chance allows"
    )
    if disturbed:
        result.notes.append(
            f"the machine was disturbed to the last try in: {', '.join(disturbed)};"
            f" {len(calm)} misses are elsewhere"
        )
    return result


# --- one set-up -----------------------------------------------------------------------------


class _World:
    """The two providers' rows, at the rig's emulator."""

    def __init__(self, rig: Rig, setup: Setup, number: int) -> None:
        self.rig = rig
        self._setup = setup
        self._number = number
        self._models = {
            name: f"emu:ttft={text},itl=2,tokens=9,seed={100 * number + seed}"
            for seed, (name, text) in enumerate({"a": setup.first, "b": setup.second}.items())
        }

    def document(self, mode: str) -> dict[str, Any]:
        """A relay's configuration."""
        emulator = self.rig.emulator
        price = {"a": 1.0, "b": self._setup.second_price}
        billing = {"a": "stops", "b": self._setup.second_billing}
        return {
            "server": {name: {"address": "127.0.0.1:0"} for name in ("grpc", "http", "admin")},
            "providers": {
                name: {
                    "wire": "openai_chat",
                    "base_url": f"{emulator.base_url}/v1",
                    "ca_file": emulator.ca_file,
                    "auth": "none",
                    "probe_path": "/v1/models",
                    "cancel_billing": billing[name],
                    "prices": {model: {"input": 1.0 * price[name], "output": 4.0 * price[name]}},
                }
                for name, model in self._models.items()
            },
            "models": {
                "fast": {
                    "candidates": [
                        {"provider": name, "model": model} for name, model in self._models.items()
                    ],
                    "hedge": {"mode": mode, **self._setup.hedge},
                },
                **{
                    alias: {"candidates": [{"provider": name, "model": self._models[name]}]}
                    for alias, name in (("first", "a"), ("second", "b"))
                },
            },
        }

    def serve(self, mode: str, size: _Size) -> list[Recorded]:
        """One run: the log of it."""
        _reset(self.rig.emulator)
        relay = _Relay(self.document(mode), self.rig.directory, f"{mode}-{self._number}")
        try:
            uvloop.run(_drive(relay.grpc_port, size))
        finally:
            relay.stop()
        log = read_log(relay.log.read_bytes().splitlines())
        expected = sum(size)
        if len(log.requests) != expected:
            raise BenchError(f"{len(log.requests)} of {expected} requests are in the log")
        return list(log.requests)


def _check(result: CaseResult, setup: Setup, world: _World, size: _Size) -> None:
    tries = 1 if world.rig.options.is_quick else TRIES
    for number in range(1, tries + 1):
        recorded = world.serve("shadow", size)
        active = [one for one in world.serve("active", size) if one.asked == "fast"]
        machine = {**_machine(recorded, active), "tries": number}
        world.rig.say(f"{setup.name}, try {number}: machine p95 {machine['p95']:.1f} ms")
        if machine["p95"] <= MACHINE_MS:
            break
    policy = Catalog(parse(world.document("active")))
    replays = []
    for seed in range(REPLAYS):
        replayed = simulate(policy, recorded, Draws(_resampled(recorded, seed)), seed=seed)
        replays.append([one for one in replayed if one.recorded.asked == "fast"])
    before = of_log([one for one in recorded if one.asked == "fast"], dead_air_s=DEAD_AIR_S)
    truth = of_log(active, dead_air_s=DEAD_AIR_S)
    foretold = [of_replay(one, dead_air_s=DEAD_AIR_S) for one in replays]
    for name, figure, factor in (
        ("p99_ms", "p99_s", 1e3),
        ("dead_air_%", "dead_air", 100.0),
        ("extra_%", "hedges", 100.0),
        ("money_usd", "cost", 1.0),
    ):
        row = _row(
            _of(before, figure) * factor,
            [_of(one, figure) * factor for one in foretold],
            _of(truth, figure) * factor,
        )
        row["is_miss"] = float(row["error_%"] > 100 * WITHIN)
        result.rows[f"{setup.name}/{name}"] = row
        result.targets.append((f"{setup.name}/{name}", "error_%", 100 * WITHIN))
    extra = [_added_usd(one.hedge.added_cost for one in replay) for replay in replays]
    added_usd = _added_usd(one.added_cost for one in active)
    result.rows[f"{setup.name}/extra_usd"] = _row(0.0, extra, added_usd)
    noted = [one.shadow for one in recorded if one.asked == "fast"]
    for name, said, was in (
        ("shadow_fired", sum(one.would_fire for one in noted), truth.hedges * truth.requests),
        ("shadow_won", sum(one.would_win for one in noted), sum(_is_hedge_won(o) for o in active)),
        ("shadow_usd", _added_usd(one.would_cost for one in noted), added_usd),
    ):
        result.rows[f"{setup.name}/{name}"] = _row(math.nan, [said], was)

    result.rows[f"{setup.name}/demoted_%"] = _row(
        _demoted(one.tried[0].target for one in recorded if one.asked == "fast" and one.tried),
        [_demoted(f"{r.attempts[0].provider}/" for r in one if r.attempts) for one in replays],
        _demoted(one.tried[0].target for one in active if one.tried),
    )
    result.rows[f"{setup.name}/machine_ms"] = machine


def _resampled(recorded: Sequence[Recorded], seed: int) -> list[Recorded]:
    """The log with the second's own traffic drawn anew from itself."""
    draw = random.Random(seed)
    own = [one for one in recorded if one.asked == "second"]
    return [one for one in recorded if one.asked != "second"] + draw.choices(own, k=len(own))


def _demoted(firsts: Iterable[str]) -> float:
    asked = list(firsts)
    return 100 * sum(not target.startswith("a/") for target in asked) / len(asked)


def _machine(recorded: Sequence[Recorded], active: Sequence[Recorded]) -> dict[str, float]:
    """How far the same request's time at the first provider is apart in both runs."""
    pairs = zip([one for one in recorded if one.asked == "fast"], active, strict=True)
    apart = sorted(
        1e3 * abs(one.tried[0].after_s - two.tried[0].after_s)
        for one, two in pairs
        if one.tried and two.tried and one.tried[0].kind is two.tried[0].kind is Kind.READY
    )
    return {"p50": quantile(apart, 0.5), "p95": quantile(apart, 0.95)}


def _of(figures: Figures, name: str) -> float:
    return float(getattr(figures, name))


def _row(before: float, foretold: Sequence[float], truth: float) -> dict[str, float]:
    mean = statistics.fmean(foretold)
    row = {"shadow": before, "foretold": mean, "active": truth}
    row["error_%"] = 100 * abs(mean - truth) / truth if truth else 100.0 * (mean != truth)
    if len(foretold) > 1:
        spread = STUDENT_T * statistics.stdev(foretold) * math.sqrt(1 + 1 / len(foretold))
        row["low"], row["high"] = mean - spread, mean + spread
        row["in_interval"] = float(mean - spread <= truth <= mean + spread)
    return row


def _is_hedge_won(one: Recorded) -> bool:
    return any(tried.role == "hedge" and tried.outcome == "success" for tried in one.tried)


def _added_usd(costs: Iterable[float | None]) -> float:
    return sum(cost or 0.0 for cost in costs) / 1e6


# --- processes and callers ------------------------------------------------------------------


class _Relay(Process):
    """`relay serve`, whose log is kept."""

    def __init__(self, document: dict[str, Any], directory: Path, name: str) -> None:
        config = directory / f"{name}.yaml"
        config.write_text(yaml.safe_dump(document))
        self.log = directory / f"{name}.err"
        super().__init__(
            name, [sys.executable, "-m", "relay.cli", "serve", "-c", str(config)], directory
        )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        self.grpc_port = 0
        while not self.grpc_port:
            line = self.read_line(max(0.1, deadline_s - time.monotonic()))
            if found := re.search(r"gRPC\s+\S+:(\d+)", line):
                self.grpc_port = int(found[1])


def _reset(emulator: EmulatorProcess) -> None:
    """Draws begin anew: both runs meet the same."""
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=emulator.ca_file)),
    )
    request = urllib.request.Request(f"{emulator.base_url}/emulator/reset", b"{}", method="POST")
    with opener.open(request, timeout=10) as answer:
        json.loads(answer.read() or b"null")


async def _drive(port: int, size: _Size) -> None:
    """Callers at intended times, whether or not the ones before were answered."""
    draw = random.Random(0)
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]
    ) as channel:
        for asked in (
            _shuffled(["first"] * size.first + ["second"] * size.second, draw),
            ["fast"] * size.measured,
        ):
            due_s = asyncio.get_running_loop().time()
            calls = []
            for alias in asked:
                due_s += draw.uniform(0.5, 1.5) / RATE_PER_S
                await asyncio.sleep(max(0.0, due_s - asyncio.get_running_loop().time()))
                calls.append(asyncio.create_task(_call(channel, alias)))
            await asyncio.gather(*calls)
            await asyncio.sleep(LEARN_S if asked[0] != "fast" else 0.0)


def _shuffled(asked: list[str], draw: random.Random) -> list[str]:
    draw.shuffle(asked)
    return asked


async def _call(channel: grpc.aio.Channel, alias: str) -> None:
    message = content_pb2.Message(
        role=content_pb2.ROLE_USER, parts=[content_pb2.Part(text=_PROMPT)]
    )
    start = relay_pb2.Start(
        generation_id="g", model=alias, prompt=content_pb2.Prompt(messages=[message])
    )
    generate: Any = channel.unary_stream("/rtrelay.v1.RelayService/Generate")
    call = generate(relay_pb2.GenerateRequest(start=start).SerializeToString())
    async for _ in call:
        pass
    if await call.code() is not grpc.StatusCode.OK:
        raise BenchError(f"{alias}: {await call.code()}: {await call.details()}")
