"""The load generator: a process of its own, told by lines of JSON what to do.

    {"op": "setup", ...}    make the paths' clients; they stay warm for the whole run
    {"op": "tls", ...}      make clients of a relay with TLS too, beside those
    {"op": "keyed", ...}    make a client of a relay that wants a key, beside those
    {"op": "leg", ...}      open loop: requests at intended times, at a stated rate
    {"op": "burst", ...}    many requests at one moment
    {"op": "cancel", ...}   requests that are cancelled, and when
    {"op": "many", ...}     so many requests, at most so many a second, at most so many at once
    {"op": "sessions", ...} open or close idle Converse sessions (`bench.idle`)
    {"op": "among", ...}    turns on some of them
    {"op": "live", ...}     calls that talk a part of their time, in segments (`bench.live`)
    {"op": "again", ...}    one request after the other over each of some paths (`bench.again`)
    {"op": "turns", ...}    sessions that talk turn after turn and are interrupted (`bench.turns`)
    {"op": "door", ...}     make a client of a gateway, a path of its own (`bench.peers.doors`)
    {"op": "ask", ...}      questions one after the other at such a door, and how each ended
    {"op": "leave", ...}    questions whose asker leaves, and when

A leg has a ramp of one stream's length, in which the number of parallel streams builds up, and a
window. Latencies are of requests intended inside the window, CPU is what the watched processes
used between its edges, over the tokens received between them. Requests go out at their intended
times whether or not earlier ones were answered; time to first token counts from the intended
time, so that a stall of the generator or of the relay is not hidden.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop

from bench.again import ask_again
from bench.idle import IdleSessions
from bench.live import LiveCalls
from bench.orders import serve
from bench.pacer import Pacer
from bench.paths import (
    Channels,
    ConversePath,
    ConverseSession,
    GeneratePath,
    HttpPath,
    LoadError,
    Path,
    Seen,
    Token,
    digest,
    now_ns,
)
from bench.peers.doors import Doors
from bench.processes import context_switches, cpu_by_thread_ns, cpu_ns, waited_ns
from bench.stats import COARSE, FINE, Histogram
from bench.turns import Turns
from relay.open_files import raise_open_files

_LEAD_NS = 20_000_000
_DRAIN_TIMEOUT_S = 20.0
GRPC_PATHS = frozenset({"generate", "converse", "generate_tls", "converse_tls"})


@dataclass(slots=True)
class _Request:
    """One request of a leg."""

    intended_ns: int
    sent_ns: int = 0
    seen: Seen = field(default_factory=list)
    error: str = ""


class Load:
    """All clients of one run."""

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}
        self._channels: Channels | None = None
        self._pacer = Pacer()
        self._idle = IdleSessions()
        self._live = LiveCalls()
        self._relay_grpc_port = 0
        self._doors = Doors()

    async def handle(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a line says."""
        match request["op"]:
            case "setup":
                return await self.setup(request)
            case "tls":
                return await self.tls(request)
            case "keyed":
                return await self.keyed(request)
            case "leg":
                return await self.leg(request)
            case "burst":
                return await self.burst(request)
            case "cancel":
                return await self.cancel(request)
            case "many":
                return await self.many(request)
            case "sessions":
                return await self._idle.ask(request)
            case "among":
                return await self._idle.turns(request)
            case "live":
                return await self._live.run(request)
            case "again":
                return await ask_again(self._paths, request)
            case "turns":
                return await self.turns(request)
            case "door":
                self._paths[request["path"]] = await self._doors.open(request)
                return {"paths": list(self._paths)}
            case "ask":
                return await self._doors.ask(request)
            case "leave":
                return await self._doors.leave(request)
        raise LoadError(f"unknown op {request['op']!r}")

    async def setup(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make the paths and warm each with a few checked requests."""
        self._relay_grpc_port = int(request["relay_grpc_port"])
        self._channels = Channels(self._relay_grpc_port, int(request.get("channels", 4)))
        self._paths = {
            "direct": HttpPath(
                request["emulator_url"], ca_file=request["ca_file"], connections=2, is_http2=True
            ),
            "sse": HttpPath(request["relay_url"], model_prefix="lab/"),
            "generate": GeneratePath(self._channels, "lab/"),
            "converse": ConversePath(self._channels, "lab/"),
        }
        if request.get("nginx_url"):
            self._paths["nginx"] = HttpPath(request["nginx_url"])
        await self._warm_up(self._paths)
        gc.collect()
        gc.freeze()
        gc.disable()  # a pause of the client would be booked to whoever is measured
        return {"paths": list(self._paths)}

    async def keyed(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A path to a relay that wants a key, or to the same without (`bearer` empty), by the name
        that it is given. Its aliases are asked for as they are named."""
        path = HttpPath(
            request["relay_url"],
            bearer=request["bearer"],
            model_prefix=request.get("model_prefix", ""),
        )
        self._paths[request["path"]] = path
        await path.open(1)
        async for _ in path.chunks(request["model"]):
            pass
        return {"paths": list(self._paths)}

    async def tls(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Paths to a relay that speaks TLS: `sse_tls`, `generate_tls`, `converse_tls`."""
        ca_file: str = request["ca_file"]
        channels = Channels(int(request["relay_grpc_port"]), ca_file=ca_file)
        added: dict[str, Path] = {
            "sse_tls": HttpPath(request["relay_url"], ca_file=ca_file, model_prefix="lab/"),
            "generate_tls": GeneratePath(channels, "lab/"),
            "converse_tls": ConversePath(channels, "lab/"),
        }
        await self._warm_up(added)
        self._paths.update(added)
        return {"paths": list(added)}

    async def _warm_up(self, paths: Mapping[str, Path]) -> None:
        """A few checked requests over each, more and more at once."""
        model = "emu:ttft=2,itl=1,tokens=5,stamp=1"
        for name, path in paths.items():
            await path.open(8)
            for parallel in (1, 8, 64):
                requests = [_Request(0) for _ in range(parallel)]
                await asyncio.gather(*(path.stream(model, each.seen) for each in requests))
                for each in requests:
                    digest(each.seen, 5, is_grpc=name in GRPC_PATHS)

    # --- open loop --------------------------------------------------------------------------

    async def leg(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One path under a steady load; with `own_sessions` over a new session for each stream."""
        name: str = request["path"]
        if not request.get("own_sessions"):
            return await self._leg(request, name, self._paths[name])
        if self._channels is None:
            raise LoadError("setup comes first")
        path = ConversePath(self._channels, "lab/", spare=0.0)
        try:
            return await self._leg(request, name, path)
        finally:
            await path.close()

    async def _leg(self, request: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
        streams, tokens = int(request["streams"]), int(request["tokens"])
        ttft_us, itl_us = request["ttft_ms"] * 1e3, request["itl_ms"] * 1e3
        length_s = (ttft_us + (tokens - 1) * itl_us) / 1e6
        interval_ns = round(length_s * 1e9 / streams)
        window_s = float(request["window_s"])
        watch: dict[str, list[int]] = request["watch"]
        await path.open(streams)
        begin_ns = now_ns() + _LEAD_NS
        window_begin_ns = begin_ns + round(length_s * 1e9)
        window_end_ns = window_begin_ns + round(window_s * 1e9)
        requests: list[_Request] = []
        tasks: list[asyncio.Task[None]] = []
        edges: list[_Edge] = []
        # Even intervals may beat with the time between tokens, so that answers talk in step.
        jitter = random.Random(1).random if request.get("jitter") else float
        slot_ns = begin_ns
        while slot_ns < window_end_ns:
            intended_ns = slot_ns + round(jitter() * interval_ns)
            if not edges and intended_ns >= window_begin_ns:
                await self._pacer.until(window_begin_ns)
                edges.append(_Edge.read(watch))
            await self._pacer.until(intended_ns)
            each = _Request(intended_ns)
            requests.append(each)
            tasks.append(asyncio.create_task(_run(path, request["model"], each)))
            slot_ns += interval_ns
        await self._pacer.until(window_end_ns)
        edges.append(_Edge.read(watch))
        _, late = await asyncio.wait(tasks, timeout=_DRAIN_TIMEOUT_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        outcome = _LegOutcome(ttft_us, itl_us, window_begin_ns, edges)
        for each in requests:
            outcome.take(each, tokens, is_grpc=name in GRPC_PATHS)
        return {**outcome.to_dict(), "rate_per_s": 1e9 / interval_ns, "unanswered": len(late)}

    # --- a burst ----------------------------------------------------------------------------

    async def burst(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Many requests at one moment: time from that moment to each first token."""
        name: str = request["path"]
        path = self._paths[name]
        count, tokens = int(request["streams"]), int(request["tokens"])
        await path.open(count)
        begin_ns = now_ns() + _LEAD_NS
        await self._pacer.until(begin_ns)
        requests = [_Request(begin_ns) for _ in range(count)]
        async with asyncio.timeout(_DRAIN_TIMEOUT_S):
            await asyncio.gather(*(_run(path, request["model"], each) for each in requests))
        ttft = Histogram(FINE)
        errors = []
        for each in requests:
            try:
                answer = _answer(each, tokens, is_grpc=name in GRPC_PATHS)
            except LoadError as error:
                errors.append(str(error))
                continue
            ttft.add((answer[0].received_ns - begin_ns) / 1e3)
        return {"errors": errors, "histograms": {"ttft": ttft.to_dict()}}

    # --- cancels ----------------------------------------------------------------------------

    async def cancel(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Cancel each of some requests, told apart by their model names, and note when.

        `after_tokens` 0 cancels while the provider thinks, else once so many tokens came.
        """
        name: str = request["path"]
        path = self._paths[name]
        await path.open(len(request["models"]))
        after_tokens, wait_s = int(request["after_tokens"]), request["wait_ms"] / 1e3
        cancelled: dict[str, int] = {}
        for model in request["models"]:
            seen: Seen = []
            started = await _start_cancellable(path, model, seen)
            deadline_ns = now_ns() + 5_000_000_000
            if not after_tokens:
                await asyncio.sleep(wait_s)
            while len(seen) < after_tokens:
                if now_ns() > deadline_ns:
                    raise LoadError(f"{len(seen)} of {after_tokens} pieces before the cancel")
                await asyncio.sleep(0.001)
            cancelled[model] = await started.cancel()
        return {"cancelled_ns": cancelled}

    # --- many -------------------------------------------------------------------------------

    async def many(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Requests whose answers are only checked to have come, and to have ended."""
        path = self._paths[request["path"]]
        gap_ns = round(1e9 / request["rate"])
        free = asyncio.Semaphore(int(request["parallel"]))
        errors: list[str] = []

        async def one() -> None:
            seen: Seen = []
            try:
                async with asyncio.timeout(_DRAIN_TIMEOUT_S):
                    await path.stream(request["model"], seen)
                if not seen:
                    errors.append("an empty answer")
            except Exception as error:  # noqa: BLE001 - told to the bench
                errors.append(f"{type(error).__name__}: {error}")
            finally:
                free.release()

        at_ns = now_ns()
        async with asyncio.TaskGroup() as group:
            for _ in range(int(request["count"])):
                await self._pacer.until(at_ns)
                await free.acquire()
                group.create_task(one())
                at_ns = max(at_ns + gap_ns, now_ns())
        return {"error_count": len(errors), "errors": errors[:5]}

    # --- calls ------------------------------------------------------------------------------

    async def turns(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Sessions that talk for a while; see `bench.turns`."""
        if self._channels is None:
            raise LoadError("setup comes first")
        return await Turns(self._channels, request).run()


@dataclass(slots=True)
class _Edge:
    """What the watched processes had used at one moment."""

    at_ns: int
    cpu_ns: dict[str, int]
    waited_ns: dict[str, int]
    threads_ns: dict[str, int]
    switches: tuple[int, int]

    @classmethod
    def read(cls, watch: Mapping[str, Sequence[int]]) -> _Edge:
        relay = watch.get("relay", [])
        threads: dict[str, int] = {}
        voluntary = involuntary = 0
        for pid in relay:
            for name, used_ns in cpu_by_thread_ns(pid).items():
                threads[name] = threads.get(name, 0) + used_ns
            more = context_switches(pid)
            voluntary, involuntary = voluntary + more[0], involuntary + more[1]
        return cls(
            now_ns(),
            {name: cpu_ns(pids) for name, pids in watch.items()},
            {name: waited_ns(pids) for name, pids in watch.items()},
            threads,
            (voluntary, involuntary),
        )


class _LegOutcome:
    """Everything a leg has measured."""

    def __init__(
        self, ttft_us: float, itl_us: float, window_begin_ns: int, edges: Sequence[_Edge]
    ) -> None:
        self._ttft_us = ttft_us
        self._itl_us = itl_us
        self._window_begin_ns = window_begin_ns
        self._begin, self._end = edges
        self._tokens_in_window = 0
        self._requests = 0
        self._messages = 0
        self._messages_of_one = 0
        self._errors: list[str] = []
        self._histograms = {
            "ttft": Histogram(FINE),
            "first_token": Histogram(COARSE),
            "token": Histogram(COARSE),
            "gap": Histogram(FINE),
            "answer": Histogram(FINE),
            "generator_late": Histogram(COARSE),
            "emulator_late": Histogram(COARSE),
        }

    def take(self, request: _Request, tokens: int, *, is_grpc: bool) -> None:
        """Count one request."""
        try:
            answer = _answer(request, tokens, is_grpc=is_grpc)
        except LoadError as error:
            self._errors.append(str(error))
            return
        low, high = self._begin.at_ns, self._end.at_ns
        self._tokens_in_window += sum(low <= token.received_ns < high for token in answer)
        if request.intended_ns < self._window_begin_ns:
            return
        self._requests += 1
        for _, tokens_of_one in itertools.groupby(answer, lambda token: token.received_ns):
            self._messages += 1
            self._messages_of_one += sum(1 for _ in tokens_of_one) == 1
        add = {name: histogram.add for name, histogram in self._histograms.items()}
        first = answer[0]
        add["ttft"]((first.received_ns - request.intended_ns) / 1e3)
        add["first_token"]((first.received_ns - first.stamped_ns) / 1e3)
        # From sending to the last piece: what a client that keeps no bodies can tell as well.
        add["answer"]((request.seen[-1][0] - request.sent_ns) / 1e3)
        add["generator_late"]((request.sent_ns - request.intended_ns) / 1e3)
        previous: Token | None = None
        for index, token in enumerate(answer):
            add["token"]((token.received_ns - token.stamped_ns) / 1e3)
            if previous is not None:
                add["gap"]((token.received_ns - previous.received_ns) / 1e3)
                scheduled_us = index * self._itl_us
                add["emulator_late"]((token.stamped_ns - first.stamped_ns) / 1e3 - scheduled_us)
            previous = token

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        begin, end = self._begin, self._end
        return {
            "requests": self._requests,
            "messages": self._messages,
            "messages_of_one": self._messages_of_one,
            "errors": self._errors[:5],
            "error_count": len(self._errors),
            "window_s": (end.at_ns - begin.at_ns) / 1e9,
            "tokens_in_window": self._tokens_in_window,
            "cpu_ns": {name: end.cpu_ns[name] - begin.cpu_ns[name] for name in end.cpu_ns},
            "waited_ns": {
                name: end.waited_ns[name] - begin.waited_ns[name] for name in end.waited_ns
            },
            "relay_threads_ns": {
                name: used - begin.threads_ns.get(name, 0) for name, used in end.threads_ns.items()
            },
            "relay_switches": [
                end.switches[0] - begin.switches[0],
                end.switches[1] - begin.switches[1],
            ],
            "histograms": {
                name: histogram.to_dict() for name, histogram in self._histograms.items()
            },
        }


async def _run(path: Path, model: str, request: _Request) -> None:
    request.sent_ns = now_ns()
    try:
        await path.stream(model, request.seen)
    except Exception as error:  # noqa: BLE001 - told in the leg's result
        request.error = f"{type(error).__name__}: {error}"


def _answer(request: _Request, tokens: int, *, is_grpc: bool) -> list[Token]:
    if request.error:
        raise LoadError(request.error)
    return digest(request.seen, tokens, is_grpc=is_grpc)


class _Cancellable:
    """A request under way."""

    def __init__(self, path: Path, model: str, seen: Seen) -> None:
        self._task = asyncio.create_task(path.stream(model, seen))

    async def cancel(self) -> int:
        """Cancel it; the moment when that was."""
        at_ns = now_ns()
        self._task.cancel()
        await asyncio.wait([self._task])
        return at_ns


class _CancellableGeneration(_Cancellable):
    """A generation on a session: the cancel is a frame."""

    def __init__(self, session: ConverseSession, generation_id: bytes) -> None:
        self._session = session
        self._generation_id = generation_id

    async def cancel(self) -> int:
        at_ns = now_ns()
        await self._session.cancel(self._generation_id)
        await self._session.ended(self._generation_id)
        return at_ns


async def _start_cancellable(path: Path, model: str, seen: Seen) -> _Cancellable:
    if isinstance(path, ConversePath):
        return _CancellableGeneration(*await path.start(model, seen))
    return _Cancellable(path, model, seen)


async def _serve() -> None:
    load = Load()
    await serve(load.handle)


if __name__ == "__main__":
    raise_open_files()
    uvloop.run(_serve())
