"""The largest number of streams of 50 tokens a second that a relay on one core carries.

Found by search: a number holds if every answer is whole and the added latency of a token is at most
10 ms at p99 (*added* as everywhere: the percentile of receipt minus stamp, minus the same of a warm
direct client under the same load in the same try). All threads of the relay are on the first core,
everything else on the others. Answers of 100 tokens begin by an open-loop schedule, so as many
streams are open all the time as the number says, and half as many requests a second come; for gRPC
each on a session of its own, that talks without a pause.

A row a number, medians over its tries: what was delivered, and the load of each process, by which
it shows whether the relay or the other core ended the search. A number that does not hold is tried
once more in a full run, and so is one that fails while strangers took more than 4 % of a core.
`largest` has the medians of the tries that held.
"""

from __future__ import annotations

from typing import Any

from bench.pinned import (
    Strangers,
    holds_undisturbed,
    relay_on_one_core,
    too_few_cores,
    wait_for_calm,
)
from bench.processes import BenchError
from bench.result import CaseResult
from bench.rig import Rig
from bench.search import largest
from bench.stats import Histogram, median

_TTFT_MS, _ITL_MS, _TOKENS = 20, 20, 100
_BOUND_MS = 10.0
_AIM = 200
_START = 200
_LIMIT = 1000
"""Streams of one connection of the direct client."""
_DELIVERED = 0.98
"""Share of the tokens that has to come in the window."""
WAYS = {"converse": "gRPC session", "sse": "SSE"}


def run(rig: Rig) -> CaseResult:
    """One search a way."""
    if too_few_cores():
        return CaseResult(axes={}, notes=["skipped: it needs two cores, one for the relay"])
    result = CaseResult(
        axes={"itl_ms": _ITL_MS, "tokens": _TOKENS, "bound_ms": _BOUND_MS, "relay_cores": 1}
    )
    with relay_on_one_core(rig) as others:
        result.axes["other_cores"] = others
        for way in WAYS:
            _search(rig, way, result)
    return result


def _search(rig: Rig, way: str, result: CaseResult) -> None:
    tries: dict[int, list[dict[str, float]]] = {}

    def measured(streams: int) -> dict[str, float]:
        rig.say(f"largest_rate: {way}, {streams} streams")
        row = _try(rig, way, streams)
        tries.setdefault(streams, []).append(row)
        return row

    def holds(streams: int) -> bool:
        times = 1 if rig.options.is_quick else 2
        return holds_undisturbed(lambda: measured(streams), _holds, times)

    resolution = 0.15 if rig.options.is_quick else 0.05
    found = largest(holds, _START, limit=_LIMIT, resolution=resolution)
    if found and not rig.options.is_quick:
        measured(found)
    for streams, rows in sorted(tries.items()):
        result.rows[f"{way}/{streams}"] = _medians(rows)
    at_best = [row for row in tries.get(found, []) if _holds(row)]
    result.rows[f"{way}/largest"] = {
        "streams": found,
        "short_of_aim": max(0, _AIM - found),
        **(_medians(at_best) if at_best else {}),
    }
    result.targets.append((f"{way}/largest", "short_of_aim", 0.0))
    result.notes.append(
        f"{WAYS[way]}: {found} streams x {1000 / _ITL_MS:g} tokens a second with added token"
        f" latency p99 of at most {_BOUND_MS:g} ms"
    )


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    medians = {name: median([row[name] for row in rows]) for name in rows[0]}
    return medians | {"tries": len(rows)}


def _holds(row: dict[str, float]) -> bool:
    return (
        row["failed"] == 0
        and row["delivered_share"] >= _DELIVERED
        and row["added_token_p99_ms"] <= _BOUND_MS
    )


def _try(rig: Rig, way: str, streams: int) -> dict[str, float]:
    direct = _leg(rig, "direct", streams)
    wait_for_calm(rig)
    strangers = Strangers(rig)
    legs = _leg(rig, way, streams)
    strangers_percent = strangers.percent()
    if direct["failed"]:
        raise BenchError(f"direct at {streams} streams: {direct['errors']}")
    window_s = legs["window_s"]
    row = {
        "tokens_s": legs["tokens_in_window"] / window_s,
        "delivered_share": legs["tokens_in_window"] / window_s / (streams * 1000 / _ITL_MS),
        "failed": float(legs["failed"]),
    }
    for name in ("token", "gap"):
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            ours, theirs = (each["found"][name].quantile(share) / 1e3 for each in (legs, direct))
            row[f"added_{name}_{label}_ms"] = ours - theirs
    row["direct_token_p99_ms"] = direct["found"]["token"].quantile(0.99) / 1e3
    for name in ("relay", "load", "emulator"):
        row[f"{name}_core_%"] = 100 * legs["cpu_ns"][name] / (window_s * 1e9)
    row["strangers_%"] = strangers_percent
    row["relay_waited_%"] = 100 * legs["waited_ns"]["relay"] / (window_s * 1e9)
    row["relay_us_per_event"] = legs["cpu_ns"]["relay"] / 1e3 / max(1, legs["tokens_in_window"])
    return row


def _leg(rig: Rig, path: str, streams: int) -> dict[str, Any]:
    raw = rig.load.ask(
        {
            "op": "leg",
            "path": path,
            "own_sessions": path == "converse",
            "jitter": True,
            "streams": streams,
            "tokens": _TOKENS,
            "ttft_ms": _TTFT_MS,
            "itl_ms": _ITL_MS,
            "model": f"emu:ttft={_TTFT_MS},itl={_ITL_MS},tokens={_TOKENS},stamp=1",
            "window_s": rig.options.window_s,
            "watch": rig.watch,
        },
        90.0,
    )
    raw["failed"] = raw["error_count"] + raw["unanswered"]
    raw["found"] = {
        name: Histogram.from_dict(value) for name, value in raw.pop("histograms").items()
    }
    return raw
