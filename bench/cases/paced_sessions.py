"""150 sessions that talk without a pause, 50 tokens a second each, through a relay on one core.

All threads of the relay are pinned to the first core, everything else to the others. Each session
starts its next answer when the one before ends, by an open-loop schedule with random phases, so
7,500 tokens and 75 starts a second come whether or not the relay keeps up. *Added* is the
percentile of receipt minus stamp, minus the same of a warm direct client under the same load in the
same round; the table has the median over rounds. `messages_of_one_%` are frames that carry exactly
one token: where the writer falls behind, tokens of a generation merge. The generator's own CPU is
shown, as a share of the one core that its Python can use: what is near its limit measures itself.
`relay_waited_%` is how long the relay's threads were ready and had no core, all together: with
nothing else on the machine, a wait for each other.
"""

from __future__ import annotations

import os
from typing import Any

from bench.processes import BenchError, pin
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import Histogram, median, merged

_SESSIONS = 150
_TTFT_MS, _ITL_MS, _TOKENS = 20, 20, 100
_PATHS = ("direct", "converse")
_ADDED_AIM_MS = 10.0
_MERGED_AIM = 30.0
"""Per cent of the messages with more than one delta."""
_GENERATOR_AIM = 80.0
"""Per cent of a core."""


def run(rig: Rig) -> CaseResult:
    """Rounds of a direct leg and one through the relay."""
    every = os.sched_getaffinity(0)
    if len(every) < 2:
        return CaseResult(axes={}, notes=["skipped: it needs two cores, one for the relay"])
    relay_core, *others = sorted(every)
    rest = [pid for name, pids in rig.watch.items() if name != "relay" for pid in pids]
    rounds = []
    try:
        pin(rig.watch["relay"], {relay_core})
        pin(rest, others)
        for number in range(rig.options.rounds):
            rig.say(f"paced_sessions, round {number + 1} of {rig.options.rounds}")
            order = _PATHS[:: -1 if number % 2 else 1]
            rounds.append({path: _leg(rig, path) for path in order})
    finally:
        pin([*rig.watch["relay"], *rest], every)
    result = CaseResult(
        axes={
            "sessions": _SESSIONS,
            "ttft_ms": _TTFT_MS,
            "itl_ms": _ITL_MS,
            "tokens": _TOKENS,
            "rounds": rig.options.rounds,
            "relay_cores": 1,
            "other_cores": len(others),
        }
    )
    for path in _PATHS:
        legs = [each[path] for each in rounds]
        result.rows[path] = row = {
            "tokens_s": median([leg["tokens_in_window"] / leg["window_s"] for leg in legs]),
            "messages_of_one_%": median(
                [100 * leg["messages_of_one"] / leg["messages"] for leg in legs]
            ),
        }
        for name in ("token", "gap"):
            found = merged(leg["found"][name] for leg in legs)
            row[f"{name}_p50_ms"] = found.quantile(0.5) / 1e3
            row[f"{name}_p99_ms"] = found.quantile(0.99) / 1e3
            result.histograms[f"{path}/{name}"] = found
        for name in ("relay", "load", "emulator"):
            row[f"{name}_core_%"] = median(
                [100 * leg["cpu_ns"][name] / (leg["window_s"] * 1e9) for leg in legs]
            )
        row["relay_waited_%"] = median(
            [100 * leg["waited_ns"]["relay"] / (leg["window_s"] * 1e9) for leg in legs]
        )
    row = result.rows["converse"]
    row["merged_%"] = 100 - row["messages_of_one_%"]
    for name in ("token", "gap"):
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            more = [
                each["converse"]["found"][name].quantile(share)
                - each["direct"]["found"][name].quantile(share)
                for each in rounds
            ]
            row[f"added_{name}_{label}_ms"] = median(more) / 1e3
    result.targets = [
        ("converse", "added_token_p99_ms", _ADDED_AIM_MS),
        ("converse", "merged_%", _MERGED_AIM),
        ("converse", "load_core_%", _GENERATOR_AIM),
    ]
    return result


def _leg(rig: Rig, path: str) -> dict[str, Any]:
    """
    Raises:
        BenchError: a request failed.
    """
    raw = rig.load.ask(
        {
            "op": "leg",
            "path": path,
            "own_sessions": path == "converse",
            "jitter": True,
            "streams": _SESSIONS,
            "tokens": _TOKENS,
            "ttft_ms": _TTFT_MS,
            "itl_ms": _ITL_MS,
            "model": f"emu:ttft={_TTFT_MS},itl={_ITL_MS},tokens={_TOKENS},stamp=1",
            "window_s": 2 * rig.options.window_s,
            "watch": rig.watch,
        },
        90.0,
    )
    if raw["error_count"] or raw["unanswered"]:
        raise BenchError(f"{path}: {raw['error_count']} failed, {raw['errors']}")
    raw["found"] = {
        name: Histogram.from_dict(value) for name, value in raw.pop("histograms").items()
    }
    return raw
