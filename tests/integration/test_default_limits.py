"""What the relay takes of a client when nothing is configured, on the wire: the rows of
docs/limits-by-default.md that no other test shows. Times are scaled, their defaults are asserted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import orjson
import pytest
from h2.settings import SettingCodes

from relay import server as worker_module
from relay.config import TIMEOUT_CLASSES_MS, parse
from relay.frontends.http_protocol import BODY_TIMEOUT_S, HEAD_TIMEOUT_S
from relay.resilience.overload import Bounds
from relay.server import HANDSHAKE_TIMEOUT_MS, MAX_SENT_BYTES, WINDOW_BYTES, grpc_options, max_rpcs
from tests.fakes.converse_client import Conversation, generate, reason_of, start, status_of
from tests.fakes.h2_server import H2Server
from tests.fakes.relay_under_test import (
    Document,
    RelayUnderTest,
    answer_chunks,
    chat_body,
    eventually,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
MIB = 1 << 20
ENHANCE_YOUR_CALM = 0xB


@asynccontextmanager
async def relay_with(
    upstream: H2Server | None = None, ca_file: str = "", **server: Any
) -> AsyncIterator[RelayUnderTest]:
    row: Document = {"wire": "openai_chat", "base_url": "http://127.0.0.1:9/v1", "auth": "none"}
    if upstream is not None:
        row = provider(upstream.url, ca_file=ca_file)
    document = {
        "server": server,
        "providers": {"lab": {**row, "warm_connections": 0 if upstream is None else 1}},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    async with relay_under_test(document) as relay:
        yield relay


class H2Client:
    """A bare HTTP/2 client of the gRPC port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.events: list[h2.events.Event] = []

    async def __aenter__(self) -> H2Client:
        self._reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.h2.initiate_connection()
        self.flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    async def read(self) -> bool:
        """Take what has come; False at the end of the connection."""
        data = await asyncio.wait_for(self._reader.read(65_536), 10)
        self.events += self.h2.receive_data(data)
        self.flush()
        return bool(data)

    async def event(self, kind: type[Any]) -> Any:
        """Wait for the first of a kind."""
        while True:
            for event in self.events:
                if isinstance(event, kind):
                    return event
            assert await self.read(), f"closed before {kind.__name__}"


# --- what gRPC is told and tells ------------------------------------------------------------------


async def test_streams_windows_and_metadata_that_are_told_to_clients() -> None:
    async with relay_with() as relay, H2Client(relay.worker.grpc_port) as client:
        told = (await client.event(h2.events.RemoteSettingsChanged)).changed_settings
        assert told[SettingCodes.MAX_CONCURRENT_STREAMS].new_value == 1000
        assert told[SettingCodes.INITIAL_WINDOW_SIZE].new_value == WINDOW_BYTES == MIB
        assert told[SettingCodes.MAX_HEADER_LIST_SIZE].new_value == 8192
        await client.event(h2.events.WindowUpdated)
        assert client.h2.outbound_flow_control_window == MIB


async def test_streams_of_a_connection_can_be_fewer() -> None:
    async with (
        relay_with(grpc={"max_streams": 3}) as relay,
        H2Client(relay.worker.grpc_port) as one,
    ):
        told = (await one.event(h2.events.RemoteSettingsChanged)).changed_settings
        assert told[SettingCodes.MAX_CONCURRENT_STREAMS].new_value == 3


async def test_a_window_does_not_grow_and_larger_messages_come_through() -> None:
    async with relay_with() as relay:
        for _ in range(3):
            one = await generate(relay.channel, start(model="none", text="x" * 3_900_000))
            assert reason_of(status_of(one.error)) == "UNKNOWN_MODEL", "it was read to its end"
        async with H2Client(relay.worker.grpc_port) as client:
            await client.event(h2.events.WindowUpdated)
            for _ in range(20):  # as a bandwidth probe would see it
                client.h2.ping(b"12345678")
                client.flush()
                await client.read()
                break
            assert client.h2.outbound_flow_control_window <= MIB


async def test_metadata_has_one_limit_and_no_luck() -> None:
    async with relay_with() as relay:
        for size, code in ((7_000, grpc.StatusCode.NOT_FOUND), (9_000, None)):
            found = set()
            for _ in range(12):
                sent = {"x-big": "y" * size}
                one = await generate(relay.channel, start(model="none"), metadata=sent)
                assert one.error is not None
                found.add(one.error.code())
            assert found == {code or grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_pings_that_come_too_often_end_the_connection() -> None:
    async with relay_with() as relay, H2Client(relay.worker.grpc_port) as client:
        await client.event(h2.events.RemoteSettingsChanged)
        for number in range(10):
            client.h2.ping(number.to_bytes(8))
        client.flush()
        gone = await client.event(h2.events.ConnectionTerminated)
        assert gone.error_code == ENHANCE_YOUR_CALM
    options = dict(grpc_options(parse({})))
    assert options["grpc.http2.min_ping_interval_without_data_ms"] == 10_000
    assert options["grpc.keepalive_permit_without_calls"] == 1


async def test_a_client_that_does_not_say_http2_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert HANDSHAKE_TIMEOUT_MS == 10_000
    monkeypatch.setattr(worker_module, "HANDSHAKE_TIMEOUT_MS", 200)
    async with relay_with() as relay:
        for first in (b"", b"PRI * HTTP/2.0\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.worker.grpc_port)
            writer.write(first)
            assert b"Did not receive HTTP/2" in await asyncio.wait_for(reader.read(), 5)
            writer.close()


async def test_connections_of_the_grpc_port_have_a_bound() -> None:
    async with relay_with(grpc={"max_connections": 3}) as relay, AsyncExitStack() as held:
        for _ in range(3):
            client = await held.enter_async_context(H2Client(relay.worker.grpc_port))
            await client.event(h2.events.RemoteSettingsChanged)
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.worker.grpc_port)
        assert not await asyncio.wait_for(reader.read(), 5), "closed without a word"
        writer.close()
        await held.aclose()

        async def is_served() -> bool:
            answer = await generate(relay.channel, start(model="none"))
            return answer.error is not None and answer.error.code() is grpc.StatusCode.NOT_FOUND

        async with asyncio.timeout(10):
            while not await is_served():
                await asyncio.sleep(0.02)
    assert dict(grpc_options(parse({})))["grpc.max_allowed_incoming_connections"] == 16_384


async def test_rpcs_of_a_worker_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max_rpcs(Bounds()) == 2 * (2000 + 20_000) + 2048
    assert max_rpcs(Bounds(max_sessions=0)) is None
    monkeypatch.setattr(worker_module, "max_rpcs", lambda bounds: 2)
    async with relay_with() as relay, AsyncExitStack() as held:
        for _ in range(2):
            await held.enter_async_context(relay.talk())
        one = await held.enter_async_context(Conversation(relay.channel, setup=None))
        error = await one.over()
        assert error is not None
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_ports_are_not_shared_and_no_proxy_is_used() -> None:
    options = dict(grpc_options(parse({})))
    assert options["grpc.so_reuseport"] == 0
    assert options["grpc.enable_http_proxy"] == 0
    assert options["grpc.max_metadata_size"] == options["grpc.absolute_max_metadata_size"] == 8192
    assert options["grpc.max_send_message_length"] == MAX_SENT_BYTES == 4 * MIB


async def test_the_largest_event_of_a_provider_is_one_message(
    upstream: H2Server, ca_file: str
) -> None:
    word = "x" * (MIB - 4096)

    async def script(stream: Any) -> None:
        await stream.send_headers()
        for data in answer_chunks(word):
            await stream.send(data)
        await stream.end()

    upstream.routes[CHAT] = script
    async with relay_with(upstream, ca_file) as relay:
        assert (await generate(relay.channel, start())).text == word


# --- over HTTP ------------------------------------------------------------------------------------


async def test_connections_of_an_address_have_a_bound() -> None:
    async with relay_with(http={"max_connections_per_address": 2}) as relay:
        port = relay.worker.http_port
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in held:
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 429 ")
        writer.close()
        held[0][1].close()

        async def status() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n")
            line = await asyncio.wait_for(reader.readline(), 5)
            writer.close()
            return line

        async with asyncio.timeout(10):
            while not (await status()).startswith(b"HTTP/1.1 200"):
                await asyncio.sleep(0.02)
        held[1][1].close()
        server = relay.worker._http_servers[0]
        await eventually(lambda: not server.connections)


async def test_heads_and_bodies_have_their_time() -> None:
    # On the wire, scaled: tests/integration/test_slow_requests.py
    assert (HEAD_TIMEOUT_S, BODY_TIMEOUT_S) == (5.0, 60.0)


async def test_nobody_waits_long_in_a_line_by_default() -> None:
    # The wait itself, on a virtual clock: tests/transport/test_pool.py
    assert {name: row["connect_ms"] for name, row in TIMEOUT_CLASSES_MS.items()} == dict.fromkeys(
        TIMEOUT_CLASSES_MS, 1000
    )


async def test_sizes_choices_and_depth_that_are_taken_by_default() -> None:
    config = parse({}).server
    assert config.grpc.max_request_bytes == 4 * MIB
    assert config.http.max_request_bytes == 8 * MIB
    assert config.grpc.session_idle_ms == 600_000
    assert config.slow_consumer_ms == 30_000
    async with relay_with() as relay:
        over = await relay.http.post(CHAT, content=b" " * (8 * MIB + 1))
        assert over.status_code == 413
        many = await relay.chat(chat_body(n=9))
        assert (many.status_code, many.json()["error"]["param"]) == (400, "n")
        assert (await relay.chat(chat_body("none", n=8))).status_code == 404, "8 are taken"
        for depth, status in ((63, 404), (65, 400)):
            deep: Any = "x"
            for _ in range(depth - 1):
                deep = [deep]
            body = orjson.dumps(chat_body("none", metadata={}) | {"future": deep})
            answer = await relay.http.post(CHAT, content=body)
            assert answer.status_code == status, (depth, answer.text)
        proto = orjson.dumps({"model": "none", "messages": [], "n": 9})
        choices = await generate(relay.channel, start(openai_chat_body=proto))
        assert choices.error is not None
        assert choices.error.code() is grpc.StatusCode.INVALID_ARGUMENT
        big = await generate(relay.channel, start(model="none", text="x" * (4 * MIB)))
        assert reason_of(status_of(big.error)) == "REQUEST_TOO_LARGE"
