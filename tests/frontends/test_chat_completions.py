"""`POST /v1/chat/completions` on the virtual clock: when the head goes, how failures are told, and
that a client which closes its connection stops everything.

The rules are those of the contract for OpenAI-compatible voice agents (6 to 9); what is inside the
stream is `test_chat_stream.py`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import MutableMapping
from typing import Any

import orjson
import pytest

from relay.errors import ConnectError, InvalidRequest
from relay.frontends.asgi import ABORT, STREAMS
from relay.frontends.caller import CALLER, NOBODY
from relay.frontends.http_app import HttpApp
from relay.frontends.http_generation import HttpSettings, serve_generation
from relay.frontends.kept_answers import KeptAnswers
from relay.frontends.surfaces.chat_completions import ChatCompletions
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.relay_under_test import chunk
from tests.fakes.scenario import COMMENT, ERROR, ROLE, Rows, Scenario, answer
from tests.fakes.virtual_time import run, since_start_s

HELLO = FakeEndpoint(headers_s=0.5, chunks=answer("Hello", " there", first_s=0.25, gap_s=0.25))
SILENT = FakeEndpoint(headers_s=math.inf)
SETTINGS = HttpSettings(
    max_request_bytes=10_000, commit_headers_after_s=2.0, comment_interval_s=1.0
)


class Answer:
    """What came back over ASGI, and when."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.parts: list[tuple[float, bytes]] = []
        self.head_s = -1.0
        self.is_complete = False
        self.said: list[str] = []
        """Messages of ours, beside those of ASGI."""

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] in (ABORT, STREAMS):
            self.said.append(message["type"])
            return
        assert not self.is_complete, "something after the end"
        if message["type"] == "http.response.start":
            assert not self.status, "a second head"
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            self.head_s = since_start_s()
            return
        assert self.status, "a body before its head"
        self.parts.append((since_start_s(), message["body"]))
        self.is_complete = not message.get("more_body", False)

    @property
    def body(self) -> bytes:
        return b"".join(data for _, data in self.parts)

    @property
    def text(self) -> str:
        """The text of a stream."""
        lines = [line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: {")]
        deltas = [c["delta"] for line in lines for c in orjson.loads(line).get("choices", [])]
        return "".join(delta.get("content") or "" for delta in deltas)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.body)["error"]
        return found


def post(
    rows: Rows,
    *,
    gone_at_s: float | None = None,
    headers: dict[str, str] | None = None,
    **body: Any,
) -> tuple[Answer, Scenario]:
    """One request; the client leaves at `gone_at_s`, or when all is told."""
    scenario = Scenario(rows)
    told = Answer()
    given = {"model": "fast", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    data = orjson.dumps({**given, **body})

    async def main() -> None:
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": data[:9], "more_body": True},
            {"type": "http.request", "body": data[9:]},
        ]

        async def receive() -> MutableMapping[str, Any]:
            if messages:
                return messages.pop(0)
            if gone_at_s is None:
                await asyncio.Event().wait()
            else:
                await asyncio.sleep(gone_at_s)
            return {"type": "http.disconnect"}

        raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {"type": "http", "headers": raw, CALLER: NOBODY}
        answers = KeptAnswers(SETTINGS.kept_answers, scenario.services.clock)
        await serve_generation(
            ChatCompletions(),
            scenario.services,
            SETTINGS,
            answers,
            scope,
            receive,
            told.send,
            "req_1",
        )
        await scenario.settled()
        scenario.check()

    run(main())
    return told, scenario


# --- whole ----------------------------------------------------------------------------------


def test_stream() -> None:
    told, _ = post({"a": HELLO}, stream_options={"include_usage": True})
    assert told.status == 200
    assert told.text == "Hello there"
    assert told.body.endswith(b"data: [DONE]\n\n")
    assert told.is_complete
    assert told.headers["content-type"].startswith("text/event-stream")
    assert told.headers["x-relay-request-id"] == "req_1"


def test_rule_9_the_head_waits_for_the_winner_and_names_it() -> None:
    refused = FakeEndpoint(fault=ConnectError("x"), fault_at="connect")
    told, _ = post({"a": refused, "b": HELLO})
    assert told.head_s == 0.75
    assert told.headers["x-relay-provider"] == "b"
    assert told.headers["x-relay-model"] == "m"
    assert told.headers["x-relay-attempts"] == "2"
    assert "first_content;dur=250.000" in told.headers["server-timing"]


def test_whole_document_that_grows_too_large_is_refused_and_its_provider_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.frontends.surfaces.chat_document.MAX_ANSWER_BYTES", 10_000)
    words = answer(*["x" * 1000] * 100, first_s=0.25, gap_s=0.25)
    scenario = Scenario({"a": FakeEndpoint(chunks=words)})
    told = Answer()
    given = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}]}
    asked = [{"type": "http.request", "body": orjson.dumps(given)}]

    async def receive() -> MutableMapping[str, Any]:
        if not asked:
            await asyncio.Event().wait()
        return asked.pop()

    async def main() -> None:
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
        await HttpApp(scenario.services, SETTINGS)(scope, receive, told.send)
        await scenario.settled()
        scenario.check()

    run(main())
    assert told.status == 502
    assert told.error["x_relay"]["reason"] == "UPSTREAM_EVENT_TOO_LARGE"
    assert "stream it" in told.error["message"]
    assert scenario.aborted == [("a", 2.0)]


def test_whole_document() -> None:
    told, _ = post({"a": HELLO}, stream=False)
    assert told.status == 200
    value = orjson.loads(told.body)
    assert value["choices"][0]["message"]["content"] == "Hello there"
    assert int(told.headers["content-length"]) == len(told.body)
    assert told.headers["x-relay-provider"] == "a"


def test_rule_9_policy_of_the_request() -> None:
    told, scenario = post({"a": SILENT}, x_relay={"first_token_ms": 500, "timeline": True})
    assert told.status == 504
    assert scenario.aborted == [("a", 0.5)]
    told, _ = post({"a": HELLO}, headers={"x-relay-timeline": "1"})
    assert b'"x_relay"' in told.body
    told, _ = post({"a": HELLO}, headers={"x-relay-model": "a/other"})
    assert told.headers["x-relay-model"] == "other"


# --- rule 6: failures ------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("endpoint", "status", "code"),
    [
        (FakeEndpoint(status=503, chunks=[(0.0, b"x")]), 503, "upstream_overloaded"),
        (FakeEndpoint(status=429, chunks=[(0.0, b"x")]), 429, "rate_limit_exceeded"),
        (FakeEndpoint(chunks=[(0.0, ROLE), (0.0, ERROR)]), 503, "upstream_failed"),
        (FakeEndpoint(chunks=[(0.0, ROLE)]), 502, "upstream_truncated"),
    ],
)
def test_rule_6_failure_before_the_first_token_has_its_status(
    endpoint: FakeEndpoint, status: int, code: str, stream: bool
) -> None:
    told, _ = post({"a": endpoint}, stream=stream)
    assert told.status == status
    assert told.error["code"] == code
    assert told.headers["x-should-retry"] == "false"
    assert told.headers["x-relay-attempts"] == "1"
    assert told.is_complete


@pytest.mark.parametrize("tail", [[(0.25, ERROR)], []])
def test_rule_6_failure_after_the_first_token_is_an_error_event_and_no_done(
    tail: list[tuple[float, bytes]],
) -> None:
    told, _ = post({"a": FakeEndpoint(chunks=[(0.0, chunk({"content": "Hello"})), *tail])})
    assert told.status == 200
    assert told.text == "Hello"
    assert b"[DONE]" not in told.body
    assert b'"error":' in told.parts[-1][1]
    assert told.parts[-1][1].startswith(b"data: ")
    assert told.is_complete


def test_failure_of_a_whole_document_has_its_status_even_late() -> None:
    chunks = [(0.0, chunk({"content": "Hello"}))]
    told, _ = post({"a": FakeEndpoint(chunks=chunks)}, stream=False)
    assert told.status == 502


# --- rule 7: comments ------------------------------------------------------------------------


def test_rule_7_slow_provider_gets_the_head_and_comments_while_our_timers_run() -> None:
    slow = FakeEndpoint(headers_s=3.5, chunks=answer("Hello"))
    told, _ = post({"a": slow})
    assert told.head_s == 2.0
    assert [at_s for at_s, data in told.parts if data.startswith(b": ")] == [2.0, 3.0]
    assert told.text == "Hello"
    assert told.body.endswith(b"data: [DONE]\n\n")


def test_rule_7_failure_after_the_head_is_an_event() -> None:
    told, _ = post({"a": SILENT})
    assert told.head_s == 2.0
    assert told.status == 200
    at_s, last = told.parts[-1]
    assert at_s == 4.0
    assert b"FIRST_TOKEN_TIMEOUT" in last
    assert b"[DONE]" not in told.body


def test_rule_7_comments_of_the_provider_are_not_passed_on() -> None:
    chunks = [(0.0, chunk({"content": "Hello"})), (0.5, COMMENT), (0.5, chunk(finish="stop"))]
    told, _ = post({"a": FakeEndpoint(chunks=chunks)})
    assert b"keep-alive" not in told.body


# --- rule 8: the client closes the connection ------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("gone_at_s", [0.25, 0.625, 0.875])
def test_rule_8_disconnect_stops_the_provider_at_once(gone_at_s: float, stream: bool) -> None:
    told, scenario = post({"a": HELLO}, gone_at_s=gone_at_s, stream=stream)
    assert scenario.aborted == [("a", gone_at_s)]
    assert not told.is_complete


def test_rule_8_disconnect_while_comments_are_sent() -> None:
    told, scenario = post({"a": SILENT}, gone_at_s=2.5)
    assert scenario.aborted == [("a", 2.5)]
    assert told.status == 200


# --- what the connection is told --------------------------------------------------------------


def test_stream_is_announced_before_anything_is_asked_of_the_provider() -> None:
    told, _ = post({"a": HELLO})
    assert told.said == [STREAMS]
    told, _ = post({"a": HELLO}, stream=False)
    assert told.said == []


def test_connection_of_a_client_that_does_not_read_its_stream_is_broken() -> None:
    scenario = Scenario({"a": HELLO}, slow_consumer_s=5.0)
    told = Answer()
    data = orjson.dumps(
        {"model": "fast", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    )
    asked = [{"type": "http.request", "body": data}]

    async def receive() -> MutableMapping[str, Any]:
        if not asked:
            await asyncio.Event().wait()
        return asked.pop()

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()  # it never has room
        await told.send(message)

    async def main() -> None:
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
        await HttpApp(scenario.services, SETTINGS)(scope, receive, send)
        await scenario.settled()
        scenario.check()

    run(main())
    assert told.said == [STREAMS, ABORT]
    assert told.parts == []
    assert scenario.aborted == [("a", 5.75)]


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_body_of_too_many_values_is_refused_before_it_is_parsed(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parsed(_: bytes) -> None:
        raise AssertionError("it was parsed")

    settings = HttpSettings(8_000_000, 2.0, 1.0)
    monkeypatch.setattr("tests.frontends.test_chat_completions.SETTINGS", settings)
    told, _ = post({"a": HELLO}, user="[{,x" * size)  # words of a text are no values
    assert told.text == "Hello there"
    monkeypatch.setattr("relay.frontends.http_generation.decode_json", parsed)
    with pytest.raises(InvalidRequest) as raised:
        post({"a": HELLO}, z=[[]] * 50_001)
    assert raised.value.field == "body"
    assert "100000 JSON values" in raised.value.public_message


# --- refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"stream": False, "stream_options": {}}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"model": ""}, "model"),
        ({"x_relay": 1}, "x_relay"),
    ],
)
def test_wrong_request_is_refused_before_anything_is_sent(
    fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        post({"a": HELLO}, **fields)
    assert raised.value.field == field
