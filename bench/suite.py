"""The cases in the order they run, and the file they make."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.cases import (
    accounts_cost,
    added_ttft,
    after_idle,
    barge_in,
    breaker_hints,
    brute_force,
    burst,
    cancel,
    conversation,
    cpu_per_event,
    direct_takeover,
    fault_isolation,
    first_turn,
    generate_or_converse,
    h2_attacks,
    hedge_cost,
    hedge_tail,
    idle_sessions,
    inter_token,
    largest_rate,
    live_calls,
    loser_leaks,
    micro,
    overload,
    paced_sessions,
    panel,
    postgres_reserve,
    segment_race,
    shadow_check,
    slow_readers,
    startup,
    stream_cost,
    telling_cost,
    tls_cost,
    token_expiry,
    workers,
)
from bench.processes import nginx_version
from bench.result import CaseResult
from bench.rig import Options, Rig

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"

CASES: dict[str, Callable[[Rig], CaseResult]] = {
    "micro": micro.run,
    "added_ttft": added_ttft.run,
    "inter_token": inter_token.run,
    "cpu_per_event": cpu_per_event.run,
    "paced_sessions": paced_sessions.run,
    "burst": burst.run,
    "cancel": cancel.run,
    "barge_in": barge_in.run,
    "idle_sessions": idle_sessions.run,
    "direct_takeover": direct_takeover.run,
    "hedge_cost": hedge_cost.run,
    "conversation": conversation.run,
    "first_turn": first_turn.run,
    "generate_or_converse": generate_or_converse.run,
    "segment_race": segment_race.run,
    "loser_leaks": loser_leaks.run,
    "shadow_check": shadow_check.run,
    "tls_cost": tls_cost.run,
    "accounts_cost": accounts_cost.run,
    "telling_cost": telling_cost.run,
    "token_expiry": token_expiry.run,
    "hedge_tail": hedge_tail.run,
    "panel": panel.run,
    "breaker_hints": breaker_hints.run,
    "postgres_reserve": postgres_reserve.run,
    "stream_cost": stream_cost.run,
    "workers": workers.run,
    "startup": startup.run,
    "after_idle": after_idle.run,
    "live_calls": live_calls.run,
    "fault_isolation": fault_isolation.run,
    "brute_force": brute_force.run,
    "slow_readers": slow_readers.run,
    "largest_rate": largest_rate.run,
    "overload": overload.run,
    "h2_attacks": h2_attacks.run,
}
LONG = frozenset(
    {
        "barge_in",
        "paced_sessions",
        "segment_race",
        "first_turn",
        "generate_or_converse",
        "loser_leaks",
        "shadow_check",
        "tls_cost",
        "accounts_cost",
        "telling_cost",
        "token_expiry",
        "hedge_tail",
        "panel",
        "breaker_hints",
        "postgres_reserve",
        "stream_cost",
        "workers",
        "startup",
        "after_idle",
        "live_calls",
        "fault_isolation",
        "brute_force",
        "slow_readers",
        "largest_rate",
        "overload",
        "h2_attacks",
    }
)
"""Cases that run only when they are named, or in `make nightly`."""
SUMMARIES = {
    "micro": micro.__doc__,
    "added_ttft": added_ttft.__doc__,
    "inter_token": inter_token.__doc__,
    "cpu_per_event": cpu_per_event.__doc__,
    "paced_sessions": paced_sessions.__doc__,
    "burst": burst.__doc__,
    "cancel": cancel.__doc__,
    "barge_in": barge_in.__doc__,
    "idle_sessions": idle_sessions.__doc__,
    "shadow_check": shadow_check.__doc__,
    "direct_takeover": direct_takeover.__doc__,
    "hedge_cost": hedge_cost.__doc__,
    "conversation": conversation.__doc__,
    "first_turn": first_turn.__doc__,
    "generate_or_converse": generate_or_converse.__doc__,
    "segment_race": segment_race.__doc__,
    "loser_leaks": loser_leaks.__doc__,
    "tls_cost": tls_cost.__doc__,
    "accounts_cost": accounts_cost.__doc__,
    "telling_cost": telling_cost.__doc__,
    "token_expiry": token_expiry.__doc__,
    "hedge_tail": hedge_tail.__doc__,
    "panel": panel.__doc__,
    "breaker_hints": breaker_hints.__doc__,
    "postgres_reserve": postgres_reserve.__doc__,
    "stream_cost": stream_cost.__doc__,
    "workers": workers.__doc__,
    "startup": startup.__doc__,
    "after_idle": after_idle.__doc__,
    "live_calls": live_calls.__doc__,
    "fault_isolation": fault_isolation.__doc__,
    "brute_force": brute_force.__doc__,
    "slow_readers": slow_readers.__doc__,
    "largest_rate": largest_rate.__doc__,
    "overload": overload.__doc__,
    "h2_attacks": h2_attacks.__doc__,
}

_PACKAGES = (
    "rtrelay",
    "grpcio",
    "protobuf",
    "uvicorn",
    "httptools",
    "uvloop",
    "wreq",
    "orjson",
    "msgspec",
    "granian",
    "structlog",
)


def versions() -> dict[str, str]:
    """Everything whose version may move a figure."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    found["python"] = platform.python_version()
    found["nginx"] = nginx_version()
    return found


def machine() -> dict[str, Any]:
    """Where and on what this ran."""
    return {
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "event_loop": "uvloop",
        "load_average_1m": os.getloadavg()[0],
        "is_realtime": os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR),
        "shared": "generator, relay and emulator share these cores",
    }


def commit() -> dict[str, Any]:
    """The commit measured, and whether the tree differs from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    return {
        "commit": git("rev-parse", "HEAD") or "unknown",
        "dirty": bool(git("status", "--porcelain", "--", "relay", "clients", "bench")),
    }


def run(names: Sequence[str], options: Options, say: Callable[[str], None]) -> dict[str, Any]:
    """Run cases and give the content of their file."""
    began_s = time.time()
    result: dict[str, Any] = {
        "schema": 1,
        **commit(),
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began_s)),
        "machine": machine(),
        "versions": versions(),
        "options": options._asdict(),
        "cases": {},
    }
    with Rig(options, say) as rig:
        result["skipped"] = rig.skipped
        for name in names:
            say(name)
            result["cases"][name] = CASES[name](rig).to_dict()
    result["machine"]["load_average_1m_after"] = os.getloadavg()[0]
    result["elapsed_s"] = round(time.time() - began_s, 1)
    return result


def write(result: dict[str, Any], path: Path | None) -> Path:
    """Save a result; by default under the time and the commit in bench/results."""
    if path is None:
        stamp = result["started_at"].replace(":", "").replace("-", "")
        path = RESULTS / f"{stamp}-{result['commit'][:10]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path
