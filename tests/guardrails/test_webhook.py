"""A webhook that answers, lies, hangs, sends elsewhere or has no end; and what it is sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from relay.governance.webhook import SIGNATURE_HEADER, is_signed
from relay.guardrails.asking import CannotTell, NotAsked, Opinion, Question, Shown
from relay.guardrails.timed import FAILURES, Timed
from relay.guardrails.webhook import MAX_ANSWER_BYTES, WebhookAsker, opinion_of
from tests.fakes.h1_server import Exchange, H1Server
from tests.fakes.tls import CertAuthority
from tests.guardrails.worlds import SCOPE

SECRET = "s" * 40
QUESTION = Question("input", (Shown("user", "Hello"), Shown("tool", "4")), SCOPE)


@asynccontextmanager
async def asker(url: str, *, ca_file: str | None = None) -> AsyncIterator[WebhookAsker]:
    made = WebhookAsker("desk", url, SECRET, ca_file=ca_file)
    try:
        yield made
    finally:
        await made.aclose()


async def body(exchange: Exchange, data: bytes, status: int = 200) -> None:
    await exchange.head(status, ("content-length", str(len(data))))
    await exchange.write(data)


async def test_what_it_is_sent_is_signed() -> None:
    async def passes(exchange: Exchange) -> None:
        await body(exchange, b'{"verdict": "pass"}')

    async with H1Server() as server, asker(f"{server.url}/guard?a=b") as made:
        server.routes["/guard"] = passes
        assert await made.ask(QUESTION) == Opinion(is_bad=False)
        assert await made.ask(QUESTION) == Opinion(is_bad=False)
        exchange = await server.request("/guard")
        signature = exchange.header(SIGNATURE_HEADER) or ""
        assert is_signed(SECRET.encode(), exchange.body, signature, time.time())
        assert orjson.loads(exchange.body) == {
            "guardrail": "desk",
            "side": "input",
            "tenant": "team",
            "key_id": "key",
            "model": "fast",
            "surface": "chat_completions",
            "texts": [{"role": "user", "text": "Hello"}, {"role": "tool", "text": "4"}],
        }
        assert exchange.method == "POST"
        assert len(server.open_connections) == 1
        assert SECRET not in repr(made)


@pytest.mark.parametrize(
    ("said", "opinion"),
    [
        ({"verdict": "pass"}, Opinion(is_bad=False)),
        ({"verdict": "block", "label": "tone"}, Opinion(is_bad=True, label="tone")),
        ({"verdict": "block", "label": "my card is 4111"}, Opinion(is_bad=True)),
        ({"verdict": "block", "label": 7}, Opinion(is_bad=True)),
    ],
)
def test_verdicts(said: object, opinion: Opinion) -> None:
    assert opinion_of(orjson.dumps(said)) == opinion


@pytest.mark.parametrize(
    "said", [b"", b"pass", b"[]", b"null", b"{}", b'{"verdict": true}', b'{"verdict": "PASS"}']
)
def test_anything_else_says_nothing(said: bytes) -> None:
    with pytest.raises(CannotTell):
        opinion_of(said)


@pytest.mark.parametrize("status", [201, 204, 301, 307, 401, 404, 500, 503])
async def test_no_other_status_says_anything(status: int) -> None:
    async def answers(exchange: Exchange) -> None:
        await exchange.head(status, ("location", "/other"), ("content-length", "0"))

    async with H1Server() as server, asker(f"{server.url}/guard") as made:
        server.routes["/guard"] = answers
        with pytest.raises(CannotTell, match=str(status)):
            await made.ask(QUESTION)
        assert server.requests("/other") == []


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refusal_of_the_texts_says_nothing_of_who_is_asked(status: int) -> None:
    async def answers(exchange: Exchange) -> None:
        await exchange.head(status, ("location", "/other"), ("content-length", "0"))

    async with H1Server() as server, asker(f"{server.url}/guard") as made:
        server.routes["/guard"] = answers
        with pytest.raises(NotAsked, match=str(status)):
            await made.ask(QUESTION)
        assert server.requests("/other") == []


async def test_an_answer_without_end_is_not_read_to_it() -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(200, ("content-length", str(1 << 40)))
        for _ in range(2 * MAX_ANSWER_BYTES // 1024):
            await exchange.write(b" " * 1024)
        await asyncio.Event().wait()

    async with H1Server() as server, asker(f"{server.url}/guard") as made:
        server.routes["/guard"] = endless
        with pytest.raises(CannotTell, match="too long"):
            await made.ask(QUESTION)
        await server.until(lambda: not server.open_connections)


async def test_a_cut_answer_and_nobody_there_say_nothing() -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.head(200, ("content-length", "100"))
        await exchange.write(b'{"verdict": "pass"}')
        exchange.connection.close()

    async with H1Server() as server:
        url = f"{server.url}/guard"
        async with asker(url) as made:
            server.routes["/guard"] = cut
            with pytest.raises(CannotTell):
                await made.ask(QUESTION)
    async with asker(url) as made:
        with pytest.raises(CannotTell):
            await made.ask(QUESTION)


async def test_a_hung_one_costs_the_limit_three_times() -> None:
    async def hangs(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async with H1Server() as server, asker(f"{server.url}/guard") as made:
        server.routes["/guard"] = hangs
        timed = Timed(
            made, timeout_s=0.02, at_once=4, idle_s=60, max_chars=100, clock=time.monotonic
        )
        for _ in range(FAILURES + 5):
            with pytest.raises(CannotTell):
                await timed.ask(QUESTION)
        assert len(server.requests("/guard")) <= FAILURES
        await server.until(lambda: not server.open_connections)


async def test_only_the_given_roots_are_trusted(authority: CertAuthority, ca_file: str) -> None:
    async def passes(exchange: Exchange) -> None:
        await body(exchange, b'{"verdict": "pass"}')

    async with H1Server(tls=authority.server_context(alpn=("http/1.1",))) as server:
        server.routes["/guard"] = passes
        async with asker(f"{server.url}/guard", ca_file=ca_file) as made:
            assert not (await made.ask(QUESTION)).is_bad
        async with asker(f"{server.url}/guard") as made:
            with pytest.raises(CannotTell):
                await made.ask(QUESTION)


@pytest.mark.parametrize("url", ["http://example.com/", "https://u:p@example.com/", "ftp://a/"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        WebhookAsker("desk", url, SECRET)
