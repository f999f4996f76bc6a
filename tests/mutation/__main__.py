"""`python -m tests.mutation [GROUP...]`: how many mutants the tests kill, by group and module.

    --draw PYTHON   the side environment's, which draws the mutants (`make mutation` names it)
    --sample N      of each module no more than so many, drawn by --seed (0)
    --again         what was killed the last time is killed; the others, and new ones, are run
    --jobs N        so many processes at a time (2)
    --slowest-s S   without tests that take longer
    --no-anew       without what has to be imported anew, which takes seconds each
    --report        run nothing, tell of the last time

Everything stands in `build/mutation/GROUP/` afterwards. Exit code 1: a group is below 80 %.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.mutation.children import OVERDUE, Work, all_of
from tests.mutation.plan import ROOT, Group, Mutant, equivalents, groups
from tests.mutation.report import TARGET_PERCENT, Row, rows, survivors, table
from tests.mutation.server import ANEW, KILLED, SURVIVED

_BUILD: Final = ROOT / "build" / "mutation"
_PYTEST: Final = (
    *(sys.executable, "-m", "pytest", "-q", "--tb=no", "--capture=sys"),
    *("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:benchmark", "-p", "no:rerunfailures"),
    *("-m", "not sockets", "-k", "not postgres and not redis", "--hypothesis-seed=0"),
)
_ANEW_S: Final = 240.0
_UNKNOWN: Final = {"outcome": ANEW}


def main() -> int:
    """Run the groups that are named, or all."""
    known = groups()
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("groups", nargs="*", choices=[*known, []], metavar="GROUP")
    parser.add_argument("--draw", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--sample", type=int, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--jobs", type=int, default=2, metavar="N")
    parser.add_argument("--slowest-s", type=float, default=math.inf, metavar="S")
    parser.add_argument("--no-anew", action="store_true")
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    found: list[Row] = []
    for name in asked.groups or known:
        if not asked.report:
            _run(known[name], asked)
        outcomes = _outcomes(name)
        mutants = [m for m in _mutants(name) if outcomes.get(m.key, _UNKNOWN)["outcome"] != ANEW]
        found += rows(known[name], mutants, outcomes, equivalents())
        (_BUILD / name / "survivors.txt").write_text(survivors(mutants, outcomes, equivalents()))
    print(table(found))
    missed = [row for row in found if row.is_group and row.percent < TARGET_PERCENT]
    return 1 if missed else 0


def _run(group: Group, asked: argparse.Namespace) -> None:
    directory = _BUILD / group.name
    directory.mkdir(parents=True, exist_ok=True)
    mutants = _drawn(group, asked)
    _write(directory / "mutants.jsonl", map(_fields, mutants))
    if not asked.again:
        (directory / "outcomes.jsonl").unlink(missing_ok=True)
    before = _outcomes(group.name)
    left = [m for m in mutants if before.get(m.key, _UNKNOWN)["outcome"] not in {KILLED, OVERDUE}]
    _write(directory / "left.jsonl", map(_fields, left))
    job = {
        "modules": group.modules,
        "mutants": str(directory / "left.jsonl"),
        "outcomes": str(directory / "outcomes.jsonl"),
        "baseline": str(directory / f"baseline-{_state(group)}.json"),
        "jobs": asked.jobs,
        "slowest_s": asked.slowest_s,
    }
    (directory / "job.json").write_text(json.dumps(job))
    ran = subprocess.run(
        [*_PYTEST, "-p", "tests.mutation.server", *group.tests],
        cwd=ROOT,
        env=_environment(RELAY_MUTATION=str(directory / "job.json")),
        check=False,
    )
    if ran.returncode not in {0, 5}:
        raise SystemExit(f"{group.name}: pytest ended with {ran.returncode}")
    if not asked.no_anew:
        _anew(group, left, directory / "outcomes.jsonl", asked.jobs)


def _state(group: Group) -> str:
    """Of what is tested, and of the tests: another one when any of them changes."""
    summed = hashlib.sha256()
    for path in sorted({*group.modules, *group.tests}):
        summed.update((ROOT / path).read_bytes())
    return summed.hexdigest()[:16]


def _drawn(group: Group, asked: argparse.Namespace) -> list[Mutant]:
    """All mutants of its modules, or a sample of each."""
    sample = [] if asked.sample is None else [f"--sample={asked.sample}", f"--seed={asked.seed}"]
    drawn = subprocess.run(
        [asked.draw, "-m", "tests.mutation.draw", *sample, *group.modules],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    return [Mutant.read(json.loads(line)) for line in drawn.stdout.splitlines()]


def _anew(group: Group, mutants: Sequence[Mutant], noted: Path, jobs: int) -> None:
    """Those whose module has to be imported anew, each in its process."""
    outcomes = _outcomes(group.name)
    with tempfile.TemporaryDirectory() as scratch, noted.open("a") as results:

        def works() -> Iterable[Work]:
            for number, mutant in enumerate(mutants):
                if (outcome := outcomes[mutant.key])["outcome"] != ANEW:
                    continue
                path = Path(scratch, f"{number}.json")
                path.write_text(json.dumps({"mutant": _fields(mutant), "tests": outcome["run"]}))
                yield Work(mutant, _process(group, path), _ANEW_S)

        for mutant, said in all_of(works(), jobs):
            outcome = said if said == OVERDUE else SURVIVED if said.strip() == "0" else KILLED
            line = {"key": mutant.key, "outcome": outcome, "by": "imported anew"}
            results.write(json.dumps(line) + "\n")
            results.flush()


def _process(group: Group, told: Path) -> Callable[[], tuple[int, int]]:
    """What begins pytest with one mutant; it says its exit code."""

    def start() -> tuple[int, int]:
        command = [*_PYTEST, "-x", "-p", "tests.mutation.anew", f"--basetemp={told}.d"]
        command += group.tests
        reading, writing = os.pipe()
        process = subprocess.Popen(
            ["/bin/sh", "-c", '"$@" >/dev/null 2>&1; echo $?', "sh", *command],
            cwd=ROOT,
            env=_environment(RELAY_MUTANT=str(told)),
            stdin=subprocess.DEVNULL,
            stdout=writing,
            process_group=0,
        )
        os.close(writing)
        return process.pid, reading

    return start


def _environment(**more: str) -> dict[str, str]:
    """Tests are compiled once for all these processes, and not where others find it."""
    ours = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {"PYTHONPYCACHEPREFIX": str(_BUILD / "pycache"), **ours, **more}


def _mutants(name: str) -> list[Mutant]:
    return [Mutant.read(fields) for fields in _read(_BUILD / name / "mutants.jsonl")]


def _outcomes(name: str) -> dict[str, dict[str, Any]]:
    """By `Mutant.key`, the latest of each."""
    path = _BUILD / name / "outcomes.jsonl"
    return {line["key"]: line for line in _read(path)} if path.exists() else {}


def _fields(mutant: Mutant) -> dict[str, Any]:
    return {name: getattr(mutant, name) for name in Mutant.__dataclass_fields__}


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _write(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
