"""See `bench.peers`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import suite
from bench.__main__ import report as shown_report
from bench.peers import published
from bench.peers.all import PEERS
from bench.peers.cases import cuts, goaway, idle, leaving, load, shapes
from bench.peers.peer import PeerError
from bench.peers.rig import FULL, QUICK, Options, PeerRig
from bench.processes import BenchError
from bench.result import CaseResult

# Breaks come last: a gateway may remember them against its provider.
CASES: dict[str, Callable[[PeerRig], CaseResult]] = {
    "load": load.run,
    "shapes": shapes.run,
    "leaving": leaving.run,
    "idle": idle.run,
    "goaway": goaway.run,
    "cuts": cuts.run,
}


def install(names: Sequence[str]) -> int:
    """Install peers; one that cannot be is told and left out."""
    for name in names or list(PEERS):
        try:
            PEERS[name].install()
            print(f"{name} {PEERS[name].version}: installed", flush=True)
        except PeerError as error:
            print(f"{name}: skipped: {error}", flush=True)
    return 0


def measure(cases: Sequence[str], options: Options, say: Callable[[str], None]) -> dict[str, Any]:
    """Run cases and give the content of their file."""
    began_s = time.time()
    result: dict[str, Any] = {
        "schema": 1,
        **suite.commit(),
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began_s)),
        "machine": suite.machine(),
        "versions": suite.versions(),
        "options": options._asdict(),
        "cases": {},
    }
    with PeerRig(options, say) as rig:
        result["arms"] = {name: arm.to_dict() for name, arm in rig.arms.items()}
        result["skipped"] = rig.skipped
        for name in cases:
            result["cases"][name] = CASES[name](rig).to_dict()
    result["machine"]["load_average_1m_after"] = os.getloadavg()[0]
    result["elapsed_s"] = round(time.time() - began_s, 1)
    return result


def _run(arguments: argparse.Namespace) -> int:
    began_s = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began_s:5.0f} s] {text}", file=sys.stderr, flush=True)

    options = QUICK if arguments.quick else FULL
    if arguments.rounds:
        options = options._replace(rounds=arguments.rounds)
    if arguments.idle:
        options = options._replace(idle_s=tuple(arguments.idle))
    if arguments.peers is not None:
        options = options._replace(peers=tuple(arguments.peers))
    try:
        result = measure(arguments.cases or list(CASES), options, say)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    stamp = result["started_at"].replace(":", "").replace("-", "")
    path = arguments.out or suite.RESULTS / f"peers-{stamp}-{result['commit'][:10]}.json"
    suite.write(result, path)
    print(shown_report(result))
    for name, why in result["skipped"].items():
        print(f"{name} was skipped: {why}")
    print(f"\n{path}: {result['elapsed_s']:.0f} s")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="other gateways")
    commands = parser.add_subparsers(dest="command", required=True)
    installing = commands.add_parser("install", help="into .peers/, by hash locks")
    installing.add_argument("peers", nargs="*", metavar="PEER", choices=[*PEERS, []])
    running = commands.add_parser("run", help="measure; if none is named, all cases")
    running.add_argument("cases", nargs="*", metavar="CASE", choices=[*CASES, []])
    running.add_argument("--quick", action="store_true", help="one short round")
    running.add_argument("--rounds", type=int, help="of the loads")
    running.add_argument(
        "--idle", type=float, nargs="+", metavar="S", help="pauses before a first question"
    )
    running.add_argument("--peers", nargs="*", choices=list(PEERS), help="only these")
    running.add_argument("--out", type=Path, help="where the JSON goes (default: bench/results)")
    publishing = commands.add_parser("publish", help="take a run as the one that README.md shows")
    publishing.add_argument("file", type=Path)
    rendering = commands.add_parser("render", help="README's section from the published run")
    rendering.add_argument("--check", action="store_true", help="change nothing; 1 if it differs")
    options = parser.parse_args(arguments)
    match options.command:
        case "install":
            return install(options.peers)
        case "run":
            return _run(options)
        case "publish":
            published.publish(json.loads(options.file.read_text()))
            return published.render(check=False)
        case "render":
            return published.render(check=options.check)
    return 2


if __name__ == "__main__":
    sys.exit(main())
