"""The provider breaks off in the middle of an answer: is the client told?

Three ways to break (the connection is reset, closed, or the stream just ends early, politely) at
three tokens. What the client may see is in `bench.peers.endings`: told (an error, or a broken
transport), silence (a clean end without finish reason or `[DONE]`), or a lie (a good end). Between
the breaks good answers go through, as they would.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench.peers.cases.asking import ask
from bench.peers.cases.case import WHOLE
from bench.peers.rig import Options, PeerRig
from bench.result import CaseResult

_FAULTS = {"reset": "cut", "closed": "close", "ended": "eof"}
_AT = (1, 5, 20)
_TOKENS = 40
_GOOD = "ttft=5,itl=3,tokens=5,stamp=1"
_EACH_S, _HANGS_S = 0.25, 1.5
_TOLD = ("error", "broken")


def parts(options: Options) -> list[str]:
    """One."""
    return [WHOLE]


def seconds(options: Options, part: str, arms: int) -> float:
    """Three good answers and a break each; some gateways let it hang."""
    return _repeats(options) * len(_FAULTS) * len(_AT) * (arms * _EACH_S + _HANGS_S)


def axes(rig: PeerRig) -> dict[str, Any]:
    """Of the result."""
    return {"at": _AT, "repeats": _repeats(rig.options), "arms": list(rig.arms)}


def finish(result: CaseResult) -> None:
    """Nothing is left to do."""


def _repeats(options: Options) -> int:
    return 1 if options.is_quick else 4


def run(rig: PeerRig, part: str, result: CaseResult) -> None:
    """Every arm, every break."""
    repeats = _repeats(rig.options)
    endings: dict[tuple[str, str], Counter[str]] = {}
    lost: dict[tuple[str, str], int] = {}
    details: dict[str, str] = {}
    for number in range(repeats):
        rig.say(f"breaks, {number + 1} of {repeats}")
        for fault, behaviour in _FAULTS.items():
            for at in _AT:
                for arm in rig.order(list(rig.arms)):
                    rig.behave(_GOOD)
                    ask(rig, arm.name, 3, timeout_s=5.0)
                    rig.behave(f"ttft=5,itl=3,tokens={_TOKENS},stamp=1,fault={behaviour}@{at}")
                    (answer,) = ask(rig, arm.name, timeout_s=5.0)
                    key = arm.name, fault
                    endings.setdefault(key, Counter())[answer.ending] += 1
                    lost[key] = lost.get(key, 0) + max(0, at - answer.tokens)
                    if answer.detail:
                        details.setdefault(arm.name, answer.detail)
    for (name, fault), counts in endings.items():
        result.rows[f"{name}/{fault}"] = {
            "breaks": counts.total(),
            "told": sum(counts[ending] for ending in _TOLD),
            "told_in_stream": counts["error"],
            "silent": counts["silent"],
            "lies": counts["complete"],
            "hangs": counts["hang"],
            "refused": counts["refused"],
            "tokens_lost": lost[name, fault],
        }
    result.notes += [f"{name}: {detail[:160]}" for name, detail in details.items()]
