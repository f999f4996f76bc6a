"""Questions of other shapes, at rest: a prompt of 16 kB, and one that is answered by a tool call.

One question at a time, all arms by turns. Prompts: time to first token. Tools: time until the call
is there as a whole, and whether it is whole: its name, and arguments that are JSON with all keys.
"""

from __future__ import annotations

import math
from typing import Any

import orjson

from bench.peers.cases.asking import Asked, ask
from bench.peers.cases.case import WHOLE
from bench.peers.rig import DIRECT, Options, PeerRig
from bench.result import CaseResult

_TTFT_MS = 20
_PROMPT_BYTES = 16_000
_PAUSE_MS = 15.0
_TOKENS = 3
_SHAPES = 3
_EACH_S = 0.055


def parts(options: Options) -> list[str]:
    """One."""
    return [WHOLE]


def seconds(options: Options, part: str, arms: int) -> float:
    """One question after the other."""
    rounds, batch = _rounds(options)
    return _SHAPES * rounds * batch * arms * _EACH_S


def axes(rig: PeerRig) -> dict[str, Any]:
    """Of the result."""
    rounds, batch = _rounds(rig.options)
    return {"each": rounds * batch, "prompt_bytes": _PROMPT_BYTES, "arms": list(rig.arms)}


def finish(result: CaseResult) -> None:
    """Nothing is left to do."""


def _rounds(options: Options) -> tuple[int, int]:
    """How many, and questions of each arm in one."""
    return (2, 10) if options.is_quick else (8, 15)


def run(rig: PeerRig, part: str, result: CaseResult) -> None:
    """Every arm, in batches of ten."""
    rounds, batch = _rounds(rig.options)
    shapes: dict[str, tuple[dict[str, Any], str]] = {
        "short": ({}, f"ttft={_TTFT_MS},itl=2,tokens={_TOKENS},stamp=1"),
        "long": (
            {"prompt_bytes": _PROMPT_BYTES},
            f"ttft={_TTFT_MS},itl=2,tokens={_TOKENS},stamp=1",
        ),
        "tool": ({"has_tool": True}, f"ttft={_TTFT_MS},itl=2,tools=1,finish=tool_calls"),
    }
    for shape, (question, behaviour) in shapes.items():
        rig.say(f"questions: {shape}")
        rig.behave(behaviour)
        answers: dict[str, list[Asked]] = {name: [] for name in rig.arms}
        for _ in range(rounds):
            for arm in rig.order(list(rig.arms)):
                answers[arm.name] += ask(
                    rig, arm.name, batch, pause_ms=_PAUSE_MS, question=question
                )
        for name, mine in answers.items():
            times = [each.end_ms if shape == "tool" else each.first_ms for each in mine]
            row = {
                "answers": len(mine),
                "wrong": sum(not _is_right(each, name, shape) for each in mine),
                "p50_ms": _quantile(times, 0.5),
                "p90_ms": _quantile(times, 0.9),
            }
            result.rows[f"{name}/{shape}"] = row
        for name in answers:
            row, direct = result.rows[f"{name}/{shape}"], result.rows[f"{DIRECT}/{shape}"]
            if name != DIRECT:
                row["added_p50_ms"] = row["p50_ms"] - direct["p50_ms"]
                row["added_p90_ms"] = row["p90_ms"] - direct["p90_ms"]
            if row["wrong"]:
                bad = next(each for each in answers[name] if not _is_right(each, name, shape))
                result.notes.append(
                    f"{name}, {shape}: such as {bad.ending} {bad.tool_calls} {bad.detail}"[:300]
                )


def _is_right(answer: Asked, name: str, shape: str) -> bool:
    if answer.ending != "complete":
        return False
    if shape != "tool":
        return answer.tokens == _TOKENS
    if name == "converse":
        return True  # the generator keeps no such frames of its sessions: nothing to judge
    try:
        ((tool, arguments),) = answer.tool_calls
        found = orjson.loads(arguments)
    except (ValueError, orjson.JSONDecodeError):
        return False
    return tool == "book_table" and set(found) == {"where", "at"}


def _quantile(values: list[float], share: float) -> float:
    known = sorted(value for value in values if not math.isnan(value))
    if not known:
        return math.nan
    return known[min(len(known) - 1, int(share * len(known)))]
