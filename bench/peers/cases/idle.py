"""The first question after a pause, over the same question when warm.

First after nobody asked anything for a while; then after the provider closed the connection that
the gateway had kept (an orderly FIN while it was idle). All arms wait at the same time. The
emulator is woken before each, so that only what is measured may be asleep.
"""

from __future__ import annotations

import time

from bench import emulated
from bench.peers.cases.asking import ask
from bench.peers.rig import PeerRig
from bench.result import CaseResult
from bench.stats import median, spread

_TTFT_MS = 20
_GOOD = f"ttft={_TTFT_MS},itl=1,tokens=2,stamp=1"
_WARM = 5
_CLOSED_WAIT_S = 0.5


def run(rig: PeerRig) -> CaseResult:
    """Each pause, and the closed connection."""
    repeats = 2 if rig.options.is_quick else 3
    result = CaseResult(
        axes={"idle_s": rig.options.idle_s, "repeats": repeats, "arms": list(rig.arms)}
    )
    for idle_s in rig.options.idle_s:
        more: dict[str, list[float]] = {name: [] for name in rig.arms}
        rig.behave(_GOOD)
        for name in rig.arms:
            ask(rig, name, _WARM)
        for number in range(repeats):
            rig.say(f"idle for {idle_s:g} s, {number + 1} of {repeats}")
            time.sleep(idle_s)
            for arm in rig.order(list(rig.arms)):
                emulated.ask(rig.emulator, "/emulator/report")
                more[arm.name].append(_first_over_warm_ms(rig, arm.name))
        _rows(result, f"idle_{idle_s:g}s", more)
    repeats *= 2
    more = {name: [] for name in rig.arms}
    for number in range(repeats):
        rig.say(f"closed while idle, {number + 1} of {repeats}")
        for arm in rig.order(list(rig.arms)):
            rig.behave(f"{_GOOD},fault=close-behind")
            ask(rig, arm.name)
            rig.behave(_GOOD)
            time.sleep(_CLOSED_WAIT_S)
            more[arm.name].append(_first_over_warm_ms(rig, arm.name))
    _rows(result, "closed", more)
    return result


def _first_over_warm_ms(rig: PeerRig, name: str) -> float:
    first, *warm = ask(rig, name, 1 + _WARM)
    return first.first_ms - median([each.first_ms for each in warm])


def _rows(result: CaseResult, kind: str, more: dict[str, list[float]]) -> None:
    for name, values in more.items():
        low, high = spread(values)
        result.rows[f"{name}/{kind}"] = {
            "over_warm_ms": median(values),
            "over_warm_ms_low": low,
            "over_warm_ms_high": high,
            "failed": sum(value != value for value in values),
        }
