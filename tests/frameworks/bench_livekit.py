"""What a turn of LiveKit's costs by each way to the relay: one session for all turns (Converse, as
the plugin does), an RPC a turn (Generate), and LiveKit's plugin for OpenAI over HTTP.

    RELAY_BIN=.venv/bin/relay .venv-frameworks/bin/python -m tests.frameworks.bench_livekit

"Added" is the time from `chat` to the first chunk, less the emulator's 100 ms. CPU is that of a
turn of 50 tokens, in this process (LiveKit's own share included) and in the relay. Arms take turns.

Measured on two cores that others used at the same time (load 6 to 10), so read the differences:

      1 calls  converse   added p50  4.38 ms  CPU a turn 17.06 ms here, 17.33 ms in the relay
      1 calls  generate   added p50  4.56 ms  CPU a turn 18.08 ms here, 19.33 ms in the relay
      1 calls  http       added p50  6.77 ms  CPU a turn 32.53 ms here, 11.67 ms in the relay
     16 calls  converse   added p50  7.51 ms  CPU a turn  9.98 ms here,  9.53 ms in the relay
     16 calls  generate   added p50  9.78 ms  CPU a turn 10.10 ms here, 10.00 ms in the relay
     16 calls  http       added p50 28.13 ms  CPU a turn 18.14 ms here,  4.45 ms in the relay

So the plugin goes over a session: it is no slower than an RPC a turn, and only there a cancelled
answer has an end, with its usage, and an answer can be speculative.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import grpc.aio
from livekit.agents import llm
from livekit.plugins import openai
from rtrelay import livekit as relay_livekit
from rtrelay.client import CHANNEL_OPTIONS
from rtrelay.errors import RelayError, from_rpc, from_status, stream_lost
from rtrelay.events import Event, from_delta, from_segment, from_tool_call
from rtrelay.livekit._transport import Call
from rtrelay.v1 import CancelReason, End, GenerateRequest, Outcome, RelayServiceStub, Start

from tests.frameworks.livekit_kit import ONCE, ask
from tests.frameworks.world import World

TTFT_MS = 100.0
MODEL = f"lab/emu:ttft={TTFT_MS:g},itl=10,tokens=50"
ROUNDS = 6
TURNS = {1: 30, 16: 8}
"""Of each call and round, by how many calls run at once."""


class GenerateTransport:
    """An RPC a generation, over one channel."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=tuple(CHANNEL_OPTIONS.items()))
        self._stub: Any = RelayServiceStub(self._channel)

    def start(
        self,
        body: Mapping[str, Any],
        arguments: Mapping[str, Any],
        on_event: Callable[[Event], object],
    ) -> Call:
        start = Start(openai_chat_body=json.dumps(body).encode(), **arguments)
        return _GenerateCall(self._stub.Generate(GenerateRequest(start=start)), on_event)

    async def open(self) -> None:
        await self._channel.channel_ready()

    async def aclose(self) -> None:
        await self._channel.close()


class _GenerateCall:
    """Whoever waits for the end reads the stream; a cancel ends it without an end."""

    def __init__(self, call: Any, on_event: Callable[[Event], object]) -> None:
        self._call = call
        self._on_event = on_event
        self.error: Exception | None = None

    def cancel(self, reason: CancelReason.ValueType = 0) -> None:  # type: ignore[assignment]
        self._call.cancel()

    def commit(self) -> None:
        """There is no speculation."""

    async def ended(self) -> End:
        try:
            async for frame in self._call:
                match frame.WhichOneof("frame"):
                    case "delta":
                        for event in from_delta(frame.delta):
                            self._on_event(event)
                    case "tool_call":
                        self._on_event(from_tool_call(frame.tool_call))
                    case "segment":
                        self._on_event(from_segment(frame.segment))
                    case "end":
                        end: End = frame.end
                        if end.outcome == Outcome.OUTCOME_FAILED:
                            self.error = from_status(end.error, end)
                        return end
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from error
        raise stream_lost(RelayError("", grpc.StatusCode.UNAVAILABLE, "no end came"))


def _make(arm: str, world: World) -> llm.LLM[Any]:
    if arm == "http":
        return openai.LLM(model=MODEL, base_url=world.base_url, api_key="none")
    way = GenerateTransport(world.address) if arm == "generate" else None
    return relay_livekit.LLM(world.address, model=MODEL, relay={"route": MODEL}, _transport=way)


async def _turn(model: llm.LLM[Any]) -> float:
    """Milliseconds to the first chunk; reads to the end."""
    begun_s = time.perf_counter()
    first_s = 0.0
    async with model.chat(chat_ctx=ask(), conn_options=ONCE) as stream:
        async for chunk in stream:
            if not first_s and chunk.has_response():
                first_s = time.perf_counter()
    return (first_s - begun_s) * 1e3


async def _call(model: llm.LLM[Any], turns: int) -> list[float]:
    return [await _turn(model) for _ in range(turns)]


async def _round(models: list[llm.LLM[Any]], turns: int, relay_pid: int) -> dict[str, Any]:
    own_s, relay_s = time.process_time(), _cpu_s(relay_pid)
    lists = await asyncio.gather(*(_call(model, turns) for model in models))
    count = len(models) * turns
    return {
        "ms": [each - TTFT_MS for times in lists for each in times],
        "own_us": (time.process_time() - own_s) / count * 1e6,
        "relay_us": (_cpu_s(relay_pid) - relay_s) / count * 1e6,
    }


async def _measure(world: World, parallel: int) -> None:
    arms = ("converse", "generate", "http")
    async with AsyncExitStack() as stack:
        models: dict[str, list[llm.LLM[Any]]] = {arm: [] for arm in arms}
        for arm in arms:
            for _ in range(parallel):
                model = _make(arm, world)
                await stack.enter_async_context(aclosing(model))
                await model._prewarm_impl()
                await _turn(model)
                models[arm].append(model)
        rounds: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
        for number in range(ROUNDS):
            for arm in arms if number % 2 == 0 else reversed(arms):
                pid = world.pids["relay"]
                rounds[arm].append(await _round(models[arm], TURNS[parallel], pid))
    for arm in arms:
        times = sorted(each for one in rounds[arm] for each in one["ms"])
        own = sorted(one["own_us"] for one in rounds[arm])[ROUNDS // 2]
        relay = sorted(one["relay_us"] for one in rounds[arm])[ROUNDS // 2]
        sys.stdout.write(
            f"{parallel:3} calls  {arm:9} n={len(times):4}  added p50 {_at(times, 0.5):5.2f} ms"
            f"  p99 {_at(times, 0.99):5.2f} ms  CPU a turn {own / 1e3:5.2f} ms here,"
            f" {relay / 1e3:5.2f} ms in the relay\n"
        )


def _at(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(len(times) * share))]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, World(Path(directory)) as world:
        for parallel in TURNS:
            asyncio.run(_measure(world, parallel))


if __name__ == "__main__":
    main()
