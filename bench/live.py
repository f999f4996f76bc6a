"""Live calls for the load generator: each talks a part of its time, in segments.

A call keeps a session. Its turns begin by an open-loop schedule, each call at a phase of its own,
whether or not the turn before was on time. The relay is asked for segments, of which the script
makes the end of each known by its last token, a line break: so the latency of a segment is its
receipt minus the stamp of its own last token, whole, with nothing taken off.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

from rtrelay.v1 import content_pb2, relay_pb2

from bench.paths import STAMP, Channels, ConverseSession, LoadError, Seen, now_ns
from bench.processes import cpu_ns, waited_ns
from bench.stats import COARSE, Histogram

_OPENING_AT_ONCE = 32
_TURN_TIMEOUT_S = 20.0
_PROMPT = "Can you book the table by the window for seven tomorrow evening, please?"
_LEAD_NS = 50_000_000


class LiveCalls:
    """Sessions stay open between runs: the next one opens only what is missing."""

    def __init__(self) -> None:
        self._channels: Channels | None = None
        self._sessions: list[ConverseSession] = []
        self._number = 0

    async def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Talk for one period, in which all come to their first turn, and then for `window_s`.

        The request has `port` and `connections` (of the first run), `calls`, `model`, `period_s`
        from turn to turn, `window_s`, `tokens` and `segments` of a turn, `first_ms` from its start
        to the last token of its first segment, and `watch`, process ids by name.
        """
        await self._open(request)
        run = _Run(request)
        rng = random.Random(7)
        period_ns = round(float(request["period_s"]) * 1e9)
        run.begin_ns = now_ns() + _LEAD_NS + period_ns
        run.end_ns = run.begin_ns + round(float(request["window_s"]) * 1e9)
        talking = [
            asyncio.create_task(
                self._talk(session, run, run.begin_ns - round(rng.random() * period_ns), period_ns)
            )
            for session in self._sessions[: int(request["calls"])]
        ]
        await _until(run.begin_ns)
        edge = _used(request["watch"])
        await _until(run.end_ns)
        used = {
            name: (after[0] - edge[name][0], after[1] - edge[name][1])
            for name, after in _used(request["watch"]).items()
        }
        window_s = (now_ns() - run.begin_ns) / 1e9
        await asyncio.gather(*talking)
        return {**run.to_dict(), "window_s": window_s, "used_ns": used}

    async def _open(self, request: Mapping[str, Any]) -> None:
        if self._channels is None:
            self._channels = Channels(int(request["port"]), int(request["connections"]))
        channels = self._channels.all
        while (missing := int(request["calls"]) - len(self._sessions)) > 0:
            have = len(self._sessions)
            self._sessions += await asyncio.gather(
                *(
                    ConverseSession.open(channels[(have + more) % len(channels)])
                    for more in range(min(missing, _OPENING_AT_ONCE))
                )
            )

    async def _talk(
        self, session: ConverseSession, run: _Run, first_ns: int, period_ns: int
    ) -> None:
        at_ns = first_ns
        while at_ns < run.end_ns:
            await _until(at_ns)
            self._number += 1
            seen: Seen = []
            sent_ns = now_ns()
            generation_id = f"l{self._number}"
            try:
                async with asyncio.timeout(_TURN_TIMEOUT_S):
                    await session.begin(run.start(generation_id), seen)
                    await session.ended(generation_id.encode())
                run.take(at_ns, sent_ns, seen)
            except (LoadError, TimeoutError) as error:
                run.errors.append(f"{type(error).__name__}: {error}")
            at_ns += period_ns


class _Run:
    """What one run has measured."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._model: str = request["model"]
        self._tokens, self._segments = int(request["tokens"]), int(request["segments"])
        self._first_us = float(request["first_ms"]) * 1e3
        self.begin_ns = self.end_ns = 0
        self.errors: list[str] = []
        self._turns = 0
        self._histograms = {
            name: Histogram(COARSE) for name in ("segment", "first_segment", "generator_late")
        }

    def start(self, generation_id: str) -> relay_pb2.Start:
        """The start of a turn."""
        message = content_pb2.Message(
            role=content_pb2.ROLE_USER, parts=[content_pb2.Part(text=_PROMPT)]
        )
        return relay_pb2.Start(
            generation_id=generation_id,
            model=self._model,
            prompt=content_pb2.Prompt(messages=[message]),
            output=relay_pb2.OutputOptions(text_mode=relay_pb2.TEXT_MODE_SEGMENTS),
        )

    def take(self, intended_ns: int, sent_ns: int, seen: Seen) -> None:
        """Check a turn, and count it if it began inside the window.

        Raises:
            LoadError: it is not whole.
        """
        segments = read_segments(seen, self._tokens, self._segments)
        if not self.begin_ns <= intended_ns < self.end_ns:
            return
        self._turns += 1
        add = self._histograms["segment"].add
        for received_ns, stamped_ns in segments:
            add((received_ns - stamped_ns) / 1e3)
        first_us = (segments[0][0] - intended_ns) / 1e3 - self._first_us
        self._histograms["first_segment"].add(first_us)
        self._histograms["generator_late"].add((sent_ns - intended_ns) / 1e3)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "turns": self._turns,
            "error_count": len(self.errors),
            "errors": self.errors[:5],
            "histograms": {name: each.to_dict() for name, each in self._histograms.items()},
        }


def read_segments(seen: Seen, tokens: int, segments: int) -> list[tuple[int, int]]:
    """Receipt and last stamp of each segment of an answer.

    Raises:
        LoadError: segments or tokens are missing, or the answer has no clean end.
    """
    found: list[tuple[int, int]] = []
    stamps = 0
    frame = relay_pb2.ConverseResponse()
    for received_ns, data in seen:
        frame = relay_pb2.ConverseResponse.FromString(bytes(data))
        if not frame.HasField("segment") or not frame.segment.text:
            continue
        of_segment = STAMP.findall(frame.segment.text.encode())
        if not of_segment:
            raise LoadError(f"a segment without a stamp: {frame.segment.text!r}")
        stamps += len(of_segment)
        found.append((received_ns, int(of_segment[-1])))
    if not frame.HasField("end") or frame.end.outcome != relay_pb2.OUTCOME_COMPLETED:
        raise LoadError(f"the generation did not complete: {frame.end.error.message}")
    if (stamps, len(found)) != (tokens, segments):
        raise LoadError(f"{stamps} of {tokens} tokens in {len(found)} of {segments} segments came")
    return found


def _used(watch: Mapping[str, list[int]]) -> dict[str, tuple[int, int]]:
    """CPU of watched processes, and how long they waited for a core."""
    return {name: (cpu_ns(pids), waited_ns(pids)) for name, pids in watch.items()}


async def _until(at_ns: int) -> None:
    """To a millisecond, which is what uvloop's timers know."""
    await asyncio.sleep(max(0.0, (at_ns - now_ns()) / 1e9))
