"""Where a relay listens, and where it refuses to."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from relay.config import parse
from relay.http_server import StartError
from relay.server import Worker
from tests.fakes.converse_client import generate, start
from tests.fakes.h2_server import H2Server, ServerStream
from tests.fakes.relay_under_test import answer_chunks, provider, relay_under_test

pytestmark = pytest.mark.sockets

FREE = {name: {"address": "127.0.0.1:0"} for name in ("grpc", "http", "admin")}


# --- not to the outside -----------------------------------------------------------------------


async def refusal(server: dict[str, Any]) -> str:
    """What a worker says that does not start."""
    worker = Worker(parse({"server": {**FREE, **server}}))
    try:
        with pytest.raises(StartError) as caught:
            await worker.start()
    finally:
        await worker.aclose()
    return str(caught.value)


@pytest.mark.parametrize("name", list(FREE))
@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "relay.test:0"])
async def test_listener_that_others_can_reach_is_refused_by_its_name(
    name: str, address: str
) -> None:
    said = await refusal({name: {"address": address}})
    assert said.startswith(f"server.{name}.address {address} is reachable from outside")
    assert "loopback" in said


async def test_each_listener_that_others_can_reach_is_named() -> None:
    said = await refusal({name: {"address": "0.0.0.0:0"} for name in FREE})
    assert [line.split()[0] for line in said.splitlines()] == [
        f"server.{name}.address" for name in FREE
    ]


@pytest.mark.parametrize("name", list(FREE))
async def test_port_that_is_taken_is_named_and_nothing_else_is_said(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        said = await refusal({name: {"address": address}})
    assert said == f"cannot listen on {address} (server.{name}): Address already in use"
    assert capfd.readouterr().err == "", "gRPC has a log of its own"


# --- the second door, and the list of services ------------------------------------------------


@pytest.fixture
def document(upstream: H2Server, ca_file: str) -> dict[str, Any]:
    async def speaks(stream: ServerStream) -> None:
        await stream.send_headers()
        await stream.send(b"".join(answer_chunks("One", " two")), end=True)

    upstream.routes["/v1/chat/completions"] = speaks
    return {
        "providers": {"lab": provider(upstream.url, ca_file=ca_file)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }


async def test_unix_socket_is_a_second_door(document: dict[str, Any], tmp_path: Path) -> None:
    door = tmp_path / "relay.sock"
    document["server"] = {"grpc": {"unix_socket": str(door)}}
    async with relay_under_test(document) as relay:
        assert door.is_socket()
        async with grpc.aio.insecure_channel(f"unix:{door}") as channel:
            assert (await generate(channel, start())).text == "One two"
        assert (await relay.generate(start())).text == "One two", "the first one is open too"
    assert not door.exists()


async def test_socket_file_that_a_killed_relay_left_is_replaced(
    document: dict[str, Any], tmp_path: Path
) -> None:
    door = tmp_path / "relay.sock"
    left = await asyncio.start_unix_server(lambda *_: None, door)
    left.close()
    await left.wait_closed()
    assert door.is_socket()
    document["server"] = {"grpc": {"unix_socket": str(door)}}
    async with (
        relay_under_test(document),
        grpc.aio.insecure_channel(f"unix:{door}") as channel,
    ):
        assert (await generate(channel, start())).text == "One two"


async def test_unix_socket_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "relay.sock"
    said = await refusal({"grpc": {**FREE["grpc"], "unix_socket": str(path)}})
    assert said == f"cannot listen on {path} (server.grpc.unix_socket)"


async def listed(channel: grpc.aio.Channel) -> set[str]:
    """The services that reflection lists, as grpcurl asks for them."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async for answer in stub.ServerReflectionInfo(iter([request]), timeout=10):
        return {service.name for service in answer.list_services_response.service}
    raise AssertionError("no answer")


async def test_reflection_lists_the_services_where_it_is_on(document: dict[str, Any]) -> None:
    document["server"] = {"grpc": {"reflection": True}}
    async with relay_under_test(document) as relay:
        assert await listed(relay.channel) == {
            "rtrelay.v1.RelayService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }


async def test_reflection_is_off_by_default(document: dict[str, Any]) -> None:
    async with relay_under_test(document) as relay:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await listed(relay.channel)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        health = health_pb2_grpc.HealthStub(relay.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
