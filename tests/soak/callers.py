"""Callers: each asks once, over a drawn door and with a drawn fate, and judges what it got.

An answer that ended well must be the whole text. Anything else must say that it is none. A broken
transport is excused where a worker was killed just before, and nowhere else.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import httpx2
import orjson
from rtrelay.v1 import (
    Cancel,
    ConverseRequest,
    ConverseResponse,
    GenerateRequest,
    GenerateResponse,
    Outcome,
    Setup,
)

from tests.fakes.converse_client import CONVERSE, GENERATE, reason_of, start
from tests.fakes.relay_under_test import chat_body, sse_payloads
from tests.soak.plan import CALM, FAULTS, TEXT, Plan, faulty
from tests.soak.scene import Scene

CHAT: Final = "/v1/chat/completions"
DOORS: Final = ("sse", "sse", "json", "generate", "converse", "converse")
WAIT_S: Final = 30.0
"""Far above what anything may take: what is still there then hangs."""
BUDGET_MS: Final = 20_000
"""Total time that requests allow themselves."""
LEAVES_WITHIN_S: Final = 0.14
"""An answer takes some 0.16 s."""
HURRIED: Final = 0.05
"""Share of requests that allow themselves about as long as an answer takes."""
LATE_S: Final = 0.25
"""An answer may end so much after its total time."""
UNDER_WAY_S: Final = 0.05
"""A request may take so long to the relay."""
EXCUSED_S: Final = 4.0
"""After a kill, connections that the dead worker had may be found broken."""


@dataclass
class Tally:
    """What has come of all of them."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """What must not be, in words; at most 20 are kept."""
    wrongs: int = 0
    worst_late_s: float = 0.0
    told: list[tuple[str, int]] = field(default_factory=list)
    """Request ids and output tokens of whole answers, until the books were compared with them."""
    killed_s: float = -1e9
    """When a worker was killed last."""
    stopped_s: float = float("inf")
    """When the relay was told to stop: what begins from then on is refused."""

    def blame(self, what: str) -> None:
        self.wrongs += 1
        if len(self.wrong) < 20:
            self.wrong.append(what)


@dataclass
class Asked:
    """One request."""

    door: str
    alias: str
    leaves_after_s: float | None
    """Leaves, or cancels, so long after it began; None: stays."""
    vanishes: bool
    pauses_s: float
    """Reads nothing for so long after the first piece."""
    budget_ms: int = BUDGET_MS
    turns: int = 1
    """Of a session."""
    began_s: float = field(default_factory=time.monotonic)


def drawn(plan: Plan, draw: random.Random) -> Asked:
    """The next request."""
    alias = CALM if draw.random() >= plan.faults else faulty(draw.choice(FAULTS))
    leaves = vanishes = False
    pauses_s, fate = 0.0, draw.random()
    if fate < plan.cancelled:
        leaves = True
    elif fate < plan.cancelled + plan.vanished:
        leaves = vanishes = True
    elif fate < plan.cancelled + plan.vanished + plan.slow_readers:
        pauses_s = 0.5
    door = "sse" if vanishes else draw.choice(DOORS)
    leaves_after_s = draw.uniform(0.0, LEAVES_WITHIN_S) if leaves else None
    budget_ms = draw.randint(60, 200) if not pauses_s and draw.random() < HURRIED else BUDGET_MS
    return Asked(door, alias, leaves_after_s, vanishes, pauses_s, budget_ms, draw.randint(1, 3))


class Callers:
    """They ask at the plan's rate while `run` runs, each in a task of its own.

    Args:
        scene: stays the caller's.
    """

    def __init__(self, scene: Scene, tally: Tally) -> None:
        self._scene = scene
        self.tally = tally
        self._draw = random.Random(scene.plan.seed)
        self._running: set[asyncio.Task[None]] = set()
        self._may_ask = asyncio.Event()
        self._may_ask.set()
        self._bearer = f"Bearer {scene.key}"

    @property
    def running(self) -> int:
        """Requests that have not ended."""
        return len(self._running)

    def pause(self) -> None:
        """Begin nothing more until `resume`."""
        self._may_ask.clear()

    def resume(self) -> None:
        self._may_ask.set()

    async def all_ended(self) -> None:
        """Wait for those that run.

        Raises:
            TimeoutError: some hang.
        """
        async with asyncio.timeout(WAIT_S):
            while self._running:
                await asyncio.wait(set(self._running))

    async def run(self) -> None:
        """Ask until cancelled; then those that run are waited for."""
        base = f"http://127.0.0.1:{self._scene.relay.ports['http']}"
        limits = httpx2.Limits(max_connections=200, max_keepalive_connections=50)
        async with (
            httpx2.AsyncClient(
                base_url=base, trust_env=False, timeout=WAIT_S, limits=limits
            ) as http,
            self._channels() as channels,
        ):
            try:
                while True:
                    await self._may_ask.wait()
                    self.begin(http, channels)
                    await asyncio.sleep(self._draw.expovariate(self._scene.plan.rate_per_s))
            finally:
                if self._running:
                    await asyncio.wait(set(self._running), timeout=WAIT_S)

    @asynccontextmanager
    async def _channels(self) -> AsyncIterator[list[grpc.aio.Channel]]:
        target = f"127.0.0.1:{self._scene.relay.ports['grpc']}"
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 500)]
        # Kept for the whole run: channels that come and go leak on the client's side.
        channels = [grpc.aio.insecure_channel(target, options=own) for _ in range(8)]
        try:
            yield channels
        finally:
            for channel in channels:
                await channel.close()

    def begin(self, http: httpx2.AsyncClient, channels: list[grpc.aio.Channel]) -> None:
        """One more."""
        asked = drawn(self._scene.plan, self._draw)
        channel = self._draw.choice(channels)
        task = asyncio.create_task(self._ask(asked, http, channel))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _ask(self, asked: Asked, http: httpx2.AsyncClient, channel: grpc.aio.Channel) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                if asked.vanishes:
                    await self._vanish(asked)
                elif asked.door in ("sse", "json"):
                    await self._http(asked, http)
                elif asked.door == "generate":
                    await self._generate(asked, channel)
                else:
                    await self._converse(asked, channel)
        except TimeoutError:
            self.tally.blame(f"hangs: {asked}")
        except (httpx2.TransportError, OSError, asyncio.InvalidStateError) as error:
            self._broke(asked, repr(error))  # the last: a frame for an RPC that is over
        except grpc.aio.AioRpcError as error:
            self._rpc_failed(asked, error)
        except (AssertionError, LookupError, ValueError, TypeError) as error:
            self.tally.blame(f"not to be read: {asked}: {error!r}")

    # --- HTTP -------------------------------------------------------------------------------

    async def _http(self, asked: Asked, http: httpx2.AsyncClient) -> None:
        is_stream = asked.door == "sse"
        more: dict[str, Any] = {"stream_options": {"include_usage": True}} if is_stream else {}
        body = chat_body(asked.alias, stream=is_stream, **more)
        headers = {"authorization": self._bearer, "x-relay-total-ms": str(asked.budget_ms)}
        text = b""
        try:
            async with (
                asyncio.timeout(asked.leaves_after_s),
                http.stream("POST", CHAT, json=body, headers=headers) as answer,
            ):
                async for piece in answer.aiter_raw():
                    text += piece
                    if asked.pauses_s:
                        await asyncio.sleep(asked.pauses_s)
                        asked.pauses_s = 0.0
        except TimeoutError:
            if asked.leaves_after_s is None:
                raise
            self.tally.outcomes["left"] += 1
            return
        self._ended(asked)
        id_ = answer.headers.get("x-relay-request-id", "")
        if answer.status_code != 200:
            self._failed(asked, orjson.loads(text)["error"]["x_relay"]["reason"])
        elif not is_stream:
            document = orjson.loads(text)
            said = document["choices"][0]["message"]["content"]
            self._whole(asked, said, id_, document["usage"]["completion_tokens"])
        else:
            self._streamed(asked, text.decode(), id_)

    def _streamed(self, asked: Asked, text: str, id_: str) -> None:
        payloads = sse_payloads(text)
        if payloads and "error" in payloads[-1]:
            if "[DONE]" in text:
                self.tally.blame(f"[DONE] after an error: {asked}")
            self._failed(asked, payloads[-1]["error"]["x_relay"]["reason"])
        elif not text.endswith("data: [DONE]\n\n"):
            self._broke(asked, "the stream ended without an end")
        else:
            said = "".join(
                choice["delta"].get("content") or ""
                for payload in payloads
                for choice in payload["choices"]
            )
            tokens = next(one["usage"]["completion_tokens"] for one in payloads if one.get("usage"))
            self._whole(asked, said, id_, tokens)

    async def _vanish(self, asked: Asked) -> None:
        """Over a socket of its own, which is reset in mid-answer."""
        port = self._scene.relay.ports["http"]
        body = orjson.dumps(chat_body(asked.alias))
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: relay\r\nauthorization: {self._bearer}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(head.encode() + body)
            await asyncio.sleep(asked.leaves_after_s or 0.0)
            own: socket.socket = writer.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        finally:
            writer.transport.abort()
        self.tally.outcomes["vanished"] += 1

    # --- gRPC -------------------------------------------------------------------------------

    async def _generate(self, asked: Asked, channel: grpc.aio.Channel) -> None:
        rpc: Any = channel.unary_stream(
            GENERATE,
            request_serializer=GenerateRequest.SerializeToString,
            response_deserializer=GenerateResponse.FromString,
        )
        begin = start("", asked.alias)
        begin.budgets.total_ms = asked.budget_ms
        call = rpc(GenerateRequest(start=begin), metadata=(("authorization", self._bearer),))
        try:
            async with asyncio.timeout(asked.leaves_after_s):
                end, said, id_ = await self._frames(asked, call)
        except TimeoutError:
            if asked.leaves_after_s is None:
                raise
            call.cancel()
            self.tally.outcomes["cancelled"] += 1
            return
        if end is None:
            self._broke(asked, f"no end, {await call.code()}")
        else:
            self._judge(asked, end, said, id_)

    async def _frames(self, asked: Asked, call: Any) -> tuple[Any, str, str]:
        said, id_, end = "", "", None
        try:
            async for frame in call:
                kind = frame.WhichOneof("frame")
                if kind == "started":
                    id_ = frame.started.request_id
                elif kind == "delta":
                    said += frame.delta.text
                    if asked.pauses_s:
                        await asyncio.sleep(asked.pauses_s)
                        asked.pauses_s = 0.0
                elif kind == "end":
                    end = frame.end
        except grpc.aio.AioRpcError:
            if end is None:
                raise
        return end, said, id_

    async def _converse(self, asked: Asked, channel: grpc.aio.Channel) -> None:
        """A session of a few turns, of which the last may be cancelled by a barge-in."""
        rpc: Any = channel.stream_stream(
            CONVERSE,
            request_serializer=ConverseRequest.SerializeToString,
            response_deserializer=ConverseResponse.FromString,
        )
        call = rpc(metadata=(("authorization", self._bearer),))
        try:
            await call.write(ConverseRequest(setup=Setup()))
            for turn in range(asked.turns):
                await self._turn(asked, call, f"g{turn}")
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass
        finally:
            call.cancel()

    async def _turn(self, asked: Asked, call: Any, name: str) -> None:
        asked.began_s = time.monotonic()
        begin = start(name, asked.alias)
        begin.budgets.total_ms = asked.budget_ms
        await call.write(ConverseRequest(start=begin))
        said = id_ = ""
        over = asyncio.Event()
        barging = asyncio.create_task(self._barge_in(call, name, asked.leaves_after_s, over))
        try:
            while True:
                frame = await call.read()
                if frame is grpc.aio.EOF:
                    raise ConnectionResetError(f"the session ended: {await call.code()}")
                kind = frame.WhichOneof("frame")
                if kind == "started":
                    id_ = frame.started.request_id
                elif kind == "delta":
                    said += frame.delta.text
                elif kind == "end":
                    break
        finally:
            over.set()  # and not a cancel: a write that is cancelled ends the RPC
            await asyncio.gather(barging, return_exceptions=True)
        if asked.leaves_after_s is not None and frame.end.outcome == Outcome.OUTCOME_CANCELLED:
            self.tally.outcomes["cancelled"] += 1
        else:
            self._judge(asked, frame.end, said, id_)

    async def _barge_in(
        self, call: Any, name: str, after_s: float | None, over: asyncio.Event
    ) -> None:
        """The caller speaks into the answer, if it is not over by then; None: does not."""
        if after_s is None:
            return
        try:
            async with asyncio.timeout(after_s):
                await over.wait()
        except TimeoutError:
            await call.write(ConverseRequest(cancel=Cancel(generation_id=name)))

    def _judge(self, asked: Asked, end: Any, said: str, id_: str) -> None:
        self._ended(asked)
        if end.outcome == Outcome.OUTCOME_COMPLETED:
            self._whole(asked, said, id_, end.usage.completion_tokens)
        else:
            self._failed(asked, reason_of(end.error))

    def _rpc_failed(self, asked: Asked, error: grpc.aio.AioRpcError) -> None:
        code = error.code()
        if code is grpc.StatusCode.UNAVAILABLE:
            self._broke(asked, str(error.details()))
        else:
            self._failed(asked, code.name)

    # --- what is held against an answer -----------------------------------------------------

    def _ended(self, asked: Asked) -> None:
        late_s = time.monotonic() - asked.began_s - asked.budget_ms / 1000
        self.tally.worst_late_s = max(self.tally.worst_late_s, late_s)

    def _whole(self, asked: Asked, said: str, id_: str, tokens: int) -> None:
        if said != TEXT:
            self.tally.blame(f"a clean end of another text, {len(said)} characters: {asked}")
        self.tally.outcomes["whole"] += 1
        self.tally.told.append((id_, tokens))

    def _failed(self, asked: Asked, reason: str) -> None:
        """It was told that there is no answer."""
        outcomes = self.tally.outcomes
        if self._came_late(asked):
            outcomes["refused, stopping"] += 1
        elif asked.budget_ms < BUDGET_MS:
            outcomes["out of its own time"] += 1
        elif asked.alias == CALM and time.monotonic() - self.tally.killed_s > EXCUSED_S:
            self.tally.blame(f"a good request failed, {reason}: {asked}")
        else:
            outcomes[f"told: {reason}"] += 1

    def _broke(self, asked: Asked, what: str) -> None:
        """Its transport broke before the end."""
        if self._came_late(asked):
            self.tally.outcomes["refused, stopping"] += 1
        elif time.monotonic() - self.tally.killed_s < EXCUSED_S:
            self.tally.outcomes["broken by a kill"] += 1
        else:
            self.tally.blame(f"a broken transport, {what}: {asked}")

    def _came_late(self, asked: Asked) -> bool:
        """Whether the relay may have been told to stop before it heard of this one."""
        return asked.began_s > self.tally.stopped_s - UNDER_WAY_S
