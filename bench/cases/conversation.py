"""Scripted voice calls: first sentence, dead air, barge-ins, wasted tokens; and never a wrong text.

The calls of `relay.calls.scripts`, held by an agent over five lines at the same time: straight to
the provider, over the SSE shim and over a gRPC session by the Python SDK, and over both again with
a second provider and hedging. The providers' times have a slow tail and brown-outs, and are the
same for every arm. A quick run plays people, tools and providers at twice their speed; figures are
those of the clock on the wall, and so is half the limit of dead air.
"""

from __future__ import annotations

import json
import math
import ssl
import sys
import time
import urllib.request
from collections import defaultdict
from typing import Any, Final, NamedTuple

from bench.calls import figures
from bench.calls.arms import (
    ARMS,
    DIRECT,
    EXTRA,
    HEDGE_MS,
    ITL_MS,
    TTFT_MS,
    aliases,
    arm_of,
    orders,
    tag_of,
)
from bench.calls.figures import ArmFigures, milliseconds
from bench.hedged import ROWS
from bench.processes import BenchError, Process, RelayProcess
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import Histogram, merged
from relay.calls import scripts

DEAD_AIR_MS: Final = 1500.0
_LONGEST_S: Final = 600.0
_SETTLE_S: Final = 2.0
"""After the last turn: streams that were left are ended at the emulator by then."""
_P99_AIM_MS: Final = 20.0
"""From a barge-in to the provider's notice of it, on a machine that does nothing else."""
TAIL_AIM: Final = 0.7
"""The p95 of hedged calls over that of direct ones."""


class Plan(NamedTuple):
    """How many calls, and how fast."""

    pace: float
    """Of people, tools and providers, over their own."""
    sets: int
    """Of each script so many calls at once, in each arm."""
    rounds: int
    """One after the other."""


def run(rig: Rig) -> CaseResult:
    """All arms at once.

    Raises:
        BenchError: a text was wrong, or a turn had no answer.
    """
    plan = Plan(2.0, 3, 1) if rig.options.is_quick else Plan(1.0, 4, 6)
    found = hold(rig, plan)
    result = CaseResult(
        axes={
            "calls": [call.name for call in scripts.CALLS],
            "calls_each": plan.sets * plan.rounds,
            "at_once": plan.sets * len(scripts.CALLS) * len(ARMS),
            "pace": plan.pace,
            "ttft_ms": TTFT_MS,
            "itl_ms": ITL_MS,
            "hedge_ms": HEDGE_MS,
            "max_extra_requests": EXTRA,
            "dead_air_ms": DEAD_AIR_MS / plan.pace,
        }
    )
    for arm in ARMS:
        _rows(result, arm, found[arm])
    return result


def hold(rig: Rig, plan: Plan) -> dict[str, ArmFigures]:
    """Hold the calls of all arms; their figures.

    Raises:
        BenchError: a text was wrong, or a turn had no answer.
    """
    for order in orders(rig.directory, plan.pace):
        _emulator(rig, "/emulator/script", order)
    since = _emulator(rig, "/emulator/report")["streams"]["last_id"]
    models = aliases(plan.pace)
    relay = RelayProcess(rig.emulator, rig.directory, "relay-calls", rows=ROWS, models=models)
    try:
        turns = _turns(rig, relay, plan)
        streams = _streams(rig, since)
    finally:
        relay.stop()
    found: dict[str, ArmFigures] = {}
    for arm in ARMS:
        of_arm = [turn for turn in turns if turn["arm"] == arm]
        found[arm] = figures.of_arm(of_arm, streams[arm], DEAD_AIR_MS / plan.pace)
        if wrong := found[arm].wrong:
            raise BenchError(f"{arm}: {len(wrong)} faults, first: {wrong[0]}")
    return found


def _turns(rig: Rig, relay: RelayProcess, plan: Plan) -> list[Any]:
    command = [sys.executable, "-m", "bench.calls"]
    order = {
        "emulator_url": rig.emulator.base_url,
        "ca_file": rig.emulator.ca_file,
        "relay_url": f"http://127.0.0.1:{relay.http_port}",
        "relay_grpc_port": relay.grpc_port,
        **plan._asdict(),
    }
    process = Process("calls", command, rig.directory, with_stdin=True)
    try:
        process.write_line(json.dumps(order))
        answer = json.loads(process.read_line(_LONGEST_S))
    finally:
        process.stop()
    if "failure" in answer:
        raise BenchError(f"calls: {answer['failure']}")
    turns: list[Any] = answer["turns"]
    return turns


def _streams(rig: Rig, since: int) -> dict[str, dict[str, list[Any]]]:
    """The emulator's records by arm and generation, once none of them is open."""
    deadline_s = time.monotonic() + _SETTLE_S
    while True:
        rows = _emulator(rig, f"/emulator/streams?since={since}")["streams"]
        is_settled = all(row["outcome"] != "open" for row in rows)
        if is_settled or time.monotonic() > deadline_s:
            break
        time.sleep(0.05)
    found: dict[str, dict[str, list[Any]]] = {arm: defaultdict(list) for arm in ARMS}
    for row in rows:
        if arm := arm_of(row["model"]):
            found[arm][tag_of(row["prompt_start"])].append(row)
    return found


def _rows(result: CaseResult, arm: str, found: ArmFigures) -> None:
    everything = merged(found.first_segment.values())
    result.histograms[arm] = everything
    result.rows[arm] = _waited(everything, found.dead_air.total())
    if arm != DIRECT:
        direct = result.rows[DIRECT]
        for name in ("p50", "p95"):
            result.rows[arm][f"{name}_over_direct"] = (
                result.rows[arm][f"{name}_ms"] / direct[f"{name}_ms"]
            )
    for kind in figures.KINDS:
        waited = _waited(found.first_segment[kind], found.dead_air[kind])
        result.rows[f"{arm}/{kind}"] = waited
    stops = {
        "barge_in": found.abandoned["barge_in"],
        "guess": merged([found.abandoned["discarded"], found.abandoned["superseded"]]),
    }
    for name, histogram in stops.items():
        row = f"{arm}/stop/{name}"
        result.rows[row] = {"count": histogram.count, **milliseconds(histogram)}
        result.histograms[row] = histogram
    wasted = {f"{cause}_%": 100 * found.wasted[cause] / found.produced for cause in figures.CAUSES}
    result.rows[f"{arm}/tokens"] = {
        "requests": found.generations + found.hedges,
        "tokens": found.produced,
        "wasted_%": sum(wasted.values()),
        **wasted,
        "not_stopped": len(found.not_stopped),
        "failed": len(found.failed),
    }
    result.notes += [*found.failed[:3], *found.not_stopped[:3]]
    result.targets += [
        (f"{arm}/stop/barge_in", "p99_ms", _P99_AIM_MS),
        (f"{arm}/tokens", "not_stopped", 0.0),
        (f"{arm}/tokens", "failed", 0.0),
    ]
    if arm.endswith("_hedged"):
        result.targets.append((arm, "p95_over_direct", TAIL_AIM))


def _waited(histogram: Histogram, late: int) -> dict[str, float]:
    share = 100 * late / histogram.count if histogram.count else math.nan
    return {"count": histogram.count, **milliseconds(histogram), "dead_air_%": share}


def _emulator(rig: Rig, path: str, order: dict[str, Any] | None = None) -> dict[str, Any]:
    """GET, or POST with an order."""
    context = ssl.create_default_context(cafile=rig.emulator.ca_file)
    data = None if order is None else json.dumps(order).encode()
    url = f"{rig.emulator.base_url}{path}"
    with urllib.request.urlopen(url, data=data, context=context) as answer:
        value: dict[str, Any] = json.load(answer)
        return value
