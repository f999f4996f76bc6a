"""Closed loop by h2load: requests a second, and what one costs each gateway.

So many clients, each with its next request as soon as the last is answered: whole answers without
a wait at the provider, and streamed ones. Its share of a core beside the rate says whether the
gateway was the limit: well below a core, the emulator or the machine was, or all was carried that
was asked. A session's frames are not requests of HTTP: Converse is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from bench.peers import h2load
from bench.peers.driving import Driver, Work
from bench.peers.h2load import Leg, Loop
from bench.peers.rig import DIRECT, Options, PeerRig
from bench.processes import BenchError
from bench.result import CaseResult
from bench.stats import median, spread

WHOLE_WORK = Work(tokens=25, is_stream=False)
STREAM_WORK = Work(tokens=50, ttft_ms=20, itl_ms=5)
LOADS = {
    "whole_16": (WHOLE_WORK, 16),
    "whole_64": (WHOLE_WORK, 64),
    "stream_64": (STREAM_WORK, 64),
    "stream_128": (STREAM_WORK, 128),
}
_MOST_ROUNDS = 3
_RAMP_S = 0.7
_SINGLES_S = 2.0
_LEG_S = 1.5
"""Beside the window."""


def parts(options: Options) -> list[str]:
    """The loads."""
    return list(LOADS)


def seconds(options: Options, part: str, arms: int) -> float:
    """All rounds of a load; nothing without h2load."""
    if h2load.missing():
        return 0.0
    return (arms - 1) * (_SINGLES_S + _rounds(options) * (options.window_s + _LEG_S))


def axes(rig: PeerRig) -> dict[str, Any]:
    """Of the result."""
    return {
        "client": f"h2load {h2load.version()}",
        "stream": STREAM_WORK._asdict(),
        "whole": WHOLE_WORK._asdict(),
        "rounds": _rounds(rig.options),
        "window_s": rig.options.window_s,
        "arms": [name for name, arm in rig.arms.items() if arm.target is not None],
    }


def run(rig: PeerRig, part: str, result: CaseResult) -> None:
    """One load at every arm that h2load can ask, interleaved."""
    if h2load.missing():
        result.notes[:] = [h2load.missing()]
        return
    work, streams = LOADS[part]
    rig.behave(work.behaviour)
    driver = Driver(rig)
    wanted = [
        name
        for name, arm in rig.arms.items()
        if arm.target is not None and (work.is_stream or not arm.target.is_grpc)
    ]
    legs: dict[str, list[Leg]] = {name: [] for name in wanted}
    out: set[str] = set()
    for number in range(_rounds(rig.options)):
        rig.say(f"h2load, {part}, round {number + 1} of {_rounds(rig.options)}")
        for arm in rig.order([name for name in wanted if name not in out]):
            try:
                legs[arm.name].append(
                    driver.drive(
                        arm,
                        work,
                        Loop(streams),
                        ramp_s=_RAMP_S,
                        window_s=rig.options.window_s,
                    )
                )
            except BenchError as error:
                out.add(arm.name)
                result.notes.append(f"{arm.name} at {part}: {error}"[:300])
            # What h2load leaves in the middle at its end is not the next arm's.
            rig.settle()
    for name, mine in legs.items():
        if mine:
            result.rows[f"{name}/{part}"] = row(mine, work, streams, is_hop=name != DIRECT)


def finish(result: CaseResult) -> None:
    """Nothing is left to do."""


def row(legs: Sequence[Leg], work: Work, streams: int, *, is_hop: bool) -> dict[str, float]:
    """Medians of rounds; CPU is for a token where answers are streamed, else for an answer."""
    each = work.tokens if work.is_stream else 1
    rates = [rate(leg, work, streams) for leg in legs]
    found = {"answers_per_s": median(rates)}
    found["answers_per_s_low"], found["answers_per_s_high"] = spread(rates)
    if work.is_stream:
        found["tokens_per_s"] = found["answers_per_s"] * work.tokens
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        found[f"answer_{label}_ms"] = median([took_ms(leg, share, work) for leg in legs])
    if is_hop:
        found["hop_us"] = median(
            [1e4 * leg.core_percent("hop") / (rate(leg, work, streams) * each) for leg in legs]
        )
        found["hop_core_%"] = median([leg.core_percent("hop") for leg in legs])
    found["emulator_core_%"] = median([leg.core_percent("emulator") for leg in legs])
    found["load_core_%"] = median([leg.core_percent("load") for leg in legs])
    found["bad"] = sum(leg.bad for leg in legs)
    return found


def rate(leg: Leg, work: Work, streams: int) -> float:
    """Answers a second. Streamed ones begin and end together, as their clients were started: a
    window has so many of these volleys or one more. So their rate is that of clients who always
    have a request under way (Little's law: as many, over the mean time of an answer)."""
    if not work.is_stream:
        return leg.per_second
    return streams * 1e6 / mean([each.took_us for each in leg.answers])


def took_ms(leg: Leg, share: float, work: Work) -> float:
    """A quantile of the time of an answer beyond what the provider was told to take."""
    ordered = sorted(each.took_us for each in leg.answers)
    at = min(len(ordered) - 1, int(share * len(ordered)))
    return ordered[at] / 1e3 - work.length_s * 1e3


def _rounds(options: Options) -> int:
    return min(options.rounds, _MOST_ROUNDS)
