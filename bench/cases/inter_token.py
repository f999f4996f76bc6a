"""What the relay does to the rhythm: added latency of every token, and the gaps between tokens.

`token` is receipt minus stamp, over all tokens; `gap` is the time between two receipts, which the
emulator schedules to be equal. Also shown: how late the emulator's own loop was (its stamps
against its schedule), since that is no fault of who is measured.
"""

from __future__ import annotations

from bench.cases.added_ttft import STREAMS
from bench.result import CaseResult
from bench.rig import ITL_MS, TOKENS_BY_STREAMS, Rig, of_path
from bench.stats import median

_STREAMS = STREAMS[1:]
_JUDGED_STREAMS = 16
"""Where no path is near its limits: beyond, a latency says how busy the machine was."""


def run(rig: Rig) -> CaseResult:
    """All paths at 16 and 64 streams."""
    result = CaseResult(
        axes={
            "streams": _STREAMS,
            "paths": rig.paths,
            "itl_ms": ITL_MS,
            "tokens_by_streams": TOKENS_BY_STREAMS,
            "rounds": rig.options.rounds,
            "window_s": rig.options.window_s,
        },
    )
    for streams in _STREAMS:
        rounds = rig.sweep(streams)
        for path in rig.paths:
            tokens = of_path(rounds, path, "token")
            gaps = of_path(rounds, path, "gap")
            late = of_path(rounds, path, "emulator_late")
            row = {
                "token_p50_ms": tokens.quantile(0.5) / 1e3,
                "token_p99_ms": tokens.quantile(0.99) / 1e3,
                "gap_p50_ms": gaps.quantile(0.5) / 1e3,
                "gap_p99_ms": gaps.quantile(0.99) / 1e3,
                "emulator_late_p99_ms": late.quantile(0.99) / 1e3,
            }
            if path != "direct":
                for name, figure in (("token", "token"), ("gap", "gap")):
                    for label, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
                        row[f"added_{name}_{label}_ms"] = median(
                            [
                                (
                                    legs[path].histograms[figure].quantile(share)
                                    - legs["direct"].histograms[figure].quantile(share)
                                )
                                / 1e3
                                for legs in rounds
                            ]
                        )
                if path != "nginx" and streams == _JUDGED_STREAMS:
                    result.ratios[f"token_p50_over_direct/{path}/{streams}"] = median(
                        [
                            legs[path].histograms["token"].quantile(0.5)
                            / legs["direct"].histograms["token"].quantile(0.5)
                            for legs in rounds
                        ]
                    )
            result.rows[f"{path}/{streams}"] = row
            result.histograms[f"{path}/{streams}/token"] = tokens
            result.histograms[f"{path}/{streams}/gap"] = gaps
    return result
