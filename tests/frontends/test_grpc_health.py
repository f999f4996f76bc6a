"""Health watches, which nobody needs a key for, are bounded; each of them hears of every change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from relay.frontends.grpc_health import MOST, MOST_OF_ADDRESS, MOST_OF_CONNECTION, BoundedHealth

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Refused(Exception):
    pass


class Watching:
    """One RPC that is open until it is ended."""

    def __init__(self, servicer: BoundedHealth, peer: str, service: str = "") -> None:
        self._peer = peer
        self.told: list[int] = []
        request = health_pb2.HealthCheckRequest(service=service)
        self.task = asyncio.ensure_future(servicer.Watch(request, self))

    def peer(self) -> str:
        return self._peer

    async def write(self, answer: Any) -> None:
        self.told.append(answer.status)

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        raise Refused(details)

    async def end(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError, Refused):
            await self.task


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("peer", "most", "words"),
    [
        (lambda _: "ipv4:10.0.0.1:5", MOST_OF_CONNECTION, "the connection"),
        (lambda n: f"ipv6:%5B::1%5D:{n // 10}", MOST_OF_ADDRESS, "the address ::1"),
        (lambda n: f"ipv4:10.0.{n // 200}.{n % 200}:7", MOST, "this worker"),
        (lambda _: "unix:", MOST, "this worker"),
    ],
    ids=["connection", "address", "worker", "socket"],
)
async def test_as_many_as_there_may_be(peer: Callable[[int], str], most: int, words: str) -> None:
    servicer = BoundedHealth()
    watches = [Watching(servicer, peer(number)) for number in range(most)]
    await settled()
    assert servicer.open_watches == most
    with pytest.raises(Refused, match=words):
        await Watching(servicer, peer(most - 1)).task
    assert servicer.open_watches == most
    await watches.pop().end()
    watches.append(Watching(servicer, peer(most - 1)))
    await settled()
    assert watches[-1].told == [UNKNOWN]
    await asyncio.gather(*(one.end() for one in watches))
    assert servicer.open_watches == 0
    assert not servicer._open, "nothing is kept of those that have ended"


async def test_one_that_ends_takes_no_news_from_the_others() -> None:
    servicer = BoundedHealth()
    await servicer.set("", SERVING)
    stays, goes = (Watching(servicer, f"ipv4:10.0.0.1:{n}") for n in (1, 2))
    other = Watching(servicer, "ipv4:10.0.0.1:3", "other")
    await settled()
    await goes.end()
    await servicer.set("", SERVING)
    await servicer.set("", NOT_SERVING)
    await settled()
    assert stays.told == [SERVING, NOT_SERVING]
    assert other.told == [UNKNOWN]
    for one in (stays, other):
        await one.end()


@pytest.mark.sockets
async def test_a_client_is_told(serve: Callable[[BoundedHealth], Awaitable[str]]) -> None:
    servicer = BoundedHealth()
    async with grpc.aio.insecure_channel(await serve(servicer)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        calls = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(MOST_OF_CONNECTION)]
        for call in calls:
            assert (await call.read()).status == UNKNOWN
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Watch(health_pb2.HealthCheckRequest()).read()
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await servicer.set("", SERVING)
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == SERVING
        assert (await calls[0].read()).status == SERVING
        for call in calls:
            call.cancel()


@pytest.fixture
async def serve() -> Any:
    servers: list[grpc.aio.Server] = []

    async def start(servicer: BoundedHealth) -> str:
        server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(0)
