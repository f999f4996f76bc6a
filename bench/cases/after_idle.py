"""The first call after idle, over a warm call of the same run.

Every path is warmed, left alone for some seconds (2 in a quick run, 120 in a full one, or
`--idle-s`), asked once, and then asked again without a pause: `more_ms` is the first one's time to
its first token minus the median of those behind it. Client, relay and provider have been idle all
that time, and all three processes have cold caches, so `direct` is beside it: what a client that
talks to the provider itself pays. Each path has a relay of its own, or the first one asked would
wake it for the others; in each round another path is asked first.

`goaway` is the same after the provider left: it said GOAWAY on all its idle connections and closed
them, two seconds before the question. The relay's HTTP client tells nobody of a GOAWAY and connects
again with the next request: with the question, or with the relay's own probe if that was due
before; `goaway_probed`, in a full run, rests for so long that it was.
The provider of that part is the scripted HTTP/2 server of the tests; the emulator has no GOAWAY.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from bench.load import GRPC_PATHS
from bench.peers.goaway_provider import TOKENS, GoawayProvider
from bench.processes import LoadProcess
from bench.result import CaseResult
from bench.rig import Rig
from bench.second_relay import second_relay
from bench.stats import median, spread

_PATHS = ("sse", "generate", "converse", "direct")
_JUDGED = ("sse", "generate", "converse")
_WARM = 20
_GAP_MS = 30
_TTFT_MS = 5
_AIM_MS = 1.0
_AFTER_GOAWAY_S = 2.0
_AFTER_PROBE_S = 32.0
"""The relay asks something of its own on an idle connection each 30 s (`probe_interval_ms`)."""
_MODEL = f"emu:ttft={_TTFT_MS},itl=1,tokens={TOKENS},stamp=1"


def run(rig: Rig) -> CaseResult:
    """Idle first, then GOAWAY."""
    is_quick = rig.options.is_quick
    idle_s = rig.options.idle_s or (2.0 if is_quick else 120.0)
    rounds = 8 if idle_s < 10 else 4
    result = CaseResult(
        axes={"idle_s": idle_s, "rounds": rounds, "after_goaway_s": _AFTER_GOAWAY_S}
    )
    with ExitStack() as stack:
        loads = _loads(rig, stack, "idle", None)
        _tell(result, _rounds(rig, loads, rounds, lambda: time.sleep(idle_s)), f"{idle_s:g}_s")
    with ExitStack() as stack:
        provider = GoawayProvider(rig.directory / "goaway")
        stack.callback(provider.stop)
        loads = _loads(rig, stack, "goaway", provider)

        def leave(then_s: float) -> None:
            provider.go_away()
            time.sleep(then_s)

        found = _rounds(rig, loads, 8 if is_quick else 20, lambda: leave(_AFTER_GOAWAY_S))
        _tell(result, found, "goaway")
        if not is_quick:
            found = _rounds(rig, loads, 3, lambda: leave(_AFTER_PROBE_S))
            _tell(result, found, "goaway_probed")
    return result


_Loads = dict[str, LoadProcess]


def _loads(rig: Rig, stack: ExitStack, name: str, provider: GoawayProvider | None) -> _Loads:
    """By path, a generator with a relay of its own."""
    return {
        path: stack.enter_context(second_relay(rig, f"{name}-{path}", provider=provider)).load
        for path in _PATHS
    }


def _rounds(
    rig: Rig, loads: _Loads, rounds: int, rest: Callable[[], None]
) -> dict[str, list[float]]:
    """By path and round, in milliseconds: `first` is the first call's time, `warm` that of a warm
    one, `more` the difference."""
    found: dict[str, list[float]] = {}
    for path, load in loads.items():
        _ask(load, path, _WARM)
    for number in range(rounds):
        rig.say(f"after_idle, round {number + 1} of {rounds}")
        turn = number % len(_PATHS)
        rest()
        for path in _PATHS[turn:] + _PATHS[:turn]:
            first, *warm = _ask(loads[path], path, 1 + _WARM)
            figures = {"more": first - median(warm), "first": first, "warm": median(warm)}
            for name, value_us in figures.items():
                found.setdefault(f"{path}/{name}", []).append(value_us / 1e3)
    return found


def _ask(load: LoadProcess, path: str, count: int) -> list[float]:
    order = {"op": "again", "paths": [path], "grpc_paths": sorted(GRPC_PATHS), "count": count}
    more = {"gap_ms": _GAP_MS, "model": _MODEL, "tokens": TOKENS}
    told: list[float] = load.ask({**order, **more}, 60.0)["first_us"][path]
    return told


def _tell(result: CaseResult, found: dict[str, list[float]], label: str) -> None:
    for path in _PATHS:
        low, high = spread(found[f"{path}/more"])
        result.rows[f"{path}/{label}"] = {
            "more_ms": median(found[f"{path}/more"]),
            "more_low_ms": low,
            "more_high_ms": high,
            "first_ms": median(found[f"{path}/first"]),
            "warm_ms": median(found[f"{path}/warm"]),
        }
    result.targets += [(f"{path}/{label}", "more_ms", _AIM_MS) for path in _JUDGED]
