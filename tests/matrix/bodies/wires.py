"""Answers of all provider wires, event by event: for faults that are in the bytes.

    wire = stage.draw.choice(WIRES)
    said = spoken(wire, "One", " two")
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = sends(wire, [said.opening, said.tokens[0]])

The emulator writes them, which shares nothing with the relay's codecs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from relay.emulator.answer import Answer, ToolCall, Usage
from relay.emulator.wires.base import OPEN, TOKEN
from tests.fakes.h2_server import Script, ServerStream
from tests.fakes.relay_under_test import Document
from tests.matrix.world import USAGE
from tests.surfaces.wires import ORDER_MODEL, WIRES, ProviderWire

BY_NAME = {wire.name: wire for wire in WIRES}
CHAT_WIRE = BY_NAME["openai_chat"]
EVENT_STREAMS = tuple(wire for wire in WIRES if wire.name != "ollama")
"""Wires over server-sent events; Ollama's has a document a line."""


@dataclass(frozen=True)
class Spoken:
    """A clean answer, cut where it has joints."""

    opening: bytes
    """Before the first token; empty on some wires."""
    tokens: tuple[bytes, ...]
    ending: tuple[bytes, ...]
    """What comes after the last token: finish, usage, the end marker."""

    @property
    def parts(self) -> list[bytes]:
        """All of it, in order."""
        return [part for part in (self.opening, *self.tokens, *self.ending) if part]


def spoken(
    wire: ProviderWire, *texts: str, usage: Usage | None = None, calls: Sequence[ToolCall] = ()
) -> Spoken:
    """An answer that says these tokens.

    Args:
        usage: `world.USAGE` if None.
        calls: tool calls after the text; their pieces are in `ending`.
    """
    told = Answer(
        id="emu0000000001",
        model=ORDER_MODEL,
        created=1,
        tokens=list(texts),
        finish="tool_calls" if calls else "stop",
        usage=usage or Usage(USAGE["prompt_tokens"], USAGE["completion_tokens"]),
        include_usage=True,
        calls=list(calls),
    )
    opening = b""
    tokens: list[bytes] = []
    ending: list[bytes] = []
    for kind, data, _ in wire.emulated.events(told):
        if kind == OPEN and not tokens:
            opening += data
        elif kind == TOKEN and not ending and len(tokens) < len(texts):
            tokens.append(data)
        else:
            ending.append(data)
    return Spoken(opening, tuple(tokens), tuple(ending))


def path(wire: ProviderWire) -> str:
    """Where the lab's row is asked for a stream."""
    return "/v1" + wire.path.removeprefix(wire.base_path)


def on(wire: ProviderWire) -> Document:
    """For `world`: the lab speaks this wire."""
    return {"providers": {"lab": {"wire": wire.name}}}


def content_type(wire: ProviderWire) -> tuple[str, str]:
    """Of its streams."""
    name = "text/event-stream" if wire in EVENT_STREAMS else "application/x-ndjson"
    return ("content-type", name)


def sends(wire: ProviderWire, parts: Iterable[bytes], *, end: bool = True) -> Script:
    """A 200 of this wire whose body is these pieces, a DATA frame each."""
    pieces = list(parts)

    async def script(stream: ServerStream) -> None:
        await stream.send_headers(200, [content_type(wire)])
        for piece in pieces:
            await stream.send(piece)
        if end:
            await stream.end()

    return script
