"""What the HTTP surfaces share: one POST, and a stream that is read event by event as it comes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Final

import httpx2
import orjson

from tests.fakes.relay_under_test import RelayUnderTest
from tests.surfaces.told import Document, Failure, Told, Watch, Wish

WHOLE: Final = {"order": "one document, at the end"}


class HttpSurface(ABC):
    """See `told.Surface`."""

    path: ClassVar[str]
    title: ClassVar[str]
    streaming: ClassVar[Document] = {"stream": True}
    """What asks for a stream."""
    cannot: ClassVar[Mapping[str, str]] = {}
    rate_limited: ClassVar[tuple[int, str]] = (429, "rate_limit_error")

    def __init__(self, *, is_stream: bool) -> None:
        self._is_stream = is_stream

    @property
    def is_stream(self) -> bool:
        return self._is_stream

    @property
    def name(self) -> str:
        return f"{self.title}, {'stream' if self.is_stream else 'whole'}"

    @property
    def lacks(self) -> Mapping[str, str]:
        return self.cannot if self.is_stream else {**self.cannot, **WHOLE}

    async def ask(self, relay: RelayUnderTest, wish: Wish, watch: Watch) -> Told:
        return await self.ask_at(relay.http, wish, watch)

    async def ask_at(self, http: httpx2.AsyncClient, wish: Wish, watch: Watch) -> Told:
        """The same by any client, whose base address is a relay or what stands before one."""
        body = {**self.body(wish), **(self.streaming if self.is_stream else {})}
        async with http.stream("POST", self.path, json=body) as response:
            if response.status_code != 200:
                told = Told(failure=self.refusal(response, orjson.loads(await response.aread())))
            elif self.is_stream:
                assert response.headers["content-type"].startswith("text/event-stream")
                told = await self._read_stream(response, watch)
            else:
                assert response.headers["content-type"] == "application/json"
                told = self.read_whole(orjson.loads(await response.aread()))
        return told

    async def _read_stream(self, response: httpx2.Response, watch: Watch) -> Told:
        told, held = Told(), b""
        async for piece in response.aiter_bytes():
            *events, held = (held + piece).split(b"\n\n")
            for event in events:
                name, data = "", ""
                for line in event.decode().split("\n"):
                    assert line.startswith(("event: ", "data: ", ": ")), line
                    name = line[7:] if line.startswith("event: ") else name
                    data += line[6:] if line.startswith("data: ") else ""
                assert not told.ends, f"{event!r} after the end"
                self.read_event(told, name, data)
                watch(told)
        assert not held, "half an event at the end"
        return told

    def refusal(self, response: httpx2.Response, document: Document) -> Failure:
        """An answer that is an error, with its hints for another try."""
        failure = self.failure(document)
        failure.status = response.status_code
        after = response.headers.get("retry-after")
        failure.retry_after_s = None if after is None else float(after)
        assert response.headers["content-type"] == "application/json"
        return failure

    @abstractmethod
    def body(self, wish: Wish) -> Document:
        """The request, without `stream`."""

    @abstractmethod
    def read_whole(self, document: Document) -> Told:
        """A whole answer."""

    @abstractmethod
    def read_event(self, told: Told, name: str, data: str) -> None:
        """Add one event to what was told; both may be empty (a comment)."""

    @abstractmethod
    def failure(self, document: Document) -> Failure:
        """An error object; asserts its shape."""


def failure_of(error: Document) -> Failure:
    """An error with a type, and what the relay keeps beside it of the provider's own words."""
    assert error["message"]
    facts = error["x_relay"]
    words = frozenset(facts[key] for key in ("provider_code", "provider_type") if key in facts)
    return Failure(0, error["type"], words, facts.get("upstream_status", ""))


def openai_failure(document: Document) -> Failure:
    """OpenAI's error object."""
    error = document["error"]
    assert set(error) == {"message", "type", "param", "code", "x_relay"}, error
    return failure_of(error)
