"""The generator itself: one load by Python and by h2load, straight at the emulator and at nginx.

Over gRPC too, at the relay, whose client in Python is another one: there h2load sends the one frame
of a Generate, as gRPC puts it on HTTP/2.

Open loop at more and more streams of 100 tokens a second. What the clients differ in is what Python
adds: to the time of a whole answer (from sending to its last byte: all that h2load can tell), and
in CPU for a token. From the share of a core that Python uses follows up to which rate it is below
`LIMIT` of one. The ladder ends where Python is over that, or where emulator or hop has no more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.peers import h2load
from bench.peers.cases.capacity import took_ms
from bench.peers.cases.load import TTFT_MS, Axis, ask_leg
from bench.peers.driving import Driver, Work
from bench.peers.h2load import Leg, Loop
from bench.peers.rig import DIRECT, Arm, Options, PeerRig
from bench.processes import BenchError
from bench.result import CaseResult
from bench.stats import median

LIMIT = 70.0
"""Per cent of a core; above it a generator may be what is measured."""
_FULL = 90.0
_ASKED = ("emulator", "hop")
RUNGS = tuple(Axis(streams, 100, 50) for streams in (16, 64, 128, 192, 256, 384))
WHERE = (DIRECT, "nginx", "generate")
PYTHON, C = "python", "h2load"
_LEG_S = 1.2
_SINGLES_S = 2.5
_MOST_ROUNDS = 3
_LENGTHS = 3
"""Of an answer: the ramp of h2load, in which its clients are started, is two."""
Row = dict[str, float]


def parts(options: Options) -> list[str]:
    """The rungs."""
    return [axis.name for axis in _rungs(options)]


def seconds(options: Options, part: str, arms: int) -> float:
    """Both clients at both places."""
    length_s = _axis(options, part).length_s
    each_s = options.window_s + _LENGTHS * length_s + _LEG_S
    singles_s = 0.0 if h2load.missing() else _SINGLES_S
    clients = 1 if h2load.missing() else 2
    return len(WHERE) * (singles_s + _rounds(options) * clients * each_s)


def axes(rig: PeerRig) -> dict[str, Any]:
    """Of the result; `ended`: by place, why there are no further rungs."""
    return {
        "axes": [axis._asdict() for axis in _rungs(rig.options)],
        "clients": [PYTHON] if h2load.missing() else [PYTHON, C],
        "rounds": _rounds(rig.options),
        "window_s": rig.options.window_s,
        "limit_core_%": LIMIT,
        "ended": {},
    }


def run(rig: PeerRig, part: str, result: CaseResult) -> None:
    """One rung, clients and places by turns."""
    axis = _axis(rig.options, part)
    work = Work(axis.tokens, TTFT_MS, axis.itl_ms)
    places = [name for name in WHERE if name in rig.arms and name not in result.axes["ended"]]
    if h2load.missing() and h2load.missing() not in result.notes:
        result.notes.append(h2load.missing())
    if not places:
        return
    rig.behave(work.behaviour)
    driver = Driver(rig)
    found: dict[tuple[str, str], list[Row]] = {}
    for number in range(_rounds(rig.options)):
        rig.say(f"clients, {part}, round {number + 1} of {_rounds(rig.options)}")
        for arm in rig.order(places):
            for client in result.axes["clients"]:
                if arm.name in result.axes["ended"]:
                    continue
                try:
                    row = _one(rig, driver, client, arm, axis, work)
                except BenchError as error:
                    result.axes["ended"][arm.name] = f"{client}: {error}"[:300]
                    rig.settle()
                    continue
                found.setdefault((arm.name, client), []).append(row)
    for (name, client), rows in found.items():
        key = f"{name}/{axis.name}/{client}"
        result.rows[key] = {
            figure: median([row.get(figure, math.nan) for row in rows]) for figure in rows[0]
        }
    for name in places:
        _compare(found.get((name, PYTHON), []), found.get((name, C), []), result, name, axis)
        why = _end(
            result.rows.get(f"{name}/{axis.name}/{PYTHON}"),
            are_together=rig.cores.are_ends_together,
        )
        if why:
            result.axes["ended"].setdefault(name, why)


def finish(result: CaseResult) -> None:
    """Up to which rate the generator in Python is below the limit."""
    for name in WHERE:
        rungs = [
            row
            for key, row in result.rows.items()
            if key.startswith(f"{name}/") and key.endswith(f"/{PYTHON}")
        ]
        if rungs:
            rate, is_reached = limit([(row["tokens_per_s"], row["load_core_%"]) for row in rungs])
            result.rows[f"{name}/limit"] = {"tokens_per_s": rate, "is_reached": float(is_reached)}


def limit(points: Sequence[tuple[float, float]]) -> tuple[float, bool]:
    """The tokens a second at which the share of a core gets to `LIMIT`, by the line between the
    rungs around it; or the most that was tried, and False.

    Args:
        points: tokens a second, per cent of a core.
    """
    ordered = sorted(points)
    below = (0.0, 0.0)
    for point in ordered:
        if point[1] >= LIMIT:
            share = (LIMIT - below[1]) / (point[1] - below[1])
            return below[0] + share * (point[0] - below[0]), True
        below = point
    return below[0], False


def _one(rig: PeerRig, driver: Driver, client: str, arm: Arm, axis: Axis, work: Work) -> Row:
    if client == PYTHON:
        return _by_python(rig, arm, axis)
    leg = driver.drive(
        arm,
        work,
        Loop(axis.streams, axis.requests_per_second),
        ramp_s=(_LENGTHS - 1) * axis.length_s,
        window_s=rig.options.window_s,
    )
    if leg.bad:
        raise BenchError(f"{leg.bad} bad answers")
    return by_h2load(leg, axis, work)


def _by_python(rig: PeerRig, arm: Arm, axis: Axis) -> Row:
    raw, histograms = ask_leg(rig, arm, axis)
    if raw["error_count"]:
        raise BenchError(f"{raw['error_count']} bad answers, such as {raw['errors'][:1]}")
    tokens, window_s = raw["tokens_in_window"], raw["window_s"]
    shares = {name: used_ns / 1e7 / window_s for name, used_ns in raw["cpu_ns"].items()}
    return {
        "tokens_per_s": tokens / window_s,
        "sent_share": raw["requests"] / (axis.requests_per_second * window_s),
        "answer_p50_ms": _over_ms(histograms["answer"].quantile(0.5), axis),
        "answer_p99_ms": _over_ms(histograms["answer"].quantile(0.99), axis),
        "load_us": raw["cpu_ns"]["load"] / 1e3 / tokens if tokens else math.nan,
        **{f"{name}_core_%": share for name, share in shares.items()},
    }


def by_h2load(leg: Leg, axis: Axis, work: Work) -> Row:
    """The same figures of h2load's."""
    found = {
        "tokens_per_s": leg.per_second * axis.tokens,
        "sent_share": leg.started / (axis.requests_per_second * leg.window_s),
        "answer_p50_ms": took_ms(leg, 0.5, work),
        "answer_p99_ms": took_ms(leg, 0.99, work),
        "load_us": leg.us_per_answer("load") / axis.tokens,
    }
    return {**found, **{f"{name}_core_%": leg.core_percent(name) for name in leg.cpu_ns}}


def _compare(
    python: Sequence[Row], c: Sequence[Row], result: CaseResult, name: str, axis: Axis
) -> None:
    """What Python has more, round by round; nothing where who is asked was the limit, since what
    waits for it then says more of the order of requests than of clients."""
    if any(row.get(f"{who}_core_%", 0.0) >= _FULL for row in (*python, *c) for who in _ASKED):
        return
    pairs = list(zip(python, c, strict=False))
    if pairs:
        result.rows[f"{name}/{axis.name}/added"] = {
            figure: median([mine[figure] - other[figure] for mine, other in pairs])
            for figure in ("answer_p50_ms", "answer_p99_ms", "load_us")
        }


def _end(row: Mapping[str, float] | None, *, are_together: bool) -> str:
    """Why the ladder ends here; empty if it does not.

    Args:
        are_together: emulator and generator are on one core.
    """
    if row is None:
        return ""
    if row["load_core_%"] >= LIMIT:
        return f"the generator uses {row['load_core_%']:.0f} % of a core"
    for who in _ASKED:
        if row.get(f"{who}_core_%", 0.0) >= _FULL:
            return f"the {who} uses {row[f'{who}_core_%']:.0f} % of a core"
    both = row["load_core_%"] + row.get("emulator_core_%", 0.0)
    if are_together and both >= _FULL:
        return f"emulator and generator use {both:.0f} % of their core"
    return ""


def _over_ms(took_us: float, axis: Axis) -> float:
    return took_us / 1e3 - axis.length_s * 1e3


def _rungs(options: Options) -> tuple[Axis, ...]:
    return RUNGS[:3] if options.is_quick else RUNGS


def _axis(options: Options, part: str) -> Axis:
    return next(axis for axis in _rungs(options) if axis.name == part)


def _rounds(options: Options) -> int:
    return min(options.rounds, _MOST_ROUNDS)
