"""Pieces of the path without a network, each beside `orjson.loads` of the same line."""

from __future__ import annotations

from bench.micro import codec, encode, path
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
"""Whose ratios belong to the baseline."""


def run(_: Rig | None = None, *, rounds: int = 7) -> CaseResult:
    """Every piece; the reference is measured anew beside each group."""
    result = CaseResult(axes={"payload_bytes": len(codec.PAYLOAD), "best_of_rounds": rounds})
    for group in (codec.measure, encode.measure, path.measure):
        figures = group(rounds=rounds)
        reference_us = figures[REFERENCE]
        for name, value in figures.items():
            result.rows[name] = {"us": value, "over_orjson_loads": value / reference_us}
            if name in _KEPT:
                result.ratios[f"micro/{name}"] = value / reference_us
    return result
