"""What providers do wrong, by phase and fault, and what clients of each frontend are told.

Before the first content a fault is somebody else's chance: the fallback answers and the client
sees nothing of it. After the first content a fault is told and never mended. Whatever happens to
one generation, the others live on.

Faults are named phase_by_fault. Every one is asked for over the shim (streamed and whole), over
Generate and in a session.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import orjson
import pytest
from rtrelay.v1 import Budgets, Outcome

from tests.fakes import h1_server
from tests.fakes.askers import ASKERS, Reply, ask_sse
from tests.fakes.converse_client import details_of, reason_of, start, status_of
from tests.fakes.h2_server import (
    CANCEL,
    INTERNAL_ERROR,
    NO_ERROR,
    REFUSED_STREAM,
    H2Server,
    Script,
    ServerStream,
    answer,
    cut,
    goaway,
    hang,
    headers_then_hang,
    reset,
    stream_chunks,
)
from tests.fakes.relay_under_test import (
    DONE,
    RelayUnderTest,
    answer_chunks,
    chunk,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
ASIDE = "/aside/v1/chat/completions"
PROVIDER_KEY = "canary-key-of-our-own-account-0123456789"
LIMIT_MS = 600
"""First token and between tokens: what silence costs here."""

# gRPC codes by name; the numbers are those of google.rpc.Code.
INVALID_ARGUMENT, DEADLINE, EXHAUSTED, PRECONDITION, UNAVAILABLE = "3", "4", "8", "9", "14"


# --- the faults -----------------------------------------------------------------------------------


def role_only() -> bytes:
    return chunk({"role": "assistant", "content": ""})


def word(text: str) -> bytes:
    return chunk({"content": text})


def endless_comments(*first: bytes) -> Script:
    """Some events, then comments for ever: a provider that is kept alive by its proxy."""

    async def script(stream: ServerStream) -> None:
        await stream.send_headers()
        for part in first:
            await stream.send(part)
        while True:
            await stream.send(b": still here\n\n")
            await asyncio.sleep(0.02)

    return script


def endless_drip(*first: bytes) -> Script:
    """Some events, then one event byte by byte that never ends."""

    async def script(stream: ServerStream) -> None:
        await stream.send_headers()
        for part in [*first, b'data: {"choices":[{"index":0,"delta":{"content":"']:
            await stream.send(part)
        while True:
            await stream.send(b"x")
            await asyncio.sleep(0.02)

    return script


def endless_line(*first: bytes) -> Script:
    """Some events, then 50 MB without a line end, as fast as they are taken."""

    async def script(stream: ServerStream) -> None:
        await stream.send_headers()
        for part in [*first, b"data: "]:
            await stream.send(part)
        for _ in range(50 * 16):
            await stream.send(b"x" * 65_536)
            await asyncio.sleep(0)
        await stream.end()

    return script


def then(script: Script, *first: bytes) -> Script:
    """Head and events, then what `script` does to the stream."""

    async def both(stream: ServerStream) -> None:
        await stream.send_headers()
        for part in first:
            await stream.send(part)
        await script(stream)

    return both


def json_answer(status: int, body: object, *headers: tuple[str, str]) -> Script:
    head = [("content-type", "application/json"), *headers]
    return answer(status, orjson.dumps(body), head)


def error_body(message: str = "The engine is on fire", **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "server_error", "code": "on_fire", **more}}


def error_event() -> bytes:
    return b"data: " + orjson.dumps(error_body()) + b"\n\n"


HTML = b"<html><body>504 at edge-7.internal.example</body></html>"


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, and what a client without a fallback is told."""

    name: str
    reason: str
    status: int
    """Of HTTP, when the head was not out yet."""
    code: str
    """Of gRPC."""
    script: Script | None = None
    provider: str = "lab"
    message: str = ""
    """Words that must be passed on."""
    is_silent: bool = False
    """It is told by a time limit, and touches no connection."""
    spares_connection: bool = True
    """Other streams of the same connection go on."""
    takes_bytes: int | None = None
    """The most that may be read of the provider's answer."""


BEFORE_CONTENT = [
    Fault("connect_by_refusal", "UPSTREAM_UNREACHABLE", 503, UNAVAILABLE, provider="refusing"),
    Fault("connect_by_wrong_certificate", "UPSTREAM_TLS", 502, UNAVAILABLE, provider="untrusted"),
    Fault(
        "connect_by_silence", "CONNECT_TIMEOUT", 503, UNAVAILABLE, provider="mute", is_silent=True
    ),
    Fault("before_headers_by_reset", "UPSTREAM_RESET", 503, UNAVAILABLE, reset(INTERNAL_ERROR)),
    Fault(
        "before_headers_by_close",
        "UPSTREAM_RESET",
        503,
        UNAVAILABLE,
        cut(),
        spares_connection=False,
    ),
    Fault(
        "before_headers_by_abort",
        "UPSTREAM_RESET",
        503,
        UNAVAILABLE,
        cut(abort=True),
        spares_connection=False,
    ),
    Fault(
        "before_headers_by_goaway",
        "UPSTREAM_REFUSED_STREAM",
        503,
        UNAVAILABLE,
        goaway(processed=False),
        spares_connection=False,
    ),
    Fault(
        "before_headers_by_refused_stream",
        "UPSTREAM_REFUSED_STREAM",
        503,
        UNAVAILABLE,
        reset(REFUSED_STREAM),
    ),
    Fault(
        "before_headers_by_silence", "FIRST_TOKEN_TIMEOUT", 504, DEADLINE, hang(), is_silent=True
    ),
    Fault(
        "after_headers_by_reset",
        "UPSTREAM_RESET",
        503,
        UNAVAILABLE,
        reset(INTERNAL_ERROR, after=()),
    ),
    Fault(
        "after_headers_by_close",
        "UPSTREAM_RESET",
        503,
        UNAVAILABLE,
        cut(after=()),
        spares_connection=False,
    ),
    Fault(
        "after_headers_by_silence",
        "FIRST_TOKEN_TIMEOUT",
        504,
        DEADLINE,
        headers_then_hang(),
        is_silent=True,
    ),
    Fault(
        "after_headers_by_role_only",
        "FIRST_TOKEN_TIMEOUT",
        504,
        DEADLINE,
        stream_chunks([role_only()], end=False),
        is_silent=True,
    ),
    Fault(
        "after_headers_by_comments_only",
        "FIRST_TOKEN_TIMEOUT",
        504,
        DEADLINE,
        endless_comments(),
        is_silent=True,
    ),
    Fault(
        "after_headers_by_slow_drip",
        "FIRST_TOKEN_TIMEOUT",
        504,
        DEADLINE,
        endless_drip(),
        is_silent=True,
    ),
    Fault(
        "after_headers_by_endless_line",
        "UPSTREAM_EVENT_TOO_LARGE",
        502,
        UNAVAILABLE,
        endless_line(),
        takes_bytes=3 << 20,
    ),
    Fault("after_headers_by_empty_body", "UPSTREAM_TRUNCATED", 502, UNAVAILABLE, answer(200)),
    Fault(
        "after_headers_by_end_after_role",
        "UPSTREAM_TRUNCATED",
        502,
        UNAVAILABLE,
        stream_chunks([role_only()]),
    ),
    Fault(
        "after_headers_by_done_alone", "UPSTREAM_TRUNCATED", 502, UNAVAILABLE, stream_chunks([DONE])
    ),
    Fault(
        "after_headers_by_html",
        "UPSTREAM_PROTOCOL",
        502,
        UNAVAILABLE,
        answer(200, HTML, [("content-type", "text/html")]),
    ),
    Fault(
        "after_headers_by_broken_json",
        "UPSTREAM_PROTOCOL",
        502,
        UNAVAILABLE,
        stream_chunks([b'data: {"choices":[{"del\n\n']),
    ),
    Fault(
        "after_headers_by_error_document",
        "UPSTREAM_FAILED",
        503,
        UNAVAILABLE,
        json_answer(200, error_body()),
        message="The engine is on fire",
    ),
    Fault(
        "after_headers_by_error_event",
        "UPSTREAM_FAILED",
        503,
        UNAVAILABLE,
        stream_chunks([role_only(), error_event()]),
        message="The engine is on fire",
    ),
    Fault(
        "status_by_500",
        "UPSTREAM_FAILED",
        503,
        UNAVAILABLE,
        json_answer(500, error_body()),
        message="The engine is on fire",
    ),
    Fault("status_by_502_html", "UPSTREAM_FAILED", 503, UNAVAILABLE, answer(502, HTML)),
    Fault(
        "status_by_529",
        "UPSTREAM_OVERLOADED",
        503,
        UNAVAILABLE,
        json_answer(529, error_body("Overloaded")),
        message="Overloaded",
    ),
    Fault(
        "status_by_429",
        "UPSTREAM_RATE_LIMITED",
        429,
        EXHAUSTED,
        json_answer(429, error_body("Slow down")),
        message="Slow down",
    ),
    Fault(
        "status_by_402",
        "UPSTREAM_QUOTA_EXHAUSTED",
        429,
        PRECONDITION,
        json_answer(402, error_body("No money left")),
        message="No money left",
    ),
    Fault(
        "status_by_401",
        "UPSTREAM_MISCONFIGURED",
        503,
        UNAVAILABLE,
        json_answer(401, error_body("Wrong credentials")),
        message="Wrong credentials",
    ),
    Fault(
        "status_by_redirect",
        "UPSTREAM_REDIRECT",
        502,
        UNAVAILABLE,
        answer(307, headers=[("location", "https://127.0.0.1:1/elsewhere")]),
    ),
]

AFTER_CONTENT = [
    Fault(
        "mid_stream_by_reset",
        "UPSTREAM_RESET",
        503,
        UNAVAILABLE,
        reset(INTERNAL_ERROR, after=[word("One")]),
    ),
    Fault(
        "mid_stream_by_close",
        "UPSTREAM_RESET",
        503,
        UNAVAILABLE,
        cut(after=[word("One")]),
        spares_connection=False,
    ),
    Fault(
        "mid_stream_by_abort",
        "UPSTREAM_RESET",
        503,
        UNAVAILABLE,
        cut(after=[word("One")], abort=True),
        spares_connection=False,
    ),
    Fault(
        "mid_stream_by_stall",
        "STREAM_STALLED",
        504,
        DEADLINE,
        stream_chunks([word("One")], end=False),
        is_silent=True,
    ),
    Fault(
        "mid_stream_by_comments",
        "STREAM_STALLED",
        504,
        DEADLINE,
        endless_comments(word("One")),
        is_silent=True,
    ),
    Fault(
        "mid_stream_by_slow_drip",
        "STREAM_STALLED",
        504,
        DEADLINE,
        endless_drip(word("One")),
        is_silent=True,
    ),
    Fault(
        "mid_stream_by_endless_line",
        "UPSTREAM_EVENT_TOO_LARGE",
        502,
        UNAVAILABLE,
        endless_line(word("One")),
        takes_bytes=3 << 20,
    ),
    Fault(
        "mid_stream_by_end_without_finish",
        "UPSTREAM_TRUNCATED",
        502,
        UNAVAILABLE,
        stream_chunks([word("One")]),
    ),
    Fault(
        "mid_stream_by_done_without_finish",
        "UPSTREAM_TRUNCATED",
        502,
        UNAVAILABLE,
        stream_chunks([word("One"), DONE]),
    ),
    Fault(
        "mid_stream_by_truncated_json",
        "UPSTREAM_TRUNCATED",
        502,
        UNAVAILABLE,
        stream_chunks([word("One"), word(" two")[:40]]),
    ),
    Fault(
        "mid_stream_by_broken_json",
        "UPSTREAM_PROTOCOL",
        502,
        UNAVAILABLE,
        stream_chunks([word("One"), word(" two")[:40] + b"\n\n"]),
    ),
    Fault(
        "mid_stream_by_html",
        "UPSTREAM_PROTOCOL",
        502,
        UNAVAILABLE,
        stream_chunks([word("One"), b"data: " + HTML + b"\n\n"]),
    ),
    Fault(
        "mid_stream_by_error_event",
        "UPSTREAM_FAILED",
        503,
        UNAVAILABLE,
        stream_chunks([word("One"), error_event()]),
        message="The engine is on fire",
    ),
    Fault(
        "mid_stream_by_error_finish",
        "UPSTREAM_FAILED",
        503,
        UNAVAILABLE,
        stream_chunks([word("One"), chunk(finish="error")]),
    ),
]


def by_name(faults: Sequence[Fault]) -> list[Any]:
    return [pytest.param(fault, id=fault.name) for fault in faults]


# --- the world ------------------------------------------------------------------------------------


@dataclass
class World:
    """A relay, a provider that misbehaves, a spare one, and generations on the side."""

    relay: RelayUnderTest
    lab: H2Server
    spare: H2Server
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Set to let the generations on the side come to their end."""

    def misbehave(self, fault: Fault) -> None:
        """From now on the fault's provider does what the fault says."""
        if fault.script is not None:
            self.lab.routes[CHAT] = fault.script

    async def ask(self, fault: Fault, kind: str) -> dict[str, Reply]:
        """Ask over every frontend; `kind` is `alone` or `pair` (with a fallback).

        Limits are short only where one is to tell of the fault: machines stand still at times.
        """
        model = f"{kind}-{fault.provider}"
        if not fault.is_silent:
            model += "-patient"
        else:  # the waits may overlap
            replies = await asyncio.gather(*(ask(self.relay, model) for ask in ASKERS.values()))
            return dict(zip(ASKERS, replies, strict=True))
        return {name: await ask(self.relay, model) for name, ask in ASKERS.items()}

    @asynccontextmanager
    async def others(self, fault: Fault) -> AsyncIterator[None]:
        """Generations that began before the block and must end well after it: one at another
        provider, and one on the fault's own connection where the fault leaves it alone."""
        models = ["aside", *(["aside-lab"] if fault.spares_connection else [])]
        async with self.relay.talk() as talk:
            for model in models:
                await talk.start(model, model=model)
                await talk.says("One", model)
            yield
            self.gate.set()
            for model in models:
                ended = await talk.ended(model)
                assert ended.end is not None
                assert ended.end.outcome == Outcome.OUTCOME_COMPLETED, f"{model}: {ended.end}"
                assert ended.text == "One two"


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A listener that takes connections and says nothing."""
    await reader.read(-1)
    writer.close()


@pytest.fixture
async def world(
    upstream: H2Server, spare: H2Server, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    monkeypatch.setenv("ADVERSITY_KEY", PROVIDER_KEY)
    mute = await asyncio.start_server(silent, "127.0.0.1", 0)
    mute_port = mute.sockets[0].getsockname()[1]
    row = {"ca_file": ca_file, "auth": "bearer", "api_key": "${ADVERSITY_KEY}"}
    cold = {**row, "warm_connections": 0}
    providers = {
        "lab": provider(upstream.url, **row),
        "spare": provider(spare.url, **row),
        "aside": provider(f"{spare.url}/aside", **row),
        "aside-lab": provider(f"{upstream.url}/aside", **row),
        "refusing": provider("https://127.0.0.1:1", **cold),
        "untrusted": provider(upstream.url, auth="none", warm_connections=0),
        "mute": provider(f"https://127.0.0.1:{mute_port}", **cold),
    }
    limits = {"connect_ms": LIMIT_MS // 2, "first_token_ms": LIMIT_MS, "inter_token_ms": LIMIT_MS}
    models: dict[str, Any] = {
        name: {"candidates": [{"provider": name, "model": "m"}]} for name in ("aside", "aside-lab")
    }
    for name in ("lab", "refusing", "untrusted", "mute"):
        for suffix, timeouts in (("", limits), ("-patient", {})):
            alone = {"candidates": [{"provider": name, "model": "m"}], "timeouts": timeouts}
            spared = {**alone, "fallbacks": [{"provider": "spare", "model": "m"}]}
            models[f"alone-{name}{suffix}"] = alone
            models[f"pair-{name}{suffix}"] = spared
    spare.routes[CHAT] = stream_chunks(answer_chunks("spare", " words"))
    async with relay_under_test({"providers": providers, "models": models}) as relay:
        made = World(relay, upstream, spare)

        async def aside(stream: ServerStream) -> None:
            await stream.send_headers()
            await stream.send(word("One"))
            await made.gate.wait()
            await stream.send(word(" two"))
            await stream.send(chunk(finish="stop") + DONE, end=True)

        upstream.routes[ASIDE] = spare.routes[ASIDE] = aside
        yield made
        await relay.settled()
    mute.close()
    await mute.wait_closed()


def check_secrecy(text: str) -> None:
    """Nothing of how we reach the provider: key, address, certificate, edge's markup."""
    assert PROVIDER_KEY not in text
    assert "127.0.0.1" not in text
    assert "certificate" not in text.lower()
    assert "edge-7" not in text


# --- before the first content ---------------------------------------------------------------------


@pytest.mark.parametrize("fault", by_name(BEFORE_CONTENT))
async def test_fault_before_content_is_mended_by_the_fallback(world: World, fault: Fault) -> None:
    world.misbehave(fault)
    async with world.others(fault):
        began_s = asyncio.get_running_loop().time()
        replies = await world.ask(fault, "pair")
        took_s = asyncio.get_running_loop().time() - began_s
    for name, reply in replies.items():
        assert reply.is_clean, f"{name}: {reply}"
        assert reply.text == "spare words", name
        assert reply.provider == "spare", name
        # A 429 is remembered: whoever comes after it is not sent there to hear it again.
        assert reply.attempts >= (1 if fault.name == "status_by_429" else 2), name
        check_secrecy(reply.everything)
    # Silence costs its own limit and no more; all four waited for it together.
    assert took_s < LIMIT_MS / 1000 + 2.0


@pytest.mark.parametrize("fault", by_name(BEFORE_CONTENT))
async def test_fault_before_content_without_a_fallback_is_told(world: World, fault: Fault) -> None:
    world.misbehave(fault)
    async with world.others(fault):
        replies = await world.ask(fault, "alone")
    for name, reply in replies.items():
        wanted = fault.code if name in ("generate", "converse") else str(fault.status)
        assert (reply.reason, reply.code) == (fault.reason, wanted), f"{name}: {reply}"
        assert reply.text == "", name
        assert fault.message in reply.message, name
        check_secrecy(reply.everything)
    if fault.takes_bytes is not None:
        for stream in world.lab.requests(CHAT):
            assert stream.sent_bytes < fault.takes_bytes


# --- after the first content ----------------------------------------------------------------------


@pytest.mark.parametrize("fault", by_name(AFTER_CONTENT))
async def test_fault_after_content_is_told_and_never_mended(world: World, fault: Fault) -> None:
    world.misbehave(fault)
    async with world.others(fault):
        replies = await world.ask(fault, "pair")
    for name, reply in replies.items():
        assert reply.reason == fault.reason, f"{name}: {reply}"
        assert fault.message in reply.message, name
        assert reply.attempts == 1, name
        check_secrecy(reply.everything)
        if name == "json":  # nothing of it was sent, so the failure has its own status
            assert reply.code == str(fault.status)
        else:
            assert reply.text == "One", name
    assert replies["sse"].code == "", "the head was out: the error is an event"
    assert replies["generate"].code == replies["converse"].code == fault.code
    # What was heard is counted.
    assert replies["generate"].usage["is_estimated"]
    assert replies["generate"].usage["completion_tokens"] == 1
    assert len(world.lab.requests(CHAT)) == len(ASKERS)
    assert not world.spare.requests(CHAT)
    if fault.takes_bytes is not None:
        for stream in world.lab.requests(CHAT):
            assert stream.sent_bytes < fault.takes_bytes


async def test_goaway_below_a_running_stream_is_told(world: World) -> None:
    async def script(stream: ServerStream) -> None:
        await stream.send_headers()
        await stream.send(word("One"))
        stream.connection.goaway(last_stream_id=max(0, stream.stream_id - 2))

    world.lab.routes[CHAT] = script
    for name, ask in ASKERS.items():
        reply = await ask(world.relay, "pair-lab")
        # Some engines take it for the end of the body, which the codec does not.
        assert reply.reason in ("UPSTREAM_RESET", "UPSTREAM_TRUNCATED"), f"{name}: {reply}"
    assert not world.spare.requests(CHAT)


# --- what is odd and not wrong --------------------------------------------------------------------


async def everyone_reads(world: World, script: Script, text: str, *, at_once: bool = False) -> None:
    """The answer is whole and exactly this, over every frontend."""
    world.lab.routes[CHAT] = script
    if at_once:
        asked = [ask(world.relay, "alone-lab") for ask in ASKERS.values()]
        replies = await asyncio.gather(*asked)
    else:
        replies = [await ask(world.relay, "alone-lab") for ask in ASKERS.values()]
    for name, reply in zip(ASKERS, replies, strict=True):
        assert reply.is_clean, f"{name}: {reply.reason} {reply.message}"
        assert reply.text == text, name


async def test_goaway_above_a_running_stream_lets_it_finish(world: World) -> None:
    whole = stream_chunks(answer_chunks("One", " two"))
    await everyone_reads(world, goaway(processed=True, code=NO_ERROR, then=whole), "One two")


async def test_stream_left_open_after_done_holds_nobody_up(world: World) -> None:
    whole = stream_chunks(answer_chunks("One", " two"), end=False)
    began_s = asyncio.get_running_loop().time()
    await everyone_reads(world, whole, "One two")
    assert asyncio.get_running_loop().time() - began_s < LIMIT_MS / 1000
    # Its last frame is waited for, in the background and not for ever.
    await world.relay.settled()
    streams = world.lab.requests(CHAT)
    await world.lab.until(lambda: all(stream.reset_code is not None for stream in streams))
    assert {stream.reset_code for stream in streams} == {CANCEL}


@pytest.mark.parametrize("engine", ["wreq", "pyqwest", "httpx"])
async def test_http1_answer_that_was_whole_before_its_connection_broke_is_whole(
    engine: str,
) -> None:
    """Cut between two chunks: all but the end marker had come."""

    async def script(exchange: h1_server.Exchange) -> None:
        head = ("content-type", "text/event-stream")
        await exchange.head(200, head, ("transfer-encoding", "chunked"))
        for part in answer_chunks("One", " two")[:-1]:
            await exchange.chunk(part)
        exchange.connection.close()

    async with h1_server.H1Server() as server:
        server.routes[CHAT] = script
        row = provider(server.url, http="h1", warm_connections=0)
        document = {"providers": {"lab": row}, "transport": {"engine": engine}}
        async with relay_under_test(document) as relay:
            for name, ask_it in ASKERS.items():
                reply = await ask_it(relay, "lab/m")
                assert reply.is_clean, f"{name}: {reply.reason} {reply.message}"
                assert reply.text == "One two", name


async def test_huge_token_passes_as_it_is(world: World) -> None:
    huge = "lorem ipsum " * 70_000
    await everyone_reads(world, stream_chunks(answer_chunks("One ", huge, "two")), f"One {huge}two")


async def test_slow_answer_that_makes_progress_is_waited_for(world: World) -> None:
    # Longer in all than every limit between two events, and shorter at each.
    words = [f"w{i} " for i in range(8)]
    script = stream_chunks(answer_chunks(*words), gap_s=LIMIT_MS / 1000 / 6)
    await everyone_reads(world, script, "".join(words), at_once=True)


async def test_characters_cut_between_frames_are_joined(world: World) -> None:
    body = b"".join(answer_chunks("Gr\u00fc\u00dfe ", "\U0001f600\u4f60\u597d"))
    frames = [body[at : at + 1] for at in range(len(body))]
    await everyone_reads(world, stream_chunks(frames), "Gr\u00fc\u00dfe \U0001f600\u4f60\u597d")


async def test_invalid_utf8_is_replaced(world: World) -> None:
    broken = word("One @@ two").replace(b"@@", b"\xff\xc3")
    parts = [role_only(), broken, chunk(finish="stop"), DONE]
    await everyone_reads(world, stream_chunks(parts), "One \ufffd\ufffd two")


async def test_connections_closed_while_idle_cost_nobody_an_answer(world: World) -> None:
    whole = stream_chunks(answer_chunks("One"))
    await everyone_reads(world, whole, "One")
    for connection in world.lab.open_connections:
        connection.close()
    await everyone_reads(world, whole, "One")


async def test_usage_that_is_absent_is_estimated_and_marked(world: World) -> None:
    world.lab.routes[CHAT] = stream_chunks(answer_chunks("One", " two", " three"))
    generated = await ASKERS["generate"](world.relay, "alone-lab")
    assert generated.usage["is_estimated"]
    streamed = await ask_sse(world.relay, "alone-lab", x_relay_timeline="1")
    assert streamed.usage["x_relay"]["usage_estimated"]
    assert not streamed.usage["x_relay"]["usage_final"]
    counts = {name: streamed.usage[name] for name in ("prompt_tokens", "completion_tokens")}
    assert counts == {name: generated.usage[name] for name in counts}
    assert 0 < counts["completion_tokens"] < 10
    assert (await ASKERS["json"](world.relay, "alone-lab")).usage["total_tokens"] > 0


async def test_usage_that_is_given_is_passed_on(world: World) -> None:
    usage = {"prompt_tokens": 11, "completion_tokens": 0, "total_tokens": 11}
    last = chunk(finish="stop", usage=usage)
    world.lab.routes[CHAT] = stream_chunks([word("One"), last, DONE])
    for name, ask in ASKERS.items():
        reply = await ask(world.relay, "alone-lab")
        assert reply.usage["completion_tokens"] == 0, f"{name}: a zero is a figure, not a gap"
        assert reply.usage["total_tokens"] == 11, name
        assert not reply.usage.get("is_estimated"), name


# --- hints, keys, redirects -----------------------------------------------------------------------

DATE = ("date", "Wed, 11 Nov 2026 11:11:11 GMT")


@pytest.mark.parametrize(
    ("headers", "message", "hint_s"),
    [
        pytest.param([("retry-after", "7")], "", 7, id="seconds"),
        pytest.param([("retry-after", "0")], "", 0, id="zero"),
        pytest.param([("retry-after-ms", "1500")], "", 1.5, id="milliseconds"),
        pytest.param([("retry-after", "1000000000")], "", 60, id="thirty_years"),
        pytest.param([("retry-after", "-5")], "", 0, id="negative"),
        pytest.param([DATE, ("retry-after", "Wed, 11 Nov 2026 11:11:31 GMT")], "", 20, id="date"),
        pytest.param([("retry-after", "soon")], "", None, id="words"),
        pytest.param([], "Please try again in 2.5s.", 2.5, id="message"),
        pytest.param([], "", None, id="nothing"),
    ],
)
async def test_retry_hint_reaches_the_client_clamped(
    world: World, headers: list[tuple[str, str]], message: str, hint_s: float | None
) -> None:
    world.lab.routes[CHAT] = json_answer(429, error_body(message or "Slow down"), *headers)
    for name in ("sse", "json"):
        reply = await ASKERS[name](world.relay, "alone-lab")
        assert reply.code == "429"
        # Whole seconds, and never "at once": a client that obeys must not hammer.
        wanted = None if hint_s is None else max(1, math.ceil(hint_s))
        assert reply.retry_after_s == wanted, name
    result = await world.relay.generate(start("g", "alone-lab"))
    details = details_of(status_of(result.error))
    if hint_s is None:
        assert "RetryInfo" not in details
    else:
        delay = details["RetryInfo"].retry_delay
        assert delay.seconds + delay.nanos / 1e9 == pytest.approx(hint_s)


async def test_our_key_is_nowhere_when_the_provider_refuses_it(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    said = f"Incorrect API key provided: {PROVIDER_KEY}. Authorization: Bearer {PROVIDER_KEY}"
    world.lab.routes[CHAT] = json_answer(401, error_body(said), ("x-key", PROVIDER_KEY))
    for name, ask in ASKERS.items():
        reply = await ask(world.relay, "alone-lab")
        assert reply.reason == "UPSTREAM_MISCONFIGURED", name
        assert PROVIDER_KEY not in reply.everything, name
    assert world.lab.requests(CHAT)[0].header("authorization") == f"Bearer {PROVIDER_KEY}"
    async with world.relay.admin() as admin:
        assert PROVIDER_KEY not in (await admin.get("/admin/state")).text
    logged = capsys.readouterr()
    assert "UPSTREAM_MISCONFIGURED" in logged.out + logged.err
    assert PROVIDER_KEY not in logged.out + logged.err


async def test_long_error_in_any_script_keeps_its_status(world: World) -> None:
    """A character of three bytes takes nine in the text of a gRPC status, and clients drop a status
    that is over their limit for trailers."""
    said = "请求参数错误" * 300
    world.lab.routes[CHAT] = json_answer(400, error_body(said))
    result = await world.relay.generate(start("g", "alone-lab"))
    assert result.error is not None
    assert result.error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert said.startswith(str(result.error.details()).removesuffix("..."))
    status = status_of(result.error)
    assert reason_of(status) == "UPSTREAM_REJECTED"
    assert said.startswith(status.message.removesuffix("..."))
    assert result.answer.end is not None
    assert result.answer.end.error.message == said, "in the frame it is whole"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_never_followed(world: World, status: int) -> None:
    elsewhere = f"{world.spare.url}/elsewhere"
    world.lab.routes[CHAT] = answer(status, headers=[("location", elsewhere)])
    for name, ask in ASKERS.items():
        reply = await ask(world.relay, "alone-lab")
        assert reply.reason == "UPSTREAM_REDIRECT", name
        assert "elsewhere" not in reply.everything, name
    assert not world.spare.requests("/elsewhere")


# --- budgets of the request -----------------------------------------------------------------------


async def test_budget_of_the_request_ends_the_whole_race(world: World) -> None:
    world.lab.routes[CHAT] = world.spare.routes[CHAT] = hang()
    reply = await ask_sse(world.relay, "pair-lab", x_relay_first_token_ms="100")
    assert (reply.reason, reply.code) == ("FIRST_TOKEN_TIMEOUT", "504")
    assert reply.attempts == 1
    result = await world.relay.generate(start("g", "pair-lab", budgets=Budgets(first_token_ms=100)))
    assert reason_of(status_of(result.error)) == "FIRST_TOKEN_TIMEOUT"
    await world.lab.until(
        lambda: all(stream.reset_code == CANCEL for stream in world.lab.requests(CHAT))
    )


async def test_deadline_of_the_rpc_holds_like_a_budget(world: World) -> None:
    world.lab.routes[CHAT] = stream_chunks([word("One")], end=False)
    result = await world.relay.generate(start("g", "alone-lab"), timeout_s=0.3)
    assert result.error is not None
    assert result.error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert result.text == "One"
    stream = await world.lab.request(CHAT)
    await world.lab.until(lambda: stream.reset_code == CANCEL)


async def test_first_segment_of_the_request_ends_an_answer_without_a_sentence(world: World) -> None:
    endless = stream_chunks([word("w ")] * 10_000, gap_s=0.02)
    world.lab.routes[CHAT] = endless
    streamed = await ask_sse(world.relay, "alone-lab", x_relay_first_segment_ms="300")
    assert streamed.reason == "FIRST_SEGMENT_TIMEOUT"
    assert streamed.text.startswith("w w ")
    world.lab.routes[CHAT] = hang()
    nothing = await ask_sse(world.relay, "alone-lab", x_relay_first_segment_ms="50")
    assert (nothing.code, nothing.reason) == ("504", "FIRST_SEGMENT_TIMEOUT")


async def test_total_of_the_request_ends_a_stream_that_goes_on(world: World) -> None:
    endless = stream_chunks([word("w ")] * 10_000, gap_s=0.02)
    world.lab.routes[CHAT] = endless
    streamed = await ask_sse(world.relay, "alone-lab", x_relay_total_ms="300")
    assert streamed.reason == "DEADLINE_EXCEEDED"
    assert streamed.text.startswith("w w ")
    result = await world.relay.generate(start("g", "alone-lab", budgets=Budgets(total_ms=300)))
    assert reason_of(status_of(result.error)) == "DEADLINE_EXCEEDED"
    assert result.text.startswith("w w ")
