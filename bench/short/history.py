"""The ratios of each commit: a line of JSON a run in `bench/history.jsonl`, kept in the repository.

pytest-benchmark stores a run whole (`bench/results/short`, not in git: kilobytes a run, with the
name of the machine); a line of the history is what is worth keeping of it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.result import table
from bench.short.judge import bound

HISTORY: Final = Path(__file__).resolve().parent.parent / "history.jsonl"
STORED: Final = Path(__file__).resolve().parent.parent / "results" / "short"


class NoRunError(Exception):
    """There is no stored run to read; the message says how to make one."""


def stored(directory: Path | None = None) -> list[Path]:
    """What pytest-benchmark has stored, the oldest first."""
    found = (directory or STORED).glob("*/*.json")
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def latest(directory: Path | None = None) -> Path:
    """The newest stored run.

    Raises:
        NoRunError: there is none.
    """
    if not (found := stored(directory)):
        raise NoRunError("no stored run; `make bench-short` makes one")
    return found[-1]


def entry(document: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the history: commit, time, kind of machine, and every ratio of a stored run.

    Raises:
        NoRunError: it has no ratio, so it is of other benchmarks.
    """
    ratios: dict[str, float] = {}
    beside: dict[str, Any] = {}
    for benchmark in document["benchmarks"]:
        extra = benchmark["extra_info"]
        ratios.update(extra.get("ratios", {}))
        beside.update(extra.get("beside", {}))
    if not ratios:
        raise NoRunError("this run has no ratio: is it of tests/bench/test_short.py?")
    commit, machine = document["commit_info"], document["machine_info"]
    return {
        "commit": commit["id"],
        "dirty": commit["dirty"],
        "measured_at": document["datetime"].partition(".")[0].replace("+00:00", "") + "Z",
        "python": machine["python_version"],
        "cores": machine["cpu"].get("count"),
        **beside,
        "ratios": {name: float(f"{value:.4g}") for name, value in sorted(ratios.items())},
    }


def read(path: Path) -> dict[str, Any]:
    """The entry of a file of pytest-benchmark's."""
    return entry(json.loads(path.read_text()))


def load(path: Path | None = None) -> list[dict[str, Any]]:
    """Every entry, the oldest first; none where there is no file."""
    path = path or HISTORY
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def append(one: Mapping[str, Any], path: Path | None = None) -> None:
    """Write an entry behind the others."""
    with (path or HISTORY).open("a") as file:
        file.write(json.dumps(one) + "\n")


def show(
    entries: Sequence[Mapping[str, Any]],
    baseline: Mapping[str, float],
    now: Mapping[str, Any] | None = None,
) -> str:
    """A row a ratio: its baseline, the most it may be, and a column a run, the last `now`."""
    columns: list[tuple[str, Mapping[str, float]]] = [
        ("baseline", baseline),
        ("most", {name: bound(name) * value for name, value in baseline.items()}),
    ]
    columns += [(_label(one), one["ratios"]) for one in entries]
    if now is not None:
        columns.append((f"now {_label(now)}", now["ratios"]))
    names = sorted({name for _, ratios in columns for name in ratios})
    rows: dict[str, dict[str, float | None]] = {name: {} for name in names}
    taken: set[str] = set()
    for label, ratios in columns:
        while label in taken:  # two runs of one commit on one day
            label += "'"
        taken.add(label)
        for name in names:
            rows[name][label] = ratios.get(name)
    return table(rows)


def _label(one: Mapping[str, Any]) -> str:
    return f"{one['measured_at'][5:10]} {one['commit'][:7]}{'+' if one['dirty'] else ''}"


def extremes(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Smallest, median and largest of each ratio over several runs."""
    names = sorted({name for one in entries for name in one["ratios"]})
    found: dict[str, dict[str, float]] = {}
    for name in names:
        values = [one["ratios"][name] for one in entries if name in one["ratios"]]
        middle = statistics.median(values)
        found[name] = {
            "runs": len(values),
            "min": min(values),
            "median": middle,
            "max": max(values),
            "max_over_median": max(values) / middle,
        }
    return found
