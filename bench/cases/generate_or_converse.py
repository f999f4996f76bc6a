"""Which RPC a framework's plugin should use: the same turns by Generate and over a session.

    generate       one `Generate` RPC a turn, by the stub, all over one channel
    session        a session for each caller, kept (the Python SDK), all over one channel
    fresh_session  a session for each turn, opened and closed by it
    direct         a warm client straight to the provider, over TLS and HTTP/2

Callers take turns without a pause, each turn read to its end. `first_ms` is when the first text is
in the caller's hands after it asked, minus what the emulator was told to wait; *added* is the
percentile minus direct's of the same round. `client_us` and `relay_us` are CPU for a turn of both
processes; the client is a process with asyncio's own loop, as agents are. The paths alternate.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import rtrelay
from rtrelay.client import CHANNEL_OPTIONS
from rtrelay.v1 import GenerateRequest, Message, Part, Prompt, RelayServiceStub, Role, Start

from bench.paths import HttpPath, Seen
from bench.processes import BenchError, cpu_ns
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import FINE, Histogram, median, merged

_PARALLEL = (1, 16, 64)
_PATHS = ("direct", "generate", "session", "fresh_session")
_TTFT_MS, _ITL_MS, _TOKENS = 20, 20, 30
_MODEL = f"emu:ttft={_TTFT_MS},itl={_ITL_MS},tokens={_TOKENS}"
_PROMPT = "Can you book the table by the window for seven tomorrow evening, please?"

_Turn = Callable[[int], Awaitable[float]]
"""One turn of a caller: the moment of its first text, `time.monotonic`."""


def run(rig: Rig) -> CaseResult:
    """All paths at 1, 16 and 64 callers, by turns."""
    rounds = 2 if rig.options.is_quick else 5
    turns = 4 if rig.options.is_quick else 10
    found = asyncio.run(_measure(rig, rounds, turns))
    result = CaseResult(
        axes={
            "parallel": _PARALLEL,
            "paths": _PATHS,
            "ttft_ms": _TTFT_MS,
            "itl_ms": _ITL_MS,
            "tokens": _TOKENS,
            "rounds": rounds,
            "turns_a_round": turns,
        }
    )
    for parallel in _PARALLEL:
        for path in _PATHS:
            legs = [each[path, parallel] for each in found]
            first = merged(leg.first for leg in legs)
            row = {
                "turns": first.count,
                "first_p50_ms": first.quantile(0.5) / 1e3,
                "first_p99_ms": first.quantile(0.99) / 1e3,
            }
            if path != "direct":
                for label, share in (("p50", 0.5), ("p99", 0.99)):
                    more = [
                        each[path, parallel].first.quantile(share)
                        - each["direct", parallel].first.quantile(share)
                        for each in found
                    ]
                    row[f"added_{label}_ms"] = median(more) / 1e3
                row["relay_us"] = median([leg.relay_us for leg in legs])
            row["client_us"] = median([leg.client_us for leg in legs])
            result.rows[f"{path}/{parallel}"] = row
            result.histograms[f"{path}/{parallel}"] = first
        session, generate = (result.rows[f"{path}/{parallel}"] for path in ("session", "generate"))
        result.rows[f"session_over_generate/{parallel}"] = {
            name: session[name] / generate[name]
            for name in ("first_p50_ms", "first_p99_ms", "relay_us", "client_us")
        }
    return result


class _Leg:
    """One path at one number of callers in one round."""

    def __init__(self) -> None:
        self.first = Histogram(FINE)
        self.relay_us = 0.0
        self.client_us = 0.0


async def _measure(rig: Rig, rounds: int, turns: int) -> list[dict[tuple[str, int], _Leg]]:
    address = f"127.0.0.1:{rig.relay.grpc_port}"
    direct = HttpPath(
        rig.emulator.base_url, ca_file=rig.emulator.ca_file, connections=2, is_http2=True
    )
    options = tuple(CHANNEL_OPTIONS.items())
    found: list[dict[tuple[str, int], _Leg]] = []
    async with (
        rtrelay.Client(address, model=f"lab/{_MODEL}") as client,
        grpc.aio.insecure_channel(address, options=options) as channel,
    ):
        stub: Any = RelayServiceStub(channel)
        sessions = [client.session() for _ in range(max(_PARALLEL))]
        await asyncio.gather(*(session.__aenter__() for session in sessions))
        try:
            paths: dict[str, _Turn] = {
                "direct": lambda _: _direct(direct),
                "generate": lambda _: _generate(stub),
                "session": lambda caller: _over(sessions[caller]),
                "fresh_session": lambda _: _over_a_fresh(client),
            }
            for path in _PATHS:
                await _leg(rig, paths[path], 8, 2)  # warm
            for number in range(rounds):
                rig.say(f"generate_or_converse, round {number + 1} of {rounds}")
                legs = {}
                for parallel in _PARALLEL:
                    turn = number % len(_PATHS)
                    for path in _PATHS[turn:] + _PATHS[:turn]:
                        # Few callers take more turns, so that a p99 means something.
                        count = turns * (3 if parallel == 1 else 1)
                        legs[path, parallel] = await _leg(rig, paths[path], parallel, count)
                found.append(legs)
        finally:
            await asyncio.gather(*(session.aclose() for session in sessions))
    return found


async def _leg(rig: Rig, turn: _Turn, parallel: int, turns: int) -> _Leg:
    leg = _Leg()

    async def caller(number: int) -> None:
        # Not all at once: their answers last some 600 ms.
        await asyncio.sleep(number / parallel * (_TTFT_MS + _ITL_MS * _TOKENS) / 1e3)
        for _ in range(turns):
            asked_s = time.monotonic()
            first_s = await turn(number)
            leg.first.add((first_s - asked_s) * 1e6 - _TTFT_MS * 1e3)

    watched = {"relay_us": rig.watch["relay"], "client_us": [os.getpid()]}
    before = {name: cpu_ns(pids) for name, pids in watched.items()}
    await asyncio.gather(*(caller(number) for number in range(parallel)))
    for name, pids in watched.items():
        setattr(leg, name, (cpu_ns(pids) - before[name]) / 1e3 / (parallel * turns))
    return leg


async def _direct(path: HttpPath) -> float:
    seen: Seen = []
    async for chunk in path.chunks(_MODEL):
        seen.append((time.monotonic_ns(), chunk))
    # The head, the role and the first token are one write of the emulator's, or close to it.
    return next(at_ns for at_ns, chunk in seen if b'"content":"' in bytes(chunk)) / 1e9


async def _generate(stub: Any) -> float:
    first_s = 0.0
    question = Message(role=Role.ROLE_USER, parts=[Part(text=_PROMPT)])
    start = Start(model=f"lab/{_MODEL}", prompt=Prompt(messages=[question]))
    tokens = 0
    async for frame in stub.Generate(GenerateRequest(start=start)):
        if frame.HasField("delta"):
            tokens += 1
            if not first_s:
                first_s = time.monotonic()
    if not tokens:
        raise BenchError("an answer had no text")
    return first_s


async def _over(session: rtrelay.Session) -> float:
    first_s = 0.0
    async for event in session.start(_PROMPT):
        if not first_s and isinstance(event, rtrelay.TextDelta):
            first_s = time.monotonic()
    if not first_s:
        raise BenchError("an answer had no text")
    return first_s


async def _over_a_fresh(client: rtrelay.Client) -> float:
    async with client.session() as session:
        return await _over(session)
