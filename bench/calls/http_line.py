"""An agent's line over OpenAI's SSE: the relay's shim, or the provider itself.

What a session of the relay does for the agent is done here: text is cut into sentences (by the same
rules), a speculation is started like any other request, and to cancel is to leave the stream.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import orjson
import wreq

from bench.paths import LoadError
from relay.calls.line import Answer, CancelReason, Ended, Piece, Request, Spoken, ToolCalled
from relay.segments import Segmenter


class HttpLine:
    """One or several warm connections that all calls of an arm share.

    Args:
        ca_file: of a provider over TLS and HTTP/2; None for the relay's plain HTTP/1.1.
    """

    def __init__(self, base_url: str, *, ca_file: str | None = None, connections: int = 2) -> None:
        self._url = f"{base_url}/v1/chat/completions"
        options: dict[str, Any] = {}
        if ca_file is not None:
            options["tls_verify"] = wreq.CertStore.from_pem_stack(Path(ca_file).read_bytes())
        runtime = wreq.Runtime(workers=1, work_steal=False)
        self._clients = itertools.cycle(
            [
                wreq.Client(runtime=runtime, no_proxy=True, gzip=False, **options)
                for _ in range(connections)
            ]
        )

    def start(
        self, request: Request, on_piece: Callable[[Piece], None], supersedes: Answer | None = None
    ) -> HttpAnswer:
        """See `Line.start`."""
        if supersedes is not None:
            supersedes.cancel("superseded")
        return HttpAnswer(next(self._clients), self._url, request, on_piece)


class HttpAnswer:
    """One request and the task that reads its answer."""

    def __init__(
        self, client: wreq.Client, url: str, request: Request, on_piece: Callable[[Piece], None]
    ) -> None:
        self._client = client
        self._url = url
        self._request = request
        self._on_piece = on_piece
        self._segmenter = Segmenter()
        self._calls: dict[int, dict[str, str]] = {}
        self._winner = ""
        self._task = asyncio.create_task(self._read())

    def commit(self) -> None:
        """Nobody is told: the provider and the shim know no speculation."""

    def cancel(self, reason: CancelReason) -> None:
        """See `Answer.cancel`."""
        self._task.cancel()

    async def ended(self) -> Ended:
        """See `Answer.ended`."""
        await asyncio.wait([self._task])
        outcome: Literal["completed", "cancelled", "failed"] = "completed"
        error = ""
        if self._task.cancelled():
            outcome = "cancelled"
        elif raised := self._task.exception():
            outcome, error = "failed", repr(raised)
        return Ended(outcome, error, self._winner)

    async def _read(self) -> None:
        body: dict[str, object] = {
            "model": self._request.model,
            "stream": True,
            "messages": list(self._request.messages),
        }
        if self._request.tools:
            body["tools"] = list(self._request.tools)
            body["tool_choice"] = "required"
        is_done = False
        async for line in self._lines(orjson.dumps(body)):
            if line == b"[DONE]":
                is_done = True
                continue
            chunk = orjson.loads(line)
            if "error" in chunk:
                raise LoadError(str(chunk["error"])[:300])
            for choice in chunk["choices"]:
                self._take(choice["delta"])
                if choice.get("finish_reason"):
                    self._finish()
        if not is_done:
            raise LoadError("the stream ended without [DONE]")

    def _take(self, delta: dict[str, Any]) -> None:
        if text := delta.get("content"):
            for segment in self._segmenter.feed(text):
                self._on_piece(Spoken(segment))
        for part in delta.get("tool_calls") or ():
            call = self._calls.setdefault(part["index"], {"id": "", "name": "", "arguments": ""})
            call["id"] += part.get("id") or ""
            function = part.get("function") or {}
            call["name"] += function.get("name") or ""
            call["arguments"] += function.get("arguments") or ""

    def _finish(self) -> None:
        if rest := self._segmenter.flush():
            self._on_piece(Spoken(rest))
        for call in self._calls.values():
            self._on_piece(ToolCalled(call["id"], call["name"], call["arguments"]))

    async def _lines(self, body: bytes) -> AsyncIterator[bytes]:
        """The data of each event."""
        response = await self._client.request(
            wreq.Method.POST,
            self._url,
            headers={"content-type": "application/json"},
            body=body,
        )
        if response.status.as_int() != 200:
            raise LoadError(f"status {response.status.as_int()}: {(await response.text())[:300]}")
        self._winner = "/".join(_values(response, ("x-relay-provider", "x-relay-model")))
        kept = b""
        async with response.stream() as streamer:
            async for chunk in streamer:
                if not isinstance(chunk, memoryview):
                    continue
                *events, kept = (kept + bytes(chunk)).split(b"\n\n")
                for event in events:
                    if event.startswith(b"data: "):
                        yield event[6:]


def _values(response: wreq.Response, names: Sequence[str]) -> list[str]:
    found = (response.headers.get(name) for name in names)
    return [bytes(value).decode() for value in found if value is not None]
