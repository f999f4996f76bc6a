"""A primary that breaks inside its first sentence, and what the caller hears of it.

The primary stalls for ever, dribbles (a token every 400 ms) or resets its stream, at each of its
tokens 1 to 12; its first sentence has 17. The second candidate is well and says something else, so
that a text of two providers would show. It is asked beside the primary after 600 ms, some more than
a healthy first sentence takes, or at once in place of one that failed. Each fault, token and
repetition is a target of its own, or breakers would leave it alone soon; a turn that did not ask it
first is not counted. `no_hedge_...` are turns whose hedge was due and not started, and why.

The same turns are bound to their provider by the first content, as it is without `commit_on`, and
by the first segment. `heard` counts turns whose fault reached the caller: a broken answer, or a
text that is neither provider's whole. Clients are the Python SDK, relay and emulator real ones.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from typing import NamedTuple

import rtrelay
from rtrelay.v1 import Budgets, CommitOn, OutputOptions, TextMode

from bench import emulated
from bench.hedged import ROWS, HedgedRelay, alias
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import FINE, Histogram

_FAULTS = {"stall": "stall@{}", "dribble": "dribble@{}:400", "reset": "reset@{}"}
_TOKENS = range(1, 13)
_MODES = {
    "first_content": CommitOn.COMMIT_ON_FIRST_CONTENT,
    "first_segment": CommitOn.COMMIT_ON_FIRST_SEGMENT,
}
_TEXTS = dict(
    zip(
        ROWS,
        (
            "Of course I can certainly have a careful look at that for you right now."
            " The table by the window is free. Shall I take it?",
            "Sure and with pleasure let me see what there is for the evening you have named."
            " Two tables are left. Which one do you like?",
        ),
        strict=True,
    )
)
_ITL_MS, _HEDGE_MS = 20, 600
_TTFT_MS = "100..200"
"""Spread, as providers are: with a fixed time any hitch of this machine is beyond the p95 of both,
and hedges are suspended, since the slowness is everybody's (`relay/resilience/common_mode.py`)."""
_WELL, _SECOND = "well", "second"
_PARALLEL = 16
_SILENCE_MS = 1500
"""Budget between two tokens: a stall that was committed to ends as a failure soon enough."""
_SLOWER_AIM = 0.5


class _Turn(NamedTuple):
    """What a caller heard of one turn."""

    is_struck: bool
    """The faulty target was asked first."""
    first_segment_ms: float | None
    text: str
    provider: str
    failure: str
    """Reason of its end; empty for a clean one."""
    refused: str
    """Why its hedge did not start when it was due."""


def run(rig: Rig) -> CaseResult:
    """Each fault at each token in both modes: 3 times, 20 in a full run."""
    times = 3 if rig.options.is_quick else 20
    # By names of their own, since a file of so many aliases would else be too long.
    _script(rig, _WELL, _behaviour(0))
    _script(rig, _SECOND, _behaviour(1))
    aliases = {_name(None, 0, 0): alias(_WELL, _SECOND, **_RULE)}
    for (fault, pattern), token, number in itertools.product(
        _FAULTS.items(), _TOKENS, range(times)
    ):
        name = _name(fault, token, number)
        _script(rig, name, f"{_behaviour(0)},seed={number},fault={pattern.format(token)}")
        aliases[name] = alias(name, _SECOND, **_RULE)
    with HedgedRelay(rig, "relay-segments", aliases) as hedged:
        turns = asyncio.run(_all_turns(rig, hedged.relay.grpc_port, times))
    result = CaseResult(
        axes={
            "faults": list(_FAULTS),
            "tokens": list(_TOKENS),
            "times": times,
            "hedge_ms": _HEDGE_MS,
            "ttft_ms": _TTFT_MS,
            "itl_ms": _ITL_MS,
        }
    )
    for struck_by, mode in itertools.product((None, *_FAULTS), _MODES):
        key, found = f"{struck_by or 'none'}/{mode}", turns[struck_by, mode]
        result.rows[key], result.histograms[key] = _row([t for t in found if t.is_struck])
        result.rows[key]["not_struck"] = sum(not turn.is_struck for turn in found)
    dribble = {mode: result.rows[f"dribble/{mode}"]["segment_p99_ms"] for mode in _MODES}
    result.rows["dribble/ratio"] = {
        "first_segment_over_first_content": dribble["first_segment"] / dribble["first_content"]
    }
    for fault in _FAULTS:
        result.targets += [(f"{fault}/first_segment", name, 0.0) for name in ("spliced", "heard")]
    result.targets.append(("dribble/ratio", "first_segment_over_first_content", _SLOWER_AIM))
    return result


_RULE = {"mode": "active", "delay": _HEDGE_MS, "max_extra_requests": 1.0, "max_extra_cost": 10.0}


def _name(fault: str | None, token: int, number: int) -> str:
    return f"{fault}-{token}-{number}" if fault else "none"


def _behaviour(row: int) -> str:
    """Of a healthy model of one of the two providers."""
    return f"ttft={_TTFT_MS},itl={_ITL_MS},text={_TEXTS[ROWS[row]].replace(' ', '+')}"


def _script(rig: Rig, model: str, behaviour: str) -> None:
    order = {"model": model, "behaviour": behaviour}
    emulated.ask(rig.emulator, "/emulator/script", json.dumps(order).encode())


def _row(turns: list[_Turn]) -> tuple[dict[str, float], Histogram]:
    segments = Histogram(FINE)
    for turn in turns:
        if turn.first_segment_ms is not None:
            segments.add(turn.first_segment_ms * 1e3)
    whole = [turn for turn in turns if turn.text == _TEXTS.get(turn.provider)]
    spliced = [
        turn for turn in turns if not any(text.startswith(turn.text) for text in _TEXTS.values())
    ]
    failures = Counter(turn.failure for turn in turns if turn.failure)
    row: dict[str, float] = {
        "turns": len(turns),
        "heard": sum(bool(turn.failure) or turn not in whole for turn in turns),
        "spliced": len(spliced),
        "by_second": sum(turn.provider == ROWS[1] for turn in turns),
        "segment_p50_ms": segments.quantile(0.5) / 1e3,
        "segment_p99_ms": segments.quantile(0.99) / 1e3,
        "no_segment": len(turns) - segments.count,
    }
    refused = Counter(f"no_hedge_{turn.refused}" for turn in turns if turn.refused)
    return row | {name.lower(): count for name, count in (failures + refused).items()}, segments


async def _all_turns(rig: Rig, port: int, times: int) -> dict[tuple[str | None, str], list[_Turn]]:
    """Modes by turns within each repetition, so that what else the machine does hits both."""
    found: dict[tuple[str | None, str], list[_Turn]] = {}
    free = asyncio.Semaphore(_PARALLEL)
    async with rtrelay.Client(f"127.0.0.1:{port}") as client:

        async def one(fault: str | None, token: int, number: int, mode: str) -> None:
            # A session of its own: one stays with whom it was answered by.
            async with free, client.session() as session:
                turn = await _turn(session, _name(fault, token, number), _MODES[mode])
            found.setdefault((fault, mode), []).append(turn)

        for number in range(times):
            rig.say(f"segment_race, round {number + 1} of {times}")
            async with asyncio.TaskGroup() as group:
                for token in _TOKENS:
                    for fault in (None, *_FAULTS):
                        for mode in _MODES:
                            group.create_task(one(fault, token, number, mode))
    return found


async def _turn(session: rtrelay.Session, model: str, commit_on: CommitOn.ValueType) -> _Turn:
    output = OutputOptions(text_mode=TextMode.TEXT_MODE_DELTAS_AND_SEGMENTS, commit_on=commit_on)
    began_s = time.monotonic()
    answer = session.start(
        "Is there a table?",
        model=model,
        output=output,
        budgets=Budgets(inter_token_ms=_SILENCE_MS),
    )
    first_segment_ms: float | None = None
    text, failure = "", ""
    try:
        async for event in answer:
            if isinstance(event, rtrelay.TextDelta):
                text += event.text
            elif isinstance(event, rtrelay.Segment) and first_segment_ms is None:
                first_segment_ms = (time.monotonic() - began_s) * 1e3
        end = await answer.ended()
    except rtrelay.RelayError as error:
        failure = error.reason
        if error.end is None:
            raise
        end = error.end
    is_struck = bool(end.attempts) and end.attempts[0].provider == ROWS[0]
    refused = end.hedge.refused
    return _Turn(is_struck, first_segment_ms, text, end.provider, failure, refused)
