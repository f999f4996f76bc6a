"""What hedging does to the tail: published latencies replayed through the race, simulated clock.

Needs no rig. 100,000 requests an arm (10,000 with `--quick`, in fewer worlds), the same draws in
each arm of a world. Dead air is a turn whose first sentence (6 to 18 tokens at 80 a second after
the first token) is later than 1.5 s. Extra money is what all attempts cost over what the first
alone would have.
`--sockets` checks the simulation against relay and emulator.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Final

from bench.replay import report, second_place, sockets, svg
from bench.result import CaseResult
from bench.rig import Rig

PICTURES: Final = Path(__file__).resolve().parent.parent / "results" / "hedge_tail"


def run(rig: Rig) -> CaseResult:
    """Every world."""
    is_quick = rig.options.is_quick
    rows = report.run(is_quick=is_quick, say=rig.say)
    result = CaseResult(axes={"requests": report.QUICK if is_quick else report.FULL})
    PICTURES.mkdir(parents=True, exist_ok=True)
    for world, group in groupby(rows, key=lambda row: row.world):
        arms = list(group)
        result.notes.append(f"--- {world}\n{report.arm_table(arms)}")
        refused = {row.arm: row.refused for row in arms if row.refused}
        if refused:
            result.notes.append(f"hedges not sent: {refused}")
        picture = svg.tails(f"{world}: {len(arms)} ways to ask", {r.arm: r.curve for r in arms})
        (PICTURES / f"{world}.svg").write_text(picture)
        for row in arms:
            result.rows[f"{world}/{row.arm}"] = row.figures
    result.notes.append(f"--- a second place for the prefix\n{second_place.table()}")
    found = report.targets(rows)
    result.notes.append(f"--- targets\n{report.target_table(found)}")
    for target in found:
        key = f"target {target.number}: {target.what}"
        result.rows[key] = {"value": target.value}
        result.targets.append((key, "value", target.limit))
    result.notes.append(f"pictures: bench/results/{PICTURES.name}/*.svg")
    if rig.options.sockets:
        result.notes.append(f"--- sockets\n{sockets.check(rig.directory, rig.say, is_quick)}")
    return result
