"""The first question after a GOAWAY on the idle connection, over the same question when warm.

Providers send one when they deploy, or to spread load. Only who speaks HTTP/2 to the provider gets
one; each has a process of its own here, with a provider that sends GOAWAY to all when told to,
closes the connections 50 ms later, and answers at once. The questions come half a second after
that. The same after a long pause is in `idle`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from bench.peers.cases.case import WHOLE
from bench.peers.cases.first_calls import add_rows
from bench.peers.goaway_arms import WAIT_S, GoawayArms
from bench.peers.rig import Options, PeerRig
from bench.result import CaseResult

OPEN_S = 15.0
"""About what the processes take to start."""
ROUND_S = 2.0
Opening = Callable[[PeerRig], AbstractContextManager[GoawayArms]]


def parts(options: Options) -> list[str]:
    """One."""
    return [WHOLE]


def seconds(options: Options, part: str, arms: int) -> float:
    """All arms together, round by round."""
    return OPEN_S + _repeats(options) * ROUND_S


def axes(rig: PeerRig) -> dict[str, Any]:
    """Of the result."""
    return {"repeats": _repeats(rig.options), "wait_s": WAIT_S}


def run(rig: PeerRig, part: str, result: CaseResult, opening: Opening = GoawayArms) -> None:
    """Every arm that has HTTP/2 upstream."""
    repeats = _repeats(rig.options)
    with opening(rig) as arms:
        more: dict[str, list[float | None]] = {name: [] for name in arms.names}
        for number in range(repeats):
            rig.say(f"GOAWAY, {number + 1} of {repeats}")
            arms.warm()
            for name, value_ms in arms.first_over_warm_ms().items():
                more[name].append(value_ms)
        add_rows(result, "goaway", more)
        result.notes += arms.notes


def finish(result: CaseResult) -> None:
    """Nothing is left to do."""


def _repeats(options: Options) -> int:
    return 4 if options.is_quick else 12
