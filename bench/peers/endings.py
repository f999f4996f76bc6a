"""How an answer ended, as its client sees it. Pure functions over what arrived.

The question behind it: when the provider's stream breaks, is the client told? A stream that ends
with a finish reason or `[DONE]` although the provider never finished is a lie. One that just
stops, without either, leaves it to the client to notice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import orjson
from rtrelay.v1 import relay_pb2

from bench.paths import STAMP

DONE = b"[DONE]"


class Ending(StrEnum):
    """The client's view."""

    COMPLETE = "complete"
    """A finish reason or `[DONE]`, and no error."""
    ERROR = "error"
    """An error in the stream's own terms."""
    BROKEN = "broken"
    """The transport failed: a body cut short, a reset, a closed connection."""
    SILENT = "silent"
    """A clean end of the body without finish reason, `[DONE]` or error."""
    REFUSED = "refused"
    """No stream at all: a status of its own."""
    HANG = "hang"
    """Nothing more came, and no end."""


class Answer(NamedTuple):
    """What came of one question."""

    ending: Ending
    tokens: int
    """Stamped ones."""
    tool_calls: tuple[tuple[str, str], ...]
    """Name and arguments."""


def of_sse(pieces: Sequence[bytes], failure: Ending | None) -> Answer:
    """Of a body in OpenAI's format.

    Args:
        failure: what the transport said; None if the body ended well.
    """
    body = b"".join(pieces)
    is_finished = has_error = False
    calls: dict[int, tuple[str, str]] = {}
    for data in _events(body):
        if data == DONE:
            is_finished = True
            continue
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            continue  # the piece that was cut
        if not isinstance(chunk, dict) or chunk.get("error"):
            has_error = True
            continue
        for choice in chunk.get("choices") or ():
            is_finished = is_finished or bool(choice.get("finish_reason"))
            for part in (choice.get("delta") or {}).get("tool_calls") or ():
                _gather(calls, part)
    if has_error:
        ending = Ending.ERROR
    elif failure is not None:
        ending = failure
    else:
        ending = Ending.COMPLETE if is_finished else Ending.SILENT
    ordered = tuple(calls[index] for index in sorted(calls))
    return Answer(ending, len(STAMP.findall(body)), ordered)


def _events(body: bytes) -> Iterator[bytes]:
    for line in body.replace(b"\r\n", b"\n").split(b"\n"):
        if line.startswith(b"data:"):
            yield line[5:].strip()
        elif line.startswith(b"event: error"):
            yield b'{"error": true}'


def _gather(calls: dict[int, tuple[str, str]], part: dict[str, Any]) -> None:
    index = int(part.get("index") or 0)
    function = part.get("function") or {}
    name, arguments = calls.get(index, ("", ""))
    # Some send the name with every piece.
    calls[index] = (
        name or function.get("name") or "",
        arguments + (function.get("arguments") or ""),
    )


def of_frames(pieces: Sequence[bytes], failure: Ending | None) -> Answer:
    """Of the frames of one generation over gRPC."""
    text = ""
    calls: list[tuple[str, str]] = []
    ending = failure or Ending.SILENT
    for piece in pieces:
        frame = relay_pb2.ConverseResponse.FromString(piece)
        match frame.WhichOneof("frame"):
            case "delta":
                text += frame.delta.text
            case "tool_call":
                calls.append((frame.tool_call.call.name, frame.tool_call.call.arguments))
            case "end":
                is_good = frame.end.outcome == relay_pb2.OUTCOME_COMPLETED
                ending = Ending.COMPLETE if is_good else Ending.ERROR
    return Answer(ending, len(STAMP.findall(text.encode())), tuple(calls))
