"""Added time to first token: the relay's distribution minus the direct one of the same round.

Time counts from the intended moment of the request to the receipt of its first token, minus what
the emulator was told to wait; so it holds the way in as well as the way out. `first_token` is the
way out alone: receipt minus the stamp that the emulator set right before its write.
"""

from __future__ import annotations

from bench.result import CaseResult
from bench.rig import ITL_MS, TOKENS_BY_STREAMS, TTFT_MS, Rig, of_path
from bench.stats import Histogram, median, spread

SHARES = {"p50": 0.50, "p90": 0.90, "p99": 0.99}
STREAMS = (1, 16, 64)


def run(rig: Rig) -> CaseResult:
    """All paths at 1, 16 and 64 streams."""
    result = CaseResult(
        axes={
            "streams": STREAMS,
            "paths": rig.paths,
            "ttft_ms": TTFT_MS,
            "itl_ms": ITL_MS,
            "tokens_by_streams": TOKENS_BY_STREAMS,
            "rounds": rig.options.rounds,
            "window_s": rig.options.window_s,
        },
        notes=[
            "added_*: median over rounds of (path minus direct of the same round); _low and _high"
            " are the extreme rounds of the p50; p99_all is of all rounds together",
        ],
    )
    for streams in STREAMS:
        rounds = rig.sweep(streams)
        direct = of_path(rounds, "direct", "ttft")
        for path in rig.paths:
            all_rounds = of_path(rounds, path, "ttft")
            row: dict[str, float] = {"requests": all_rounds.count}
            for name, share in SHARES.items():
                row[f"ttft_{name}_ms"] = all_rounds.quantile(share) / 1e3 - TTFT_MS
            if path != "direct":
                for name, share in SHARES.items():
                    row[f"added_{name}_ms"] = median(
                        [
                            _difference(legs[path].histograms, legs["direct"].histograms, share)
                            for legs in rounds
                        ]
                    )
                low, high = spread(
                    [
                        _difference(legs[path].histograms, legs["direct"].histograms, 0.5)
                        for legs in rounds
                    ]
                )
                row["added_p50_low_ms"], row["added_p50_high_ms"] = low, high
                row["added_p99_all_ms"] = (all_rounds.quantile(0.99) - direct.quantile(0.99)) / 1e3
            result.rows[f"{path}/{streams}"] = row
            result.histograms[f"{path}/{streams}/ttft"] = all_rounds
            result.histograms[f"{path}/{streams}/first_token"] = of_path(
                rounds, path, "first_token"
            )
    for path in ("sse", "generate", "converse"):
        result.targets.append((f"{path}/16", "added_p50_ms", 1.0))
        result.targets.append((f"{path}/16", "added_p99_ms", 5.0))
    return result


def _difference(ours: dict[str, Histogram], direct: dict[str, Histogram], share: float) -> float:
    return (ours["ttft"].quantile(share) - direct["ttft"].quantile(share)) / 1e3
