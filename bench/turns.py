"""Calls for the load generator: sessions that talk turn after turn, and are interrupted.

Each session starts an answer, hears it to its end or cancels it in the middle (a barge-in: at a
random moment, not in step with a token), pauses, and starts the next. Every answer that was not cut
is checked, and for each id it is counted what still came after its end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

from rtrelay.v1 import relay_pb2

from bench.paths import Channels, ConverseSession, LoadError, Seen, digest, now_ns
from bench.stats import COARSE, Histogram

_ENDED_TIMEOUT_S = 20.0


class Turns:
    """One run of `{"op": "turns"}`; `run` once.

    The request has `sessions`, `seconds`, `cancel_share`, `ttft_ms`, `itl_ms`, `tokens`, `seed`.
    """

    def __init__(self, channels: Channels, request: Mapping[str, Any]) -> None:
        self._channels = channels
        self._ttft_ms = float(request["ttft_ms"])
        self._itl_ms = float(request["itl_ms"])
        self._tokens = int(request["tokens"])
        self._sessions = int(request["sessions"])
        self._seconds = float(request["seconds"])
        self._cancel_share = float(request["cancel_share"])
        self._random = random.Random(int(request["seed"]))
        self._number = 0
        self._completed = 0
        self._errors: list[str] = []
        self._cancelled_ns: dict[str, int] = {}
        self._too_late = 0
        self._cancel_to_end = Histogram(COARSE)

    async def run(self) -> dict[str, Any]:
        """Talk; what came of it as JSON data."""
        channels = self._channels.all
        sessions = [
            await ConverseSession.open(channels[number % len(channels)])
            for number in range(self._sessions)
        ]
        stop_ns = now_ns() + round(self._seconds * 1e9)
        await asyncio.gather(*(self._talk(session, stop_ns) for session in sessions))
        for session in sessions:
            await session.close()
        return {
            "turns": self._number,
            "completed": self._completed,
            "cancelled_ns": self._cancelled_ns,
            "ended_before_the_cancel": self._too_late,
            "after_the_end": sum(session.after_end for session in sessions),
            "error_count": len(self._errors),
            "errors": self._errors[:5],
            "histograms": {"cancel_to_end": self._cancel_to_end.to_dict()},
        }

    async def _talk(self, session: ConverseSession, stop_ns: int) -> None:
        length_s = (self._ttft_ms + self._itl_ms * self._tokens) / 1e3
        await asyncio.sleep(self._random.uniform(0, length_s))  # not all at once
        while now_ns() < stop_ns:
            self._number += 1
            # A model name of its own, by which the emulator's record of the stream is found.
            model = (
                f"emu:ttft={self._ttft_ms:g},itl={self._itl_ms:g},tokens={self._tokens},stamp=1"
                f",seed={self._number}"
            )
            cancel_after_s = None
            if self._random.random() < self._cancel_share:
                # After some tokens, and so long before the last that it is still on its way.
                cancel_after_s = self._ttft_ms / 1e3 + self._random.uniform(0.1, 0.8) * length_s
            try:
                async with asyncio.timeout(_ENDED_TIMEOUT_S):
                    await self._turn(session, model, b"b%d" % self._number, cancel_after_s)
            except (LoadError, TimeoutError) as error:
                self._errors.append(f"{type(error).__name__}: {error}")
                return
            await asyncio.sleep(self._random.uniform(0.0, 0.1))

    async def _turn(
        self,
        session: ConverseSession,
        model: str,
        generation_id: bytes,
        cancel_after_s: float | None,
    ) -> None:
        seen: Seen = []
        await session.start(generation_id, f"lab/{model}", seen)
        if cancel_after_s is None:
            await session.ended(generation_id)
            digest(seen, self._tokens, is_grpc=True)
            self._completed += 1
            return
        await asyncio.sleep(cancel_after_s)
        heard = len(seen)
        at_ns = now_ns()
        await session.cancel(generation_id)
        await session.ended(generation_id)
        end = relay_pb2.ConverseResponse.FromString(bytes(seen[-1][1])).end
        if end.outcome == relay_pb2.OUTCOME_COMPLETED or not heard:
            self._too_late += 1  # or too early: it is no barge-in
            return
        if end.cancel_reason != relay_pb2.CANCEL_REASON_BARGE_IN:
            raise LoadError(f"a cancelled answer ended so: {end}")
        self._cancelled_ns[model] = at_ns
        self._cancel_to_end.add((seen[-1][0] - at_ns) / 1e3)
