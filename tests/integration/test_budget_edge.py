"""Many at once where a budget or a limit ends: nobody spends beyond it, nobody is refused who could
pay, on one worker, on several, and on several machines.

At the edge the provider is held: those who were let in wait for it together, so that what is put
aside for them is there at once, and how many they are can be told to the one.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import httpx2
import pytest
from rtrelay.v1 import GenerateRequest, GenerateResponse

from relay.governance.bounds import MESSAGE_TOKENS, REQUEST_TOKENS
from relay.store.engine import make_ready
from tests.fakes.books import Books
from tests.fakes.converse_client import prompt, reason_of, start, status_of
from tests.fakes.directory_rows import PEPPER, Rows
from tests.fakes.h1_server import H1Server
from tests.fakes.metered_lab import CHAT, TEXT_BYTES, MeteredLab, ask
from tests.fakes.relay_fleet import relay_fleet
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import chat_body, eventually
from tests.fakes.servers import postgres_cluster, postgres_pool, postgres_server, postgres_url

__all__ = ["postgres_cluster", "postgres_pool", "postgres_server", "postgres_url"]

pytestmark = [pytest.mark.sockets, pytest.mark.timeout(300)]

IS_FULL: Final = os.environ.get("RELAY_FULL") == "1"
ROUNDS: Final = 10 if IS_FULL else 1
MANY: Final = 200
WORTH: Final = 20
MAX_TOKENS: Final = 50
PROMPT_BOUND: Final = REQUEST_TOKENS + MESSAGE_TOKENS + TEXT_BYTES
BOUND_MICRO: Final = PROMPT_BOUND + 10 * MAX_TOKENS
CHANNELS: Final = 16
_REASONS: Final = {
    "budget_exceeded": "BUDGET_EXCEEDED",
    "rate_limit_exceeded": "LIMIT_EXCEEDED",
}
"""gRPC's words for OpenAI's codes."""


class Key(NamedTuple):
    """With a hard budget of its own."""

    secret: str
    budget_id: str


class Callers:
    """Clients of some relays: HTTP connections, and gRPC channels with connections of their own."""

    def __init__(self, relays: list[RelayProcess], stack: AsyncExitStack) -> None:
        self._relays = relays
        self._stack = stack
        self._http: list[httpx2.AsyncClient] = []
        self._channels: list[grpc.aio.Channel] = []
        self._numbers = iter(range(1_000_000))

    async def connect(self) -> None:
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        for relay in self._relays:
            self._http.append(await self._stack.enter_async_context(relay.http()))
            target = f"{relay.host}:{relay.ports['grpc']}"
            for _ in range(CHANNELS // len(self._relays)):
                channel = grpc.aio.insecure_channel(target, options=own)
                self._channels.append(await self._stack.enter_async_context(channel))

    async def known(self, secrets: Iterable[str]) -> None:
        """Wait until keys are let in, on as many new connections as find every worker."""
        for relay in self._relays:
            for secret in secrets:
                for _ in range(8):
                    await _let_in(relay, secret)

    def ask(self, key: str, count: int, model: str, tokens: int, output: int) -> Burst:
        """Half of them over HTTP, half over gRPC, in turn over every relay."""
        burst = Burst()
        for index in range(count):
            number = next(self._numbers)
            text = ask(number, prompt=tokens, output=output)
            if index % 2:
                channel = self._channels[index // 2 % len(self._channels)]
                one = self._by_grpc(channel, key, model, text)
            else:
                http = self._http[index // 2 % len(self._http)]
                one = self._by_http(http, key, model, text)
            burst.begin(number, one)
        return burst

    async def _by_http(self, http: httpx2.AsyncClient, key: str, model: str, text: str) -> str:
        body = chat_body(model, text=text, max_tokens=MAX_TOKENS)
        answer = await http.post(CHAT, json=body, headers={"authorization": f"Bearer {key}"})
        if answer.status_code == 200:
            assert answer.text.endswith("data: [DONE]\n\n"), answer.text
            return ""
        assert answer.status_code == 429, answer.text
        return _REASONS[answer.json()["error"]["code"]]

    async def _by_grpc(self, channel: grpc.aio.Channel, key: str, model: str, text: str) -> str:
        rpc: Any = channel.unary_stream(
            "/rtrelay.v1.RelayService/Generate",
            request_serializer=GenerateRequest.SerializeToString,
            response_deserializer=GenerateResponse.FromString,
        )
        asked = prompt(text)
        asked.sampling.max_output_tokens = MAX_TOKENS
        begin = GenerateRequest(start=start("", model, prompt=asked))
        call = rpc(begin, metadata=(("authorization", f"Bearer {key}"),))
        try:
            async for _ in call:
                pass
        except grpc.aio.AioRpcError as error:
            return reason_of(status_of(error))
        return ""


async def _let_in(relay: RelayProcess, secret: str) -> None:
    async with asyncio.timeout(5):
        while True:
            async with relay.http() as http:
                bearer = {"authorization": f"Bearer {secret}"}
                if (await http.get("/v1/models", headers=bearer)).status_code == 200:
                    return


class Burst:
    """Requests that were sent at once."""

    def __init__(self) -> None:
        self._numbers: set[int] = set()
        self._tasks: list[asyncio.Task[str]] = []

    def begin(self, number: int, one: Any) -> None:
        self._numbers.add(number)
        self._tasks.append(asyncio.create_task(one))

    async def held(self, lab: MeteredLab) -> int:
        """Wait until everybody is refused, or waits at the provider; how many of these."""

        def let_in() -> int:
            return len(self._numbers & lab.asked)

        def decided() -> bool:
            failed = [task for task in self._tasks if task.done() and task.exception()]
            over = sum(task.done() for task in self._tasks)
            return bool(failed) or over + let_in() == len(self._tasks)

        await eventually(decided, 60)
        for task in self._tasks:
            if task.done():
                task.result()
        return let_in()

    async def reasons(self) -> list[str]:
        """Of refusals, when all of them are over; those that were answered have none."""
        told = await asyncio.gather(*self._tasks)
        return [one for one in told if one]


class Edge:
    """Relays, their lab, their books."""

    def __init__(self, lab: MeteredLab, books: Books, rows: Rows) -> None:
        self.lab = lab
        self.books = books
        self.rows = rows
        self.team_id = rows.team(rows.organisation())
        self.callers: Callers

    def key(self, bounds: int, **more: Any) -> Key:
        key_id, secret = self.rows.key(self.team_id, **more)
        return Key(secret, self.rows.budget("key", key_id, bounds * BOUND_MICRO))

    async def known(self, *secrets: str) -> None:
        """Wait until every worker lets them in."""
        await self.callers.known(secrets)

    async def quiet(self) -> None:
        await eventually(lambda: not self.books.open_rows(), 20)


@asynccontextmanager
async def one_worker(folder: Path, **_: Any) -> AsyncIterator[Edge]:
    url = f"sqlite:///{folder}/relay.db"
    async with _edge(folder, {"url": url}) as edge:
        yield edge


@asynccontextmanager
async def four_workers(folder: Path, **_: Any) -> AsyncIterator[Edge]:
    url = f"sqlite:///{folder}/relay.db"
    async with _edge(folder, {"url": url}, workers=4) as edge:
        yield edge


@asynccontextmanager
async def two_machines(folder: Path, *, postgres: str, redis: str) -> AsyncIterator[Edge]:
    hosts = ("127.0.0.1", "127.0.0.2")
    async with _edge(folder, {"url": postgres, "redis": redis}, hosts=hosts) as edge:
        yield edge


@asynccontextmanager
async def _edge(folder: Path, store: dict[str, str], **fleet: Any) -> AsyncIterator[Edge]:
    make_ready(store["url"])
    pepper = folder / "pepper"
    pepper.write_text(PEPPER, encoding="utf-8")
    books = Books(store["url"])
    try:
        async with H1Server() as server, AsyncExitStack() as stack:
            lab = MeteredLab(server)
            edge = Edge(lab, books, Rows(books.engine))
            relays = await stack.enter_async_context(
                relay_fleet(folder, _document(lab, store, pepper), **fleet)
            )
            edge.callers = Callers(relays, stack)
            await edge.callers.connect()
            yield edge
    finally:
        books.close()


def _document(lab: MeteredLab, store: dict[str, str], pepper: Path) -> dict[str, Any]:
    first, second = ({"provider": name, "model": "m"} for name in ("lab", "other"))
    patient = {"connect_ms": 30_000}  # two hundred come at one moment, on a busy machine
    hedge = {"mode": "active", "delay": 1, "max_extra_requests": 1.0, "max_extra_cost": 10.0}
    return {
        "store": store,
        "auth": {"pepper": f"${{file:{pepper}}}", "sync_ms": 50},
        "limits": {"redis_timeout_ms": 5000},
        "providers": {"lab": lab.row(), "other": lab.row()},
        "models": {
            "fast": {"candidates": [first], "timeouts": patient},
            "hedged": {"candidates": [first, second], "hedge": hedge, "timeouts": patient},
        },
    }


async def everything(edge: Edge, name: str, processes: int) -> None:
    """Budgets and limits of one topology, one after the other: relays take long to start.

    Args:
        processes: all of which are to be asked.
    """
    name = f"{name} ({processes} processes)"
    for round_ in range(ROUNDS):
        keys = (edge.key(WORTH), edge.key(WORTH), edge.key(WORTH + 1))
        limited = edge.rows.key(edge.team_id, limits={"rpm": WORTH})[1]
        await edge.known(*(key.secret for key in keys), limited)
        began_s = time.monotonic()
        told = [
            await cost_is_the_bound(edge, keys[0]),
            await cost_is_below_the_bound(edge, keys[1]),
            await hedged(edge, keys[2]),
            await limit(edge, limited),
        ]
        states = edge.books.check()
        (asked,) = edge.books.rows("SELECT count(DISTINCT instance_id) AS n FROM generations")
        assert asked["n"] == processes, "somebody had nothing to do"
        took_s = time.monotonic() - began_s
        print(f"{name} {round_ + 1}/{ROUNDS}, {took_s:.1f} s: {'; '.join(told)}; {dict(states)}")


async def cost_is_the_bound(edge: Edge, key: Key) -> str:
    edge.lab.gate.clear()
    burst = edge.callers.ask(key.secret, MANY, "fast", PROMPT_BOUND, MAX_TOKENS)
    assert await burst.held(edge.lab) == WORTH
    # That the bound is what the test takes it for:
    sql = "SELECT reserved_micro FROM generations WHERE state = 'open'"
    assert edge.books.rows(sql) == [{"reserved_micro": BOUND_MICRO}] * WORTH
    assert edge.books.left_micro(key.budget_id) == 0
    edge.lab.gate.set()
    assert await burst.reasons() == ["BUDGET_EXCEEDED"] * (MANY - WORTH)
    await edge.quiet()
    assert edge.books.left_micro(key.budget_id) == 0
    return f"cost = bound: {WORTH} of {MANY} granted, overspend 0"


async def cost_is_below_the_bound(edge: Edge, key: Key) -> str:
    """Until nothing more can be paid: in each burst exactly as many as there is room for."""
    tokens, output, granted = 400, 10, 0
    bursts = 0
    while (room := edge.books.left_micro(key.budget_id) // BOUND_MICRO) > 0:
        edge.lab.gate.clear()
        many = room + 20 if bursts else MANY
        burst = edge.callers.ask(key.secret, many, "fast", tokens, output)
        assert await burst.held(edge.lab) == room, "a false denial, or one too many"
        edge.lab.gate.set()
        assert await burst.reasons() == ["BUDGET_EXCEEDED"] * (many - room)
        await edge.quiet()
        granted += room
        bursts += 1
        cost_micro = granted * (tokens + 10 * output)
        assert edge.books.left_micro(key.budget_id) == WORTH * BOUND_MICRO - cost_micro >= 0
    return f"cost < bound: {granted} granted in {bursts} bursts, false denials 0, overspend 0"


async def hedged(edge: Edge, key: Key) -> str:
    """Two attempts are put aside for while there is room, then one; each may cost all of it."""
    granted = bursts = 0
    attempts = edge.lab.attempts
    while (left := edge.books.left_micro(key.budget_id)) >= BOUND_MICRO:
        twice, rest = divmod(left, 2 * BOUND_MICRO)
        room = twice + rest // BOUND_MICRO
        edge.lab.gate.clear()
        many = room + 20 if bursts else MANY
        burst = edge.callers.ask(key.secret, many, "hedged", PROMPT_BOUND, MAX_TOKENS)
        assert await burst.held(edge.lab) == room
        if not bursts:  # let hedges come as well
            await eventually(partial(edge.lab.had_more_than, attempts + room), 10)
        edge.lab.gate.set()
        assert await burst.reasons() == ["BUDGET_EXCEEDED"] * (many - room)
        await edge.quiet()
        granted += room
        bursts += 1
        assert edge.books.left_micro(key.budget_id) >= 0
    asked = edge.lab.attempts - attempts
    return f"hedged: {granted} granted in {bursts} bursts, {asked} attempts, overspend 0"


async def limit(edge: Edge, key: str) -> str:
    began_s = time.monotonic()
    burst = edge.callers.ask(key, MANY, "fast", 10, 10)
    refused = await burst.reasons()
    refilled = (time.monotonic() - began_s) * WORTH / 60
    assert set(refused) == {"LIMIT_EXCEEDED"}
    granted = MANY - len(refused)
    assert WORTH <= granted <= WORTH + refilled, (granted, refilled)
    await edge.quiet()
    return f"rpm: {granted} of {MANY} granted, at most {refilled:.1f} of them refilled"


async def test_on_one_worker(tmp_path: Path) -> None:
    async with one_worker(tmp_path) as edge:
        await everything(edge, "one worker, SQLite", 1)


async def test_on_four_workers(tmp_path: Path) -> None:
    async with four_workers(tmp_path) as edge:
        await everything(edge, "four workers, SQLite", 4)


async def test_on_two_machines(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    async with two_machines(tmp_path, postgres=postgres_url, redis=redis_url) as edge:
        await everything(edge, "two relays, PostgreSQL and Redis", 2)
