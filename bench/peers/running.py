"""A run: its plan, its parts in turn, its file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import suite
from bench.peers import h2load, kept
from bench.peers.cases.case import Case
from bench.peers.rig import Options, PeerRig
from bench.processes import BenchError
from bench.result import CaseResult

START_S = 45.0
"""All gateways, one after the other, and their warm-up."""
_ARMS_OF_OURS = 5


def planned_s(cases: Mapping[str, Case], options: Options, arms: int = 0) -> dict[str, float]:
    """About how long each case takes.

    Args:
        arms: 0: as if everyone who is wanted were there.
    """
    arms = arms or len(options.peers) + _ARMS_OF_OURS
    return {
        name: sum(case.seconds(options, part, arms) for part in case.parts(options))
        for name, case in cases.items()
    }


def plan_text(seconds: Mapping[str, float]) -> str:
    """The plan in one line."""
    parts = ", ".join(f"{name} {_minutes(each)}" for name, each in seconds.items())
    return f"takes about {_minutes(START_S + sum(seconds.values()))}: {parts}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def begun(cases: Sequence[str], options: Options) -> dict[str, Any]:
    """The content of a file before anything was measured."""
    return {
        "schema": 1,
        **suite.commit(),
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "sittings": [],
        "machine": suite.machine(),
        "versions": {**suite.versions(), "h2load": h2load.version()},
        "options": options._asdict(),
        "wanted": list(cases),
        "cases": {},
        "elapsed_s": 0.0,
    }


def options_of(result: Mapping[str, Any]) -> Options:
    """Of a file."""
    given = result["options"]
    return Options(**{**given, "idle_s": tuple(given["idle_s"]), "peers": tuple(given["peers"])})


def check_same(result: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Whether a run may go on here: what is shown together is of one commit and one machine.

    Raises:
        BenchError: it is not the same.
    """
    for name in ("commit", "dirty"):
        if result[name] != now[name]:
            raise BenchError(f"it began with {name} {result[name]}, here it is {now[name]}")
    for name in ("usable_cores", "kernel", "is_realtime"):
        before, here = result["machine"][name], now["machine"][name]
        if before != here:
            raise BenchError(f"it began with {name} {before}, here it is {here}")


def measure(
    cases: Mapping[str, Case],
    result: dict[str, Any],
    path: Path,
    say: Callable[[str], None],
    rig_of: Callable[[Options, Callable[[str], None]], PeerRig] = PeerRig,
) -> None:
    """Do every part that the file has not, and write the file after each.

    An interrupted part (`KeyboardInterrupt`) is dropped, all before are in the file; every process
    was ended when this returns or raises.

    Raises:
        BenchError: it cannot go on; the file has what there is.
    """
    began_s, before_s = time.monotonic(), float(result["elapsed_s"])
    options = options_of(result)

    def keep() -> None:
        result["elapsed_s"] = round(before_s + time.monotonic() - began_s, 1)
        result["machine"]["load_average_1m_after"] = os.getloadavg()[0]
        kept.write(result, path)

    with rig_of(options, say) as rig:
        _take_up(result, rig)
        seconds = planned_s(cases, options, len(rig.arms))
        say(plan_text(seconds))
        result["planned_s"] = {
            **result.get("planned_s", {}),
            **{name: round(each) for name, each in seconds.items()},
        }
        for name, case in cases.items():
            _case(name, case, rig, options, result, keep)


def _take_up(result: dict[str, Any], rig: PeerRig) -> None:
    arms = {name: arm.to_dict() for name, arm in rig.arms.items()}
    if result["cases"] and arms != result["arms"]:
        raise BenchError(f"it began with the arms {list(result['arms'])}, here are {list(arms)}")
    result["arms"], result["skipped"] = arms, rig.skipped
    result["pinning"] = str(rig.cores)
    result["are_ends_together"] = rig.cores.are_ends_together
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    result["sittings"].append({"at": now, "load_average_1m": os.getloadavg()[0]})


def _case(
    name: str,
    case: Case,
    rig: PeerRig,
    options: Options,
    result: dict[str, Any],
    keep: Callable[[], None],
) -> None:
    before = result["cases"].get(name)
    if before is not None and before["is_whole"]:
        return
    case_result = CaseResult(case.axes(rig)) if before is None else kept.read_case(before)
    done: list[str] = [] if before is None else list(before["parts"])
    spent_s = 0.0 if before is None else float(before["elapsed_s"])
    parts = case.parts(options)
    for part in parts:
        if part in done:
            continue
        began_s = time.monotonic()
        case.run(rig, part, case_result)
        done.append(part)
        spent_s += time.monotonic() - began_s
        if len(done) == len(parts):
            case.finish(case_result)
        result["cases"][name] = {
            **case_result.to_dict(),
            "parts": list(done),
            "is_whole": len(done) == len(parts),
            "elapsed_s": round(spent_s, 1),
        }
        keep()
