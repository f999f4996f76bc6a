"""How a relay stops and reloads: what runs is not cut, what is new is told to go elsewhere."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rtrelay.v1 import NoticeKind, Outcome

from tests.fakes.converse_client import (
    Answer,
    Conversation,
    generate,
    reason_of,
    start,
    status_of,
)
from tests.fakes.h2_server import CANCEL, H2Server, ServerStream
from tests.fakes.relay_process import RelayProcess
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
from tests.fakes.tls import CertAuthority

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class GatedLab:
    """A provider whose answers wait after their first word."""

    def __init__(self, server: H2Server) -> None:
        self.server = server
        self.gate = asyncio.Event()
        server.routes[CHAT] = self._script

    async def _script(self, stream: ServerStream) -> None:
        await stream.send_headers()
        await stream.send(chunk({"content": "One"}))
        await self.gate.wait()
        await stream.send(chunk({"content": " two"}) + chunk(finish="stop") + DONE, end=True)

    async def all_reset(self) -> None:
        """Wait until every stream was reset by the relay."""
        streams = self.server.requests(CHAT)
        await self.server.until(lambda: all(stream.reset_code == CANCEL for stream in streams))


@pytest.fixture
def lab(upstream: H2Server) -> GatedLab:
    return GatedLab(upstream)


def config(lab: GatedLab, ca_file: str, **server: Any) -> dict[str, Any]:
    return {
        "server": server,
        "providers": {"lab": provider(lab.server.url, ca_file=ca_file)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }


class SseClient:
    """A client of the shim that reads in the background."""

    def __init__(self, http: httpx2.AsyncClient, model: str = "fast") -> None:
        self._http = http
        self._model = model
        self._task: asyncio.Task[None] | None = None
        self._first = asyncio.Event()
        self.text = ""

    async def __aenter__(self) -> SseClient:
        self._task = asyncio.create_task(self._read())
        await asyncio.wait_for(self._first.wait(), 10)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _read(self) -> None:
        body = chat_body(self._model)
        async with self._http.stream("POST", CHAT, json=body) as response:
            async for part in response.aiter_text():
                self.text += part
                self._first.set()

    async def whole(self) -> str:
        """Wait for the end of the stream; all of it."""
        assert self._task is not None
        await asyncio.wait_for(asyncio.shield(self._task), 10)
        return self.text


@dataclass
class Serving:
    """A worker that serves until it is stopped, with running streams of every kind."""

    relay: RelayUnderTest
    task: asyncio.Task[None]
    talk: Conversation
    sse: SseClient
    generating: asyncio.Task[Any] = field(repr=False)

    async def stopped(self, timeout_s: float = 10) -> None:
        """Wait until the worker has ended."""
        await asyncio.wait_for(asyncio.shield(self.task), timeout_s)


@asynccontextmanager
async def serving(document: dict[str, Any], lab: GatedLab) -> AsyncIterator[Serving]:
    async with relay_under_test(document) as relay:
        task = asyncio.create_task(relay.worker.serve_until_stopped())
        async with relay.talk() as talk, SseClient(relay.http) as sse:
            await talk.start("g1")
            await talk.says("One", "g1")
            answer = Answer()
            generating = asyncio.create_task(generate(relay.channel, start(), answer=answer))
            try:
                await eventually(lambda: answer.text)
                yield Serving(relay, task, talk, sse, generating)
            finally:
                generating.cancel()
                await asyncio.wait([generating])
        relay.worker.stop()
        relay.worker.stop()
        await task


# --- drain ----------------------------------------------------------------------------------------


async def test_drain_lets_streams_finish_and_takes_no_new_ones(lab: GatedLab, ca_file: str) -> None:
    async with serving(config(lab, ca_file), lab) as world:
        relay, talk = world.relay, world.talk
        health = health_pb2_grpc.HealthStub(relay.channel)
        check = health_pb2.HealthCheckRequest(service="rtrelay.v1.RelayService")
        assert (await health.Check(check)).status == SERVING
        assert (await relay.http.get("/readyz")).status_code == 200

        relay.worker.stop()
        # Sessions are told, with the time that is left.
        notice = await talk.noticed()
        assert notice.kind == NoticeKind.NOTICE_KIND_DRAIN
        assert 0 < notice.time_left_ms <= 30_000
        # Balancers are told.
        assert (await health.Check(check)).status == NOT_SERVING
        assert (await relay.http.get("/readyz")).status_code == 503
        async with relay.admin() as admin:
            assert (await admin.get("/readyz")).status_code == 503
            assert (await admin.get("/admin/state")).json()["draining"] is True
        assert (await relay.http.get("/healthz")).status_code == 200, "it lives, it is not ready"
        # New work is refused: on the session, on new ones, over Generate and over HTTP.
        await talk.start("g2")
        end = (await talk.ended("g2")).end
        assert end is not None
        assert reason_of(end.error) == "DRAINING"
        async with relay.talk(setup=None) as late:
            status = status_of(await late.over())
            assert (reason_of(status), status.code) == ("DRAINING", 14)
        assert reason_of(status_of((await relay.generate(start())).error)) == "DRAINING"
        for body in (chat_body(), chat_body(stream=False)):
            response = await relay.chat(body)
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "draining"
            assert "x-should-retry" not in response.headers, "another worker can serve it"
        # What runs comes to its whole end, and then the worker goes.
        assert not world.task.done()
        lab.gate.set()
        answer = await talk.ended("g1")
        assert answer.text == "One two"
        assert answer.end is not None
        assert answer.end.outcome == Outcome.OUTCOME_COMPLETED
        assert (await world.sse.whole()).endswith("data: [DONE]\n\n")
        assert (await world.generating).text == "One two"
        await world.stopped()
        with pytest.raises(httpx2.TransportError):
            await relay.http.get("/healthz")
    await lab.server.until(lambda: not lab.server.open_connections)


async def ends_with_draining(world: Serving, lab: GatedLab) -> None:
    """Every running stream is told why it ends; none ends as if it were whole."""
    end = (await world.talk.ended("g1")).end
    assert end is not None
    assert end.outcome == Outcome.OUTCOME_FAILED
    assert (reason_of(end.error), end.error.code) == ("DRAINING", 14)
    text = await world.sse.whole()
    assert "[DONE]" not in text
    assert sse_payloads(text)[-1]["error"]["code"] == "draining"
    generated = await world.generating
    assert reason_of(status_of(generated.error)) == "DRAINING"
    assert generated.text == "One"
    await lab.all_reset()


async def test_second_stop_cuts_the_drain_short(lab: GatedLab, ca_file: str) -> None:
    async with serving(config(lab, ca_file), lab) as world:
        world.relay.worker.stop()
        await world.talk.noticed()
        world.relay.worker.stop()
        await ends_with_draining(world, lab)
        await world.stopped(5)


async def test_signals_are_ours_until_all_is_closed(
    lab: GatedLab, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with relay_under_test(config(lab, ca_file)) as relay:
        close = relay.worker.aclose
        handled: list[bool] = []

        async def closing() -> None:
            await close()
            # A third stop, by the service manager that grows impatient, must not kill us here.
            handled.append(signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)

        monkeypatch.setattr(relay.worker, "aclose", closing)
        relay.worker.stop()
        await asyncio.wait_for(relay.worker.serve_until_stopped(), 5)
        assert handled == [True]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_grace_is_respected(lab: GatedLab, ca_file: str) -> None:
    grace_s = 0.5
    async with serving(config(lab, ca_file, drain_grace_ms=int(grace_s * 1000)), lab) as world:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        world.relay.worker.stop()
        await ends_with_draining(world, lab)
        assert grace_s <= loop.time() - began_s < grace_s + 1.5
        await world.stopped()
        assert loop.time() - began_s < grace_s + 4


async def test_session_without_generations_does_not_hold_the_drain_up(
    lab: GatedLab, ca_file: str
) -> None:
    async with relay_under_test(config(lab, ca_file)) as relay:
        task = asyncio.create_task(relay.worker.serve_until_stopped())
        async with relay.talk() as talk:
            await talk.start("g1")
            await talk.says("One", "g1")
            lab.gate.set()
            await talk.ended("g1")
            relay.worker.stop()
            assert (await talk.noticed()).kind == NoticeKind.NOTICE_KIND_DRAIN
            # It is told why it ends, and not cut: a client library retries on what it can read.
            status = status_of(await talk.over())
            assert (reason_of(status), status.code) == ("DRAINING", 14)
            await asyncio.wait_for(asyncio.shield(task), 5)
        await task


async def test_every_session_is_told_why_it_ends(lab: GatedLab, ca_file: str) -> None:
    async with serving(config(lab, ca_file), lab) as world, world.relay.talk() as idle:
        async with world.relay.talk() as closing:
            # One that the client has half-closed ends as it would have.
            await closing.start("g1")
            await closing.says("One", "g1")
            await closing.half_close()
            world.relay.worker.stop()
            await world.talk.noticed()
            lab.gate.set()
            assert (await closing.ended("g1")).text == "One two"
            assert await closing.over() is None
        for talk in (world.talk, idle):
            status = status_of(await talk.over())
            assert (reason_of(status), status.code) == ("DRAINING", 14)
        assert world.talk.answer("g1").text == "One two"
        await world.stopped()


async def test_client_that_reads_nothing_does_not_hold_the_drain_up(
    lab: GatedLab, ca_file: str
) -> None:
    async def many_words(stream: ServerStream) -> None:
        await stream.send_headers()
        for _ in range(64):
            await stream.send(chunk({"content": "word " * 12_000}))
        await lab.gate.wait()

    lab.server.routes[CHAT] = many_words
    document = config(lab, ca_file, drain_grace_ms=100)
    async with relay_under_test(document) as relay:
        task = asyncio.create_task(relay.worker.serve_until_stopped())
        async with relay.talk() as talk:
            await talk.start("g1")
            await talk.says("word ", "g1")
            talk.is_reading.clear()
            relay.worker.stop()
            await asyncio.wait_for(asyncio.shield(task), 10)
        lab.gate.set()
        await task


# --- the process ----------------------------------------------------------------------------------


async def test_process_drains_on_sigterm(lab: GatedLab, ca_file: str, tmp_path: Path) -> None:
    async with (
        RelayProcess(tmp_path, config(lab, ca_file)) as relay,
        relay.http() as http,
        relay.channel() as channel,
        SseClient(http) as sse,
        Conversation(channel) as talk,
    ):
        assert any("rtrelay serves" in line for line in relay.output)
        await talk.start("g1")
        await talk.says("One", "g1")
        relay.signal(signal.SIGTERM)
        assert (await talk.noticed()).kind == NoticeKind.NOTICE_KIND_DRAIN
        assert (await http.get("/readyz")).status_code == 503
        lab.gate.set()
        assert (await talk.ended("g1")).text == "One two"
        assert (await sse.whole()).endswith("data: [DONE]\n\n")
        await talk.half_close()
        assert await relay.exited() == 0
        # One line a generation, and nothing that looks like a fault.
        ends = [line for line in relay.log if line.get("event") == "generation"]
        assert {line["frontend"] for line in ends} == {"converse", "chat_completions"}
        assert all(line["level"] == "info" for line in relay.log), relay.log
        assert not any("Hello" in str(line) for line in relay.log), "no prompt is logged"


async def test_second_sigterm_ends_the_process_now(
    lab: GatedLab, ca_file: str, tmp_path: Path
) -> None:
    async with (
        RelayProcess(tmp_path, config(lab, ca_file)) as relay,
        relay.channel() as channel,
        Conversation(channel) as talk,
    ):
        await talk.start("g1")
        await talk.says("One", "g1")
        relay.signal(signal.SIGTERM)
        await talk.noticed()
        relay.signal(signal.SIGTERM)
        end = (await talk.ended("g1")).end
        assert end is not None
        assert reason_of(end.error) == "DRAINING"
        assert await relay.exited() == 0


async def test_process_reloads_on_sighup_without_dropping_a_stream(
    lab: GatedLab, ca_file: str, tmp_path: Path
) -> None:
    document = config(lab, ca_file)
    alias = document["models"]["fast"]
    async with RelayProcess(tmp_path, document) as relay, relay.http() as http:

        async def names() -> set[str]:
            return {row["id"] for row in (await http.get("/v1/models")).json()["data"]}

        async with SseClient(http) as sse:
            # A new alias, while a stream runs.
            relay.write({**document, "models": {"fast": alias, "extra": alias}})
            relay.signal(signal.SIGHUP)
            assert (await relay.logged("reloaded"))["models"] == ["extra", "fast"]
            assert await names() == {"fast", "extra"}
            # Broken files change nothing; the log names the field.
            for broken, field in (
                ({**document, "modles": {}}, "modles"),
                ({**document, "models": {"fast": {"candidates": []}}}, "models.fast.candidates"),
                ({**document, "providers": {"lab": {"wire": "telex"}}}, "providers.lab"),
            ):
                relay.write(broken)
                relay.signal(signal.SIGHUP)
                assert field in (await relay.logged("reload_refused"))["fault"]
            for text, word in (("models: [\n", "YAML"), ("", "empty"), ("[" * 2000, "nested")):
                relay.path.write_text(text)
                relay.signal(signal.SIGHUP)
                assert word in (await relay.logged("reload_refused"))["fault"]
            assert await names() == {"fast", "extra"}
            # The stream that ran through all of it is whole.
            lab.gate.set()
            assert (await sse.whole()).endswith("data: [DONE]\n\n")
        async with relay.channel() as channel:
            assert (await generate(channel, start("g", "extra"))).text == "One two"
        # An alias that is taken away is unknown to the next request.
        relay.write(document)
        relay.signal(signal.SIGHUP)
        await relay.logged("reloaded")
        assert (await http.post(CHAT, json=chat_body("extra"))).status_code == 404
    assert await relay.exited() == 0


async def test_reload_lets_providers_go_that_are_not_named_any_more(
    lab: GatedLab, spare: H2Server, authority: CertAuthority, ca_file: str, tmp_path: Path
) -> None:
    async with H2Server(tls=authority.server_context(alpn=("h2",))) as idle:
        document = config(lab, ca_file)
        kept = {"spare": provider(spare.url, ca_file=ca_file)}
        gone = {**document["providers"], "idle": provider(idle.url, ca_file=ca_file)}
        document["providers"] = {**kept, **gone}
        async with (
            RelayProcess(tmp_path, document) as relay,
            relay.http() as http,
            relay.http("admin") as admin,
        ):

            async def origins() -> dict[str, int]:
                rows = (await admin.get("/admin/state")).json()["origins"]
                return {row["origin"]: row["open_streams"] for row in rows}

            assert set(await origins()) == {lab.server.url, spare.url, idle.url}
            async with SseClient(http) as sse:
                relay.write({"providers": kept})
                relay.signal(signal.SIGHUP)
                await relay.logged("reloaded")
                await idle.until(lambda: not idle.open_connections)
                # What runs is whole, and then that provider is let go too.
                assert await origins() == {lab.server.url: 1, spare.url: 0}
                lab.gate.set()
                assert (await sse.whole()).endswith("data: [DONE]\n\n")
            await lab.server.until(lambda: not lab.server.open_connections)
            assert await origins() == {spare.url: 0}
            assert spare.open_connections
            # Named again, they are warm again.
            relay.write(document)
            relay.signal(signal.SIGHUP)
            await idle.until(lambda: idle.open_connections)
            await lab.server.until(lambda: lab.server.open_connections)
        assert await relay.exited() == 0


async def test_reload_reads_the_roots_of_a_provider_again(
    lab: GatedLab, authority: CertAuthority, tmp_path: Path
) -> None:
    """A provider whose certificate comes from another authority than when the relay started."""
    lab.gate.set()
    CertAuthority().ca_file(tmp_path)
    async with RelayProcess(tmp_path, config(lab, "ca.pem")) as relay, relay.http() as http:
        assert (await http.post(CHAT, json=chat_body())).status_code == 502
        authority.ca_file(tmp_path)
        relay.signal(signal.SIGHUP)
        await relay.logged("reloaded")
        assert (await http.post(CHAT, json=chat_body())).status_code == 200
        # With the same roots nothing is connected anew.
        opened = len(lab.server.connections)
        relay.signal(signal.SIGHUP)
        await relay.logged("reloaded")
        assert (await http.post(CHAT, json=chat_body())).status_code == 200
        assert len(lab.server.connections) == opened


async def test_reload_names_what_needs_a_restart(
    lab: GatedLab, ca_file: str, tmp_path: Path
) -> None:
    document = config(lab, ca_file)
    later = {
        **config(lab, ca_file, http={"max_request_bytes": 2048}, drain_grace_ms=1),
        "transport": {"max_connections": 1},
    }
    async with RelayProcess(tmp_path, document) as relay:
        relay.write(later)
        for _ in range(2):  # as long as it is so
            relay.signal(signal.SIGHUP)
            line = await relay.logged("reload_partly")
            assert line["needs_restart"] == [
                "server.http.max_request_bytes",
                "transport.max_connections",
            ]
            await relay.logged("reloaded")
        relay.write(document)
        relay.signal(signal.SIGHUP)
        await relay.logged("reloaded")
        assert not [line for line in relay.log if line["event"] == "reload_partly"]
