"""How many live calls a relay on one core carries, in segment mode.

A call keeps a session. A turn is 50 tokens, 20 ms apart (five sentences of ten), a quarter of the
call's time; for three quarters nothing is generated. A turn asks for segments, which the relay
cuts, so five frames of text go to the agent. All threads of the relay are on the first core,
emulator and generators on the others.

Found by search: a number holds if every turn is whole and a segment reaches the agent at most 10 ms
at p99 after the token that completes it was written by the provider: the whole way, nothing taken
off. `generator_late_p99_ms` is how late the generator began turns, against its schedule; it counts
for nothing but to say what was measured. `first_added_p50_ms` is from the intended start of a turn
to its first segment, minus what the script takes for it. A row a number, medians over its tries;
one that does not hold is tried once more in a full run, and so is one that fails while strangers
took more than 4 % of a core. `largest` has the medians of the tries that held.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import emulated
from bench.pinned import (
    Strangers,
    holds_undisturbed,
    relay_on_one_core,
    too_few_cores,
    wait_for_calm,
)
from bench.processes import LoadProcess
from bench.result import CaseResult
from bench.rig import Rig
from bench.search import largest
from bench.stats import Histogram, median, merged

_SENTENCES = (
    "The table by the window is free at seven.",
    "There is room for four people and a child.",
    "We can keep it for you until quarter past.",
    "Shall I take a name and number for it?",
    "Somebody will call you if there is a change.",
)
_TEXT = "\n".join(_SENTENCES)
_MODEL = "live-call"
_SENTENCE_TOKENS = 10
"""Nine words and a mark; a line break comes with the word behind it, and ends the segment."""
_TTFT_MS, _ITL_MS = 20, 20
_GENERATING_SHARE = 0.25
_BOUND_MS = 10.0
_AIM = 1000
_START = 600
_LIMIT = 4000
_CONNECTIONS = 10
_GENERATOR_AIM = 80.0
"""Per cent of a core; over that the generator may be what ended the search."""


def run(rig: Rig) -> CaseResult:
    """One search."""
    if too_few_cores():
        return CaseResult(axes={}, notes=["skipped: it needs two cores, one for the relay"])
    tokens = _SENTENCE_TOKENS * len(_SENTENCES)
    turn_s = (_TTFT_MS + (tokens - 1) * _ITL_MS) / 1e3
    behaviour = {"text": _TEXT, "ttft": str(_TTFT_MS), "itl": str(_ITL_MS), "stamp": "1"}
    order = {"model": _MODEL, "behaviour": behaviour}
    emulated.ask(rig.emulator, "/emulator/script", json.dumps(order).encode())
    request = {
        "op": "live",
        "port": rig.relay.grpc_port,
        "connections": _CONNECTIONS,
        "model": f"lab/{_MODEL}",
        "period_s": turn_s / _GENERATING_SHARE,
        "window_s": 2 * rig.options.window_s,
        "tokens": tokens,
        "segments": len(_SENTENCES),
        "first_ms": _TTFT_MS + _SENTENCE_TOKENS * _ITL_MS,
    }
    with relay_on_one_core(rig) as others:
        # On one core two generators would only take turns.
        more = [LoadProcess(rig.directory, f"load-{n}") for n in range(1, min(2, others))]
        try:
            generators = [rig.load, *more]
            result = _search(rig, generators, request)
        finally:
            for each in more:
                each.stop()
    result.axes |= {
        "tokens": tokens,
        "segments": len(_SENTENCES),
        "itl_ms": _ITL_MS,
        "generating_share": _GENERATING_SHARE,
        "bound_ms": _BOUND_MS,
        "other_cores": others,
        "generators": len(generators),
    }
    return result


def _search(rig: Rig, generators: list[LoadProcess], request: dict[str, Any]) -> CaseResult:
    result = CaseResult(axes={})
    tries: dict[int, list[dict[str, float]]] = {}

    def measured(calls: int) -> dict[str, float]:
        rig.say(f"live_calls: {calls}")
        row = _try(rig, generators, request, calls)
        tries.setdefault(calls, []).append(row)
        return row

    def holds(calls: int) -> bool:
        times = 1 if rig.options.is_quick else 2
        return holds_undisturbed(lambda: measured(calls), _holds, times)

    resolution = 0.15 if rig.options.is_quick else 0.05
    found = largest(holds, _START, limit=_LIMIT, resolution=resolution)
    if found and not rig.options.is_quick:
        measured(found)
    for calls, rows in sorted(tries.items()):
        result.rows[f"{calls}"] = _medians(rows)
    at_best = [row for row in tries.get(found, []) if _holds(row)]
    result.rows["largest"] = {
        "calls": found,
        "short_of_aim": max(0, _AIM - found),
        **(_medians(at_best) if at_best else {"load_core_%": 0.0}),
    }
    result.targets = [
        ("largest", "short_of_aim", 0.0),
        ("largest", "load_core_%", _GENERATOR_AIM),
    ]
    return result


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    medians = {name: median([row[name] for row in rows]) for name in rows[0]}
    return medians | {"tries": len(rows)}


def _holds(row: dict[str, float]) -> bool:
    return row["failed"] == 0 and row["segment_p99_ms"] <= _BOUND_MS


def _try(
    rig: Rig, generators: list[LoadProcess], request: dict[str, Any], calls: int
) -> dict[str, float]:
    """One run of all generators at the same time."""
    wait_for_calm(rig)
    strangers = Strangers(rig)
    share, rest = divmod(calls, len(generators))

    def ask(number: int) -> dict[str, Any]:
        watch = rig.watch if number == 0 else {}
        own = share + (number < rest)
        return generators[number].ask({**request, "calls": own, "watch": watch}, 120.0)

    with ThreadPoolExecutor(len(generators)) as pool:
        told = list(pool.map(ask, range(len(generators))))
    strangers_percent = strangers.percent()
    found = {
        name: merged(Histogram.from_dict(each["histograms"][name]) for each in told)
        for name in ("segment", "first_segment", "generator_late")
    }
    window_s, used_ns = told[0]["window_s"], told[0]["used_ns"]
    turns = sum(each["turns"] for each in told)
    row = {
        "turns_s": turns / window_s,
        "failed": float(sum(each["error_count"] for each in told)),
        "segment_p50_ms": found["segment"].quantile(0.5) / 1e3,
        "segment_p99_ms": found["segment"].quantile(0.99) / 1e3,
        "first_added_p50_ms": found["first_segment"].quantile(0.5) / 1e3,
        "first_added_p99_ms": found["first_segment"].quantile(0.99) / 1e3,
        "generator_late_p99_ms": found["generator_late"].quantile(0.99) / 1e3,
        "relay_us_per_turn": used_ns["relay"][0] / 1e3 / max(1, turns),
    }
    for name in ("relay", "load", "emulator"):
        row[f"{name}_core_%"] = 100 * used_ns[name][0] / (window_s * 1e9)
    row["strangers_%"] = strangers_percent
    row["relay_waited_%"] = 100 * used_ns["relay"][1] / (window_s * 1e9)
    return row
