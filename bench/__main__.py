"""The bench.

python -m bench run [CASE ...] [--quick] [--sockets] [--idle-s S] [--out FILE]
python -m bench compare OLD NEW
python -m bench baseline FILE        take the ratios of a result as the stored baseline
python -m bench plot FILE PICTURE    draw the stream_cost of a result
python -m bench versions
python -m bench list
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import baseline, suite
from bench.cases import stream_cost
from bench.processes import BenchError
from bench.result import compare, table
from bench.rig import FULL, QUICK

BUSY_LOAD = 0.25
"""Load a core before the run above which its absolute figures are not ours alone."""


def _run(arguments: argparse.Namespace) -> int:
    names = arguments.cases or [name for name in suite.CASES if name not in suite.LONG]
    unknown = [name for name in names if name not in suite.CASES]
    if unknown:
        print(f"unknown case {unknown[0]!r}; there are: {', '.join(suite.CASES)}")
        return 2
    began_s = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began_s:5.0f} s] {text}", file=sys.stderr, flush=True)

    try:
        options = (QUICK if arguments.quick else FULL)._replace(
            sockets=arguments.sockets, idle_s=arguments.idle_s
        )
        result = suite.run(names, options, say)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    path = suite.write(result, arguments.out)
    print(report(result))
    print(f"\n{_shown(path)}: {result['elapsed_s']:.0f} s")
    return 0


def _shown(path: Path) -> Path:
    return path.relative_to(suite.ROOT) if path.is_relative_to(suite.ROOT) else path


def report(result: Mapping[str, Any]) -> str:
    """A result for people."""
    machine = result["machine"]
    dirty = " with changes" if result["dirty"] else ""
    lines = [
        f"commit {result['commit'][:10]}{dirty}, {machine['usable_cores']} cores,"
        f" kernel {machine['kernel']}, python {result['versions']['python']},"
        f" load {machine['load_average_1m']:.1f} before,"
        f" {machine['load_average_1m_after']:.1f} after;"
        f" {machine['shared']}",
    ]
    if machine["is_realtime"]:
        lines.append("at real-time priority: others have the cores only when these are idle")
    elif machine["load_average_1m"] > BUSY_LOAD * machine["usable_cores"]:
        lines.append("NOTE: others used this machine; ratios of rows hold, milliseconds do not")
    for name, case in result["cases"].items():
        lines += ["", f"== {name}", table(case["rows"])]
        lines += [f"   {note}" for note in case["notes"]]
        lines += [
            f"   {'met ' if target['is_met'] else 'MISS'} {target['row']} {target['figure']}"
            f" {target['value']} (limit {target['limit']})"
            for target in case["targets"]
        ]
    return "\n".join(lines)


def _load(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure; if none is named, all but the long ones")
    run.add_argument("cases", nargs="*", metavar="CASE")
    run.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    run.add_argument(
        "--sockets", action="store_true", help="hedge_tail: check the simulation over sockets"
    )
    run.add_argument(
        "--idle-s", type=float, default=0.0, help="after_idle: rest so long before a first call"
    )
    run.add_argument("--out", type=Path, help="where the JSON goes (default: bench/results)")
    comparing = commands.add_parser("compare", help="figures that two files share")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    storing = commands.add_parser("baseline", help="store the ratios of a result")
    storing.add_argument("file", type=Path)
    plotting = commands.add_parser("plot", help="draw the stream_cost of a result as SVG")
    plotting.add_argument("file", type=Path)
    plotting.add_argument("picture", type=Path)
    commands.add_parser("versions", help="what would be measured")
    commands.add_parser("list", help="the cases")
    options = parser.parse_args(arguments)
    match options.command:
        case "run":
            return _run(options)
        case "compare":
            print(compare(_load(options.old), _load(options.new)))
        case "baseline":
            print(f"{_shown(baseline.store(_load(options.file)))} written")
        case "plot":
            case = _load(options.file)["cases"].get("stream_cost")
            if case is None:
                parser.error(f"{options.file} has no stream_cost")
            options.picture.write_text(stream_cost.picture(case))
        case "versions":
            for name, version in {**suite.commit(), **suite.versions()}.items():
                print(f"{name:12} {version}")
        case "list":
            for name, text in suite.SUMMARIES.items():
                print(f"{name:20} {(text or '').strip().splitlines()[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
