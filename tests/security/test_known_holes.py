"""Holes that other gateways and their libraries had, tried on a whole relay, byte by byte.

SECURITY.md has the table: which hole, what it taught, and which test holds it shut. Here are those
that no other file tries.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import h2.config
import h2.connection
import h2.events
import pytest
from rtrelay.v1 import relay_pb2
from sqlalchemy import Engine, event

from relay.governance.token_text import mint
from tests.fakes.h1_server import H1Server
from tests.fakes.h2_server import H2Server, stream_chunks
from tests.fakes.keyed_relay import KeyedRelay, keyed_relay
from tests.fakes.relay_under_test import answer_chunks, chat_body, provider
from tests.security.test_ssrf import trap_beside
from tests.transport.conftest import authority, ca_file

__all__ = ["authority", "ca_file"]

pytestmark = pytest.mark.sockets

CHAT: Final = "/v1/chat/completions"
ANSWERED: Final = b"HTTP/1.1 200"


@pytest.fixture
async def upstream() -> AsyncIterator[H2Server]:
    async with H2Server() as server:
        server.routes[CHAT] = stream_chunks(answer_chunks("Hello"))
        yield server


@asynccontextmanager
async def _relay(folder: Path, upstream: H2Server) -> AsyncIterator[KeyedRelay]:
    row = provider(upstream.url, http="h2", models=["m"], passthrough=True)
    document = {
        "server": {"grpc": {"reflection": True}},
        "providers": {"lab": row},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    async with keyed_relay(folder, document) as keyed:
        yield keyed


@pytest.fixture
async def keyed(tmp_path: Path, upstream: H2Server) -> AsyncIterator[KeyedRelay]:
    async with _relay(tmp_path, upstream) as keyed:
        gate = keyed.relay.worker.services.gate
        gate._throttle._burst = 1e9  # type: ignore[attr-defined]  # one address is everybody here
        yield keyed


async def said(port: int, data: bytes) -> bytes:
    """Everything that is answered to these bytes, until the relay closes or is silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(data)
        while piece := await asyncio.wait_for(reader.read(65_536), 5):
            answer += piece
            if b"\r\n\r\n" in answer and b"connection: close" not in data.lower():
                break
    except (ConnectionResetError, TimeoutError):
        pass
    finally:
        writer.close()
    return answer


def get(target: bytes, *lines: bytes) -> bytes:
    head = b"\r\n".join((b"GET " + target + b" HTTP/1.1", *lines, b"connection: close"))
    return head + b"\r\n\r\n"


# --- CVE-2026-48710 and what is like it: who is asked, and for what, is read in one way -----------

HOSTS: Final = (
    *(b"x?", b"x/?", b"x/healthz?", b"x/healthz#", b"x/healthz;", b"healthz/", b"/healthz"),
    *(b"x:80/healthz?", b"x\\healthz", b"x@healthz", b"[::1]/healthz?", b"", b"x y", b"\xff"),
)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("path", [b"/v1/models", b"/pass/lab/files", b"/metrics"])
async def test_no_host_makes_another_path_of_it(
    keyed: KeyedRelay, upstream: H2Server, host: bytes, path: bytes
) -> None:
    answer = await said(keyed.relay.worker.http_port, get(path, b"host: " + host))
    assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 400")), answer[:200]
    assert not upstream.requests(CHAT)


@pytest.mark.parametrize("host", HOSTS)
async def test_no_host_opens_the_administration(keyed: KeyedRelay, host: bytes) -> None:
    for path in (b"/admin/v1/keys", b"/admin/state", b"/metrics"):
        answer = await said(keyed.relay.worker.admin_port, get(path, b"host: " + host))
        assert not answer.startswith(ANSWERED), (path, answer[:200])
        assert b'"targets"' not in answer


@pytest.mark.parametrize(
    "target",
    [
        b"http://x/v1/models",
        b"http://x/healthz/../v1/models",
        b"/healthz/../v1/models",
        b"/healthz/%2e%2e/v1/models",
        b"/healthz;/v1/models",
        b"/healthz%00/v1/models",
        b"//healthz/v1/models",
        b"/./v1/models",
        b"v1/models",
        b"*",
        b"healthz",
        b"/healthz\\..\\v1/models",
        b"/v1/models?x=/healthz",
        b"/v1/models#/healthz",
    ],
)
async def test_no_form_of_a_path_is_served_without_a_key(keyed: KeyedRelay, target: bytes) -> None:
    answer = await said(keyed.relay.worker.http_port, get(target, b"host: relay"))
    assert b"fast" not in answer
    assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 400")) or not answer, answer[:200]


@pytest.mark.parametrize(
    "lines",
    [
        (b"host: a", b"x_api_key: KEY"),
        (b"host: a", b"x-api_key: KEY"),
        (b"host: a", b"authorization_: Bearer KEY"),
        (b"host: a", b"Authorization : Bearer KEY"),
        (b"host: a", b" authorization: Bearer KEY"),
        (b"host: a", b"x: y\nauthorization: Bearer KEY"),
        (b"host: a", b"x: y\rauthorization: Bearer KEY"),
        (b"host: a", b"x: y\x00authorization: Bearer KEY"),
        (b"host: a", b"x: y", b"\tauthorization: Bearer KEY"),
    ],
)
async def test_no_header_becomes_a_key_that_is_none(
    keyed: KeyedRelay, lines: tuple[bytes, ...]
) -> None:
    """`_` for `-`, blanks, lines that hide in lines: what a proxy in front has not seen as a key
    is none here. A bare LF ends a line for some: then it is a line of its own for everybody."""
    key = (await keyed.key()).encode()
    data = get(b"/v1/models", *(line.replace(b"KEY", key) for line in lines))
    answer = await said(keyed.relay.worker.http_port, data)
    if lines[1].startswith(b"x: y\n"):
        assert answer.startswith((b"HTTP/1.1 400", ANSWERED))
        return
    assert not answer.startswith(ANSWERED), answer[:300]
    assert key not in answer


async def test_a_good_key_in_its_place_is_served(keyed: KeyedRelay) -> None:
    """Else the others prove nothing."""
    key = (await keyed.key()).encode()
    for line in (b"authorization: Bearer " + key, b"x-api-key: " + key):
        data = get(b"/v1/models", b"host: a", line)
        assert (await said(keyed.relay.worker.http_port, data)).startswith(ANSWERED)


# --- CVE-2026-33186: `:path` without its slash, two authorities -----------------------------------


async def h2_answer(port: int, headers: list[tuple[str, str]]) -> dict[str, str]:
    """Headers and trailers of what is answered; `reset` where it was."""
    config = h2.config.H2Configuration(
        client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    stream = connection.get_next_available_stream_id()
    connection.send_headers(stream, headers)
    message = relay_pb2.GenerateRequest().SerializeToString()
    frame = b"\0" + len(message).to_bytes(4, "big") + message
    connection.send_data(stream, frame, end_stream=True)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    told: dict[str, str] = {}
    try:
        writer.write(connection.data_to_send())
        while data := await asyncio.wait_for(reader.read(65_536), 5):
            for happened in connection.receive_data(data):
                match happened:
                    case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                        told |= {_text(name): _text(value) for name, value in happened.headers}
                    case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                        return {"reset": "yes", **told}
                    case h2.events.StreamEnded():
                        return told
            writer.write(connection.data_to_send())
    except (ConnectionResetError, TimeoutError):
        pass
    finally:
        writer.close()
    return told or {"reset": "yes"}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def grpc_headers(path: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "relay"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *more,
    ]


METHODS: Final = (
    "rtrelay.v1.RelayService/Generate",
    "rtrelay.v1.RelayService/Converse",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
OK, UNIMPLEMENTED, INTERNAL, UNAUTHENTICATED = "0", "12", "13", "16"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "//{}",
        "/{}/",
        "/x/../{}",
        "/grpc.health.v1.Health/../{}",
        "/{}?",
        "/{}%00",
        "http://x/{}",
    ],
)
async def test_no_path_but_the_registered_one_is_an_rpc(
    keyed: KeyedRelay, upstream: H2Server, method: str, form: str
) -> None:
    key = await keyed.key()
    for more in ((), (("authorization", f"Bearer {key}"),)):
        answer = await h2_answer(
            keyed.relay.worker.grpc_port, grpc_headers(form.format(method), *more)
        )
        status = answer.get("grpc-status", "")
        assert "reset" in answer or status == UNIMPLEMENTED or answer[":status"] != "200", answer
    assert not upstream.requests(CHAT)


async def test_the_registered_one_is_and_asks_for_the_key(keyed: KeyedRelay) -> None:
    for method in METHODS:
        answer = await h2_answer(keyed.relay.worker.grpc_port, grpc_headers(f"/{method}"))
        assert answer["grpc-status"] == UNAUTHENTICATED, answer
    key = await keyed.key()
    bearer = ("authorization", f"Bearer {key}")
    answer = await h2_answer(keyed.relay.worker.grpc_port, grpc_headers(f"/{METHODS[0]}", bearer))
    assert answer["grpc-status"] not in (UNAUTHENTICATED, UNIMPLEMENTED)


@pytest.mark.parametrize(
    "more",
    [
        (("host", "elsewhere"),),
        (("host", "x/grpc.health.v1.Health/Check?"),),
        ((":authority", "second"),),
        ((":path", "/grpc.health.v1.Health/Check"),),
        (("x-forwarded-host", "elsewhere"), ("x-original-url", "/grpc.health.v1.Health/Check")),
    ],
)
async def test_a_second_authority_or_path_skips_no_key(
    keyed: KeyedRelay, upstream: H2Server, more: tuple[tuple[str, str], ...]
) -> None:
    answer = await h2_answer(keyed.relay.worker.grpc_port, grpc_headers(f"/{METHODS[0]}", *more))
    # Of two paths one counts, for the key as for the method: health is open, and nothing else is.
    assert answer.get("grpc-status", INTERNAL) in (OK, INTERNAL, UNAUTHENTICATED), answer
    assert not upstream.requests(CHAT)


# --- CVE-2026-42208, GHSA-h6m6-jj8v-94jj: a key reaches no SQL ------------------------------------

INJECTIONS: Final = (
    "' OR 1=1 --",
    "x'; DROP TABLE keys; --",
    "rtk_' UNION SELECT * FROM credentials --",
    "%",
    "_" * 64,
    "rtk_%25%27",
    "\\'; --",
    "x" * 5000,
)


class Statements:
    """SQL that is sent while it is entered, of every engine of this process."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def _note(self, conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self.seen.append(statement)

    def __enter__(self) -> Statements:
        event.listen(Engine, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        event.remove(Engine, "before_cursor_execute", self._note)

    def of_keys(self) -> list[str]:
        """Those that look for whoever has a key."""
        return [text for text in self.seen if "credentials" in text.lower()]


async def test_bad_keys_reach_no_sql(keyed: KeyedRelay) -> None:
    """No read for a checksum that is wrong or an injection, and none for a hundred well-made ones
    either: who is known is in memory. What is read, reads the sync that looks for changes, whose
    question has nothing of any key in it."""
    http = keyed.relay.http
    guesses = [mint("virtual key").text for _ in range(100)]
    broken = [f"{text[:-1]}{'A' if text[-1] != 'A' else 'B'}" for text in guesses]
    with Statements() as statements:
        for bearer in (*INJECTIONS, *broken, *guesses):
            told = await http.get("/v1/models", headers={"authorization": f"Bearer {bearer}"})
            assert told.status_code == 401
        for text in statements.seen:
            assert "UNION" not in text
            assert not any(guess in text for guess in guesses)
    asked = [text for text in statements.of_keys() if "where" in text.lower()]
    assert all("changed" in text.lower() or "revision" in text.lower() for text in asked), asked


async def test_reads_do_not_grow_with_guesses(tmp_path: Path, upstream: H2Server) -> None:
    """At most one read for a hundred bad keys: measured, with the regular look for changes off."""
    row = provider(upstream.url, http="h2", models=["m"])
    document = {"providers": {"lab": row}, "models": {}}
    async with keyed_relay(tmp_path, document, sync_ms=900) as keyed:
        gate = keyed.relay.worker.services.gate
        gate._throttle._burst = 1e9  # type: ignore[attr-defined]
        http = keyed.relay.http
        guesses = [mint("virtual key").text for _ in range(300)]
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with Statements() as statements:
            for bearer in guesses:
                told = await http.get("/v1/models", headers={"authorization": f"Bearer {bearer}"})
                assert told.status_code == 401
        looks = int(loop.time() - began_s) + 2
        assert len(statements.of_keys()) <= looks + len(guesses) // 100


# --- CVE-2026-35030: who is remembered is remembered by the whole of a key ------------------------


async def test_a_key_that_begins_as_a_good_one_is_not_it(keyed: KeyedRelay) -> None:
    key = await keyed.key()
    assert (await keyed.relay.http.get("/v1/models", headers={"x-api-key": key})).is_success
    for at in (5, 20, len(key) // 2, len(key) - 7, len(key) - 1):
        other = key[:at] + ("A" if key[at] != "A" else "B") + key[at + 1 :]
        for bad in (other, key[:at], key + "x", key.swapcase()):
            told = await keyed.relay.http.get("/v1/models", headers={"x-api-key": bad})
            assert told.status_code == 401, at


# --- CVE-2024-6587, CVE-2025-66405, CVE-2026-75871: a caller names no host, at no depth -----------

NAMES: Final = (
    *(
        "base_url",
        "api_base",
        "apiBase",
        "host",
        "url",
        "endpoint",
        "proxy",
        "api_key",
        "model_list",
    ),
    *("user_config", "litellm_params", "extra_body", "extra_headers", "metadata", "config"),
)
HEADERS: Final = (
    *("x-portkey-custom-host", "x-custom-host", "x-forwarded-host"),
    *("x-original-url", "x-rewrite-url", "x-upstream", "forwarded", "proxy"),
)


def nested(url: str, depth: int) -> dict[str, Any]:
    inner: Any = url
    for at in range(depth):
        inner = dict.fromkeys(NAMES, inner) if at < 1 else {NAMES[at % len(NAMES)]: [inner]}
    return dict.fromkeys(NAMES, inner)


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 6])
async def test_a_caller_names_no_host(keyed: KeyedRelay, upstream: H2Server, depth: int) -> None:
    key = await keyed.key()
    async with H1Server() as elsewhere:
        with trap_beside(elsewhere) as trap:
            url = f"http://127.0.0.2:{elsewhere.port}"
            named = nested(url, depth)
            headers = dict.fromkeys(HEADERS, f"127.0.0.2:{elsewhere.port}")
            headers |= {"x-api-key": key, "host": f"127.0.0.2:{elsewhere.port}"}
            for body in (chat_body(), {**chat_body(), **named, "metadata": None}):
                told = await keyed.relay.http.post(CHAT, json=body, headers=headers)
                assert told.status_code in (200, 400), told.text
            for name in NAMES:
                told = await keyed.relay.http.post(
                    CHAT, json={**chat_body(), name: named[name]}, headers=headers
                )
                assert told.status_code in (200, 400), told.text
            assert trap.is_quiet()
    ours = {"x-api-key": key, "x-relay-base-url": "http://127.0.0.2"}
    told = await keyed.relay.http.post(CHAT, json=chat_body(), headers=ours)
    assert told.status_code == 400, "what begins like a header of ours and is none is refused"
    assert upstream.requests(CHAT), "those that were served went where the file says"
    for stream in upstream.requests(CHAT):
        sent = dict(stream.headers)
        assert stream.authority == f"127.0.0.1:{upstream.port}"
        assert "127.0.0.2" not in str(stream.headers)
        assert not sent.keys() & {"host", *HEADERS}


# --- CVE-2025-11203, -0330: health is a word ------------------------------------------------------


async def test_health_names_nobody(keyed: KeyedRelay) -> None:
    for port in (keyed.relay.worker.http_port, keyed.relay.worker.admin_port):
        for path in (b"/healthz", b"/readyz"):
            answer = await said(port, get(path, b"host: 127.0.0.1"))
            body = json.loads(answer.partition(b"\r\n\r\n")[2])
            assert body.keys() <= {"status"}, body
            assert isinstance(body["status"], str)


# --- CVE-2026-25874 and its like: nothing that is sent is run -------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-python-serialize",
        "multipart/form-data; boundary=" + "a" * 5000,
        "application/x-yaml",
        "application/x-msgpack",
        "text/xml",
    ],
)
async def test_only_json_is_read(keyed: KeyedRelay, upstream: H2Server, kind: str) -> None:
    key = await keyed.key()
    pickled = b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94"
    told = await keyed.relay.http.post(
        CHAT, content=pickled, headers={"x-api-key": key, "content-type": kind}
    )
    assert told.status_code in (400, 415)
    assert not upstream.requests(CHAT)
