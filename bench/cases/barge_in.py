"""Barge-ins among 64 sessions that talk: every third answer or so is cancelled in its middle.

Answers come at the pace of a voice model, 50 tokens a second. `in_relay` is the relay's own account
(`cancel_us` in its log): from reading the client's frame to the provider's stream being given up.
`to_provider` goes from the client's write of the cancel to the provider's notice of its reset, by
the emulator's stamp: both ends' event loops, which talk to 64 sessions as well, are inside.
`to_end` is when the client has the generation's end. Beside them, what came of an id after its end.
"""

from __future__ import annotations

import json
import os

from bench import emulated
from bench.processes import BenchError
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import Histogram

_SESSIONS = 64
_CANCEL_SHARE = 0.3
_TTFT_MS, _ITL_MS, _TOKENS = 50, 20, 60
_IN_RELAY_AIM_MS = 5.0
_TO_PROVIDER_AIM_MS = 10.0


def run(rig: Rig) -> CaseResult:
    """15 seconds of talk, 60 in a full run: some 250 and 1,000 barge-ins."""
    seconds = 15.0 if rig.options.is_quick else 60.0
    since = emulated.last_id(rig.emulator)
    log_from = os.path.getsize(rig.relay.error_file)
    raw = rig.load.ask(
        {
            "op": "turns",
            "sessions": _SESSIONS,
            "seconds": seconds,
            "cancel_share": _CANCEL_SHARE,
            "ttft_ms": _TTFT_MS,
            "itl_ms": _ITL_MS,
            "tokens": _TOKENS,
            "seed": 1,
        },
        seconds + 60.0,
    )
    if raw["error_count"]:
        raise BenchError(f"{raw['error_count']} turns failed: {raw['errors']}")
    cancelled: dict[str, int] = raw["cancelled_ns"]
    records = emulated.abandoned(rig.emulator, since, len(cancelled))
    to_provider, not_seen = Histogram(), 0
    for model, at_ns in cancelled.items():
        record = records.get(model)
        if record is None or record["phase"] != "mid_stream":
            not_seen += 1
        else:
            to_provider.add((record["end_ns"] - at_ns) / 1e3)
    found = {
        "in_relay": _in_relay(rig, log_from),
        "to_provider": to_provider,
        "to_end": Histogram.from_dict(raw["histograms"]["cancel_to_end"]),
    }
    result = CaseResult(
        axes={
            "sessions": _SESSIONS,
            "seconds": seconds,
            "cancel_share": _CANCEL_SHARE,
            "ttft_ms": _TTFT_MS,
            "itl_ms": _ITL_MS,
            "tokens": _TOKENS,
        }
    )
    for name, histogram in found.items():
        result.rows[name] = {
            "cancels": histogram.count,
            "p50_ms": histogram.quantile(0.5) / 1e3,
            "p99_ms": histogram.quantile(0.99) / 1e3,
            "max_ms": histogram.max_us / 1e3,
        }
        result.histograms[name] = histogram
    result.rows["turns"] = {
        "turns": raw["turns"],
        "whole": raw["completed"],
        "barge_ins": len(cancelled),
        "not_seen": not_seen,
        "after_the_end": raw["after_the_end"],
    }
    result.targets = [
        ("in_relay", "p99_ms", _IN_RELAY_AIM_MS),
        ("to_provider", "p99_ms", _TO_PROVIDER_AIM_MS),
        ("turns", "not_seen", 0.0),
        ("turns", "after_the_end", 0.0),
    ]
    return result


def _in_relay(rig: Rig, log_from: int) -> Histogram:
    """The relay's own account of each cancel, from its log behind this offset."""
    found = Histogram()
    with rig.relay.error_file.open("rb") as log:
        log.seek(log_from)
        for line in log:
            if b'"cancel_us":' in line:
                cancel_us = json.loads(line)["cancel_us"]
                if cancel_us is not None:
                    found.add(cancel_us)
    return found
