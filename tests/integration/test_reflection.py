"""gRPC reflection: off unless a flag asks for it, on in what is there to be tried."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from relay.commands import demo
from relay.config import Config, parse
from relay.emulated import emulated_config
from relay.server import Worker

pytestmark = pytest.mark.sockets

FREE: dict[str, Any] = {name: {"address": "127.0.0.1:0"} for name in ("grpc", "http", "admin")}


async def services(config: Config) -> set[str]:
    """What a gRPC tool sees of a relay."""

    async def ask() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    worker = Worker(config)
    try:
        await worker.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{worker.grpc_port}") as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            async for answer in stub.ServerReflectionInfo(ask()):
                return {service.name for service in answer.list_services_response.service}
    finally:
        await worker.aclose()
    return set()


async def test_off_unless_asked_for() -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await services(parse({"server": FREE}))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("kind", ["flag", "no keys", "demo"])
async def test_on_by_flag_and_in_demonstrations(
    kind: str, ca_file: str, unused_tcp_port: int
) -> None:
    if kind == "flag":
        config = parse({"server": {**FREE, "grpc": {**FREE["grpc"], "reflection": True}}})
    elif kind == "no keys":
        config = emulated_config(unused_tcp_port, ca_file, **FREE)
    else:
        config = demo._config(unused_tcp_port, ca_file)
    assert "rtrelay.v1.RelayService" in await services(config)
