"""Every inbound surface over every provider wire: what the client must see of each kind of answer.

A cell is a request by one surface's own means to a whole relay, before the emulator speaking one
wire. For cuts and the order of chunks it is a scripted server, which holds the rest of its answer
until the client has seen the beginning.

`python -m tests.surfaces.table` runs all of it and writes the table of README.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx2
import orjson
import pytest
import pytest_asyncio

from relay.emulator.prose import reasoning_tokens
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.h1_server import Exchange, H1Server
from tests.fakes.nginx import nginx, nginx_path
from tests.fakes.relay_under_test import RelayUnderTest, relay_under_test
from tests.surfaces.cells import CELLS, Cell
from tests.surfaces.http_surface import HttpSurface
from tests.surfaces.told import ARGUMENTS, Call, Told, Watch, Wish
from tests.surfaces.wires import ORDER_MODEL, RETRY_AFTER_S, WIRES, halves

pytestmark = [pytest.mark.sockets, pytest.mark.asyncio(loop_scope="module")]

TEXT = "Guten Tag, 北京 naïve 🚆, and good night"
REASONING_TOKENS = 5
WORDS = ("One", " two", " three")
WAIT_S = 10.0

BEHAVIOURS: dict[str, dict[str, object]] = {
    "text": {"text": TEXT},
    "tools": {"tools": 1},
    "parallel tools": {"tools": 3},
    "reasoning": {"text": TEXT, "reason": REASONING_TOKENS},
    "error": {"fault": f"rate:{RETRY_AFTER_S}"},
}
"""Of a column, what the emulator does."""


class World:
    """One relay, the emulator, and a scripted server, for all cells."""

    def __init__(self, relay: RelayUnderTest, emulator: EmulatorProcess, scripted: H1Server):
        self.relay = relay
        self.emulator = emulator
        self.scripted = scripted

    async def ask(
        self,
        cell: Cell,
        wish: Wish,
        watch: Watch = lambda _: None,
        http: httpx2.AsyncClient | None = None,
    ) -> Told:
        async with asyncio.timeout(WAIT_S):
            if http is None:
                return await cell.surface.ask(self.relay, wish, watch)
            assert isinstance(cell.surface, HttpSurface)
            return await cell.surface.ask_at(http, wish, watch)

    async def ask_held(
        self,
        cell: Cell,
        then: Callable[[Exchange, bytes], Awaitable[None]],
        http: httpx2.AsyncClient | None = None,
    ) -> Told:
        """Ask a provider that does `then` with the rest once the client has seen its first word;
        at once, where clients see nothing before the end.

        Args:
            http: a client of what stands before the relay; None to ask it directly.
        """
        answer = halves(cell.wire.emulated, *WORDS)
        seen_first = asyncio.Event()
        if not cell.surface.is_stream:
            seen_first.set()

        async def script(exchange: Exchange) -> None:
            await exchange.head(200, *answer.headers, ("transfer-encoding", "chunked"))
            await exchange.chunk(answer.first)
            await seen_first.wait()
            await then(exchange, answer.rest)

        def watch(told: Told) -> None:
            if told.text == WORDS[0]:
                seen_first.set()

        self.scripted.routes[cell.wire.path] = script
        wish = Wish(f"held-{cell.wire.name}/{ORDER_MODEL}")
        return await self.ask(cell, wish, watch, http)

    def script(self, cell: Cell) -> str:
        """A model of the cell's own."""
        behaviour = dict(BEHAVIOURS[cell.column])
        if cell.column == "reasoning" and cell.wire.reasoning:
            behaviour["dialect"] = cell.wire.reasoning
        self.emulator.script(cell.id, {"ttft": 0, "itl": 0, **behaviour})
        return f"{cell.wire.name}/{cell.id}"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(emulator: EmulatorProcess) -> AsyncIterator[World]:
    async with H1Server() as scripted:
        rows: dict[str, Any] = {}
        for wire in WIRES:
            row = {"wire": wire.name, "auth": "none", "warm_connections": 1}
            rows[wire.name] = {
                **row,
                "base_url": emulator.base_url_tls + wire.base_path,
                "ca_file": emulator.ca_file,
            }
            rows[f"held-{wire.name}"] = {**row, "base_url": scripted.url + wire.base_path}
        async with relay_under_test({"providers": rows}) as relay:
            yield World(relay, emulator, scripted)


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def _nothing_left_behind(world: World) -> AsyncIterator[None]:
    """The world outlives each test: no stream of a test may."""
    yield
    await world.relay.settled()
    world.relay.forget()


def cells(*columns: str) -> pytest.MarkDecorator:
    """All cells of some columns; those that cannot be are left to the table."""
    found = [cell for cell in CELLS if cell.column in columns and not cell.reason]
    return pytest.mark.parametrize("cell", found, ids=[cell.id for cell in found])


@cells("text")
async def test_text_is_whole(world: World, cell: Cell) -> None:
    told = await world.ask(cell, Wish(world.script(cell)))
    assert told == Told(text=TEXT, finish="stop", ends=1)


@cells("tools", "parallel tools")
async def test_tool_calls_are_whole_and_in_order(world: World, cell: Cell) -> None:
    offered = ("get_weather", "get_time", "find_hotel")
    count = 1 if cell.column == "tools" else 3
    told = await world.ask(cell, Wish(world.script(cell), tools=offered[:count]))
    (stream,) = world.emulator.streams(model=cell.id)
    ids = [f"{cell.wire.call_prefix}{stream['id']:06d}{k:03d}" for k in range(count)]
    assert [(call.call_id, call.name) for call in told.calls] == list(
        zip(ids, offered, strict=False)
    )
    assert [orjson.loads(call.arguments) for call in told.calls] == [ARGUMENTS] * count
    assert (told.text, told.finish, told.ends) == ("", "tool_calls", 1)


@cells("reasoning")
async def test_reasoning_is_told_apart_from_text(world: World, cell: Cell) -> None:
    told = await world.ask(cell, Wish(world.script(cell), reasoning=True))
    thought = "".join(reasoning_tokens(REASONING_TOKENS))
    assert told == Told(text=TEXT, reasoning=thought, finish="stop", ends=1)


@cells("error")
async def test_an_error_is_told_in_the_surface_s_own_shape(world: World, cell: Cell) -> None:
    told = await world.ask(cell, Wish(world.script(cell)))
    failure = told.failure
    assert failure is not None
    assert (failure.status, failure.kind) == cell.surface.rate_limited
    assert failure.upstream_status == "429"
    assert {cell.wire.rate_code} - {""} <= failure.provider_words
    assert failure.retry_after_s == cell.wire.retry_after_s
    assert told == Told(failure=failure)


@cells("cut stream")
async def test_a_cut_stream_is_no_clean_end(world: World, cell: Cell) -> None:
    told = await world.ask_held(cell, lambda exchange, _: cut(exchange))
    assert told.failure is not None
    assert not told.is_clean
    if cell.surface.is_stream:
        assert told.text == WORDS[0]
    else:
        assert told.failure.status == 503
        assert not told.text


@cells("order")
async def test_the_first_chunk_leaves_before_the_second_comes(world: World, cell: Cell) -> None:
    told = await world.ask_held(cell, finish)
    assert told == Told(text="".join(WORDS), finish="stop", ends=1)


through_nginx = [
    cell
    for cell in CELLS
    if cell.column == "order"
    and cell.wire is WIRES[0]
    and isinstance(cell.surface, HttpSurface)
    and cell.surface.is_stream
]


@pytest.fixture(scope="module")
def nginx_url(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not nginx_path():
        pytest.skip("there is no nginx here")
    directory = tmp_path_factory.mktemp("nginx")
    with nginx(directory, world.relay.worker.http_port) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("cell", through_nginx, ids=[cell.surface.name for cell in through_nginx])
async def test_nginx_lets_the_first_chunk_through(world: World, nginx_url: str, cell: Cell) -> None:
    """Buffering and compressing, it collects answers that do not say not to."""
    async with httpx2.AsyncClient(base_url=nginx_url, trust_env=False, timeout=20) as http:
        told = await world.ask_held(cell, finish, http)
    assert told == Told(text="".join(WORDS), finish="stop", ends=1)


async def cut(exchange: Exchange) -> None:
    exchange.connection.abort()


async def finish(exchange: Exchange, rest: bytes) -> None:
    await exchange.chunk(rest)
    await exchange.write(b"0\r\n\r\n")


async def test_every_call_is_a_call_of_its_own() -> None:
    """`Told` tells orders apart: a matrix that could not would find nothing."""
    one, other = Call("1", "a", "{}"), Call("2", "a", "{}")
    assert Told(calls=[one, other]) != Told(calls=[other, one])
