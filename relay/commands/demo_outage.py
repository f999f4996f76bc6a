"""The demo's last scene: a provider dies under traffic and comes back, and what callers feel.

A steady stream of short turns goes to an alias of two providers; then every answer of the first is
an error, then none is. The picture shows who answered, slice by slice: the dead one is left alone
after a handful of failures, asked again when its time has come, and brought back by shares. The
breaker's clock runs some fifteen times faster than in a relay that serves, or this would take two
minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import grpc
import httpx2
from rich.console import Console
from rtrelay.v1 import (
    Attempt,
    End,
    GenerateRequest,
    Message,
    Outcome,
    Part,
    Prompt,
    RelayServiceAsyncStub,
    RelayServiceStub,
    Role,
    Start,
)

from relay.resilience.breaker import BreakerSettings

ALIAS: Final = "shaky"
FIRST, SECOND = "north", "south"
MODEL_OF_FIRST, MODEL_OF_SECOND = "ward", "ward-too"
MODELS: Final[dict[str, dict[str, object]]] = {
    name: {"ttft": "20", "itl": "1", "tokens": 3} for name in (MODEL_OF_FIRST, MODEL_OF_SECOND)
}
QUICK_BREAKER: Final = BreakerSettings(
    open_s=1.5, max_open_s=3.0, window_s=5.0, ramp_step_s=0.7, probe_timeout_s=2.0
)

SLICE_S: Final = 0.25
TURNS_A_SECOND: Final = 40
DIES_S, HEALS_S, ENDS_S = 1.5, 2.75, 8.0
_LEVELS: Final = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Turn:
    """What became of one request."""

    at_s: float
    """Since the scene began."""
    provider: str
    took_ms: float
    """To its first content."""
    is_well: bool
    attempts: int
    failures_of_first: int


async def play(console: Console, grpc_port: int, tls_port: int, ca_file: str) -> None:
    """Run the scene and print its picture; some eight seconds.

    Raises:
        httpx2.HTTPError, grpc.aio.AioRpcError: the emulator or the relay is gone.
    """
    console.print(
        "[bold]6. A provider dies under traffic, and comes back[/bold]\n"
        f"  {TURNS_A_SECOND} turns a second at an alias of two; the breaker's clock runs fast",
        highlight=False,
    )
    loop = asyncio.get_running_loop()
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel,
        httpx2.AsyncClient(
            base_url=f"https://127.0.0.1:{tls_port}",
            verify=ssl.create_default_context(cafile=ca_file),
            trust_env=False,
        ) as emulator,
    ):
        stub = RelayServiceStub(channel)
        began_s = loop.time()
        events = [
            asyncio.create_task(_set(emulator, began_s + DIES_S, "fault=status:500")),
            asyncio.create_task(_set(emulator, began_s + HEALS_S, "")),
        ]
        turns = []
        for number in range(round(ENDS_S * TURNS_A_SECOND)):
            due_s = began_s + number / TURNS_A_SECOND
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            turns.append(asyncio.create_task(_turn(stub, number, due_s - began_s)))
        done = await asyncio.gather(*turns)
        await asyncio.gather(*events)
    for line in picture(done):
        console.print(line, highlight=False)


async def _set(emulator: httpx2.AsyncClient, due_s: float, fault: str) -> None:
    """Tell the emulator, at that moment, how the first provider behaves from then on."""
    await asyncio.sleep(max(0.0, due_s - asyncio.get_running_loop().time()))
    usual = "ttft=20,itl=1,tokens=3"
    order = {"model": MODEL_OF_FIRST, "behaviour": f"{usual},{fault}".rstrip(",")}
    (await emulator.post("/emulator/script", json=order)).raise_for_status()


async def _turn(stub: RelayServiceAsyncStub, number: int, at_s: float) -> Turn:
    prompt = Prompt(messages=[Message(role=Role.ROLE_USER, parts=[Part(text="And now?")])])
    start = Start(generation_id=f"t{number}", model=ALIAS, prompt=prompt)
    end = End()
    with contextlib.suppress(grpc.aio.AioRpcError):  # what failed is in the end, too
        async for frame in stub.Generate(GenerateRequest(start=start)):
            if frame.WhichOneof("frame") == "end":
                end = frame.end
    line = end.timeline
    until_first_us = (
        line.wall_us - line.relay_out_us - line.stream_us - line.stalls_us - line.end_us
    )
    return Turn(
        at_s,
        end.provider,
        until_first_us / 1000,
        end.outcome == Outcome.OUTCOME_COMPLETED,
        len(end.attempts),
        sum(_has_failed(attempt) for attempt in end.attempts),
    )


def _has_failed(attempt: Attempt) -> bool:
    return attempt.provider == FIRST and attempt.upstream_status >= 500


def picture(turns: Sequence[Turn]) -> list[str]:
    """The scene as lines of text: shares over time, and what it cost."""
    slices = round(ENDS_S / SLICE_S)
    lines = []
    for provider in (FIRST, SECOND):
        shares = []
        for index in range(slices):
            within = [turn for turn in turns if index <= turn.at_s / SLICE_S < index + 1]
            share = sum(turn.provider == provider for turn in within) / max(1, len(within))
            shares.append(_LEVELS[round(share * (len(_LEVELS) - 1))])
        lines.append(f"  {provider:<6} {''.join(shares)}")
    marks = [" "] * slices
    for at_s, mark in ((DIES_S, "†"), (HEALS_S, "+")):
        marks[round(at_s / SLICE_S)] = mark
    lines.append(f"         {''.join(marks)}   † {FIRST} dies, + it is well again")
    failed = sum(not turn.is_well for turn in turns)
    asked_in_vain = sum(turn.failures_of_first for turn in turns)
    back_s = next(
        (
            turn.at_s
            for turn, later in zip(turns, _suffix_shares(turns), strict=True)
            if turn.at_s > HEALS_S and later >= 0.99
        ),
        None,
    )
    worst_ms = max(turn.took_ms for turn in turns)
    lines.append(
        f"  {len(turns)} turns, {failed} failed; {asked_in_vain} found {FIRST} dead and were"
        f" answered by {SECOND} at once; slowest first word {worst_ms:.0f} ms"
    )
    if back_s is not None:
        lines.append(f"  all traffic back at {FIRST} {back_s - HEALS_S:.1f} s after it was well")
    return lines


def _suffix_shares(turns: Sequence[Turn]) -> list[float]:
    """Of each turn and those after it, the share that the first provider answered."""
    shares = []
    by_first = 0
    for count, turn in enumerate(reversed(turns), 1):
        by_first += turn.provider == FIRST
        shares.append(by_first / count)
    return shares[::-1]
