"""Races of two by the ten thousand: what losers leave behind, and how soon they are reset.

The first candidate is slow, the second quick and started a millisecond later, so that every request
has one loser, reset while its provider thinks. Before and after, idle, the relay is asked what it
holds: tasks, background work, open streams, descriptors, memory. The emulator tells how its streams
ended and over how many connections they came.

`commit_to_abort` is the relay's own account: from the winner's first content to the loser's stream
being given up, from the log. `commit_to_reset` is the provider's, of races one at a time, so that
both streams of a race are known: from its write of the winner's first token to its notice of the
loser's reset. The winner's way to the relay and the reset's way back are inside.

On a machine that stalls, the quick target is at times twice as slow as usual; its breaker then
leaves it alone and there are no races for a while. So losers are counted, not races.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from bench import emulated
from bench.hedged import HedgedRelay, alias
from bench.processes import BenchError, open_files, rss_kib
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import Histogram

_RATE_PER_S = 100
_BATCH = 2_000
_PARALLEL = 64
_WARM = 2_000
"""Before the first look: what the process grows to under this load is not what losers leave."""
_QUIET_S = 3.0
_LONGEST_S = 1.5
"""A loser that runs on to its first content has ended by then."""
_MOST_RACES = 3
"""For each loser that is wanted."""
_P99_AIM_MS = 5.0
_SLOW, _QUICK = "emu:ttft=1000,itl=1,tokens=3,seed=1", "emu:ttft=200,itl=1,tokens=3,seed=2"
"""Two hundred milliseconds, so that a busy machine does not make it twice as slow as usual: its
breaker would leave it alone, and there would be no races."""


def run(rig: Rig) -> CaseResult:
    """10^5 losers, 10^4 in a quick run."""
    count = 10_000 if rig.options.is_quick else 100_000
    singles = 200 if rig.options.is_quick else 1_000
    race = alias(_SLOW, _QUICK, mode="active", delay=1, max_extra_requests=1.0, max_extra_cost=10.0)
    with HedgedRelay(rig, "relay-losers", {"race": race}) as hedged:

        def races(number: int, rate: int = _RATE_PER_S, parallel: int = _PARALLEL) -> None:
            while number > 0:
                answer = hedged.load.ask(
                    {
                        "op": "many",
                        "path": "sse",
                        "model": "race",
                        "count": min(_BATCH, number),
                        "rate": rate,
                        "parallel": parallel,
                    },
                    300.0,
                )
                if answer["error_count"]:
                    raise BenchError(f"{answer['error_count']} failed: {answer['errors']}")
                number -= _BATCH

        races(_WARM)
        before = _held(hedged)
        seen: Counter[str] = Counter()
        emulated.ask(rig.emulator, "/emulator/reset", b"")
        began_s = time.monotonic()
        left, raced = count, 0
        while left > 0 and raced < _MOST_RACES * count:
            rig.say(f"loser_leaks: {count - left} of {count} losers in {raced} races")
            races(_BATCH)
            raced += _BATCH
            # The emulator keeps so many records and no more: it is asked batch by batch.
            time.sleep(_LONGEST_S)
            streams = emulated.ask(rig.emulator, "/emulator/report")["streams"]
            seen.update({name: streams[name] for name in ("open", "reset", "cut")})
            seen["lost"] += streams["models"].get(_SLOW, {}).get("abandoned", 0)
            seen["new"] += streams["connections_seen"] - round(before["connections"])
            emulated.ask(rig.emulator, "/emulator/reset", b"")
            left = count - seen["lost"]
        took_s = time.monotonic() - began_s
        after = _held(hedged)
        commit_to_reset = _one_at_a_time(rig, races, singles)
        log = (rig.directory / "relay-losers.err").read_bytes().splitlines()
    abandoned, dials = seen["lost"], seen["new"]
    commit_to_abort = _commit_to_abort(log)
    result = CaseResult(axes={"races": count, "rate_per_s": _RATE_PER_S, "singles": singles})
    result.rows["leaks"] = {
        "races": raced,
        "losers_reset": abandoned,
        "took_s": took_s,
        "tasks": after["tasks"] - before["tasks"],
        "background": after["background"],
        "open_streams": after["open_streams"],
        "descriptors": after["descriptors"] - before["descriptors"],
        "rss_before_kib": before["rss_kib"],
        "rss_after_kib": after["rss_kib"],
        "rss_more_kib": after["rss_kib"] - before["rss_kib"],
        "open_at_provider": seen["open"],
        "errors_logged": sum(b'"level":"error"' in line for line in log),
    }
    result.rows["connections"] = {
        "held_before": before["connections"],
        "held_after": after["connections"],
        "new": dials,
        "resets_a_new_connection": abandoned / dials if dials else float("nan"),
        # Every stream came to its end as its own side wanted: none went with its connection.
        "streams_cut": seen["reset"] + seen["cut"],
    }
    for name, histogram in (
        ("commit_to_abort", commit_to_abort),
        ("commit_to_reset", commit_to_reset),
    ):
        result.rows[name] = {
            "races": histogram.count,
            "p50_ms": histogram.quantile(0.5) / 1e3,
            "p99_ms": histogram.quantile(0.99) / 1e3,
            "max_ms": histogram.max_us / 1e3,
        }
        result.histograms[name] = histogram
    result.targets += [
        ("leaks", name, 0.0)
        for name in ("tasks", "background", "open_streams", "open_at_provider", "errors_logged")
    ]
    result.targets += [
        ("leaks", "descriptors", 4.0),
        ("leaks", "rss_more_kib", 8192.0),
        ("commit_to_abort", "p99_ms", _P99_AIM_MS),
        ("commit_to_reset", "p99_ms", _P99_AIM_MS),
    ]
    return result


def _held(hedged: HedgedRelay) -> dict[str, float]:
    """What the idle relay holds."""
    time.sleep(_QUIET_S)
    pid = hedged.relay.pid
    state = hedged.relay.state()
    return {
        "tasks": state["tasks"],
        "background": state["background"] + state["generations"],
        "open_streams": sum(row["open_streams"] + row["waiting"] for row in state["origins"]),
        "connections": sum(row["connections"] for row in state["origins"]),
        "descriptors": open_files(pid),
        "rss_kib": rss_kib(pid),
    }


def _commit_to_abort(log: Sequence[bytes]) -> Histogram:
    found = Histogram()
    for line in log:
        if b'"outcome":"lost"' not in line:
            continue
        loser, winner = sorted(json.loads(line)["attempts"], key=lambda one: one["outcome"])
        won_us = winner["started_us"] + winner["first_content_us"]
        found.add(max(0.0, loser["ended_us"] - won_us))
    return found


def _one_at_a_time(rig: Rig, races: Any, count: int) -> Histogram:
    found = Histogram()
    since = emulated.ask(rig.emulator, "/emulator/report")["streams"]["last_id"]
    races(count, 50, 1)
    time.sleep(1.0)
    rows = emulated.ask(rig.emulator, f"/emulator/streams?since={since}")["streams"]
    rows = [row for row in rows if row["model"] in (_SLOW, _QUICK)]
    while len(rows) > 1:
        (first, second), rows = rows[:2], rows[2:]
        if {first["model"], second["model"]} != {_SLOW, _QUICK}:
            rows.insert(0, second)  # the first was asked alone
            continue
        loser, winner = (first, second) if first["model"] == _SLOW else (second, first)
        if loser["outcome"] == "abandoned" and not loser["first_token_ns"]:
            found.add((loser["end_ns"] - winner["first_token_ns"]) / 1e3)
    return found
