"""The corpus by provider and kind, and what is not as it expects: `python -m tests.corpus.table`.

Runs every check of every case, as `make test` does case by case, and prints counts; exits with 1
if a check fails and with 2 where the corpus is absent.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.corpus.harness import Wire
from tests.corpus.wires import WIRES
from tests.fakes.wire_corpus import ABSENT, Case, all_cases


@dataclass(frozen=True)
class Outcome:
    """How one case fared."""

    case: str
    provider: str
    kind: str
    failures: tuple[str, ...]
    """`wire: check: what was wrong`."""
    differences: tuple[str, ...]
    """Why we differ on purpose."""


def wires_of(case: Case) -> list[Wire]:
    """The wires that a case is checked against; Ollama's errors are of both its surfaces."""
    return [wire for wire in WIRES if wire.takes(case)]


def judge(case: Case) -> Outcome:
    """Check one case."""
    failures: list[str] = []
    differences: list[str] = []
    for wire in wires_of(case):
        for name, check in wire.checks(case):
            try:
                check(case)
            except Exception as error:  # noqa: BLE001 - told in the table, whatever it is
                said = " ".join(str(error).split())[:200]
                failures.append(f"{wire.name}: {name}: {type(error).__name__} {said}".rstrip())
        if case.name in wire.differences:
            differences.append(wire.differences[case.name].why)
    return Outcome(case.name, case.provider, case.kind, tuple(failures), tuple(differences))


def report(outcomes: list[Outcome]) -> str:
    """The table, then what differs and what fails, one by one."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    for one in outcomes:
        for key in ((one.provider, one.kind), ("all", "")):
            row = rows.setdefault(key, Counter())
            row["cases"] += 1
            row["pass"] += not one.failures
            row["listed"] += bool(one.differences)
    lines = [f"{'provider':20} {'kind':28} {'cases':>6} {'pass':>6} {'listed':>6}"]
    lines += [
        f"{provider:20} {kind:28} {row['cases']:6} {row['pass']:6} {row['listed']:6}"
        for (provider, kind), row in sorted(
            rows.items(), key=lambda item: (item[0][0] == "all", item)
        )
    ]
    lines += ["", "Listed: passes, but for what we say otherwise than the corpus, and why"]
    lines += [f"  {one.case}\n      {why}" for one in outcomes for why in one.differences]
    failed = [one for one in outcomes if one.failures]
    if failed:
        lines += ["", "Failed"]
        lines += [f"  {one.case}\n      {what}" for one in failed for what in one.failures]
    return "\n".join(lines)


def main() -> int:
    cases = all_cases()
    if not cases:
        print(ABSENT, file=sys.stderr)
        return 2
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        outcomes = list(pool.map(judge, cases, chunksize=8))
    print(report(outcomes))
    return 1 if any(one.failures for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
