"""Which arms run over which worlds, and what the relay promises of them."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import math
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from bench.replay import arms, figures, worlds
from bench.replay.arms import Arm
from bench.replay.world import World, draw

FULL: Final = 100_000
QUICK: Final = 10_000

ORDERED: Final = Arm("ordered 5 %")
BALANCED: Final = Arm("balanced 5 %", mode="balanced")
TAIL: Final = Arm("tail 5 %", mode="tail")
ESCALATED: Final = Arm("escalate 5 %", escalates=True)
RACE: Final = Arm("race of 2", race=2)
SHARES: Final = (0.02, 0.10, 0.15)
FRONTIER: Final = tuple(
    Arm(f"ordered {share:.0%}".replace("%", " %"), extra=share, extra_cost=4 * share)
    for share in SHARES
)
_MODES: Final = (ORDERED, BALANCED, TAIL)

PLAN: Final[Mapping[str, tuple[Arm, ...]]] = {
    "flash": (*_MODES, RACE, *FRONTIER),
    "flash-lite": (*_MODES, RACE, *FRONTIER),
    "gpt-4o": (*_MODES, RACE, *FRONTIER),
    "steady": _MODES,
    "agent-gemma": _MODES,
    "agent-haiku": _MODES,
    "light": _MODES,
    "correlated": (*_MODES, RACE, *FRONTIER),
    "episodes": _MODES,
    "voice": (ORDERED, BALANCED, Arm("balanced, not sticky", mode="balanced", sticky=False)),
    "voice-equal": (ORDERED, BALANCED),
    "cold": (ORDERED, BALANCED),
    "cold-equal": (ORDERED, BALANCED),
    "brown-out": _MODES,
    "brown-out-best": (ORDERED, BALANCED),
    "common-mode": (ORDERED, BALANCED),
    "outage": (ORDERED, BALANCED),
    "mute": (ORDERED, BALANCED),
    **dict.fromkeys(worlds.SAME_MODEL, (*_MODES, RACE)),
    **dict.fromkeys(worlds.ESCALATING, (ORDERED, ESCALATED)),
}
QUICK_WORLDS: Final = ("flash", "gpt-4o", "steady", "light", "voice", "brown-out", "outage")
QUICK_ARMS: Final = frozenset(arm.name for arm in (*_MODES, RACE))
MAX_TRIES: Final = 5
STEADY_P50: Final = 1.62
"""Of the best median, where the steady provider has 1.49 of it: the 1.25 of the other classes and a
p99 no worse than that provider's cannot both be met."""
CLASSES: Final = ("flash", "flash-lite", "gpt-4o")


class Row(NamedTuple):
    """One arm over one world."""

    world: str
    arm: str
    figures: dict[str, float]
    curve: list[tuple[float, float]]
    refused: dict[str, int]


@lru_cache(maxsize=1)
def _world(name: str, requests: int) -> World:
    return draw(worlds.spec(name), requests)


def _row(name: str, world: World, outcome: arms.Outcome) -> Row:
    return Row(
        name,
        outcome.arm,
        figures.reduce(world, outcome),
        figures.curve(outcome),
        outcome.refused,
    )


def job(name: str, arm: Arm | None, requests: int) -> list[Row]:
    """In a process of its own: one arm, or everybody alone."""
    world = _world(name, requests)
    if arm is not None:
        return [_row(name, world, arms.Replay(world, arm).run())]
    alone = [arms.alone(world, number) for number in range(len(world.spec.providers))]
    return [_row(name, world, each) for each in (*alone, arms.oracle(world, alone))]


def run(*, is_quick: bool, say: Callable[[str], None]) -> list[Row]:
    """Everything, on as many cores as there are but two at most."""
    requests = QUICK if is_quick else FULL
    jobs: list[tuple[str, Arm | None]] = []
    for name, planned in PLAN.items():
        if is_quick and name not in QUICK_WORLDS:
            continue
        jobs.append((name, None))
        jobs += [(name, arm) for arm in planned if not is_quick or arm.name in QUICK_ARMS]
    workers = min(2, len(os.sched_getaffinity(0)))
    rows: list[Row] = []
    at = tries = 0
    while at < len(jobs):
        try:
            with concurrent.futures.ProcessPoolExecutor(workers) as pool:
                running = [pool.submit(job, name, arm, requests) for name, arm in jobs[at:]]
                for future in running:
                    rows += future.result()
                    name, arm = jobs[at]
                    say(f"{name}: {arm.name if arm else 'alone'}")
                    at += 1
        except concurrent.futures.process.BrokenProcessPool:
            # The machine has ended a worker; a job depends on nothing but its arguments.
            tries += 1
            if tries > MAX_TRIES:
                raise
            say(f"a worker was ended; on from {jobs[at][0]}")
    return rows


# --- what is promised -----------------------------------------------------------------------


class Target(NamedTuple):
    """One line of hedging.md section 5."""

    number: str
    what: str
    value: float
    limit: float

    @property
    def is_met(self) -> bool:
        """A value that is not known misses."""
        return self.value <= self.limit


def targets(rows: list[Row]) -> list[Target]:
    """Every target whose world was run."""
    by: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        by.setdefault(row.world, {})[row.arm] = row.figures
    found: list[Target] = []
    for name in CLASSES:
        if name in by:
            found += _of_a_class(name, by[name])
    for name in ("light", "steady"):
        if name in by:
            best = _best(by[name], "p99_ms")
            for arm in _MODES if name == "light" else (TAIL,):
                worse = by[name][arm.name]["p99_ms"] - best
                found.append(Target("4", f"{name}: {arm.name}, p99 - best single, ms", worse, 10))
    if "steady" in by:
        p50 = by["steady"][TAIL.name]["p50_ms"] / _best(by["steady"], "p50_ms")
        found.append(Target("4", "steady: tail, p50 / best p50", p50, STEADY_P50))
    if "brown-out" in by:
        found += _of_a_brown_out(by["brown-out"])
    for name in ("common-mode", "outage", "mute"):
        if name not in by:
            continue
        single = by[name][_alone(by[name])[0]]
        for arm in (ORDERED, BALANCED):
            seen, text = by[name][arm.name], f"{name}: {arm.name}"
            found += [
                Target("6", f"{text}, extra of any 10k, %", seen["extra_any_10k_%"], 5),
                Target("6", f"{text}, failed, %", seen["failed_%"], single["failed_%"]),
            ]
    for name in by:
        single = by[name][_alone(by[name])[0]]
        if name in (*CLASSES, "correlated", "episodes") and 0 < single["dead_air_%"] <= 5:
            best_arm = min(_MODES, key=lambda arm: by[name][arm.name]["dead_air_%"])
            part = by[name][best_arm.name]["dead_air_%"] / single["dead_air_%"]
            text = f"{name}: {best_arm.name}, dead air / that of the first"
            found.append(Target("dead air", text, part, 1 / 3))
    return found


def _alone(by_arm: Mapping[str, Any]) -> list[str]:
    return [name for name in by_arm if name.startswith("alone")]


def _best(by_arm: Mapping[str, Mapping[str, float]], figure: str) -> float:
    return min(by_arm[name][figure] for name in _alone(by_arm))


def _of_a_class(name: str, by: Mapping[str, Mapping[str, float]]) -> list[Target]:
    fastest = min((by[each] for each in _alone(by)), key=lambda row: row["p50_ms"])
    balanced, tail = by[BALANCED.name], by[TAIL.name]
    p99, p999 = _best(by, "p99_ms"), _best(by, "p999_ms")
    found = [Target("1", f"{name}: balanced, p99 / best single", balanced["p99_ms"] / p99, 1.0)]
    if fastest["p99_ms"] > 5 * fastest["p50_ms"]:
        part = balanced["p99_ms"] / fastest["p99_ms"]
        found.append(Target("1", f"{name}: balanced, p99 / fastest", part, 0.60))
    p50 = tail["p50_ms"] / fastest["p50_ms"]
    found += [
        Target("1", f"{name}: balanced, p99.9 / best single", balanced["p999_ms"] / p999, 0.65),
        Target("2", f"{name}: tail, p99 / best single", tail["p99_ms"] / p99, 0.92),
        Target("2", f"{name}: tail, p50 / best p50", p50, 1.25),
    ]
    for arm in _MODES:
        row = by[arm.name]
        found += [
            Target("3", f"{name}: {arm.name}, extra of any 10k, %", row["extra_any_10k_%"], 5.0),
            Target("3", f"{name}: {arm.name}, extra money, %", row["extra_money_%"], 3.5),
        ]
    return found


def _of_a_brown_out(by: Mapping[str, Mapping[str, float]]) -> list[Target]:
    single, found = by[_alone(by)[0]], []
    for arm in (ORDERED, BALANCED):
        row, name = by[arm.name], f"brown-out: {arm.name}"
        found += [
            Target("5", f"{name}, p99 / single", row["p99_ms"] / single["p99_ms"], 0.35),
            Target("5", f"{name}, p99.9 / single", row["p999_ms"] / single["p999_ms"], 0.25),
            Target("5", f"{name}, extra of any 10k, %", row["extra_any_10k_%"], 5.0),
            Target("5", f"{name}, demoted after, requests", row["demoted_after"], 15),
            Target("5", f"{name}, demoted after at most", row["demoted_after_most"], 15),
        ]
        if arm is ORDERED:  # balanced may rightly prefer another
            found.append(Target("5", f"{name}, back at full weight, s", row["back_most_s"], 90))
    return found


def target_table(found: list[Target]) -> str:
    """For people."""
    width = max((len(row.what) for row in found), default=0)
    return "\n".join(
        f"{'met ' if row.is_met else 'MISS'}  {row.number:>8}  {row.what:{width}}"
        f"  {row.value:8.3f}  (limit {row.limit:.3g})"
        for row in found
    )


COLUMNS: Final = (
    ("p50", "p50_ms", 0),
    ("p95", "p95_ms", 0),
    ("p99", "p99_ms", 0),
    ("p99.9", "p999_ms", 0),
    ("from", "p999_low_ms", 0),
    ("to", "p999_high_ms", 0),
    ("dead %", "dead_air_%", 2),
    ("extra %", "extra_requests_%", 2),
    ("any 10k", "extra_any_10k_%", 2),
    ("money %", "extra_money_%", 2),
    ("upper %", "extra_money_upper_%", 2),
    ("per turn", "cost_per_turn", 0),
    ("other %", "other_model_%", 2),
    ("dearer %", "escalated_%", 2),
    ("failed %", "failed_%", 3),
    ("left", "demoted_after", 0),
    ("most", "demoted_after_most", 0),
    ("back s", "back_s", 0),
    ("most s", "back_most_s", 0),
)


def arm_table(rows: list[Row]) -> str:
    """The arms of one world."""
    shown = [column for column in COLUMNS if any(column[1] in row.figures for row in rows)]
    firsts = [name for name in rows[0].figures if name.startswith("first_")]
    lines = [["", *(title for title, _, _ in shown), "asked first %"]]
    for row in rows:
        cells = [row.arm]
        for _, name, digits in shown:
            value = row.figures.get(name, math.nan)
            cells.append("-" if math.isnan(value) else f"{value:.{digits}f}")
        cells.append("/".join(f"{row.figures[name]:.0f}" for name in firsts))
        lines.append(cells)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
