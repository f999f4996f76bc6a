"""Pieces of the path without a network, each beside `orjson.loads` of the same line."""

from __future__ import annotations

from bench.micro import codec, encode, keys, path
from bench.result import CaseResult
from bench.rig import Rig

REFERENCE = "orjson_loads_reference"
_KEPT = (
    "sse_one_event_a_chunk",
    "feed_one_event_a_chunk",
    "feed_ten_events_a_chunk",
    "chat_chunk_encode",
    "proto_frame_encode",
    "path_event",
    "path_request",
)
"""Whose ratios are told among those of the run."""


def run(_rig: Rig | None = None, *, passes: int = 5, rounds: int = 2) -> CaseResult:
    """Every piece, the best of all passes; a reference is measured in each pass of each group.

    Needs no rig. Many short passes: pieces and reference must both meet quiet moments, or their
    ratio lies.
    """
    result = CaseResult(
        axes={"payload_bytes": len(codec.PAYLOAD), "passes": passes, "rounds": rounds}
    )
    for group in (codec.measure, encode.measure, keys.measure, path.measure):
        best = group(rounds=rounds)
        for _ in range(passes - 1):
            for name, value in group(rounds=rounds).items():
                best[name] = min(best[name], value)
        for name, value in best.items():
            ratio = value / best[REFERENCE]
            result.rows[name] = {"us": value, "over_orjson_loads": ratio}
            if name in _KEPT:
                result.ratios[f"micro/{name}"] = ratio
    return result
