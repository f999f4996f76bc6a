"""`POST /v1/responses` on the virtual clock: what leaves when, and how its ends are told; what is
inside the stream is `test_responses_stream.py`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import MutableMapping
from typing import Any

import orjson
import pytest

from relay.frontends.http_app import HttpApp
from relay.frontends.http_generation import HttpSettings
from relay.frontends.response_store import StoreLimits
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.relay_under_test import chunk
from tests.fakes.scenario import Scenario, answer
from tests.fakes.virtual_time import run
from tests.frontends.test_chat_completions import Answer

HELLO = FakeEndpoint(headers_s=0.5, chunks=answer("Hello", " there", first_s=0.25, gap_s=0.25))
SETTINGS = HttpSettings(
    max_request_bytes=10_000, commit_headers_after_s=2.0, comment_interval_s=1.0
)
KEEPING = HttpSettings(10_000, 2.0, 1.0, StoreLimits(10, 100_000, 60.0))


class Relay:
    """The application over in-memory providers, asked from inside one run."""

    def __init__(self, endpoint: FakeEndpoint, settings: HttpSettings = SETTINGS) -> None:
        self.scenario = Scenario({"a": endpoint})
        self._app = HttpApp(self.scenario.services, settings)

    async def ask(
        self,
        body: dict[str, Any] | None = None,
        *,
        method: str = "POST",
        path: str = "/v1/responses",
        gone_at_s: float = math.inf,
    ) -> Answer:
        told = Answer()
        given = [{"type": "http.request", "body": orjson.dumps(body or {})}]

        async def receive() -> MutableMapping[str, Any]:
            if given:
                return given.pop()
            if gone_at_s == math.inf:
                await asyncio.Event().wait()
            await asyncio.sleep(gone_at_s)
            return {"type": "http.disconnect"}

        scope = {"type": "http", "method": method, "path": path, "headers": []}
        await self._app(scope, receive, told.send)
        return told


def post(endpoint: FakeEndpoint, *, gone_at_s: float = math.inf, **body: Any) -> tuple[Answer, Any]:
    """One request, and the aborted streams of its providers."""
    relay = Relay(endpoint)

    async def main() -> Answer:
        given = {"model": "fast", "input": "Hi", "stream": True, **body}
        told = await relay.ask(given, gone_at_s=gone_at_s)
        await relay.scenario.settled()
        relay.scenario.check()
        return told

    return run(main()), relay.scenario.aborted


def names(data: bytes) -> list[str]:
    lines = data.decode().split("\n")
    return [line[7:].removeprefix("response.") for line in lines if line.startswith("event: ")]


def test_nothing_leaves_before_the_commit_and_every_batch_is_one_write() -> None:
    told, _ = post(HELLO)
    assert told.head_s == 0.75
    assert [(at_s, names(data)) for at_s, data in told.parts] == [
        (
            0.75,
            [
                "created",
                "in_progress",
                "output_item.added",
                "content_part.added",
                "output_text.delta",
            ],
        ),
        (1.0, ["output_text.delta"]),
        (1.0, ["output_text.done", "content_part.done", "output_item.done", "completed"]),
    ]
    assert told.is_complete


def test_slow_provider_gets_the_head_and_comments_and_no_event_before_its_content() -> None:
    told, _ = post(FakeEndpoint(headers_s=3.5, chunks=answer("Hello")))
    assert told.head_s == 2.0
    assert [data[:2] for _, data in told.parts[:2]] == [b": ", b": "]
    at_s, first = told.parts[2]
    assert (at_s, names(first)[0]) == (3.5, "created")


def test_failure_after_the_head_and_before_any_content() -> None:
    told, _ = post(FakeEndpoint(headers_s=math.inf))
    assert told.status == 200
    assert names(told.parts[-1][1]) == ["created", "in_progress", "error", "failed"]
    assert told.is_complete


@pytest.mark.parametrize("stream", [True, False])
def test_disconnect_stops_the_provider_at_once(stream: bool) -> None:
    told, aborted = post(HELLO, gone_at_s=0.875, stream=stream)
    assert aborted == [("a", 0.875)]
    assert not told.is_complete


@pytest.mark.parametrize("stream", [True, False])
def test_answer_that_grows_too_large_fails_and_its_provider_is_stopped(
    stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "relay.frontends.surfaces.response_output.MAX_ANSWER_BYTES"
    monkeypatch.setattr(name, 10_000)
    words = answer(*["x" * 1000] * 100, first_s=0.25, gap_s=0.25)
    told, aborted = post(FakeEndpoint(chunks=words), stream=stream)
    ((_, at_s),) = aborted
    assert at_s < 3.0
    assert told.is_complete
    if stream:
        assert names(told.parts[-1][1]) == ["error", "failed"]
    else:
        assert told.status == 502
        assert told.error["x_relay"]["reason"] == "UPSTREAM_EVENT_TOO_LARGE"


@pytest.mark.parametrize("summary", [None, "auto"])
def test_reasoning_is_content_only_if_it_is_asked_for(summary: str | None) -> None:
    thinking = chunk({"reasoning_content": "Hm."})
    endpoint = FakeEndpoint(chunks=[(0.25, thinking), *answer("Hello", first_s=0.25)])
    told, _ = post(endpoint, reasoning={"summary": summary})
    assert told.head_s == (0.25 if summary else 0.5)
    assert "reasoning_summary_text.delta" in names(told.body)


def test_kept_response_is_gone_after_its_time() -> None:
    relay = Relay(HELLO, KEEPING)

    async def main() -> tuple[Answer, Answer, Answer]:
        first = await relay.ask({"model": "fast", "input": "Hi"})
        path = f"/v1/responses/{orjson.loads(first.body)['id']}"
        found = await relay.ask(method="GET", path=path)
        await asyncio.sleep(60.0)
        gone = await relay.ask(method="GET", path=path)
        await relay.scenario.settled()
        return first, found, gone

    first, found, gone = run(main())
    assert found.body == first.body
    assert gone.status == 404
    assert "not found" in gone.error["message"]


def test_path_below_is_there_only_where_responses_are_kept() -> None:
    async def ask(settings: HttpSettings, method: str) -> Answer:
        return await Relay(HELLO, settings).ask(method=method, path="/v1/responses/resp_1")

    async def main() -> list[tuple[int, str]]:
        asked = [(SETTINGS, "GET"), (KEEPING, "GET"), (KEEPING, "POST")]
        told = [await ask(settings, method) for settings, method in asked]
        return [(one.status, one.headers.get("allow", "")) for one in told]

    assert run(main()) == [(404, ""), (404, ""), (405, "GET, DELETE, HEAD")]


def test_conversation_that_is_too_large_to_go_on_is_refused() -> None:
    relay = Relay(HELLO, KEEPING)

    async def main() -> Answer:
        body = {"model": "fast", "input": "x" * 9_000}
        first = orjson.loads((await relay.ask(body)).body)["id"]
        second = await relay.ask({**body, "previous_response_id": first})
        await relay.scenario.settled()
        if second.status == 200:
            last = orjson.loads(second.body)["id"]
            second = await relay.ask({**body, "previous_response_id": last})
        return second

    told = run(main())
    assert told.status == 400
    assert told.error["param"] == "previous_response_id"
