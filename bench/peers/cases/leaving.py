"""From the moment the client leaves to the provider seeing its stream given up.

The client closes its connection (HTTP/1.1), resets its stream, or over a gRPC session sends a
cancel frame. The emulator's record says when it noticed, or that the answer ran to its end: what a
gateway does not stop, somebody pays for. Each question has words of its own, by which its record is
found; questions of one batch go one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from bench import emulated
from bench.peers.cases.case import WHOLE
from bench.peers.rig import Arm, Options, PeerRig
from bench.processes import BenchError
from bench.result import CaseResult
from bench.stats import Histogram

_PHASES = {
    # name: (the provider's behaviour, leave after so many pieces)
    "thinking": ("ttft=3000,itl=10,tokens=5", 0),
    "speaking": ("ttft=5,itl=10,tokens=300", 4),
}
_THINKS_S, _SPEAKS_S = 3.0, 3.0
_WAIT_MS = 40
_MARGIN_S = 1.0
_EACH_S = 0.07


def parts(options: Options) -> list[str]:
    """One."""
    return [WHOLE]


def seconds(options: Options, part: str, arms: int) -> float:
    """Each question, and what it takes until who is not stopped has ended."""
    batches, batch = _batches(options)
    waits_s = _MARGIN_S + max(_THINKS_S, _SPEAKS_S)
    return batches * len(_PHASES) * (arms * batch * _EACH_S + waits_s)


def axes(rig: PeerRig) -> dict[str, Any]:
    """Of the result."""
    batches, batch = _batches(rig.options)
    return {"each": batches * batch, "arms": list(rig.arms)}


def finish(result: CaseResult) -> None:
    """Nothing is left to do."""


def _batches(options: Options) -> tuple[int, int]:
    """How many, and questions in each."""
    return (1, 8) if options.is_quick else (4, 15)


def run(rig: PeerRig, part: str, result: CaseResult) -> None:
    """Every arm and phase, by turns in small batches."""
    batches, batch = _batches(rig.options)
    found: dict[tuple[str, str], Histogram] = {}
    never: dict[tuple[str, str], int] = {}
    for number in range(batches):
        for phase, (behaviour, after_pieces) in _PHASES.items():
            rig.say(f"leaving while the provider is {phase}, {number + 1} of {batches}")
            rig.behave(behaviour)
            since = emulated.last_id(rig.emulator)
            left: dict[str, dict[str, int]] = {}
            for arm in rig.order(list(rig.arms)):
                prompts = [f"{phase} {arm.name} {number}.{k}" for k in range(batch)]
                try:
                    left[arm.name] = _leave(rig, arm, prompts, after_pieces)
                except BenchError as error:
                    result.notes.append(f"{arm.name} while {phase}: {error}")
            # Streams that nobody stops run to their end, and then their records say so.
            time.sleep(_MARGIN_S + max(_THINKS_S, _SPEAKS_S))
            ends = _ends(rig, since)
            for name, moments in left.items():
                histogram = found.setdefault((name, phase), Histogram())
                for prompt, left_ns in moments.items():
                    record = ends.get(prompt)
                    if record is None or record["outcome"] != "abandoned":
                        never[name, phase] = never.get((name, phase), 0) + 1
                    else:
                        histogram.add((record["end_ns"] - left_ns) / 1e3)
    for (name, phase), histogram in found.items():
        result.rows[f"{name}/{phase}"] = {
            "left": histogram.count + never.get((name, phase), 0),
            "never_stopped": never.get((name, phase), 0),
            "p50_ms": histogram.quantile(0.5) / 1e3,
            "p99_ms": histogram.quantile(0.99) / 1e3,
            "max_ms": histogram.max_us / 1e3 if histogram.count else float("nan"),
        }
        result.histograms[f"{name}/{phase}"] = histogram


def _leave(rig: PeerRig, arm: Arm, prompts: Iterable[str], after_pieces: int) -> dict[str, int]:
    answer = rig.load.ask(
        {
            "op": "leave",
            "path": arm.name,
            "prompts": list(prompts),
            "after_pieces": after_pieces,
            "wait_ms": _WAIT_MS,
        },
        120.0,
    )
    moments: dict[str, int] = answer["left_ns"]
    return moments


def _ends(rig: PeerRig, since: int) -> dict[str, dict[str, Any]]:
    """The newest record of each prompt."""
    streams = emulated.ask(rig.emulator, f"/emulator/streams?since={since}")["streams"]
    return {row["prompt_start"]: row for row in streams}
