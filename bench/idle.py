"""Idle sessions for the load generator, and turns among them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any

from bench.paths import Channels, ConverseSession, Seen, digest, now_ns

_TURNS_AT_ONCE = 50
_OPENING_AT_ONCE = 32
_TURN_TIMEOUT_S = 20.0
_LONG_PROMPT = "Nothing of this is needed once the answer is there. " * 320
"""16 kB, as calls have after some turns."""


class IdleSessions:
    """Those of one relay at a time."""

    def __init__(self) -> None:
        self._sessions: list[ConverseSession] = []
        self._channels: list[Channels] = []
        self._turns = 0

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Open `count` sessions over `connections`; 0 closes all. With `model` each has a turn
        before it is idle, its prompt of 16 kB; with `ca_file` it is over TLS.

        Returns:
            How many are open, and how long opening took.
        """
        count = int(request["count"])
        if not count:
            await self._close()
            return {"open": 0}
        began_s = time.monotonic()
        channels = Channels(
            int(request["port"]), int(request["connections"]), ca_file=request.get("ca_file")
        )
        self._channels.append(channels)
        for at in range(0, count, _OPENING_AT_ONCE):
            numbers = range(at, min(at + _OPENING_AT_ONCE, count))
            self._sessions += await asyncio.gather(
                *(
                    ConverseSession.open(channels.all[number % len(channels.all)])
                    for number in numbers
                )
            )
        took_s = time.monotonic() - began_s
        if model := request.get("model"):
            for at in range(0, len(self._sessions), _TURNS_AT_ONCE):
                some = self._sessions[at : at + _TURNS_AT_ONCE]
                await asyncio.gather(*(_long_turn(session, model) for session in some))
        return {"open": len(self._sessions), "took_s": took_s}

    async def turns(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """`turns` short ones, one after the other, each on another session drawn at random: from
        the start frame to the first token, in microseconds, minus `ttft_ms`."""
        rng = random.Random(5)
        tokens, ttft_us = int(request["tokens"]), float(request["ttft_ms"]) * 1e3
        found: list[float] = []
        for session in rng.sample(self._sessions, int(request["turns"])):
            seen: Seen = []
            self._turns += 1  # a session takes an id once
            generation_id = b"a%d" % self._turns
            began_ns = now_ns()
            async with asyncio.timeout(_TURN_TIMEOUT_S):
                await session.start(generation_id, request["model"], seen)
                await session.ended(generation_id)
            first = digest(seen, tokens, is_grpc=True)[0]
            found.append((first.received_ns - began_ns) / 1e3 - ttft_us)
            await asyncio.sleep(0.005)
        return {"first_us": found}

    async def _close(self) -> None:
        for at in range(0, len(self._sessions), _OPENING_AT_ONCE):
            some = self._sessions[at : at + _OPENING_AT_ONCE]
            await asyncio.gather(*(session.close() for session in some))
        for channels in self._channels:
            await channels.close()
        self._sessions.clear()
        self._channels.clear()


async def _long_turn(session: ConverseSession, model: str) -> None:
    await session.start(b"g", model, [], _LONG_PROMPT)
    await session.ended(b"g")
