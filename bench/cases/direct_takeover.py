"""From asking to the first word, for the turn after the relay went in the middle of a call.

Each round has a relay of its own, and a voice agent's session over it with `direct=` to the
emulator, in which an answer is being spoken. Then the relay is killed (its connections break at
once) or stopped (they stay, and nobody answers: the 150 ms are waited for), and in the same moment
the agent asks its next turn. `later` are the turns after it; `warm_direct` is the provider alone,
asked by the same client code without a relay.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence

import rtrelay
from rtrelay.direct import OpenAIChat

from bench.processes import BenchError, RelayProcess
from bench.result import CaseResult
from bench.rig import Rig

_TTFT_MS = 20
_LIMIT_MS = 300.0
_LATER_TURNS = 5
_WAYS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}


def run(rig: Rig) -> CaseResult:
    """Both ways to go, one after the other."""
    rounds = 3 if rig.options.is_quick else 10
    heard: dict[str, list[float]] = {way: [] for way in _WAYS}
    later: list[float] = []
    warm: list[float] = []
    for number in range(rounds):
        for way in _WAYS:
            rig.say(f"direct_takeover, {way}, round {number + 1} of {rounds}")
            relay = RelayProcess(rig.emulator, rig.directory, f"relay-takeover-{way}-{number}")
            try:
                first, *others = asyncio.run(_call(rig, relay, _WAYS[way], number))
            finally:
                os.kill(relay.pid, signal.SIGCONT)
                relay.stop()
            heard[way].append(first)
            later += others
        warm += asyncio.run(_alone(rig, number))
    result = CaseResult(
        axes={"rounds": rounds, "ttft_ms": _TTFT_MS, "direct_after_ms": 150},
        rows={
            **{way: _row(found) for way, found in heard.items()},
            "later": _row(later),
            "warm_direct": _row(warm),
        },
    )
    result.targets += [(way, "max_ms", _LIMIT_MS) for way in (*_WAYS, "later")]
    return result


async def _call(rig: Rig, relay: RelayProcess, ends: signal.Signals, number: int) -> list[float]:
    """Times to the first word in ms: of the turn asked as the relay goes, and of later ones."""
    client = rtrelay.Client(
        f"127.0.0.1:{relay.grpc_port}",
        model=f"lab/emu:ttft={_TTFT_MS},itl=20,tokens=500,seed={number}",
        direct=_provider(rig, number),
    )
    async with client, client.session() as session:
        speaks = session.start("Tell me a story.")
        async with speaks:
            reader = aiter(speaks)
            for _ in range(5):
                await anext(reader)
            if speaks.via != "relay":
                raise BenchError("the relay was not asked")
            os.kill(relay.pid, ends)
            found = [await _turn(session)]
            found += [await _turn(session) for _ in range(_LATER_TURNS)]
    return found


async def _alone(rig: Rig, number: int) -> list[float]:
    """The same turns of a client that never had a relay."""
    client = rtrelay.Client("127.0.0.1:1", direct=_provider(rig, number))
    async with client, client.session() as session:
        await _turn(session)
        return [await _turn(session) for _ in range(_LATER_TURNS)]


async def _turn(session: rtrelay.Session) -> float:
    loop = asyncio.get_running_loop()
    asked_at_s = loop.time()
    answer = session.start("Are you there?")
    heard_at_s = 0.0
    async for event in answer:
        if isinstance(event, rtrelay.TextDelta) and not heard_at_s:
            heard_at_s = loop.time()
    if answer.via != "direct" or not heard_at_s:
        raise BenchError(f"a turn went by the {answer.via}")
    return (heard_at_s - asked_at_s) * 1e3


def _provider(rig: Rig, number: int) -> OpenAIChat:
    return OpenAIChat(
        f"{rig.emulator.base_url}/v1",
        model=f"emu:ttft={_TTFT_MS},itl=1,tokens=10,seed={number}",
        ca_file=rig.emulator.ca_file,
        trust_env=False,
    )


def _row(found_ms: Sequence[float]) -> dict[str, float]:
    ordered = sorted(found_ms)
    return {
        "turns": len(ordered),
        "min_ms": ordered[0],
        "p50_ms": ordered[len(ordered) // 2],
        "max_ms": ordered[-1],
    }
