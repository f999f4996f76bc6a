"""The load generator's side: a client of each gateway, and questions asked one at a time.

A door is a `bench.paths.Path`, so that open-loop legs run over it, and takes questions of other
shapes than the legs': prompts of any length, with tools, left in the middle.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Mapping
from pathlib import Path as FilePath
from typing import Any, NamedTuple, Protocol

import orjson
import wreq
from rtrelay.v1 import content_pb2, relay_pb2

from bench.paths import (
    STAMP,
    Channels,
    ConversePath,
    GeneratePath,
    LoadError,
    Path,
    Seen,
    digest,
    now_ns,
)
from bench.peers.endings import Ending, of_frames, of_sse

_PROMPT = "Can you book the table by the window for seven tomorrow evening, please?"
_TOOL = {
    "type": "function",
    "function": {
        "name": "book_table",
        "description": "Books a table.",
        "parameters": {
            "type": "object",
            "properties": {"where": {"type": "string"}, "at": {"type": "string"}},
            "required": ["where", "at"],
        },
    },
}
_FILLER = "Nothing of this is needed once the answer is there. "


_WARM_UP = (1, 4, *(16,) * 10)
"""Questions at once; compilers at run time want some to look at."""


class Refused(LoadError):
    """The gateway answered with a status instead of a stream."""


class Question(NamedTuple):
    """What is asked beside the usual sentence."""

    prompt: str = _PROMPT
    has_tool: bool = False

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Question:
        """From a line of JSON: `prompt` or `prompt_bytes`, `has_tool`."""
        prompt = given.get("prompt") or _PROMPT
        wanted = int(given.get("prompt_bytes", 0))
        if wanted > len(prompt):
            prompt = (_FILLER * (wanted // len(_FILLER) + 1))[: wanted - len(prompt)] + prompt
        return cls(prompt, bool(given.get("has_tool")))

    def body(self, model: str) -> bytes:
        """As OpenAI's streaming chat request."""
        fields: dict[str, Any] = {
            "model": model,
            "stream": True,
            "messages": [{"role": "user", "content": self.prompt}],
        }
        if self.has_tool:
            fields["tools"] = [_TOOL]
        return orjson.dumps(fields)

    def start(self, generation_id: str, model: str) -> relay_pb2.Start:
        """As the relay's own request."""
        start = relay_pb2.Start(generation_id=generation_id, model=model)
        if self.has_tool:
            start.openai_chat_body = self.body(model)
        else:
            part = content_pb2.Part(text=self.prompt)
            start.prompt.messages.add(role=content_pb2.ROLE_USER, parts=[part])
        return start


class Door(Path, Protocol):
    """A path that takes questions."""

    async def ask(self, question: Question, seen: Seen) -> None:
        """One question, read to its end, however it ended.

        Raises:
            Refused: there was no stream.
        """
        ...


class HttpDoor:
    """OpenAI's SSE over wreq; the client is the one of every other HTTP path of the bench."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._url = f"{spec['base_url'].rstrip('/')}/chat/completions"
        self._model: str = spec["model"]
        self._headers = {"content-type": "application/json", **spec.get("headers", {})}
        self._body = Question().body(self._model)
        self._is_http2 = bool(spec.get("is_http2"))
        options: dict[str, Any] = {}
        if spec.get("ca_file"):
            pem = FilePath(spec["ca_file"]).read_bytes()
            options["tls_verify"] = wreq.CertStore.from_pem_stack(pem)
        runtime = wreq.Runtime(workers=1, work_steal=False)
        self._clients = itertools.cycle(
            [
                wreq.Client(runtime=runtime, no_proxy=True, gzip=False, **options)
                for _ in range(int(spec.get("connections", 1)))
            ]
        )

    async def open(self, streams: int) -> None:
        """Nothing to do: the warm-up connects."""

    async def stream(self, model: str, seen: Seen) -> None:
        """See `Path.stream`; the model is the door's own."""
        append = seen.append
        async for chunk in self._chunks(self._body):
            append((now_ns(), chunk))

    async def ask(self, question: Question, seen: Seen) -> None:
        """See `Door.ask`."""
        async for chunk in self._chunks(question.body(self._model)):
            seen.append((now_ns(), chunk))

    async def _chunks(self, body: bytes) -> AsyncIterator[bytes | memoryview]:
        response = await next(self._clients).request(
            wreq.Method.POST, self._url, headers=self._headers, body=body
        )
        if response.status.as_int() != 200:
            text = await response.text()
            raise Refused(f"status {response.status.as_int()}: {text[:300]}")
        if (response.version == wreq.Version.HTTP_2) != self._is_http2:
            raise LoadError(f"unexpected {response.version}")
        async with response.stream() as streamer:
            async for chunk in streamer:
                if isinstance(chunk, memoryview) and chunk.nbytes:
                    yield chunk

    async def close(self) -> None:
        """The clients close with their last reference."""


class GenerateDoor(GeneratePath):
    """One server-streaming RPC a question."""

    def __init__(self, channels: Channels, model: str) -> None:
        super().__init__(channels, "")
        self._model = model

    async def stream(self, model: str, seen: Seen) -> None:
        """See `Path.stream`; the model is the door's own."""
        await self.ask(Question(), seen)

    async def ask(self, question: Question, seen: Seen) -> None:
        """See `Door.ask`."""
        await self.read(self.call(question.start("g", self._model)), seen)


class ConverseDoor(ConversePath):
    """Sessions that stay open, a start frame a question."""

    def __init__(self, channels: Channels, model: str) -> None:
        super().__init__(channels, "")
        self._model = model

    async def stream(self, model: str, seen: Seen) -> None:
        """See `Path.stream`; the model is the door's own."""
        await self.ask(Question(), seen)

    async def ask(self, question: Question, seen: Seen) -> None:
        """See `Door.ask`. Cancelled, it sends a cancel frame and returns once that was answered."""
        session, generation_id = self.take()
        await session.begin(question.start(generation_id.decode(), self._model), seen)
        ended = asyncio.ensure_future(session.ended(generation_id))
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            await session.cancel(generation_id)
            await ended
            raise


class Doors:
    """All that were opened in this process."""

    def __init__(self) -> None:
        self._doors: dict[str, Door] = {}
        self._kinds: dict[str, str] = {}
        self._channels: Channels | None = None

    async def open(self, request: Mapping[str, Any]) -> Door:
        """Make a door and warm it with checked questions, more and more at once.

        The emulator must have been told to answer with `tokens` stamped tokens.

        Raises:
            LoadError: it does not answer as it should.
        """
        name, kind, spec = request["path"], request["kind"], request["spec"]
        door: Door
        if kind == "http":
            door = HttpDoor(spec)
        else:
            if self._channels is None:
                self._channels = Channels(int(spec["port"]))
            door = (GenerateDoor if kind == "generate" else ConverseDoor)(
                self._channels, spec["model"]
            )
        async with asyncio.timeout(60.0):
            for parallel in _WARM_UP:
                await door.open(parallel)
                seen: list[Seen] = [[] for _ in range(parallel)]
                await asyncio.gather(*(door.ask(Question(), each) for each in seen))
                for each in seen:
                    digest(each, int(request["tokens"]), is_grpc=kind != "http")
        self._doors[name], self._kinds[name] = door, kind
        gc.collect()
        gc.freeze()
        gc.disable()  # a pause of the client would be booked to whoever is measured
        return door

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Ask `count` questions one after the other; what came of each."""
        question = Question.read(request.get("question", {}))
        answers = []
        for number in range(int(request["count"])):
            if number:
                await asyncio.sleep(request.get("pause_ms", 0) / 1e3)
            answers.append(await self._ask(request["path"], question, request["timeout_s"]))
        return {"answers": answers}

    async def _ask(self, name: str, question: Question, timeout_s: float) -> dict[str, Any]:
        door = self._doors[name]
        seen: Seen = []
        await door.open(1)
        failure: Ending | None = None
        detail = ""
        sent_ns = now_ns()
        task = asyncio.ensure_future(door.ask(question, seen))
        done, _ = await asyncio.wait([task], timeout=timeout_s)
        end_ns = now_ns()
        if not done:
            failure = Ending.HANG
            task.cancel()
            await asyncio.wait([task], timeout=5.0)
        elif error := task.exception():
            failure = Ending.REFUSED if isinstance(error, Refused) else Ending.BROKEN
            detail = f"{type(error).__name__}: {error}"[:300]
        read = of_sse if self._kinds[name] == "http" else of_frames
        answer = read([bytes(data) for _, data in seen], failure)
        first = _first_token(seen)
        return {
            "sent_ns": sent_ns,
            "first_ns": first[0] if first else None,
            "stamped_ns": first[1] if first else None,
            "end_ns": end_ns,
            "ending": answer.ending,
            "tokens": answer.tokens,
            "tool_calls": answer.tool_calls,
            "detail": detail,
        }

    async def leave(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Ask each of some prompts and leave it: once `after_pieces` came, or after `wait_ms`.

        Raises:
            LoadError: not as many pieces came, or the answer ended before it was left.
        """
        door = self._doors[request["path"]]
        await door.open(1)
        left_ns: dict[str, int] = {}
        for prompt in request["prompts"]:
            seen: Seen = []
            task = asyncio.ensure_future(door.ask(Question(prompt), seen))
            deadline_ns = now_ns() + 5_000_000_000
            if not request["after_pieces"]:
                await asyncio.sleep(request["wait_ms"] / 1e3)
            while len(seen) < request["after_pieces"] and not task.done():
                if now_ns() > deadline_ns:
                    break
                await asyncio.sleep(0.001)
            if task.done() or len(seen) < request["after_pieces"]:
                task.cancel()
                await asyncio.wait([task])
                raise LoadError(f"{len(seen)} pieces came, then an end or nothing for 5 s")
            left_ns[prompt] = now_ns()
            task.cancel()
            await asyncio.wait([task], timeout=5.0)
        return {"left_ns": left_ns}


def _first_token(seen: Seen) -> tuple[int, int] | None:
    """Receipt and stamp of the first stamped token; a stamp is never split over pieces for long,
    so the pieces up to each are looked at together."""
    body = b""
    for received_ns, data in seen:
        body += bytes(data)
        if match := STAMP.search(body):
            return received_ns, int(match[1])
    return None
