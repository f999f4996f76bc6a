"""TLS and mTLS on every listener: who gets in, and by which names."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx2
import openai
import pytest
import rtrelay
import trustme
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from relay.frontends.admin_app import AdminApp
from relay.frontends.asgi import send_answer
from relay.frontends.caller import Caller
from relay.frontends.grpc_service import RelayService
from relay.tls import loaded
from relay.tls.names import names_of
from tests.fakes.converse_client import generate, start
from tests.fakes.h2_server import H2Server, ServerStream
from tests.fakes.relay_under_test import answer_chunks, provider
from tests.fakes.tls_files import TlsFiles, at
from tests.fakes.tls_relay import TlsRelay, tls_relay

pytestmark = pytest.mark.sockets

LISTENERS = ("grpc", "http", "admin")
CLOSED = (ssl.SSLError, ConnectionError)
"""What clients make of a connection that was refused."""


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path)


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


# --- TLS --------------------------------------------------------------------------------------


async def test_clients_as_people_have_them_speak_tls(
    files: TlsFiles, document: dict[str, Any]
) -> None:
    async with tls_relay(files, files.settings(), document) as relay:
        async with relay.channel() as channel:
            assert (await generate(channel, start())).text == "One two"
            health = health_pb2_grpc.HealthStub(channel)
            answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        async with openai.AsyncOpenAI(
            base_url=f"https://localhost:{relay.port('http')}/v1",
            api_key="any",
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(verify=files.context(), trust_env=False),
        ) as client:
            stream = await client.chat.completions.create(
                model="fast", messages=[{"role": "user", "content": "Hello"}], stream=True
            )
            deltas = [chunk.choices[0].delta.content or "" async for chunk in stream]
            assert "".join(deltas) == "One two"
        async with rtrelay.Client(
            f"localhost:{relay.port('grpc')}", credentials=files.credentials(), model="fast"
        ) as ours:
            assert await ours.generate("Hello").text() == "One two"
        async with relay.http(name="admin") as admin:
            assert (await admin.get("/readyz")).json() == {"status": "ready"}


async def test_each_listener_shows_the_certificate_and_its_protocol(files: TlsFiles) -> None:
    serial = files.renew()
    async with tls_relay(files, files.settings()) as relay:
        for name, alpn in (("grpc", "h2"), ("http", "http/1.1"), ("admin", "http/1.1")):
            found = await relay.handshake(name, alpn=("h2", "http/1.1"))
            assert found == ("TLSv1.3", alpn, serial)
            assert (await relay.handshake(name, only=ssl.TLSVersion.TLSv1_2, alpn=("h2",)))[
                0
            ] == "TLSv1.2"


async def test_client_that_trusts_others_refuses_the_relay(files: TlsFiles) -> None:
    other = trustme.CA()
    async with tls_relay(files, files.settings()) as relay:
        for name in LISTENERS:
            with pytest.raises(ssl.SSLCertVerificationError):
                await relay.handshake(name, trust=other)
        async with relay.channel(trust=other) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _healthy(channel)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_tls_1_1_is_refused(files: TlsFiles) -> None:
    async with tls_relay(files, files.settings()) as relay:
        for name in LISTENERS:
            with pytest.raises(CLOSED):
                await relay.handshake(name, only=ssl.TLSVersion.TLSv1_1)


async def test_tls_1_2_is_refused_where_1_3_is_asked_for(files: TlsFiles, tmp_path: Path) -> None:
    door = tmp_path / "relay.sock"
    settings = files.settings(min_version=1.3)
    async with tls_relay(files, settings, grpc={"unix_socket": str(door)}) as relay:
        for name in ("http", "admin"):
            with pytest.raises(CLOSED):
                await relay.handshake(name, only=ssl.TLSVersion.TLSv1_2)
        async with relay.channel() as channel:
            await _healthy(channel)
        async with grpc.aio.insecure_channel(f"unix:{door}") as channel:
            await _healthy(channel)  # which has no TLS at all
        # gRPC's library gets through its handshake, and no further.
        async with httpx2.AsyncClient(
            base_url=f"https://127.0.0.1:{relay.port('grpc')}",
            verify=files.context(only=ssl.TLSVersion.TLSv1_2),
            http1=False,
            http2=True,
            trust_env=False,
        ) as old:
            answer = await old.post(
                "/grpc.health.v1.Health/Check",
                content=bytes(5),
                headers={"content-type": "application/grpc", "te": "trailers"},
            )
            assert answer.headers["grpc-status"] == "16"
            assert "TLS 1.3" in answer.headers["grpc-message"]


async def _healthy(channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)


@pytest.mark.parametrize("name", LISTENERS)
async def test_slow_handshake_is_cut_off(files: TlsFiles, name: str) -> None:
    async with tls_relay(files, files.settings(handshake_timeout_ms=150)) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port(name))
        began_s = time.monotonic()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert 0.1 < time.monotonic() - began_s < 3
        writer.close()


@pytest.mark.parametrize("name", LISTENERS)
async def test_plain_client_is_closed(files: TlsFiles, name: str) -> None:
    async with tls_relay(files, files.settings()) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port(name))
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        said = await asyncio.wait_for(reader.read(), 5)
        assert b"HTTP/" not in said
        writer.close()


async def test_listener_of_its_own_mind(files: TlsFiles) -> None:
    plain: dict[str, Any] = {"tls": False}
    async with tls_relay(
        files, files.settings(), admin=plain, http={"tls": files.settings(clients="required")}
    ) as relay:
        url = f"http://127.0.0.1:{relay.port('admin')}"
        async with httpx2.AsyncClient(base_url=url, trust_env=False) as admin:
            assert (await admin.get("/healthz")).status_code == 200
        await relay.handshake("grpc", alpn=("h2",))
        with pytest.raises(CLOSED):
            await relay.handshake("http")
        await relay.handshake("http", files.client())


# --- mTLS -------------------------------------------------------------------------------------


async def _gets_in(relay: TlsRelay, name: str, client: Any) -> bool:
    """Whether a request of this client is answered."""
    if name != "grpc":
        try:
            async with relay.http(client, name=name) as http:
                return (await http.get("/healthz")).status_code == 200
        except (httpx2.ConnectError, httpx2.ReadError, httpx2.RemoteProtocolError):
            return False
    async with relay.channel(client) as channel:
        try:
            await _healthy(channel)
        except grpc.aio.AioRpcError as error:
            return error.code() not in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.UNAUTHENTICATED,
            )
        return True


async def test_only_good_certificates_get_in(files: TlsFiles) -> None:
    good, revoked = files.client("good"), files.client("revoked")
    files.revoke(revoked)
    clients = {
        "good": good,
        "none": None,
        "revoked": revoked,
        "expired": files.client("expired", ends=at(days=1)),
        "of another authority": files.client("other", by=trustme.CA()),
        "of the relay's own authority": files.client("own", by=files.authority),
    }
    async with tls_relay(files, files.settings(clients="required", crl=True)) as relay:
        for name in LISTENERS:
            got_in = {who: await _gets_in(relay, name, one) for who, one in clients.items()}
            assert got_in == {who: who == "good" for who in clients}, name


async def test_optional_certificates_are_looked_at_where_they_are_shown(files: TlsFiles) -> None:
    async with tls_relay(
        files, files.settings(clients="optional"), grpc={"tls": files.settings()}
    ) as relay:
        for name in ("http", "admin"):
            assert await _gets_in(relay, name, None)
            assert await _gets_in(relay, name, files.client("good"))
            assert not await _gets_in(relay, name, files.client("bad", by=trustme.CA()))


async def test_list_that_ran_out_lets_nobody_in(files: TlsFiles) -> None:
    files.revoke(runs_out=at(minutes=5))
    client = files.client()
    async with tls_relay(files, files.settings(clients="required", crl=True)) as relay:
        for name in LISTENERS:
            assert not await _gets_in(relay, name, client)


async def test_session_does_not_outlive_the_certificate(
    files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed session shows its certificate and no library looks at it. TLS 1.2, which alone is
    resumed on these listeners."""
    client = files.client()
    context = files.context(client, only=ssl.TLSVersion.TLSv1_2)
    async with tls_relay(files, files.settings(clients="required")) as relay:

        def connects(session: ssl.SSLSession | None) -> ssl.SSLSocket:
            raw = socket.create_connection(("127.0.0.1", relay.port("http")), timeout=5)
            found = context.wrap_socket(raw, server_hostname="localhost", session=session)
            found.sendall(b"GET /healthz HTTP/1.1\r\nhost: r\r\n\r\n")
            return found

        with contextlib.ExitStack() as open_ones:  # OpenSSL forgets sessions of broken ones
            first = open_ones.enter_context(await asyncio.to_thread(connects, None))
            assert await asyncio.to_thread(first.recv, 1000)
            session = first.session
            assert session is not None
            second = open_ones.enter_context(await asyncio.to_thread(connects, session))
            assert second.session_reused
            assert await asyncio.to_thread(second.recv, 1000)
            monkeypatch.setattr(loaded, "now", lambda: at(days=-3))
            third = open_ones.enter_context(await asyncio.to_thread(connects, session))
            assert third.session_reused
            with contextlib.suppress(ConnectionError):
                assert await asyncio.to_thread(third.recv, 1000) == b""


async def test_authority_that_is_no_root_is_taken_at_its_word(files: TlsFiles) -> None:
    root = trustme.CA()
    between, other = root.create_child_ca(), root.create_child_ca()
    files.trust_clients_of(between)
    good, bad = files.client("good", by=between), files.client("bad", by=other)
    async with tls_relay(files, files.settings(clients="required")) as relay:
        for name in LISTENERS:
            assert await _gets_in(relay, name, good), name
            assert not await _gets_in(relay, name, bad), name


# --- names ------------------------------------------------------------------------------------


@pytest.fixture
def names_seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[tuple[str, ...]]]:
    """What requests and calls were told of their clients."""
    seen: list[tuple[str, ...]] = []
    answer = AdminApp.__call__
    call = RelayService.generate

    async def asgi(self: AdminApp, scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["extensions"]["rtrelay.tls"]["names"])
        await answer(self, scope, receive, send)

    async def rpc(self: RelayService, request: bytes, context: Any, caller: Caller) -> None:
        seen.append(names_of(context.auth_context()))
        await call(self, request, context, caller)

    monkeypatch.setattr(AdminApp, "__call__", asgi)
    monkeypatch.setattr(RelayService, "generate", rpc)
    return lambda: seen


async def test_client_is_known_by_the_same_names_everywhere(
    files: TlsFiles, document: dict[str, Any], names_seen: Callable[[], list[tuple[str, ...]]]
) -> None:
    client = files.client(
        "agent",
        names=[
            x509.UniformResourceIdentifier("spiffe://test/agent"),
            x509.DNSName("agent.test"),
            x509.RFC822Name("agent@relay.test"),
        ],
    )
    async with tls_relay(files, files.settings(clients="required"), document) as relay:
        async with relay.http(client, name="admin") as admin:
            await admin.get("/healthz")
            await admin.get("/healthz")
        async with relay.channel(client) as channel:
            assert (await generate(channel, start())).text == "One two"
    names = ("DNS:agent.test", "URI:spiffe://test/agent", "EMAIL:agent@relay.test", "CN:agent")
    assert names_seen() == [names] * 3


async def test_without_a_certificate_there_are_no_names(
    files: TlsFiles, document: dict[str, Any], names_seen: Callable[[], list[tuple[str, ...]]]
) -> None:
    async with tls_relay(files, files.settings(), document) as relay:
        async with relay.http(name="admin") as admin:
            await admin.get("/healthz")
        async with relay.channel() as channel:
            await generate(channel, start())
    assert names_seen() == [(), ()]


async def test_shim_is_told_the_names_too(files: TlsFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    async def asgi(self: Any, scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["scheme"], scope["extensions"]["rtrelay.tls"]["names"]))
        await send_answer(send, 200, b"{}")

    monkeypatch.setattr("relay.frontends.http_app.HttpApp.__call__", asgi)
    async with (
        tls_relay(files, files.settings(clients="required")) as relay,
        relay.http(files.client("agent")) as http,
    ):
        await http.get("/v1/models")
    assert seen == [("https", ("DNS:agent.test", "CN:agent"))]
