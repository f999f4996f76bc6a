"""The first turn of a fresh agent process whose provider is 30 ms away: by the relay, and directly.

The relay stands beside the agent and the provider is far, which is the leg that a relay is put up
for: its connections there are warm, so the question pays one round trip, while a cold direct call
pays three, for TCP, for TLS 1.3 and for the question. What an agent does new in each case is
inside: its connection to the relay and its session, or its TLS context. Loading the client
(`import_ms`) is not. `direct` is a wreq client over HTTP/2, the least that such a call can cost;
`openai` is the package that agents have. `session` is the relay for an agent whose session is open
already, as it is once a call has begun, before the caller has said a word.

`saved_rtt` is the median of direct minus that of the relay, in round trips; `on_the_way_rtt` takes
off both what the same turn costs where the provider is `near`, which is all the processes' own.

The delay is the kernel's (`netem`) in a network namespace of the bench's own; where there is none,
a proxy in user space delays bytes, and a note says so.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence

from bench.far import FarProvider
from bench.processes import Process, RelayProcess
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import FINE, Histogram

_RTT_MS = 30.0
_TTFT_MS = 100
_MODEL = f"emu:ttft={_TTFT_MS},itl=20,tokens=8"
_WAYS = ("direct", "openai", "relay", "session")
_PLACES = ("far", "near")
_AIM_RTT = 2.0
_AGENT_TIMEOUT_S = 30.0


def run(rig: Rig) -> CaseResult:
    """10 agents each way, 40 in a full run, by turns."""
    times = 10 if rig.options.is_quick else 40
    found = {each: Histogram(FINE) for each in itertools.product(_WAYS, _PLACES)}
    loading = {way: Histogram(FINE) for way in _WAYS}
    with FarProvider(rig.directory, _RTT_MS) as far:
        rows = {"lab": {"base_url": f"{far.base_url}/v1"}}
        relay = RelayProcess(
            far.emulator, rig.directory, "relay-first-turn", rows=rows, within=far.within
        )
        providers = {
            "far": (far.base_url, far.emulator.ca_file),
            "near": (rig.emulator.base_url, rig.emulator.ca_file),
        }
        relay_ports = {"far": relay.grpc_port, "near": rig.relay.grpc_port}
        try:
            for number in range(times):
                if number % 10 == 0:
                    rig.say(f"first_turn: {number} of {times}")
                for way, place in found:
                    arguments = [*providers[place], _MODEL]
                    if way in ("relay", "session"):
                        arguments = [f"127.0.0.1:{relay_ports[place]}", f"lab/{_MODEL}"]
                    within = far.within if place == "far" else ()
                    told = _agent(rig, way, arguments, within)
                    found[way, place].add((told["first_ms"] - _TTFT_MS) * 1e3)
                    loading[way].add(told["import_ms"] * 1e3)
        finally:
            relay.stop()
    result = CaseResult(axes={"rtt_ms": _RTT_MS, "ttft_ms": _TTFT_MS, "agents": times})
    for (way, place), histogram in found.items():
        result.rows[f"{way}/{place}"] = {
            "first_p50_ms": histogram.quantile(0.5) / 1e3,
            "first_p90_ms": histogram.quantile(0.9) / 1e3,
            "import_ms": loading[way].quantile(0.5) / 1e3,
        }
        result.histograms[f"{way}/{place}"] = histogram
    p50_ms = {key: row["first_p50_ms"] for key, row in result.rows.items()}
    way_ms = {way: p50_ms[f"{way}/far"] - p50_ms[f"{way}/near"] for way in _WAYS}
    for ours, theirs in itertools.product(("relay", "session"), ("direct", "openai")):
        saved_rtt = (p50_ms[f"{theirs}/far"] - p50_ms[f"{ours}/far"]) / _RTT_MS
        result.rows[f"{ours}_before_{theirs}"] = {
            "saved_rtt": saved_rtt,
            "on_the_way_rtt": (way_ms[theirs] - way_ms[ours]) / _RTT_MS,
            "short_of_aim_rtt": max(0.0, _AIM_RTT - saved_rtt),
        }
        result.targets.append((f"{ours}_before_{theirs}", "short_of_aim_rtt", 0.0))
    if far.why_proxy:
        result.notes.append(f"delayed by a proxy in user space: {far.why_proxy}")
    return result


def _agent(rig: Rig, way: str, arguments: Sequence[str], within: Sequence[str]) -> dict[str, float]:
    agent = Process(
        f"agent-{way}",
        [sys.executable, "-m", "bench.first_turn_agent", way, *arguments],
        rig.directory,
        within=within,
    )
    try:
        told: dict[str, float] = json.loads(agent.read_line(_AGENT_TIMEOUT_S))
        return told
    finally:
        agent.stop()
