"""A client certificate in a key's place, on gRPC and HTTP: the same names, the same key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rtrelay.v1 import GenerateRequest, RelayServiceStub

from relay.store import schema
from relay.store.engine import engine_for
from tests.fakes.audited import audited
from tests.fakes.converse_client import reason_of, start, status_of
from tests.fakes.h2_server import H2Server, stream_chunks
from tests.fakes.keyed_relay import keyed as keyed_document
from tests.fakes.keys import NOW_US, KeyDesk
from tests.fakes.relay_under_test import answer_chunks, chat_body, provider
from tests.fakes.tls_files import Identity, TlsFiles
from tests.fakes.tls_relay import TlsRelay, tls_relay

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path)


@pytest.fixture
async def relay(files: TlsFiles, upstream: H2Server, ca_file: str) -> AsyncIterator[TlsRelay]:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hello"))
    document = keyed_document(
        files.folder,
        {
            "providers": {"lab": provider(upstream.url, ca_file=ca_file)},
            "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
        },
    )
    async with tls_relay(files, files.settings(clients="required"), document) as running:
        yield running


@pytest.fixture
def desk(relay: TlsRelay, tmp_path: Path) -> Any:
    engine = engine_for(f"sqlite:///{tmp_path / 'relay.db'}")
    desk = KeyDesk(engine)
    desk.found()
    desk.key()
    yield desk
    engine.dispose()


async def heard(relay: TlsRelay) -> None:
    access = relay.worker.accounts.access
    assert access is not None
    assert await access.sync.look()


async def over_http(relay: TlsRelay, client: Identity, **headers: str) -> int:
    async with relay.http(client) as http:
        body = chat_body(stream=False)
        return (await http.post(CHAT, json=body, headers=headers)).status_code


async def over_grpc(relay: TlsRelay, client: Identity, *metadata: tuple[str, str]) -> str:
    async with relay.channel(client) as channel:
        call = RelayServiceStub(channel).Generate(GenerateRequest(start=start()), metadata=metadata)
        try:
            return "".join([frame.WhichOneof("frame") or "" async for frame in call])[-3:]
        except grpc.aio.AioRpcError as error:
            return reason_of(status_of(error))


async def test_a_name_stands_for_a_key(relay: TlsRelay, files: TlsFiles, desk: KeyDesk) -> None:
    desk.certificate("DNS:Agent.Test")
    desk.certificate("URI:spiffe://test/agent")
    await heard(relay)
    spiffe = files.client("spiffe", names=[x509.UniformResourceIdentifier("spiffe://test/agent")])
    for client in (files.client("agent"), spiffe):
        assert await over_http(relay, client) == 200
        assert await over_http(relay, client, authorization="Bearer any") == 200
        assert await over_grpc(relay, client) == "end"
    stranger = files.client("stranger")
    assert await over_http(relay, stranger) == 401
    assert await over_grpc(relay, stranger) == "UNAUTHENTICATED"


async def test_a_key_goes_before_a_name(relay: TlsRelay, files: TlsFiles, desk: KeyDesk) -> None:
    desk.certificate("DNS:agent.test")
    second = desk.key("key_2")
    await heard(relay)
    client = files.client("agent")
    desk.change(schema.keys, "key_2", revoked_at_us=NOW_US)
    await heard(relay)
    assert await over_http(relay, client, authorization=f"Bearer {second.text}") == 401
    bearer = ("authorization", f"Bearer {second.text}")
    assert await over_grpc(relay, client, bearer) == "UNAUTHENTICATED"
    assert await over_http(relay, client) == 200


async def test_a_name_that_was_taken_away(relay: TlsRelay, files: TlsFiles, desk: KeyDesk) -> None:
    desk.certificate("DNS:agent.test")
    await heard(relay)
    client = files.client("agent")
    async with relay.http(client) as http:
        body = chat_body(stream=False)
        assert (await http.post(CHAT, json=body)).status_code == 200
        desk.change(schema.certificates, "DNS:agent.test", revoked_at_us=NOW_US)
        await heard(relay)
        told = await http.post(CHAT, json=body)
        assert told.status_code == 401, "also on a connection that is open"
    assert await over_grpc(relay, client) == "UNAUTHENTICATED"
    first, *_ = await audited(files.folder / "relay.db", "certificate.denied")
    assert (first["actor"], first["outcome"]) == ("address:127.0.0.1", "denied")


async def test_a_certificate_that_was_revoked(
    files: TlsFiles, upstream: H2Server, ca_file: str
) -> None:
    """Of a connection that is open already, where a call is the first to notice."""
    files.revoke()
    document = keyed_document(
        files.folder, {"providers": {"lab": provider(upstream.url, ca_file=ca_file)}}
    )
    settings = files.settings(clients="required", crl=True, check_files_ms=50)
    client = files.client("agent")
    async with tls_relay(files, settings, document) as running, running.channel(client) as channel:
        await asyncio.wait_for(channel.channel_ready(), 5)
        files.revoke(client)
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError, match="UNAUTHENTICATED"):
            await _check_for_ever(stub)
        (told,) = await audited(files.folder / "relay.db", "certificate.denied")
    assert (told["actor"], told["outcome"]) == ("address:127.0.0.1", "denied")
    assert "revoked" in told["detail"]


async def _check_for_ever(stub: Any) -> None:
    async with asyncio.timeout(5):
        while True:
            await stub.Check(health_pb2.HealthCheckRequest())
