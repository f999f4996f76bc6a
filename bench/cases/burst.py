"""64 requests at one moment: how long until each has its first token."""

from __future__ import annotations

from bench.processes import BenchError
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import Histogram, median, merged

_STREAMS = 64
_TTFT_MS = 5
_TOKENS = 3


def run(rig: Rig) -> CaseResult:
    """All paths, alternating."""
    repeats = 3 if rig.options.is_quick else 10
    found: dict[str, list[Histogram]] = {path: [] for path in rig.paths}
    for _ in range(repeats):
        for path in rig.paths:
            answer = rig.load.ask(
                {
                    "op": "burst",
                    "path": path,
                    "streams": _STREAMS,
                    "tokens": _TOKENS,
                    "model": f"emu:ttft={_TTFT_MS},itl=5,tokens={_TOKENS},stamp=1",
                },
                60.0,
            )
            if answer["errors"]:
                raise BenchError(f"{path}: a burst failed: {answer['errors'][0]}")
            found[path].append(Histogram.from_dict(answer["histograms"]["ttft"]))
    result = CaseResult(
        axes={"streams": _STREAMS, "ttft_ms": _TTFT_MS, "tokens": _TOKENS, "repeats": repeats}
    )
    for path, histograms in found.items():
        row = {
            f"ttft_{label}_ms": median([each.quantile(share) for each in histograms]) / 1e3
            for label, share in (("p50", 0.5), ("p90", 0.9), ("max", 1.0))
        }
        if path != "direct":
            row["added_p50_ms"] = median(
                [
                    (ours.quantile(0.5) - direct.quantile(0.5)) / 1e3
                    for ours, direct in zip(histograms, found["direct"], strict=True)
                ]
            )
        result.rows[path] = row
        result.histograms[path] = merged(histograms)
    return result
