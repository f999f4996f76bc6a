"""Who may read answers from another site: nobody, unless the operator says so."""

from __future__ import annotations

import orjson
import pytest

from relay.config import ConfigError, parse
from tests.fakes.h2_server import H2Server, stream_chunks
from tests.fakes.relay_under_test import (
    DONE,
    Document,
    answer_chunks,
    chat_body,
    provider,
    relay_under_test,
)

ORIGIN = "https://app.test"
CHAT = "/v1/chat/completions"
ASKS = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


def document(*origins: str) -> Document:
    rows = {"lab": provider("http://127.0.0.1:9", warm_connections=0)}
    return {"providers": rows, "server": {"http": {"cors_origins": list(origins)}}}


@pytest.mark.sockets
async def test_nobody_by_default() -> None:
    async with relay_under_test(document()) as relay:
        asked = await relay.http.options(CHAT, headers=ASKS)
        assert asked.status_code == 405
        answered = await relay.http.get("/v1/models", headers={"origin": ORIGIN})
        assert not [name for name in answered.headers if name.startswith("access-control")]


@pytest.mark.sockets
async def test_those_who_are_named(upstream: H2Server, ca_file: str) -> None:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hel", "lo"))
    rows = {"lab": provider(upstream.url, ca_file=ca_file)}
    async with relay_under_test({**document(ORIGIN), "providers": rows}) as relay:
        asked = await relay.http.options(CHAT, headers=ASKS)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == ORIGIN
        assert "authorization" in asked.headers["access-control-allow-headers"].lower()
        for headers, allowed in (({"origin": ORIGIN}, ORIGIN), ({}, None)):
            answered = await relay.chat(chat_body("lab/m"), **headers)
            assert answered.content.endswith(DONE)
            assert answered.headers.get("access-control-allow-origin") == allowed
        failed = await relay.chat({}, origin=ORIGIN)
        assert failed.status_code == 400
        assert failed.headers["access-control-allow-origin"] == ORIGIN
        assert "x-relay-request-id" in failed.headers["access-control-expose-headers"]


@pytest.mark.sockets
@pytest.mark.parametrize("allowed", [(), (ORIGIN,)])
@pytest.mark.parametrize("origin", ["https://other.test", "null", "http://127.0.0.1:8080"])
async def test_a_page_that_is_not_named_spends_nothing(
    upstream: H2Server, ca_file: str, allowed: tuple[str, ...], origin: str
) -> None:
    """A browser sends `text/plain` to another site without asking first."""
    rows = {"lab": provider(upstream.url, ca_file=ca_file, passthrough=True)}
    async with relay_under_test({**document(*allowed), "providers": rows}) as relay:
        for path in (CHAT, "/v1/messages", "/pass/lab/files"):
            response = await relay.http.post(
                path,
                content=orjson.dumps(chat_body("lab/m")),
                headers={"origin": origin, "content-type": "text/plain"},
            )
            assert response.status_code == 403
            assert "cors_origins" in response.json()["error"]["message"]
        assert (await relay.http.get("/v1/models", headers={"origin": origin})).status_code == 200
    assert [stream for stream in upstream.streams if stream.method != "HEAD"] == []


def test_one_origin_needs_no_list() -> None:
    parsed = parse({**document(), "server": {"http": {"cors_origins": ORIGIN}}})
    assert parsed.server.http.cors_origins == (ORIGIN,)


@pytest.mark.parametrize("origin", ["app.test", "https://app.test/", "ftp://a", "https://", "null"])
def test_what_is_no_origin(origin: str) -> None:
    with pytest.raises(ConfigError, match="is no origin such as"):
        parse(document(origin))
