"""A worker past its bounds, on real sockets: who is refused, how, and who goes on undisturbed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import anthropic
import grpc
import httpx2
import openai
import orjson
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.fakes.converse_client import (
    Answer,
    Conversation,
    details_of,
    generate,
    reason_of,
    start,
    status_of,
)
from tests.fakes.h2_server import H2Server, ServerStream
from tests.fakes.relay_under_test import (
    DONE,
    RelayUnderTest,
    chat_body,
    chunk,
    eventually,
    provider,
    relay_under_test,
    sse_payloads,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
BATCH = {"x-relay-class": "batch"}
WHOLE = "One two"


class World:
    """A relay whose provider's answers wait after their first word."""

    def __init__(self, relay: RelayUnderTest, lab: H2Server) -> None:
        self.relay = relay
        self.lab = lab
        self.gate = asyncio.Event()
        lab.routes[CHAT] = self._script

    async def _script(self, stream: ServerStream) -> None:
        await stream.send_headers()
        await stream.send(chunk({"content": "One"}))
        await self.gate.wait()
        await stream.send(chunk({"content": " two"}) + chunk(finish="stop") + DONE, end=True)

    @property
    def in_flight(self) -> int:
        return self.relay.worker.services.overload.in_flight

    @asynccontextmanager
    async def stream(self, **headers: str) -> AsyncIterator[httpx2.Response]:
        """A streamed request over HTTP."""
        async with self.relay.http.stream("POST", CHAT, json=chat_body(), headers=headers) as one:
            yield one

    async def asked(self) -> int:
        """How many requests the provider has seen."""
        return len(self.lab.requests(CHAT))

    async def answers_to_whom_it_always_does(self) -> None:
        """Health, administration and lists."""
        async with self.relay.admin() as admin:
            for client in (self.relay.http, admin):
                for path in ("/healthz", "/readyz"):
                    began_s = time.monotonic()
                    answer = await client.get(path)
                    assert answer.status_code == 200, (path, answer.text)
                    assert time.monotonic() - began_s < 2.0, "on a machine that is busy"
            state = (await admin.get("/admin/state")).json()
            assert state["overload"]["in_flight"] == self.in_flight
            assert (await admin.get("/metrics")).status_code == 200
        assert (await self.relay.http.get("/v1/models")).status_code == 200
        health: Any = health_pb2_grpc.HealthStub(self.relay.channel)
        told = await health.Check(health_pb2.HealthCheckRequest())
        assert told.status == health_pb2.HealthCheckResponse.SERVING


@asynccontextmanager
async def world_with(upstream: H2Server, ca_file: str, **overload: Any) -> AsyncIterator[World]:
    bounds = {"max_loop_lag_ms": 0, "max_rss_mib": 0, **overload}
    document = {
        "server": {"overload": bounds},
        "providers": {"lab": provider(upstream.url, ca_file=ca_file)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    async with relay_under_test(document) as relay:
        world = World(relay, upstream)
        try:
            yield world
        finally:
            world.gate.set()


def assert_refused(answer: httpx2.Response, kind: str, *, about_s: float) -> None:
    """503 with its reason and a hint that is jittered about this."""
    assert answer.status_code == 503, answer.text
    error = answer.json()["error"]
    assert error["x_relay"]["reason"] == "OVERLOADED"
    assert 0.5 * about_s <= error["x_relay"]["retry_after_ms"] / 1000 <= 1.5 * about_s
    assert int(answer.headers["retry-after"]) >= 1
    assert "x-should-retry" not in answer.headers, "clients may try again"


def assert_rpc_refused(error: grpc.aio.AioRpcError | None, kind: str, *, about_s: float) -> None:
    status = status_of(error)
    assert error is not None
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(status) == "OVERLOADED"
    details = details_of(status)
    assert details["ErrorInfo"].metadata["class"] == kind
    delay = details["RetryInfo"].retry_delay
    assert 0.5 * about_s <= delay.seconds + delay.nanos / 1e9 <= 1.5 * about_s + 0.001
    assert "grpc-retry-pushback-ms" in dict(error.trailing_metadata() or ())


async def test_batch_then_new_requests_are_refused_and_sessions_go_on(
    upstream: H2Server, ca_file: str
) -> None:
    # At once: 5 of open sessions, 4 with new ones, 3 with batch.
    async with world_with(upstream, ca_file, max_generations=5) as world, AsyncExitStack() as held:
        relay = world.relay
        talk = await held.enter_async_context(relay.talk())
        for name in ("g1", "g2"):
            await talk.start(name)
            await talk.says("One", name)
        batch = await held.enter_async_context(world.stream(**BATCH))
        assert batch.status_code == 200, "while there is room batch is as good as others"

        # 3: batch is refused, by every door, and others are not
        assert_refused(await relay.chat(chat_body(), **BATCH), "batch", about_s=10)
        by_body = await relay.chat(chat_body(relay={"class": "batch"}))
        assert_refused(by_body, "batch", about_s=10)
        one = await generate(relay.channel, start(), metadata=BATCH)
        assert_rpc_refused(one.error, "batch", about_s=10)
        async with Conversation(relay.channel, metadata=BATCH, setup=None) as refused:
            assert_rpc_refused(await refused.over(), "batch", about_s=10)
        new = await held.enter_async_context(world.stream())
        assert new.status_code == 200

        # 4: new ones are refused too
        assert_refused(await relay.chat(chat_body()), "new", about_s=1)
        counted = await relay.http.post("/v1/messages/count_tokens", json={})
        assert counted.status_code == 503, "what asks a provider is refused like it"
        one = await generate(relay.channel, start())
        assert_rpc_refused(one.error, "new", about_s=1)
        async with Conversation(relay.channel, setup=None) as refused:
            assert_rpc_refused(await refused.over(), "new", about_s=1)
        await talk.start("g3")
        await talk.says("One", "g3")

        # 5: generations of open sessions too; the session lives
        await talk.start("g4")
        end = (await talk.ended("g4")).end
        assert end is not None
        assert reason_of(end.error) == "OVERLOADED"
        assert details_of(end.error)["ErrorInfo"].metadata["class"] == "live"
        await world.answers_to_whom_it_always_does()
        assert await world.asked() == 5, "nobody was asked for what was refused"

        # those that ran were not disturbed, and when they are over there is room
        world.gate.set()
        for name in ("g1", "g2", "g3"):
            assert (await talk.ended(name)).text == WHOLE
        for response in (batch, new):
            text = "".join([part async for part in response.aiter_text()])
            words = [row["choices"][0]["delta"].get("content", "") for row in sse_payloads(text)]
            assert "".join(words) == WHOLE
        await eventually(lambda: world.in_flight == 0)
        assert (await relay.chat(chat_body(), **BATCH)).status_code == 200
        await talk.start("g5")
        assert (await talk.ended("g5")).text == WHOLE
        await eventually(lambda: world.in_flight == 0)


async def test_it_is_refused_before_its_body_is_there(upstream: H2Server, ca_file: str) -> None:
    async with world_with(upstream, ca_file, max_generations=1) as world, world.stream() as first:
        assert first.status_code == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", world.relay.worker.http_port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: relay\r\n"
            b"content-type: application/json\r\ncontent-length: 4000000\r\n\r\n"
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 503 ")
        writer.close()
        await writer.wait_closed()


async def test_the_connection_of_who_was_refused_can_be_used_again(
    upstream: H2Server, ca_file: str
) -> None:
    async with world_with(upstream, ca_file, max_generations=1) as world, world.stream():
        reader, writer = await asyncio.open_connection("127.0.0.1", world.relay.worker.http_port)

        async def answer() -> bytes:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            await asyncio.wait_for(reader.readexactly(length), 5)
            return head.partition(b"\r\n")[0]

        post = b"POST /v1/chat/completions HTTP/1.1\r\nhost: relay\r\ncontent-length: 6\r\n\r\n"
        for late in (b"", b"abc", b"abcdef"):  # of the body, what comes after the answer
            writer.write(post + b"abcdef"[: 6 - len(late)])
            assert await answer() == b"HTTP/1.1 503 Service Unavailable"
            writer.write(late + b"GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n")
            assert await answer() == b"HTTP/1.1 200 OK"
        writer.write(post + b"abcdef" + post + b"abcdef")
        assert [await answer(), await answer()] == [b"HTTP/1.1 503 Service Unavailable"] * 2
        writer.close()
        await writer.wait_closed()


async def test_a_page_may_read_why_it_was_refused(upstream: H2Server, ca_file: str) -> None:
    async with relay_under_test(
        {
            "server": {
                "overload": {"max_rss_mib": 1},
                "http": {"cors_origins": "https://app.test"},
            },
            "providers": {"lab": provider(upstream.url, ca_file=ca_file)},
        }
    ) as relay:
        await eventually(lambda: relay.worker.services.overload.limit == 0)
        answer = await relay.chat(chat_body(), origin="https://app.test")
        assert_refused(answer, "new", about_s=1)
        assert answer.headers["access-control-allow-origin"] == "https://app.test"
        stranger = await relay.chat(chat_body(), origin="https://other.test")
        assert stranger.status_code == 403


async def test_nothing_is_booked_and_no_breaker_hears_of_it(
    upstream: H2Server, ca_file: str
) -> None:
    async with world_with(upstream, ca_file, max_generations=1) as world, world.stream():
        services = world.relay.worker.services
        ended: list[object] = []
        services.on_ended.append(ended.append)
        before = {name: state.describe(0.0) for name, state in services.planner.states.items()}
        for _ in range(20):
            assert (await world.relay.chat(chat_body())).status_code == 503
        after = {name: state.describe(0.0) for name, state in services.planner.states.items()}
        assert not ended
        for name, row in before.items():
            assert after[name]["asked"] == row["asked"]
            assert after[name]["failed"] == row["failed"] == 0
        async with world.relay.admin() as admin:
            text = (await admin.get("/metrics")).text
        assert 'rtrelay_overload_shed_total{class="new",bound="generations"} 20' in text
        by_reason = 'rtrelay_requests_refused_total{surface="chat_completions",reason="overloaded"}'
        assert f"{by_reason} 20" in text
        world.gate.set()


async def test_a_client_that_leaves_gives_its_place_back(upstream: H2Server, ca_file: str) -> None:
    async with world_with(upstream, ca_file, max_generations=1) as world:
        for _ in range(3):
            async with world.stream() as one:
                assert one.status_code == 200
            await eventually(lambda: world.in_flight == 0)
            answer = Answer()
            call = asyncio.create_task(generate(world.relay.channel, start(), answer=answer))
            # Not before: who is cancelled while it sends its request leaves the RPC open.
            await eventually(answer.texts.__len__)
            assert world.in_flight == 1
            call.cancel()
            await asyncio.wait([call])
            await eventually(lambda: world.in_flight == 0)
            async with world.relay.talk() as talk:
                await talk.start("g1")
                await talk.says("One", "g1")
            await eventually(lambda: world.in_flight == 0)
            assert world.relay.worker.services.overload.sessions == 0


async def test_who_sends_a_body_slowly_takes_no_place(upstream: H2Server, ca_file: str) -> None:
    """Nothing of him is admitted, so no limit of his key holds him; others are served. There is a
    place for one."""
    async with world_with(upstream, ca_file, max_generations=1) as world:
        body = orjson.dumps(chat_body(stream=False))
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        slow = [
            await asyncio.open_connection("127.0.0.1", world.relay.worker.http_port)
            for _ in range(3)
        ]
        for _, writer in slow:
            writer.write(head + body[:10])
            await writer.drain()
        async with world.stream() as one:
            assert one.status_code == 200
            for _, writer in slow:  # their bodies have come, and there is no place now
                writer.write(body[10:])
            told = [await reader.readuntil(b"\r\n") for reader, _ in slow]
            assert told == [b"HTTP/1.1 503 Service Unavailable\r\n"] * 3
            assert world.in_flight == 1
            assert await world.asked() == 1
            world.gate.set()
            await one.aread()
        for _, writer in slow:
            writer.close()
        await eventually(lambda: world.in_flight == 0)
        assert (await world.relay.chat(chat_body(stream=False))).status_code == 200


async def test_sessions_have_a_bound(upstream: H2Server, ca_file: str) -> None:
    async with world_with(upstream, ca_file, max_sessions=2) as world:
        world.gate.set()
        async with world.relay.talk() as first, world.relay.talk():
            async with Conversation(world.relay.channel, setup=None) as refused:
                assert_rpc_refused(await refused.over(), "new", about_s=1)
            await first.start("g1")
            assert (await first.ended("g1")).text == WHOLE
            assert (await generate(world.relay.channel, start())).error is None
        overload = world.relay.worker.services.overload
        await eventually(lambda: overload.sessions == 0)
        async with world.relay.talk():
            pass


async def test_a_word_that_is_no_class_is_refused_by_name(upstream: H2Server, ca_file: str) -> None:
    async with world_with(upstream, ca_file) as world:
        answer = await world.relay.chat(chat_body(), x_relay_class="bulk")
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "x-relay-class"
        one = await generate(world.relay.channel, start(), metadata={"x-relay-class": "bulk"})
        assert reason_of(status_of(one.error)) == "INVALID_REQUEST"
        world.gate.set()
        allowed = await world.relay.chat(chat_body(), x_relay_class="interactive")
        assert allowed.status_code == 200


# --- the other signals ----------------------------------------------------------------------------


@contextmanager
def stuck(loop: asyncio.AbstractEventLoop, for_s: float, every_s: float) -> Iterator[None]:
    """A loop that is kept busy, time after time."""
    handle: asyncio.TimerHandle

    def block() -> None:
        nonlocal handle
        time.sleep(for_s)  # what this test is about
        handle = loop.call_later(every_s, block)

    handle = loop.call_soon(block)  # type: ignore[assignment]
    try:
        yield
    finally:
        handle.cancel()


async def test_a_late_loop_lets_nobody_new_in_and_recovers(
    upstream: H2Server, ca_file: str
) -> None:
    bounds = {"max_loop_lag_ms": 50, "min_generations": 1}
    async with world_with(upstream, ca_file, **bounds) as world, world.relay.talk() as talk:
        for name in ("g1", "g2", "g3"):
            await talk.start(name)
            await talk.says("One", name)
        overload = world.relay.worker.services.overload
        assert overload.limit > 3
        with stuck(asyncio.get_running_loop(), 0.08, 0.0):
            await eventually(lambda: overload.limit < 3, 20)
            refused = await world.relay.chat(chat_body())
            assert_refused(refused, "new", about_s=1)
            await talk.start("g4")  # somebody is on the phone there
            await world.answers_to_whom_it_always_does()
        world.gate.set()
        for name in ("g1", "g2", "g3", "g4"):
            answer = await talk.ended(name)
            assert answer.text == WHOLE or name == "g4"
        await eventually(lambda: overload.limit >= 1 and world.in_flight == 0)
        assert (await world.relay.chat(chat_body())).status_code == 200


async def test_out_of_memory_only_health_and_administration_are_answered(
    upstream: H2Server, ca_file: str
) -> None:
    async with world_with(upstream, ca_file, max_rss_mib=1) as world:
        overload = world.relay.worker.services.overload
        await eventually(lambda: overload.limit == 0)
        assert_refused(await world.relay.chat(chat_body()), "new", about_s=1)
        await world.answers_to_whom_it_always_does()
        async with world.relay.admin() as admin:
            told = (await admin.get("/admin/state")).json()["overload"]
        assert told["refused"] == "new"
        assert told["rss_mib"] > 1
        assert told["shed"] == {"new/memory": 1}


# --- as clients see it ----------------------------------------------------------------------------


async def test_official_clients_see_their_own_errors(upstream: H2Server, ca_file: str) -> None:
    async with world_with(upstream, ca_file, max_generations=1) as world, world.stream():
        async with world.relay.openai() as client:
            with pytest.raises(openai.InternalServerError) as of_openai:
                await client.chat.completions.create(
                    model="fast", messages=[{"role": "user", "content": "Hello"}]
                )
        assert of_openai.value.status_code == 503
        async with world.relay.anthropic() as claude:
            with pytest.raises(anthropic.APIStatusError) as of_anthropic:
                await claude.messages.create(
                    model="fast", max_tokens=5, messages=[{"role": "user", "content": "Hello"}]
                )
        assert of_anthropic.value.status_code == 503
        assert "overloaded_error" in str(of_anthropic.value)


async def test_a_client_that_waits_as_it_is_told_is_served(
    upstream: H2Server, ca_file: str
) -> None:
    async with world_with(upstream, ca_file, max_generations=1) as world:
        async with world.stream() as first, world.relay.openai(max_retries=5) as client:
            assert first.status_code == 200
            waiting = asyncio.create_task(
                client.chat.completions.create(
                    model="fast", messages=[{"role": "user", "content": "Hello"}]
                )
            )
            overload = world.relay.worker.services.overload
            await eventually(lambda: overload.shed)
            world.gate.set()
            answer = await waiting
        assert answer.choices[0].message.content == WHOLE


async def test_refusals_do_not_make_a_noisy_connection_of_an_agents(
    upstream: H2Server, ca_file: str
) -> None:
    """An agent has one connection for all of its calls: to end it for what the relay itself
    refuses would hang up on those that it has taken."""
    async with world_with(upstream, ca_file, max_generations=1) as world:
        async with world.relay.talk() as talk:
            await talk.start("g1")
            await talk.says("One", "g1")
            until_s = time.monotonic() + 1.5
            while time.monotonic() < until_s:
                many = [generate(world.relay.channel, start()) for _ in range(100)]
                for one in await asyncio.gather(*many):
                    assert_rpc_refused(one.error, "new", about_s=1)
            world.gate.set()
            assert (await talk.ended("g1")).text == WHOLE
        assert world.relay.worker._noise.cut == 0
