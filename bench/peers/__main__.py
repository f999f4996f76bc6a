"""See `bench.peers`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from bench import suite
from bench.__main__ import report as shown_report
from bench.peers import kept, published, running
from bench.peers.all import PEERS
from bench.peers.cases.all import CASES
from bench.peers.peer import PeerError
from bench.peers.rig import FULL, QUICK, Options
from bench.processes import BenchError

INTERRUPTED = 130
"""As a shell says it of a command that SIGINT ended."""


def install(names: Sequence[str]) -> int:
    """Install peers; one that cannot be is told and left out."""
    for name in names or list(PEERS):
        try:
            PEERS[name].install()
            print(f"{name} {PEERS[name].version}: installed", flush=True)
        except PeerError as error:
            print(f"{name}: skipped: {error}", flush=True)
    return 0


def options_of(arguments: argparse.Namespace) -> Options:
    """What a command line asks for."""
    options = QUICK if arguments.quick else FULL
    if arguments.rounds:
        options = options._replace(rounds=arguments.rounds)
    if arguments.idle:
        options = options._replace(idle_s=tuple(arguments.idle))
    if arguments.peers is not None:
        options = options._replace(peers=tuple(arguments.peers))
    if arguments.pin is not None:
        options = options._replace(is_pinned=arguments.pin)
    return options


def _run(arguments: argparse.Namespace) -> int:
    began_s = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began_s:5.0f} s] {text}", file=sys.stderr, flush=True)

    try:
        result, path = _begin(arguments)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    cases = {name: CASES[name] for name in kept.unfinished(result)}
    say(running.plan_text(running.planned_s(cases, running.options_of(result))))
    if arguments.plan:
        return 0
    try:
        running.measure(cases, result, path, say)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        _say_what_is_kept(result, path)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        _say_what_is_kept(result, path)
        return INTERRUPTED
    print(shown_report(result))
    for name, why in result["skipped"].items():
        print(f"{name} was skipped: {why}")
    print(f"\n{path}: {result['elapsed_s']:.0f} s")
    return 0


def _say_what_is_kept(result: Mapping[str, Any], path: Path) -> None:
    if not result["cases"]:
        return
    left = ", ".join(kept.unfinished(result))
    print(f"{path} has what was measured; not whole: {left}", file=sys.stderr)
    print(f"go on with: python -m bench.peers run --resume {path}", file=sys.stderr)


def _begin(arguments: argparse.Namespace) -> tuple[dict[str, Any], Path]:
    """A file begun anew, or taken up again.

    Raises:
        BenchError: it cannot be, since here is another commit or machine.
    """
    if arguments.resume is None:
        result = running.begun(arguments.cases or list(CASES), options_of(arguments))
        stamp = result["started_at"].replace(":", "").replace("-", "")
        name = f"peers-{stamp}-{result['commit'][:10]}.json"
        return result, arguments.out or suite.RESULTS / name
    try:
        result = json.loads(arguments.resume.read_text())
        running.check_same(result, running.begun([], running.options_of(result)))
    except (OSError, ValueError, LookupError) as error:
        raise BenchError(f"--resume {arguments.resume}: {error}") from error
    return result, arguments.resume


def _has_choices(arguments: argparse.Namespace) -> bool:
    """Whether a command line says how to run."""
    names = ("cases", "quick", "rounds", "idle", "out")
    more = arguments.peers is not None or arguments.pin is not None
    return more or any(getattr(arguments, name) for name in names)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is being ended then is ended whole
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="other gateways")
    commands = parser.add_subparsers(dest="command", required=True)
    installing = commands.add_parser("install", help="into .peers/, by hash locks")
    installing.add_argument("peers", nargs="*", metavar="PEER", choices=[*PEERS, []])
    parser_of_run = commands.add_parser("run", help="measure; if none is named, all cases")
    parser_of_run.add_argument("cases", nargs="*", metavar="CASE", choices=[*CASES, []])
    parser_of_run.add_argument("--quick", action="store_true", help="one short round")
    parser_of_run.add_argument("--rounds", type=int, help="of the loads")
    parser_of_run.add_argument(
        "--idle", type=float, nargs="+", metavar="S", help="pauses before a first question"
    )
    parser_of_run.add_argument("--peers", nargs="*", choices=list(PEERS), help="only these")
    parser_of_run.add_argument(
        "--pin",
        action=argparse.BooleanOptionalAction,
        help="each process tree on a core of its own, where there are enough (default: yes)",
    )
    parser_of_run.add_argument("--plan", action="store_true", help="say how long it takes, no more")
    parser_of_run.add_argument(
        "--resume", type=Path, metavar="FILE", help="go on with a run that was interrupted"
    )
    parser_of_run.add_argument(
        "--out", type=Path, help="where the JSON goes (default: bench/results)"
    )
    publishing = commands.add_parser("publish", help="take a run as the one that README.md shows")
    publishing.add_argument("file", type=Path)
    rendering = commands.add_parser("render", help="README's section from the published run")
    rendering.add_argument("--check", action="store_true", help="change nothing; 1 if it differs")
    options = parser.parse_args(arguments)
    if options.command == "run" and options.resume and _has_choices(options):
        parser.error("--resume goes on as the run began: no cases, no other options")
    match options.command:
        case "install":
            return install(options.peers)
        case "run":
            signal.signal(signal.SIGTERM, _interrupt)
            return _run(options)
        case "publish":
            published.publish(json.loads(options.file.read_text()))
            return published.render(check=False)
        case "render":
            return published.render(check=options.check)
    return 2


if __name__ == "__main__":
    sys.exit(main())
