"""The bench.

python -m bench run [CASE ...] [--quick] [--sockets] [--idle-s S] [--out FILE]
python -m bench compare OLD NEW
python -m bench history [--last N] [--append]      the ratios that CI judges, by commit
python -m bench spread [FILE ...]        their extremes over the stored runs of the newest commit
python -m bench baseline [FILE ...]      take the medians of those as the stored baseline
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
from bench.short import history
from bench.short.judge import SLACK_WITHOUT_PRIORITY, over

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


def _history(last: int, file: Path | None, *, append: bool) -> int:
    try:
        now = history.read(file or history.latest())
    except history.NoRunError as error:
        if append or file is not None:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        now = None
    entries = history.load()
    if now in entries:
        now = None  # appended already
    elif now is not None and append:
        history.append(now)
        print(f"{_shown(history.HISTORY)} has a line more\n")
    print(history.show(entries[-last:] if last else [], baseline.ratios(), now))
    return 0


def _entries(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Stored runs of the short form; if none is named, those of the newest one's commit.

    Raises:
        NoRunError: there is none.
    """
    if files:
        return [history.read(file) for file in files]
    newest = history.read(history.latest())
    found = [history.read(file) for file in history.stored()]
    return [one for one in found if one["commit"] == newest["commit"]]


def _spread(entries: Sequence[Mapping[str, Any]]) -> None:
    limits = baseline.ratios()
    print(table(history.extremes(entries)))
    failed = 0
    told: list[str] = []
    for one in entries:
        slack = 1.0 if one.get("real_time", True) else SLACK_WITHOUT_PRIORITY
        found = over(one["ratios"], limits, slack)
        failed += bool(found)
        told += [f"  {one['measured_at']} {each}" for each in found]
    print(f"\n{len(entries)} runs, {failed} of them with a ratio over its bound", *told, sep="\n")


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
    plotting = commands.add_parser("plot", help="draw the stream_cost of a result as SVG")
    plotting.add_argument("file", type=Path)
    plotting.add_argument("picture", type=Path)
    telling = commands.add_parser("history", help="ratios that CI judges, by commit")
    telling.add_argument("--last", type=int, default=8, metavar="N", help="so many runs (8)")
    telling.add_argument("--run", type=Path, metavar="FILE", help="instead of the newest run")
    telling.add_argument("--append", action="store_true", help="write the run into the history")
    for name, text in (
        ("spread", "extremes of those ratios over stored runs"),
        ("baseline", "store the medians of those runs"),
    ):
        short = commands.add_parser(name, help=text)
        short.add_argument("files", type=Path, nargs="*", metavar="FILE")
    commands.add_parser("versions", help="what would be measured")
    commands.add_parser("list", help="the cases")
    options = parser.parse_args(arguments)
    match options.command:
        case "run":
            return _run(options)
        case "compare":
            print(compare(_load(options.old), _load(options.new)))
        case "plot":
            case = _load(options.file)["cases"].get("stream_cost")
            if case is None:
                parser.error(f"{options.file} has no stream_cost")
            options.picture.write_text(stream_cost.picture(case))
        case "history":
            return _history(options.last, options.run, append=options.append)
        case "spread" | "baseline":
            try:
                entries = _entries(options.files)
            except history.NoRunError as error:
                print(f"bench: {error}", file=sys.stderr)
                return 1
            if options.command == "spread":
                _spread(entries)
            else:
                print(f"{_shown(baseline.store(entries))} written: {len(entries)} runs")
        case "versions":
            for name, version in {**suite.commit(), **suite.versions()}.items():
                print(f"{name:12} {version}")
        case "list":
            for name, text in suite.SUMMARIES.items():
                print(f"{name:20} {(text or '').strip().splitlines()[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
