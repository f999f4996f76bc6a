"""What of a run holds: pure arithmetic over its samples and counts.

Growth of memory is a slope over what is left at quiet moments after warming up, by Theil and Sen
(the median of the slopes of all pairs), so that one odd moment moves nothing. In a short run
everything still warms up: there it is bounded as it is.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from tests.soak.plan import Plan
from tests.soak.samples import Held, Quiet, Samples

SLOPE_MIB_H: Final = 20.0
LEAK_KIB: Final = 1.5
"""A cancelled RPC, the known leak of grpc.aio (grpc/grpc#43360)."""
SHORT_GROWTH_MIB: Final = 48.0
"""Of a worker between its first and last quiet moments in a short run: it still warms up."""
_SHORT_SLACK: Final = 10.0
FILES_SLACK: Final = 12
"""Connections of callers that are kept, and of providers, come and go."""
TASKS_SLACK: Final = 12


@dataclass(frozen=True)
class Figure:
    """One line of the verdict; `holds` is None for what is told and not judged."""

    name: str
    target: str
    measured: str
    holds: bool | None


@dataclass(frozen=True)
class Drained:
    """What was seen of the end under load."""

    not_ready_ms: float
    running: int
    """Generations that ran when it was told to stop."""
    cut: int
    """Of them were cut though they could have finished."""
    exit_s: float
    exit_status: int
    grace_s: float
    open_rows: int


def slope_mib_h(points: Sequence[tuple[float, float]]) -> float | None:
    """Median slope of all pairs, in MiB an hour.

    Args:
        points: seconds and MiB.

    Returns:
        None of fewer than three.
    """
    if len(points) < 3:
        return None
    pairs = combinations(points, 2)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) * 3600 for a, b in pairs if b[0] > a[0]]
    return statistics.median(slopes) if slopes else None


def lives(plan: Plan, quiet: Iterable[Quiet]) -> dict[int, list[Held]]:
    """Quiet moments of each worker, those after warming up: of one that was there from the start by
    the run's time, of a later one by its own (in a short run after its first)."""
    found: dict[int, list[Held]] = {}
    since_s: dict[int, float] = {}
    for number, moment in enumerate(quiet):
        for pid, one in moment.workers.items():
            is_new = pid not in since_s
            began_s = since_s.setdefault(pid, 0.0 if number == 0 else moment.at_s)
            warm_s = plan.warm_s if plan.is_long or not began_s else 0.0
            if moment.at_s - began_s >= warm_s and not (is_new and number):
                found.setdefault(pid, []).append(one)
    return {pid: rows for pid, rows in found.items() if len(rows) > 1}


def judge(
    plan: Plan,
    samples: Samples,
    *,
    wrongs: int,
    whole: int,
    compared: int,
    worst_late_s: float,
    drained: Drained,
) -> list[Figure]:
    """All lines."""
    quiet = samples.quiet
    own = lives(plan, quiet)
    figures = [
        Figure("answers that lied, hung or broke unexcused", "0", str(wrongs), wrongs == 0),
        Figure("whole answers", "> 0", str(whole), whole > 0),
        Figure(
            "of them in the accounts as told", "all", f"{compared} of {whole}", compared == whole
        ),
        Figure(
            "end after the request's own total time",
            "<= 250 ms",
            f"{max(0.0, worst_late_s) * 1000:.0f} ms",
            _in_time(plan, worst_late_s, 0.25),
        ),
    ]
    figures += _growth(plan, own)
    figures.append(_leak(plan, quiet, own))
    figures += _flat(plan, quiet, own)
    figures += _drain(plan, drained)
    return figures


def _in_time(plan: Plan, measured: float, aim: float) -> bool | None:
    """Times of a short run, on machines that others use, are told where they are over their aim,
    and judged where they are far over it."""
    if plan.is_long or measured <= aim:
        return measured <= aim
    return None if measured <= _SHORT_SLACK * aim else False


def _growth(plan: Plan, own: dict[int, list[Held]]) -> list[Figure]:
    grown = [rows[-1].resident_mib - rows[0].resident_mib for rows in own.values()]
    figures = []
    if plan.is_long:
        points = [[(one.at_s, one.resident_mib) for one in rows] for rows in own.values()]
        slopes = [slope for row in points if (slope := slope_mib_h(row)) is not None]
        worst = max(slopes, default=float("nan"))
        figures.append(
            Figure(
                "memory of a worker grows, after warming up",
                f"<= {SLOPE_MIB_H:.0f} MiB/h",
                f"{worst:.1f} MiB/h",
                bool(slopes) and worst <= SLOPE_MIB_H,
            )
        )
    else:
        worst = max(grown, default=float("nan"))
        figures.append(
            Figure(
                "memory of a worker grows within a short run",
                f"<= {SHORT_GROWTH_MIB:.0f} MiB",
                f"{worst:.1f} MiB",
                bool(grown) and worst <= SHORT_GROWTH_MIB,
            )
        )
    return figures


def _leak(plan: Plan, quiet: Sequence[Quiet], own: dict[int, list[Held]]) -> Figure:
    """Growth for each that left, as if nothing else grew: an upper bound."""
    warm = [moment for moment in quiet if moment.at_s >= plan.warm_s]
    left = warm[-1].left - warm[0].left if len(warm) > 1 else 0
    grown_kib = sum(rows[-1].resident_mib - rows[0].resident_mib for rows in own.values()) * 1024
    each = grown_kib / left if left else float("nan")
    holds = bool(left) and each <= LEAK_KIB if plan.is_long else None
    return Figure(
        "growth for each cancelled or left request, all growth counted",
        f"<= {LEAK_KIB} KiB",
        f"{each:.2f} KiB ({left} left)",
        holds,
    )


def _flat(plan: Plan, quiet: Sequence[Quiet], own: dict[int, list[Held]]) -> list[Figure]:
    files = [rows[-1].descriptors - rows[0].descriptors for rows in own.values()]
    warm = [moment for moment in quiet if moment.at_s >= plan.warm_s]
    tasks = warm[-1].tasks - warm[0].tasks if warm else float("nan")
    worst_files = max(files, default=0)
    rows = max((moment.open_rows for moment in quiet), default=-1)
    reserved = max((moment.reserved_micro for moment in quiet), default=-1)
    return [
        Figure(
            "descriptors of a worker, first to last quiet moment",
            f"<= +{FILES_SLACK}",
            f"{worst_files:+d}",
            bool(files) and worst_files <= FILES_SLACK,
        ),
        Figure(
            "tasks of all workers, the same",
            f"<= +{TASKS_SLACK}",
            f"{tasks:+.0f}",
            len(warm) > 1 and tasks <= TASKS_SLACK,
        ),
        Figure("open rows while nothing runs", "0", str(rows), rows == 0),
        Figure("money put aside while nothing runs", "0", str(reserved), reserved == 0),
    ]


def _drain(plan: Plan, drained: Drained) -> list[Figure]:
    return [
        Figure(
            "not ready after SIGTERM",
            "<= 100 ms",
            f"{drained.not_ready_ms:.0f} ms",
            _in_time(plan, drained.not_ready_ms, 100.0),
        ),
        Figure(
            "streams cut that could finish",
            "0",
            f"{drained.cut} of {drained.running}",
            drained.cut == 0 and drained.running > 0,
        ),
        Figure(
            "exit after SIGTERM",
            f"<= {drained.grace_s + 2:.0f} s, status 0",
            f"{drained.exit_s:.1f} s, status {drained.exit_status}",
            drained.exit_s <= drained.grace_s + 2 and drained.exit_status == 0,
        ),
        Figure("open rows after the end", "0", str(drained.open_rows), drained.open_rows == 0),
    ]
