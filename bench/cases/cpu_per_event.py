"""CPU of the relay for one delivered token, user and system of all its threads.

Everything a request costs (parsing it, its log line, its end) is inside, spread over its tokens;
the role chunk, the finish and `[DONE]` are not counted as events, so the figure is rather too
high. Beside it in the same rounds: nginx as a hop, and what the two ends of a direct stream cost
(emulator and load generator), the reference of the ratios.
"""

from __future__ import annotations

from bench.result import CaseResult
from bench.rig import ITL_MS, TOKENS_BY_STREAMS, Leg, Rig
from bench.stats import median, spread

_STREAMS = (16, 64)
_LIMITS_US = {"sse": 60.0, "generate": 100.0, "converse": 100.0}


def run(rig: Rig) -> CaseResult:
    """All paths; the targets are those at 64 streams."""
    result = CaseResult(
        axes={
            "streams": _STREAMS,
            "paths": rig.paths,
            "itl_ms": ITL_MS,
            "tokens_by_streams": TOKENS_BY_STREAMS,
            "rounds": rig.options.rounds,
            "window_s": rig.options.window_s,
        },
        notes=[f"{path} was skipped: {why}" for path, why in rig.skipped.items()],
    )
    for streams in _STREAMS:
        rounds = rig.sweep(streams)
        ends = [_ends_us(legs["direct"]) for legs in rounds]
        for path in rig.paths:
            legs = [each[path] for each in rounds]
            hop = {"direct": "", "nginx": "nginx"}.get(path, "relay")
            row: dict[str, float] = {"events": sum(leg.delivered for leg in legs)}
            if hop:
                figures = [leg.us_per_event(hop) for leg in legs]
                row["hop_us"] = median(figures)
                row["hop_low_us"], row["hop_high_us"] = spread(figures)
                ratios = [figure / end for figure, end in zip(figures, ends, strict=True)]
                row["hop_over_direct_ends"] = median(ratios)
                result.ratios[f"cpu_over_direct_ends/{path}/{streams}"] = median(ratios)
            row["emulator_us"] = median([leg.us_per_event("emulator") for leg in legs])
            row["load_us"] = median([leg.us_per_event("load") for leg in legs])
            if hop == "relay":
                for thread in sorted(
                    {name for leg in legs for name in leg.raw["relay_threads_ns"]}
                ):
                    used_us = median(
                        [
                            leg.raw["relay_threads_ns"].get(thread, 0) / 1e3 / leg.delivered
                            for leg in legs
                        ]
                    )
                    if used_us >= 0.5:
                        row[f"thread_{thread}_us"] = used_us
            result.rows[f"{path}/{streams}"] = row
        if "nginx" in rig.paths:
            for path in ("sse", "generate", "converse"):
                ratio = median(
                    [
                        legs[path].us_per_event("relay") / legs["nginx"].us_per_event("nginx")
                        for legs in rounds
                    ]
                )
                result.rows[f"{path}/{streams}"]["over_nginx"] = ratio
                result.ratios[f"cpu_over_nginx/{path}/{streams}"] = ratio
    for path, limit_us in _LIMITS_US.items():
        result.targets.append((f"{path}/64", "hop_us", limit_us))
    return result


def _ends_us(direct: Leg) -> float:
    return direct.us_per_event("emulator") + direct.us_per_event("load")
