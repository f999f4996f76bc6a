"""From the client's cancel to the provider seeing its stream reset, over HTTP/2 upstream.

Each request has a model name of its own (a seed), by which the emulator's record of the stream is
found: outcome `abandoned`, and when. Before the first content the provider is still thinking and
has sent no headers; mid-stream some tokens have come.
"""

from __future__ import annotations

from bench import emulated
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import Histogram

_PHASES = {
    # name: (the provider's behaviour, cancel after so many pieces)
    "before_first": ("ttft=8000", 0),
    "mid_stream": ("ttft=5,itl=10,tokens=2000", 5),
}
_EXPECTED = {"before_first": "before_headers", "mid_stream": "mid_stream"}
_PATHS = ("direct", "sse", "generate", "converse")
_WAIT_MS = 40
_P99_AIM_MS = 20.0
"""From cancel to reset, on a machine that does nothing else."""


def run(rig: Rig) -> CaseResult:
    """Every path and phase, alternating in small batches."""
    batches, batch = (2, 10) if rig.options.is_quick else (5, 20)
    found = {(path, phase): Histogram() for path in _PATHS for phase in _PHASES}
    missing = dict.fromkeys(found, 0)
    number = 0
    for _ in range(batches):
        for path in _PATHS:
            for phase, (behaviour, after_tokens) in _PHASES.items():
                models = [f"emu:{behaviour},stamp=1,seed={number + k}" for k in range(batch)]
                number += batch
                since = emulated.last_id(rig.emulator)
                answer = rig.load.ask(
                    {
                        "op": "cancel",
                        "path": path,
                        "models": models,
                        "after_tokens": after_tokens,
                        "wait_ms": _WAIT_MS,
                    },
                    90.0,
                )
                records = emulated.abandoned(rig.emulator, since, len(models))
                for model, at_ns in answer["cancelled_ns"].items():
                    record = records.get(model)
                    if record is None or record["phase"] != _EXPECTED[phase]:
                        missing[path, phase] += 1
                    else:
                        found[path, phase].add((record["end_ns"] - at_ns) / 1e3)
    result = CaseResult(axes={"cancels_each": batches * batch, "paths": _PATHS, "upstream": "h2"})
    for (path, phase), histogram in found.items():
        result.rows[f"{path}/{phase}"] = {
            "cancels": histogram.count + missing[path, phase],
            "not_seen": missing[path, phase],
            "p50_ms": histogram.quantile(0.5) / 1e3,
            "p90_ms": histogram.quantile(0.9) / 1e3,
            "p99_ms": histogram.quantile(0.99) / 1e3,
            "max_ms": histogram.max_us / 1e3,
        }
        result.histograms[f"{path}/{phase}"] = histogram
        result.targets += [
            (f"{path}/{phase}", "not_seen", 0.0),
            (f"{path}/{phase}", "p99_ms", _P99_AIM_MS),
        ]
    return result
