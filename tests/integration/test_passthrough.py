"""What is handed through: key swapped, headers chosen, bytes as they are, ends that are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from structlog.testing import capture_logs

from tests.fakes.h2_server import CANCEL, H2Server, Script, ServerStream, answer
from tests.fakes.relay_under_test import (
    Document,
    RelayUnderTest,
    eventually,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

OUR_KEY, THEIRS = "sk-provider-0123456789abcdef", "sk-caller-fedcba9876543210"
SPEECH = "/v1/audio/speech"


def row(url: str, ca_file: str, **more: Any) -> Document:
    key = {"headers": {"authorization": f"Bearer {OUR_KEY}"}}
    return {**provider(url, ca_file=ca_file), **key, **more}


def document(upstream: H2Server, ca_file: str, **limits: int) -> Document:
    return {
        "providers": {
            "open": row(upstream.url, ca_file, passthrough=limits or True),
            "shut": row(upstream.url, ca_file),
        }
    }


@pytest.fixture
async def relay(upstream: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    async with relay_under_test(document(upstream, ca_file)) as running:
        yield running
        await running.settled()


async def echo(stream: ServerStream) -> None:
    """Its request, as the body of its answer; a header that is none of the client's business."""
    await stream.send_headers(
        headers=[("content-type", "audio/mpeg"), ("set-cookie", "a=b"), ("x-request-id", "up_1")]
    )
    await stream.send(bytes(stream.body), end=True)


# --- what goes through --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/pass/open/files/f 1", "/v1/files/f 1"])
async def test_every_method(
    relay: RelayUnderTest, upstream: H2Server, method: str, path: str
) -> None:
    upstream.routes["/v1/files/f%201"] = echo
    content = b"\x00\xff bytes" if method in ("POST", "PUT", "PATCH") else b""
    response = await relay.http.request(
        method, path, params={"after": "x", "limit": "2"}, content=content
    )
    assert (response.status_code, response.content) == (200, content)
    (stream,) = upstream.requests("/v1/files/f%201")
    assert (stream.method, stream.path) == (method, "/v1/files/f%201?after=x&limit=2")


async def test_the_key_is_swapped_and_headers_are_chosen(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    upstream.routes[SPEECH] = echo
    given = {
        "authorization": f"Bearer {THEIRS}",
        "api-key": THEIRS,
        "cookie": "a=b",
        "content-type": "application/json",
        "openai-beta": "x=1",
        "x-livekit-worker-token": THEIRS,
        "x-relay-total-ms": "5000",
    }
    with capture_logs() as lines:
        response = await relay.http.post(SPEECH, content=b"{}", headers=given)
        await eventually(lambda: [line for line in lines if line["event"] == "passthrough"])
    (stream,) = upstream.requests(SPEECH)
    assert stream.header("authorization") == f"Bearer {OUR_KEY}"
    assert (stream.header("content-type"), stream.header("openai-beta")) == (
        "application/json",
        "x=1",
    )
    for name in ("api-key", "cookie", "x-livekit-worker-token", "x-relay-total-ms"):
        assert stream.header(name) is None
    assert response.headers["content-type"] == "audio/mpeg"
    assert response.headers["x-request-id"] == "up_1"
    assert response.headers["x-relay-provider"] == "open"
    assert "set-cookie" not in response.headers
    (line,) = [line for line in lines if line["event"] == "passthrough"]
    assert (line["status"], line["request_bytes"], line["reason"]) == (200, 2, None)
    assert line["tenant"].startswith("t_")
    assert THEIRS not in repr(lines)
    assert OUR_KEY not in repr(lines)


async def test_a_key_in_the_query_stays_here(relay: RelayUnderTest, upstream: H2Server) -> None:
    upstream.routes["/v1/files"] = echo
    many = f"a=b%26c&&API-KEY={THEIRS}&access%5Ftoken={THEIRS}&keys=1"
    for query in (f"key={THEIRS}", many, "a"):
        assert (await relay.http.get(f"/v1/files?{query}")).status_code == 200
    paths = [stream.path for stream in upstream.requests("/v1/files")]
    assert paths == ["/v1/files", "/v1/files?a=b%26c&&keys=1", "/v1/files?a"]


async def test_the_official_client_speaks(relay: RelayUnderTest, upstream: H2Server) -> None:
    upstream.routes[SPEECH] = echo
    async with relay.openai() as client:
        speech = await client.audio.speech.create(model="tts-1", voice="alloy", input="Hi")
    assert b'"voice":"alloy"' in speech.content.replace(b" ", b"")


async def test_the_first_piece_leaves_before_the_second_comes(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    may_go_on = asyncio.Event()

    async def in_pieces(stream: ServerStream) -> None:
        await stream.send_headers()
        await stream.send(b"one")
        await may_go_on.wait()
        await stream.send(b"two", end=True)

    upstream.routes[SPEECH] = in_pieces
    async with relay.http.stream("POST", SPEECH, content=b"{}") as response:
        pieces = response.aiter_raw()
        assert await anext(pieces) == b"one"
        may_go_on.set()
        assert await anext(pieces) == b"two"


# --- what does not ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/pass/shut/files", 404),
        ("/pass/nobody/files", 404),
        ("/pass/open", 400),
        ("/pass/open/", 400),
        ("/pass/open/../secrets", 404),
        ("/pass/open/a/%2e%2e/secrets", 400),
        ("/pass/open/a%2Fb", 400),
        ("/pass/open/a//b", 400),
        ("/pass/open/a%5Cb", 400),
        ("/pass/open/a%0d%0ab", 400),
        ("/pass/open/chat/completions", 400),
        ("/pass/open/v1/messages", 400),
        ("/pass/open/Responses/", 400),
        ("/pass/open/chat/completions;a=b", 400),
        ("/pass/open/responses/compact", 400),
        ("/pass/open/models/m:embedContent", 400),
        ("/pass/open/api/generate", 400),
        ("/pass/open/model/us.anthropic.claude-x/converse", 400),
        ("/pass/open/model/us.anthropic.claude-x/converse-stream", 400),
        ("/pass/open/model/us.anthropic.claude-x/Invoke", 400),
        ("/pass/open/model/m/invoke-with-response-stream", 400),
        ("/pass/open/model/m/invoke-with-bidirectional-stream", 400),
        ("/pass/open/model/m/count-tokens", 400),
        ("/pass/open/models/m:countTokens", 400),
        ("/pass/open/v1/projects/p/locations/l/endpoints/e:serverStreamingPredict", 400),
        ("/pass/open/completion", 400),
        ("/pass/open/chat;a=b/completions", 400),
        ("/pass/open/chat/completions%3Fa=b", 400),
        ("/pass/open/chat/completions%23a", 400),
        ("/pass/open/chat/completions%20", 400),
        ("/pass/open/chat/completions%C2%85", 400),
        ("/pass/open/chat/completions%7F", 400),
        ("/pass/open/chat/complet%2569ons", 400),
        ("/v1/nothing", 404),
    ],
)
async def test_what_is_refused_never_reaches_a_provider(
    relay: RelayUnderTest, upstream: H2Server, path: str, status: int
) -> None:
    # As it stands: a client library would tidy the path up.
    url = httpx2.URL(str(relay.http.base_url)).copy_with(raw_path=path.encode())
    response = await relay.http.post(url, content=b"{}")
    assert response.status_code == status, response.text
    assert response.json()["error"]["message"]
    assert [stream.path for stream in upstream.streams if stream.method != "HEAD"] == []


@pytest.mark.parametrize("path", ["/openai/v1/files/f", "/v%31/files/f", "/p%61ss/open/files/f"])
async def test_what_is_sent_is_what_was_looked_at(
    relay: RelayUnderTest, upstream: H2Server, path: str
) -> None:
    upstream.routes["/v1/files/f"] = echo
    url = httpx2.URL(str(relay.http.base_url)).copy_with(raw_path=path.encode())
    response = await relay.http.get(url)
    assert response.status_code == 200, response.text
    assert [stream.path for stream in upstream.streams if stream.method != "HEAD"] == [
        "/v1/files/f"
    ]


@pytest.mark.parametrize("path", ["/v1/files/f", "/pass/open/files/f"])
async def test_a_page_that_means_this_machine_by_its_name_reads_nothing(
    relay: RelayUnderTest, upstream: H2Server, path: str
) -> None:
    upstream.routes["/v1/files/f"] = echo
    for host, status in (("page.test:8080", 403), ("localhost:8080", 200)):
        assert (await relay.http.get(path, headers={"host": host})).status_code == status
    assert len(upstream.requests("/v1/files/f")) == 1


async def test_several_rows_must_be_named(upstream: H2Server, ca_file: str) -> None:
    rows = {name: row(upstream.url, ca_file, passthrough=True) for name in ("a", "b")}
    upstream.routes["/v1/files"] = echo
    async with relay_under_test({"providers": rows}) as relay:
        response = await relay.http.get("/v1/files")
        assert response.status_code == 400
        assert "/pass/a/files, /pass/b/files" in response.json()["error"]["message"]
        assert (await relay.http.get("/pass/b/files")).status_code == 200


async def test_nothing_is_open_by_itself(upstream: H2Server, ca_file: str) -> None:
    async with relay_under_test({"providers": {"a": row(upstream.url, ca_file)}}) as relay:
        assert (await relay.http.get("/v1/files")).status_code == 404


# --- how it ends --------------------------------------------------------------------------------


async def test_the_provider_s_error_without_our_key(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    body = f'{{"error": {{"message": "bad key {OUR_KEY}", "code": "nope"}}}}'.encode()
    quoted = ("x-request-id", f"of Bearer {OUR_KEY}")
    upstream.routes[SPEECH] = answer(401, body, [("retry-after", "3"), quoted])
    response = await relay.http.post(SPEECH, content=b"{}")
    assert response.status_code == 401
    assert response.json()["error"] == {"message": "bad key ***", "code": "nope"}
    assert response.headers["retry-after"] == "3"
    assert response.headers["x-request-id"] == "of Bearer ***"


async def test_a_redirect_is_not_followed(relay: RelayUnderTest, upstream: H2Server) -> None:
    upstream.routes[SPEECH] = answer(302, b"", [("location", "https://elsewhere.test/")])
    response = await relay.http.post(SPEECH, content=b"{}")
    assert response.status_code == 502
    assert "location" not in response.headers


async def test_who_leaves_takes_the_request_along(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    async def hangs(stream: ServerStream) -> None:
        await stream.send_headers()
        await stream.send(b"one")
        await stream.hang()

    upstream.routes[SPEECH] = hangs
    async with relay.http.stream("POST", SPEECH, content=b"{}") as response:
        assert await anext(response.aiter_raw()) == b"one"
    stream = await upstream.request(SPEECH)
    await upstream.until(lambda: stream.reset_code is not None)
    assert stream.reset_code == CANCEL


@pytest.mark.parametrize("finishes", [True, False])
async def test_a_drain_waits_within_its_grace(
    upstream: H2Server, ca_file: str, finishes: bool
) -> None:
    may_go_on = asyncio.Event()

    async def in_pieces(stream: ServerStream) -> None:
        await stream.send_headers()
        await stream.send(b"one")
        await may_go_on.wait()
        await stream.send(b"two", end=True)

    upstream.routes[SPEECH] = in_pieces
    grace_ms = 10_000 if finishes else 100
    asked = {**document(upstream, ca_file), "server": {"drain_grace_ms": grace_ms}}
    async with relay_under_test(asked) as relay:
        async with relay.http.stream("POST", SPEECH, content=b"{}") as response:
            pieces = response.aiter_raw()
            assert await anext(pieces) == b"one"
            draining = asyncio.create_task(relay.worker.drain())
            await eventually(lambda: relay.worker.services.is_draining)
            if finishes:
                assert len(relay.worker.services.live) == 1
                may_go_on.set()
                assert await anext(pieces) == b"two"
            else:
                with pytest.raises(httpx2.TransportError):  # broken off, not ended
                    await anext(pieces)
        await draining
        may_go_on.set()


@pytest.mark.parametrize("limit", ["idle_ms", "total_ms"])
async def test_half_an_answer_is_no_answer(upstream: H2Server, ca_file: str, limit: str) -> None:
    async def stops(stream: ServerStream) -> None:
        await stream.send_headers(headers=[("content-length", "6")])
        await stream.send(b"one")
        await stream.hang()

    upstream.routes[SPEECH] = stops
    async with relay_under_test(document(upstream, ca_file, **{limit: 100})) as relay:
        with capture_logs() as lines, pytest.raises(httpx2.TransportError):
            await relay.http.post(SPEECH, content=b"{}")
        await eventually(lambda: [line for line in lines if line["event"] == "passthrough"])
    (line,) = [line for line in lines if line["event"] == "passthrough"]
    assert line["reason"] in ("STREAM_STALLED", "ATTEMPT_TIMEOUT")


@pytest.mark.parametrize("by_header", [False, True])
async def test_silence_has_a_limit(upstream: H2Server, ca_file: str, by_header: bool) -> None:
    async def silent(stream: ServerStream) -> None:
        await stream.hang()

    upstream.routes[SPEECH] = silent
    limits = {} if by_header else {"first_byte_ms": 100}
    headers = {"x-relay-first-token-ms": "100"} if by_header else {}
    async with relay_under_test(document(upstream, ca_file, **limits)) as relay:
        response = await relay.http.post(SPEECH, content=b"{}", headers=headers)
    assert response.status_code == 504
    assert response.json()["error"]["x_relay"]["reason"] == "FIRST_TOKEN_TIMEOUT"


async def test_a_body_has_a_limit(upstream: H2Server, ca_file: str) -> None:
    upstream.routes[SPEECH] = echo
    async with relay_under_test(document(upstream, ca_file, max_request_bytes=1024)) as relay:
        assert (await relay.http.post(SPEECH, content=b"x" * 1024)).status_code == 200
        assert (await relay.http.post(SPEECH, content=b"x" * 1025)).status_code == 413
    assert len(upstream.requests(SPEECH)) == 1


async def test_the_provider_s_own_404(relay: RelayUnderTest, upstream: H2Server) -> None:
    upstream.routes["/v1/files/f"] = answer(404, b'{"error": {"message": "no such file"}}')
    async with relay.openai() as client:
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve("f")


# --- credentials that are refused ---------------------------------------------------------------


def _refusing(*good: str) -> Script:
    """Says what it was sent where that is none of these keys."""

    async def script(stream: ServerStream) -> None:
        sent = stream.header("authorization") or ""
        is_good = sent.removeprefix("Bearer ") in good
        await stream.send_headers(200 if is_good else 401, [("request-id", sent)])
        await stream.send(sent.encode() if not is_good else bytes(stream.body), end=True)

    return script


@pytest.mark.parametrize("good", [0, 1, 2, None])
async def test_another_key_once_where_one_is_refused(
    upstream: H2Server, ca_file: str, monkeypatch: pytest.MonkeyPatch, good: int | None
) -> None:
    keys = [f"sk-number-{number}-0123456789" for number in range(3)]
    for number, key in enumerate(keys):
        monkeypatch.setenv(f"KEY_{number}", key)
    asked = {
        **provider(upstream.url, ca_file=ca_file),
        "auth": "bearer",
        "api_keys": ["${KEY_0}", "${KEY_1}", "${KEY_2}"],
        "passthrough": True,
    }
    upstream.routes[SPEECH] = _refusing(*([] if good is None else [keys[good]]))
    async with relay_under_test({"providers": {"open": asked}}) as relay:
        statuses = []
        for _ in range(2):
            answered = await relay.http.post(SPEECH, content=b"a body")
            statuses.append(answered.status_code)
            assert not [key for key in keys if key in f"{answered.text} {answered.headers}"]
            if answered.status_code == 200:
                assert answered.content == b"a body"
        await relay.settled()
    found = [stream.header("authorization") for stream in upstream.requests(SPEECH)]
    used = [keys.index((value or "").removeprefix("Bearer ")) for value in found]
    assert (statuses, used) == {
        0: ([200, 200], [0, 0]),
        1: ([200, 200], [0, 1, 1]),
        2: ([401, 200], [0, 1, 2]),
        None: ([401, 401], [0, 1, 2]),
    }[good]
