"""Files that change while the listeners serve: new handshakes go by them, streams never notice."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rtrelay.v1 import Outcome
from structlog.testing import capture_logs

from tests.fakes.converse_client import Conversation
from tests.fakes.h2_server import H2Server, ServerStream
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import (
    answer_chunks,
    chat_body,
    eventually,
    provider,
    sse_payloads,
)
from tests.fakes.tls_files import Identity, TlsFiles, revocation_list
from tests.fakes.tls_relay import TlsRelay, tls_relay

pytestmark = pytest.mark.sockets

LISTENERS = ("grpc", "http", "admin")
CLOSED = (ssl.SSLError, ConnectionError)
CHECK_MS = 50
HALF = 10
"""Streams of each kind that run through a swap."""


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path)


class Gate:
    """A provider whose answers wait in the middle until `opened`."""

    def __init__(self, upstream: H2Server, ca_file: str) -> None:
        self.opened = asyncio.Event()
        self.waiting = 0
        upstream.routes["/v1/chat/completions"] = self._speak
        self.document: dict[str, Any] = {
            "providers": {"lab": provider(upstream.url, ca_file=ca_file)},
            "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
        }

    async def _speak(self, stream: ServerStream) -> None:
        head, one, *rest = answer_chunks("One", " two", " three")
        await stream.send_headers()
        await stream.send(head + one)
        self.waiting += 1
        await self.opened.wait()
        await stream.send(b"".join(rest), end=True)


@pytest.fixture
def gate(upstream: H2Server, ca_file: str) -> Gate:
    return Gate(upstream, ca_file)


async def over_http(relay: TlsRelay, client: Identity | None) -> str:
    """One streamed answer on a connection of its own."""
    async with (
        relay.http(client) as http,
        http.stream("POST", "/v1/chat/completions", json=chat_body()) as answer,
    ):
        body = (await answer.aread()).decode()
    assert body.rstrip().endswith("data: [DONE]")
    deltas = (chunk["choices"][0]["delta"] for chunk in sse_payloads(body))
    return "".join(delta.get("content") or "" for delta in deltas)


async def over_grpc(relay: TlsRelay, client: Identity | None) -> str:
    """One generation of a session on a connection of its own."""
    async with relay.channel(client) as channel, Conversation(channel, model="fast") as talk:
        await talk.start("g1")
        answer = await talk.ended("g1")
    assert answer.end is not None
    assert answer.end.outcome == Outcome.OUTCOME_COMPLETED
    return answer.text


async def serials(relay: TlsRelay, client: Identity | None = None) -> set[int]:
    """What new handshakes see, on every listener."""
    found = [await relay.handshake(name, client, alpn=("h2",)) for name in LISTENERS]
    return {serial for _, _, serial in found}


async def shows(relay: TlsRelay, serial: int, client: Identity | None = None) -> None:
    """Wait until every listener shows this certificate."""
    async with asyncio.timeout(5):
        while await serials(relay, client) != {serial}:
            await asyncio.sleep(0.01)


async def test_swap_under_running_streams_drops_none(files: TlsFiles, gate: Gate) -> None:
    client = files.client()
    settings = files.settings(clients="required", check_files_ms=CHECK_MS)
    async with tls_relay(files, settings, gate.document) as relay:
        before = await serials(relay, client)
        streams = [
            asyncio.create_task(way(relay, client))
            for way in (over_http, over_grpc)
            for _ in range(HALF)
        ]
        await eventually(lambda: gate.waiting == 2 * HALF)
        for _ in range(3):
            after = files.renew()
            await shows(relay, after, client)
        assert before != {after}
        assert gate.waiting == 2 * HALF
        gate.opened.set()
        assert await asyncio.gather(*streams) == ["One two three"] * 2 * HALF


async def test_files_of_no_use_change_nothing_until_they_are_mended(files: TlsFiles) -> None:
    serial = files.renew()
    good = (files.folder / "server.key").read_bytes()
    other_key = files.client().key
    async with tls_relay(files, files.settings(check_files_ms=CHECK_MS)) as relay:
        with capture_logs() as lines:
            for data in (other_key, b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"):
                expected = len(lines) + len(LISTENERS)
                files.put("server.key", data)
                await eventually(partial(_has, lines, expected))
                await asyncio.sleep(2.5 * CHECK_MS / 1000)
                assert await serials(relay) == {serial}
            refused = [line for line in lines if line["event"] == "tls_files_refused"]
            assert len(refused) == len(lines) == 3 * len(LISTENERS), "once a change and listener"
            assert {line["listener"] for line in refused} == set(LISTENERS)
            assert all("server.key" in line["fault"] for line in refused)
            assert not [line for line in refused if "PRIVATE" in repr(line)]
            (files.folder / "server.key").unlink()
            await eventually(lambda: "cannot read" in repr(lines))
            assert await serials(relay) == {serial}
            files.put("server.key", good)
            after = files.renew()
            await shows(relay, after)


def _has(lines: Sequence[object], count: int) -> bool:
    return len(lines) >= count


async def test_client_authority_and_lists_change_too(files: TlsFiles) -> None:
    old, other = files.client("old"), trustme.CA()
    new = files.client("new", by=other)
    files.revoke()
    settings = files.settings(clients="required", crl=True, check_files_ms=CHECK_MS)
    async with tls_relay(files, settings) as relay, relay.channel(old) as open_before:
        await _healthy(open_before)
        await relay.handshake("http", old)
        with pytest.raises(CLOSED):
            await relay.handshake("http", new)
        files.revoke(old)
        for name in ("http", "admin"):
            await _refused(relay, name, old)
        # gRPC refuses calls, also those of a connection that was there before.
        async with asyncio.timeout(5):
            while (code := await _code(open_before)) is grpc.StatusCode.OK:
                await asyncio.sleep(0.01)
        assert code is grpc.StatusCode.UNAUTHENTICATED
        files.put("clients.crl", revocation_list(other))
        files.trust_clients_of(other)
        async with asyncio.timeout(5):
            for name in LISTENERS:
                while True:
                    with contextlib.suppress(*CLOSED):
                        await relay.handshake(name, new, alpn=("h2",))
                        break
                    await asyncio.sleep(0.01)
        for name in LISTENERS:
            await _refused(relay, name, old)
        async with relay.channel(new) as channel:
            assert await _code(channel) is grpc.StatusCode.OK


async def _refused(relay: TlsRelay, name: str, client: Identity) -> None:
    """Wait until this client does not get in."""
    async with asyncio.timeout(5):
        while True:
            try:
                await relay.handshake(name, client, alpn=("h2",))
            except CLOSED:
                return
            await asyncio.sleep(0.01)


async def _healthy(channel: grpc.aio.Channel) -> None:
    assert await _code(channel) is grpc.StatusCode.OK


async def _code(channel: grpc.aio.Channel) -> grpc.StatusCode:
    try:
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


# --- SIGHUP, on a relay as people run it --------------------------------------------------------


@pytest.fixture
async def process(files: TlsFiles) -> AsyncIterator[RelayProcess]:
    document = {"tls": files.settings(check_files_ms=0)}
    async with RelayProcess(files.folder, document) as running:
        yield running


async def serial_at(files: TlsFiles, port: int) -> int:
    """Of a new handshake."""
    context = files.context()
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    found = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    writer.transport.abort()
    return int(found, 16)


async def test_hangup_takes_new_files_up_and_files_at_new_places(
    files: TlsFiles, process: RelayProcess
) -> None:
    await eventually(lambda: any("https://127.0.0.1" in line for line in process.output))
    first = await serial_at(files, process.ports["http"])
    second = files.renew()
    await asyncio.sleep(0.1)
    assert await serial_at(files, process.ports["http"]) == first, "nobody looks by himself"
    process.signal(signal.SIGHUP)
    for _ in LISTENERS:
        await process.logged("tls_files_taken_up")
    for name in LISTENERS:
        assert await serial_at(files, process.ports[name]) == second

    for kind in ("pem", "key"):
        (files.folder / f"server.{kind}").rename(files.folder / f"moved.{kind}")
    third = files.renew()
    for kind in ("pem", "key"):
        (files.folder / f"server.{kind}").rename(files.folder / f"third.{kind}")
    moved = files.settings(check_files_ms=0, cert_file="third.pem", key_file="third.key")
    process.write({"tls": moved})
    process.signal(signal.SIGHUP)
    for _ in LISTENERS:
        await process.logged("tls_files_taken_up")
    assert {await serial_at(files, process.ports[name]) for name in LISTENERS} == {third}

    process.write({"tls": {**moved, "min_version": "1.3"}})
    process.signal(signal.SIGHUP)
    waiting = (await process.logged("reload_partly"))["needs_restart"]
    assert {f"server.{name}.tls" for name in LISTENERS} <= set(waiting)
    async with httpx2.AsyncClient(
        base_url=f"https://127.0.0.1:{process.ports['admin']}",
        verify=files.context(only=ssl.TLSVersion.TLSv1_2),
        trust_env=False,
    ) as admin:
        assert (await admin.get("/readyz")).status_code == 200


async def test_log_of_a_relay_stays_json_whoever_knocks(
    files: TlsFiles, process: RelayProcess
) -> None:
    for name in LISTENERS:
        reader, writer = await asyncio.open_connection("127.0.0.1", process.ports[name])
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert not [line for line in process.log if "text" in line]
