"""One hostile HTTP/2 connection to the gRPC port at the highest rate, for 30 s (`--quick`: 3 s),
and what four callers beside it notice.

A fresh relay for each attack (`tests/fakes/h2_attacks.py`): first the callers alone, then with the
attacker, a process of the lowest priority that has what the others leave of the cores. `slower` is
the callers' p99 over theirs alone, in the same process a moment before (aim: 2), `grown_mib` the
most that the relay's memory grew (50), `closed_s` when the relay closed the first connection,
`left_%` what the attacker could still send a second after 2 s, of what it sent in the first
(throttled: below 10), `handlers` the most generations and sessions at once (1,000), and
`amplified_memory`, `amplified_cpu` the relay's over the attacker's bytes and CPU (100).
`..._again` connects again whenever it was closed.
"""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from rtrelay.v1 import GenerateRequest, Start

from bench.processes import BenchError, RelayProcess, cpu_ns, rss_kib
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import FINE, Histogram
from tests.fakes.converse_client import GENERATE, prompt
from tests.fakes.h2_attacks import ATTACKS

_CALLERS: Final = 4
_MODEL: Final = "lab/emu:ttft=20,itl=5,tokens=5"
_CLEAN_S: Final = 3.0
_WATCH_S: Final = 0.1
_AGAIN: Final = ("rapid_reset", "unknown_method")
_SLOWER, _GROWN_MIB, _HANDLERS, _AMPLIFIED = 2.0, 50.0, 1000.0, 100.0


@dataclass
class _Heard:
    """What callers had."""

    times: Histogram = field(default_factory=lambda: Histogram(FINE))
    failed: int = 0

    def ms(self, share: float) -> float:
        return self.times.quantile(share) / 1e3 if self.times.count else math.nan


def run(rig: Rig) -> CaseResult:
    """Attack by attack."""
    seconds = 3.0 if rig.options.is_quick else 30.0
    result = CaseResult(axes={"seconds": seconds, "callers": _CALLERS, "model": _MODEL})
    for name in (*ATTACKS, *(f"{one}_again" for one in _AGAIN)):
        rig.say(f"h2_attacks: {name}")
        result.rows[name] = asyncio.run(_attacked(rig, name, seconds))
        result.targets += [
            (name, "slower", _SLOWER),
            (name, "grown_mib", _GROWN_MIB),
            (name, "handlers", _HANDLERS),
            (name, "amplified_memory", _AMPLIFIED),
            (name, "amplified_cpu", _AMPLIFIED),
        ]
    return result


async def _attacked(rig: Rig, name: str, seconds: float) -> dict[str, float]:
    relay = RelayProcess(rig.emulator, rig.directory, "relay-attacked")
    try:
        await _call(relay, 1.0)  # to warm up
        clean = await _call(relay, min(_CLEAN_S, seconds))
        before_kib, before_ns = rss_kib(relay.pid), cpu_ns([relay.pid])
        attacker = subprocess.Popen(
            [
                *(sys.executable, "-m", "bench.h2_attacker", str(relay.grpc_port)),
                *(name.removesuffix("_again"), str(seconds), _MODEL),
                *(("--again",) if name.endswith("_again") else ()),
            ],
            stdout=subprocess.PIPE,
        )
        try:
            watching = asyncio.create_task(_watch(relay))
            hurt = await _call(relay, seconds)
            output, _ = await asyncio.to_thread(attacker.communicate, None, 60.0)
        finally:
            attacker.kill()
            attacker.wait()
        watching.cancel()
        await asyncio.wait([watching])
        peak = watching.result()
        used_s = (cpu_ns([relay.pid]) - before_ns) / 1e9
    finally:
        relay.stop()
    if attacker.returncode != 0:
        raise BenchError(f"the attacker failed: {name}")
    told: dict[str, Any] = json.loads(output)
    grown_kib = max(0, peak.rss_kib - before_kib)
    return {
        "clean_p50_ms": clean.ms(0.5),
        "clean_p99_ms": clean.ms(0.99),
        "p50_ms": hurt.ms(0.5),
        "p99_ms": hurt.ms(0.99),
        "slower": hurt.ms(0.99) / clean.ms(0.99),
        "failed": hurt.failed,
        "grown_mib": grown_kib / 1024,
        "handlers": peak.handlers,
        "closed_s": math.nan if told["closed_s"] is None else told["closed_s"],
        "goaway": math.nan if told["goaway"] is None else told["goaway"],
        "connections": told["connections"],
        "sent_mib": told["sent_bytes"] / 2**20,
        "left_%": _left(told["by_second"]),
        "relay_cpu_s": used_s,
        "amplified_memory": grown_kib * 1024 / max(1, told["sent_bytes"]),
        "amplified_cpu": used_s / max(0.001, told["cpu_s"]),
    }


def _left(by_second: list[int]) -> float:
    """Of the first second, in the busiest after the second one."""
    first = by_second[0] if by_second else 0
    return 100 * max(by_second[2:], default=0) / first if first else 0.0


@dataclass
class _Peak:
    rss_kib: int = 0
    handlers: int = 0


async def _watch(relay: RelayProcess) -> _Peak:
    """Until it is cancelled."""
    peak = _Peak()
    url = f"http://127.0.0.1:{relay.admin_port}/admin/state"

    def state() -> dict[str, Any]:
        with urllib.request.urlopen(url, timeout=30) as answer:  # ours, on loopback
            found: dict[str, Any] = json.load(answer)
        return found

    try:
        while True:
            peak.rss_kib = max(peak.rss_kib, rss_kib(relay.pid))
            told = await asyncio.to_thread(state)
            peak.handlers = max(peak.handlers, told["generations"] + told["sessions"])
            await asyncio.sleep(_WATCH_S)
    except asyncio.CancelledError:
        return peak


async def _call(relay: RelayProcess, seconds: float) -> _Heard:
    """Callers one after the other, each on its own, over one connection."""
    heard = _Heard()
    until_s = time.monotonic() + seconds
    request = GenerateRequest(start=Start(model=_MODEL, prompt=prompt("Hello")))

    async def caller(rpc: Any) -> None:
        while (began_s := time.monotonic()) < until_s:
            try:
                async for _ in rpc(request, timeout=20):
                    pass
                heard.times.add((time.monotonic() - began_s) * 1e6)
            except grpc.aio.AioRpcError:
                heard.failed += 1

    options = [("grpc.use_local_subchannel_pool", 1)]
    address = f"127.0.0.1:{relay.grpc_port}"
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        rpc: Any = channel.unary_stream(
            GENERATE, request_serializer=GenerateRequest.SerializeToString
        )
        await asyncio.gather(*(caller(rpc) for _ in range(_CALLERS)))
    return heard
