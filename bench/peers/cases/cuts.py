"""The provider breaks off in the middle of an answer: is the client told?

Three ways to break (the connection is reset, closed, or the stream just ends early, politely) at
three tokens. What the client may see is in `bench.peers.endings`: told (an error, or a broken
transport), silence (a clean end without finish reason or `[DONE]`), or a lie (a good end). Between
the breaks good answers go through, as they would.
"""

from __future__ import annotations

from collections import Counter

from bench.peers.cases.asking import ask
from bench.peers.rig import PeerRig
from bench.result import CaseResult

_FAULTS = {"reset": "cut", "closed": "close", "ended": "eof"}
_AT = (1, 5, 20)
_TOKENS = 40
_GOOD = "ttft=5,itl=3,tokens=5,stamp=1"
_TOLD = ("error", "broken")


def run(rig: PeerRig) -> CaseResult:
    """Every arm, every break."""
    repeats = 1 if rig.options.is_quick else 4
    result = CaseResult(axes={"at": _AT, "repeats": repeats, "arms": list(rig.arms)})
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
    return result
