"""Traces of a whole relay: whose they are, over each door; what providers are told; and that a
collector that is gone, or hangs, costs no answer."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from rtrelay.v1 import GenerateRequest, GenerateResponse

from relay.config import ConfigError, parse
from relay.observability.exports import Exports
from relay.trace_context import trace_of
from tests.fakes.canaries import Canaries
from tests.fakes.converse_client import GENERATE, start
from tests.fakes.h2_server import H2Server, stream_chunks
from tests.fakes.otlp_collector import OtlpCollector, SeenSpan
from tests.fakes.relay_process import RelayProcess
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
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[OtlpCollector]:
    with OtlpCollector() as there:
        yield there


def document(upstream: H2Server, ca_file: str, endpoint: str, **tracing: Any) -> Document:
    return {
        "observability": {"tracing": {"endpoint": endpoint, "interval_ms": 10, **tracing}},
        "providers": {"lab": provider(upstream.url, ca_file=ca_file)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m1"}]}},
    }


async def roots(collector: OtlpCollector, count: int) -> list[SeenSpan]:
    """Of generations, when so many have come."""

    def found() -> list[SeenSpan]:
        return [span for span in collector.spans() if span.raw.kind == 2]

    await eventually(lambda: len(found()) >= count)
    return found()


@pytest.fixture
async def relay(
    upstream: H2Server, ca_file: str, collector: OtlpCollector
) -> AsyncIterator[RelayUnderTest]:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hel", "lo"))
    async with relay_under_test(document(upstream, ca_file, collector.endpoint)) as running:
        yield running


async def test_parents_over_each_door(relay: RelayUnderTest, collector: OtlpCollector) -> None:
    await relay.chat(chat_body(), traceparent=PARENT, tracestate="v=1")
    (root,) = await roots(collector, 1)
    assert root.raw.trace_id.hex() == PARENT[3:35]
    assert root.raw.parent_span_id.hex() == PARENT[36:52]
    assert root.raw.trace_state == "v=1"
    assert root.attributes["rtrelay.frontend"] == "chat_completions"

    call = relay.channel.unary_stream(
        GENERATE,
        request_serializer=GenerateRequest.SerializeToString,
        response_deserializer=GenerateResponse.FromString,
    )(GenerateRequest(start=start()), metadata=(("traceparent", PARENT.replace("b7", "c7", 1)),))
    async for _ in call:
        pass
    root = (await roots(collector, 2))[1]
    assert root.raw.parent_span_id.hex() == PARENT[36:52].replace("b7", "c7", 1)
    assert root.attributes["rtrelay.frontend"] == "generate"

    async with relay.talk() as talk:
        await talk.start(traceparent=PARENT.replace("b7", "d7", 1))
        await talk.ended()
    root = (await roots(collector, 3))[2]
    assert root.raw.parent_span_id.hex() == PARENT[36:52].replace("b7", "d7", 1)
    assert root.attributes["rtrelay.frontend"] == "converse"


async def test_without_a_parent_a_trace_begins_here(
    relay: RelayUnderTest, collector: OtlpCollector
) -> None:
    answer = await relay.chat(chat_body())
    (root,) = await roots(collector, 1)
    made = trace_of(answer.headers["x-relay-request-id"], "")
    assert (root.raw.trace_id.hex(), root.raw.span_id.hex()) == (made.trace_id, made.span_id)
    assert root.raw.parent_span_id == b""
    assert root.resource["service.name"] == "rtrelay"
    assert root.resource["service.instance.id"].startswith("i_")
    async with relay.admin() as admin:
        state = (await admin.get("/admin/state")).json()
    assert state["exports"]["traces"]["sent_generations"] == 1


async def test_no_provider_is_told_but_where_its_row_says_so(
    upstream: H2Server, ca_file: str, collector: OtlpCollector
) -> None:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("a"))
    for tells, is_traced in ((False, True), (True, True), (True, False)):
        asked = document(upstream, ca_file, collector.endpoint)
        asked["providers"]["lab"]["trace_context"] = tells
        if not is_traced:
            del asked["observability"]
        before = len(upstream.requests(CHAT))
        async with relay_under_test(asked) as relay:
            answer = await relay.chat(chat_body(), traceparent=PARENT, tracestate="v=1")
        headers = dict(upstream.requests(CHAT)[before].headers)
        made = trace_of(answer.headers["x-relay-request-id"], PARENT)
        own = f"00-{PARENT[3:35]}-{made.span_of(0)}-01"
        expected = (own if is_traced else PARENT) if tells else None
        assert headers.get("traceparent") == expected
        assert headers.get("tracestate") == ("v=1" if tells else None)


async def test_sampled_are_the_failed_and_what_the_client_samples(
    upstream: H2Server, ca_file: str, collector: OtlpCollector
) -> None:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("a"))
    async with relay_under_test(
        document(upstream, ca_file, collector.endpoint, share=0.0)
    ) as relay:
        await relay.chat(chat_body())
        await relay.chat(chat_body(), traceparent=PARENT[:-1] + "0")
        await relay.chat(chat_body(), traceparent=PARENT)
        await relay.chat(chat_body("nobody"))
        found = await roots(collector, 2)
        assert [span.attributes.get("error.type") for span in found] == [None, "UNKNOWN_MODEL"]
        assert relay.worker._exports.describe()["traces"]["unsampled"] == 2


@pytest.mark.parametrize("kind", ["hung", "refusing"])
async def test_a_collector_that_is_not_there_costs_no_answer(
    upstream: H2Server, ca_file: str, kind: str
) -> None:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("a"))
    with OtlpCollector(is_hung=True) as there, socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = there.endpoint
        if kind == "refusing":
            endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}/v1/traces"
            closed.close()
        asked = document(upstream, ca_file, endpoint, max_waiting=4, flush_ms=50)
        began_s = time.monotonic()
        async with relay_under_test(asked) as relay:
            for _ in range(20):
                answer = await relay.chat(chat_body())
                assert answer.status_code == 200
            await eventually(
                lambda: relay.worker._exports.describe()["traces"]["dropped_generations"] >= 10
            )
        assert time.monotonic() - began_s < 10.0
        if kind == "hung":
            assert there.hangs()


async def test_what_waits_is_sent_when_the_relay_stops(
    upstream: H2Server, ca_file: str, collector: OtlpCollector
) -> None:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("a"))
    asked = document(upstream, ca_file, collector.endpoint)
    asked["observability"]["tracing"]["interval_ms"] = 60_000
    async with relay_under_test(asked) as relay:
        await relay.chat(chat_body())
        assert collector.spans() == []
    assert len(await roots(collector, 1)) == 1


async def _dashboard(relay: RelayProcess) -> tuple[str, str]:
    """A picture, and the first messages of the feed."""
    feed = ""
    async with asyncio.timeout(10), relay.http("admin") as admin:
        picture = (await admin.get("/dashboard/api/picture")).text
        async with admin.stream("GET", "/dashboard/api/feed") as response:
            async for text in response.aiter_text():
                feed += text
                if "event: recent" in feed and feed.endswith("\n\n"):
                    break
    return picture, feed


async def test_canaries_are_in_no_span_no_line_and_no_payload(
    upstream: H2Server, ca_file: str, collector: OtlpCollector, tmp_path: Path
) -> None:
    canaries = Canaries()
    key, token = canaries.make("provider key", "sk-"), canaries.make("collector token")
    os.environ.update(CANARY_KEY=key, CANARY_TOKEN=token)
    try:
        upstream.routes[CHAT] = stream_chunks(
            answer_chunks("you said ", key[:9], key[9:], " and Bearer ", key)
        )
        asked = document(
            upstream,
            ca_file,
            collector.endpoint,
            content=True,
            headers={"authorization": "Bearer ${CANARY_TOKEN}"},
        )
        asked["observability"]["payloads"] = {"folder": str(tmp_path / "payloads")}
        asked["providers"]["lab"] |= {"api_key": "${CANARY_KEY}", "auth": "bearer"}
        async with RelayProcess(tmp_path, asked) as relay, relay.http() as http:
            body = chat_body(text=f"my keys are {key} and {token}", user=key)
            headers = {
                "x-relay-turn-id": key,
                "x-relay-tags": key,
                "authorization": "Bearer x",
                "traceparent": PARENT,
                "tracestate": f"v={key}",
            }
            for model in ("fast", f"lab/{key}", key):
                await http.post(CHAT, json={**body, "model": model}, headers=headers)
            picture, feed = await _dashboard(relay)
        spans = await roots(collector, 3)
    finally:
        del os.environ["CANARY_KEY"], os.environ["CANARY_TOKEN"]
    assert "you said ***" in spans[0].attributes["gen_ai.output.messages"]
    files = list((tmp_path / "payloads").glob("*.jsonl"))
    payloads = b"".join(path.read_bytes() for path in files)
    assert payloads.count(b"\n") == 3
    assert b"you said ***" in payloads
    canaries.search("payloads", payloads)
    for span in collector.spans():
        canaries.search("a span", span.raw.SerializeToString())
    canaries.search("the dashboard's picture", picture)
    canaries.search("the dashboard's feed", feed)
    for shown in (picture, feed):
        assert shown.count('"frontend":"chat_completions"') == 3
        assert "lab/***" in shown
    canaries.search("the log", "\n".join(relay.raw))
    assert sum(line.get("event") == "generation" for line in relay.log) == 3
    assert not canaries.found


@pytest.mark.skipif(os.environ.get("RELAY_FULL") != "1", reason="seconds; RELAY_FULL=1 runs it")
async def test_each_worker_exports_for_itself(
    upstream: H2Server, ca_file: str, collector: OtlpCollector, tmp_path: Path
) -> None:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("a"))
    asked = document(upstream, ca_file, collector.endpoint)
    ports = free_ports(2)
    asked["server"] = {
        name: {"address": f"127.0.0.1:{port}"}
        for name, port in zip(("grpc", "http"), ports, strict=True)
    }
    async with RelayProcess(tmp_path, asked, "--workers", "2") as relay:
        await relay.logged("serving")
        for _ in range(40):  # a connection each: the system spreads them
            async with relay.http() as http:
                await http.post(CHAT, json=chat_body())
    found = await roots(collector, 40)
    assert len({span.resource["service.instance.id"] for span in found}) == 2


_IMPORTS = """
import sys
from relay.serving import run_worker
from relay.server import Worker
from relay.config import parse
Worker(parse({}))
late = ("opentelemetry", "relay.observability.tracing")
print([name for name in sys.modules if name.startswith(late)])
"""


def test_nothing_is_imported_for_traces_that_are_off() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


def test_where_the_library_is_missing_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith(("opentelemetry.proto", "relay.observability.tracing")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.proto", None)
    with pytest.raises(ConfigError, match=r"observability\.tracing: .*opentelemetry"):
        Exports(parse({"observability": {"tracing": {}}}), str, "i_1")


async def test_nobody_reads_the_log_and_answers_go_on(
    upstream: H2Server, ca_file: str, tmp_path: Path
) -> None:
    """The pipe of standard error is full: lines are dropped and counted, requests are not held."""
    upstream.routes[CHAT] = stream_chunks(answer_chunks("a"))
    ports = free_ports(3)
    asked = {
        "observability": {"logs": {"max_waiting_bytes": 65_536}},
        "providers": {"lab": provider(upstream.url, ca_file=ca_file)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m1"}]}},
        "server": {
            name: {"address": f"127.0.0.1:{port}"}
            for name, port in zip(("grpc", "http", "admin"), ports, strict=True)
        },
    }
    (tmp_path / "relay.yaml").write_text(yaml.safe_dump(asked))
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "relay.cli",
        "serve",
        "-c",
        str(tmp_path / "relay.yaml"),
        stdout=subprocess.DEVNULL,
        stderr=writer,
    )
    os.close(writer)
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=5) as http:
            await eventually_answers(http, f"http://127.0.0.1:{ports[2]}/readyz")
            for _ in range(120):
                answer = await http.post(f"http://127.0.0.1:{ports[1]}{CHAT}", json=chat_body())
                assert answer.status_code == 200
            state = (await http.get(f"http://127.0.0.1:{ports[2]}/admin/state")).json()
        assert state["log"]["dropped_lines"] > 0
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0, "it ends, read or not"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(reader)


def free_ports(count: int) -> list[int]:
    """Nobody listens there now."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


async def eventually_answers(http: Any, url: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                if (await http.get(url)).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)
