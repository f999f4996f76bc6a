"""The first question after a pause, over the same question when warm.

First after nobody asked anything for a while; after the same pause and a GOAWAY of the provider on
the connection that was idle all that time; then after the provider closed the connection that the
gateway had kept (an orderly FIN while it was idle). **All arms wait at the same time**: those that
are asked after the pause alone and those that get the GOAWAY are processes of their own, and one
pause is the pause of them all. The emulator is woken before each, so that only what is measured may
be asleep.
"""

from __future__ import annotations

from typing import Any

from bench import emulated
from bench.peers.cases.asking import ask
from bench.peers.cases.first_calls import add_rows
from bench.peers.cases.goaway import OPEN_S, ROUND_S, Opening
from bench.peers.goaway_arms import GoawayArms
from bench.peers.rig import Options, PeerRig
from bench.result import CaseResult
from bench.stats import median

CLOSED = "closed"
_TTFT_MS = 20
_GOOD = f"ttft={_TTFT_MS},itl=1,tokens=2,stamp=1"
_WARM = 5
_CLOSED_WAIT_S = 0.5
_LONG_S = 300.0
_EACH_S = 0.25
"""Of a first question and those after it."""


def parts(options: Options) -> list[str]:
    """The pauses, and the closed connection."""
    return [*(_kind(idle_s) for idle_s in options.idle_s), CLOSED]


def seconds(options: Options, part: str, arms: int) -> float:
    """One pause for all arms."""
    if part == CLOSED:
        return 2 * _repeats(options) * arms * (_CLOSED_WAIT_S + _EACH_S)
    idle_s = _pause_s(options, part)
    return OPEN_S + _repeats(options, idle_s) * (idle_s + arms * _EACH_S + ROUND_S)


def axes(rig: PeerRig) -> dict[str, Any]:
    """Of the result."""
    return {
        "idle_s": rig.options.idle_s,
        "repeats": {_kind(idle_s): _repeats(rig.options, idle_s) for idle_s in rig.options.idle_s},
        "arms": list(rig.arms),
    }


def run(rig: PeerRig, part: str, result: CaseResult, opening: Opening = GoawayArms) -> None:
    """A pause, or the closed connection."""
    if part == CLOSED:
        _closed(rig, result)
    else:
        with opening(rig) as goaway:
            _pause(rig, goaway, part, result)


def finish(result: CaseResult) -> None:
    """Nothing is left to do."""


def _pause(rig: PeerRig, goaway: GoawayArms, kind: str, result: CaseResult) -> None:
    idle_s = _pause_s(rig.options, kind)
    repeats = _repeats(rig.options, idle_s)
    more: dict[str, list[float | None]] = {name: [] for name in rig.arms}
    after_goaway: dict[str, list[float | None]] = {name: [] for name in goaway.names}
    rig.behave(_GOOD)
    for number in range(repeats):
        rig.say(f"idle for {idle_s:g} s, {number + 1} of {repeats}")
        goaway.warm()
        for name in rig.arms:
            ask(rig, name, _WARM)
        rig.sleep(idle_s)
        for arm in rig.order(list(rig.arms)):
            emulated.ask(rig.emulator, "/emulator/report")
            more[arm.name].append(_first_over_warm_ms(rig, arm.name))
        for name, value_ms in goaway.first_over_warm_ms().items():
            after_goaway[name].append(value_ms)
    add_rows(result, kind, more)
    add_rows(result, f"goaway_{kind}", after_goaway)
    result.notes += goaway.notes


def _closed(rig: PeerRig, result: CaseResult) -> None:
    repeats = 2 * _repeats(rig.options)
    more: dict[str, list[float | None]] = {name: [] for name in rig.arms}
    for number in range(repeats):
        rig.say(f"closed while idle, {number + 1} of {repeats}")
        for arm in rig.order(list(rig.arms)):
            rig.behave(f"{_GOOD},fault=close-behind")
            ask(rig, arm.name)
            rig.behave(_GOOD)
            rig.sleep(_CLOSED_WAIT_S)
            more[arm.name].append(_first_over_warm_ms(rig, arm.name))
    add_rows(result, CLOSED, more)


def _first_over_warm_ms(rig: PeerRig, name: str) -> float:
    first, *warm = ask(rig, name, 1 + _WARM)
    return first.first_ms - median([each.first_ms for each in warm])


def _kind(idle_s: float) -> str:
    return f"idle_{idle_s:g}s"


def _pause_s(options: Options, kind: str) -> float:
    return next(idle_s for idle_s in options.idle_s if _kind(idle_s) == kind)


def _repeats(options: Options, idle_s: float = 0.0) -> int:
    return 2 if options.is_quick or idle_s >= _LONG_S else 3
