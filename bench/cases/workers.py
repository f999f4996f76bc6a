"""One worker and two: CPU for a token at a load that both carry, and what they carry at most.

`steady` is 64 streams of 50 tokens a second. `flood` asks for far more than can be carried, and
`tokens_s` is what came in the window. Sixteen connections for gRPC, one a stream for SSE, spread by
the kernel (SO_REUSEPORT). The supervisor is inside of the CPU and of the memory. Generator and
emulator are on the same cores: where there are only two, they need about one of them, and a second
worker has nothing to run on but what one worker's threads leave, which `cores` shows.
"""

from __future__ import annotations

import contextlib
from typing import Any

from bench.processes import tree_rss_kib
from bench.result import CaseResult
from bench.rig import Rig
from bench.second_relay import SecondRelay, second_relay
from bench.stats import median

_WORKERS = (1, 2)
_WAYS = ("sse", "converse")
_CHANNELS = 16
_TTFT_MS, _ITL_MS, _TOKENS = 20, 20, 50
_STREAMS = {"steady": 64, "flood": 500}


def run(rig: Rig) -> CaseResult:
    """Rounds in which both take turns."""
    rounds = 2 if rig.options.is_quick else 5
    result = CaseResult(
        axes={
            "workers": _WORKERS,
            "streams": _STREAMS,
            "itl_ms": _ITL_MS,
            "tokens": _TOKENS,
            "rounds": rounds,
        }
    )
    found: dict[str, list[dict[str, float]]] = {}
    with contextlib.ExitStack() as stack:
        relays = {
            count: stack.enter_context(
                second_relay(rig, f"workers-{count}", workers=count, channels=_CHANNELS)
            )
            for count in _WORKERS
        }
        for number in range(rounds):
            rig.say(f"workers, round {number + 1} of {rounds}")
            for way in _WAYS:
                for load, streams in _STREAMS.items():
                    for count in _WORKERS[:: -1 if number % 2 else 1]:
                        row = _leg(rig, relays[count], way, streams)
                        found.setdefault(f"{way}/{load}/{count}", []).append(row)
    for key, rows in found.items():
        result.rows[key] = {name: median([row[name] for row in rows]) for name in rows[0]}
    for way in _WAYS:
        for load in _STREAMS:
            pairs = [found[f"{way}/{load}/{count}"] for count in _WORKERS]
            two = result.rows[f"{way}/{load}/2"]
            for name in ("tokens_s", "us_per_event"):
                ratios = [after[name] / before[name] for before, after in zip(*pairs, strict=True)]
                two[f"{name}_over_one"] = median(ratios)
    return result


def _leg(rig: Rig, second: SecondRelay, way: str, streams: int) -> dict[str, float]:
    raw: dict[str, Any] = second.leg(
        path=way,
        streams=streams,
        tokens=_TOKENS,
        ttft_ms=_TTFT_MS,
        itl_ms=_ITL_MS,
        model=f"emu:ttft={_TTFT_MS},itl={_ITL_MS},tokens={_TOKENS},stamp=1",
        window_s=rig.options.window_s,
    )
    used_ns, window_s, tokens = raw["cpu_ns"], raw["window_s"], raw["tokens_in_window"]
    return {
        "tokens_s": tokens / window_s,
        "us_per_event": used_ns["relay"] / 1e3 / max(1, tokens),
        **{
            f"{name}_cores": used_ns[name] / 1e9 / window_s
            for name in ("relay", "load", "emulator")
        },
        "failed": float(raw["failed"]),
        "tree_mib": tree_rss_kib(second.relay.pid) / 1024,
    }
