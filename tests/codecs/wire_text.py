"""Bodies of chat completions for tests, written from the documented format."""

from __future__ import annotations

from typing import Any

import orjson

DONE = b"data: [DONE]\n\n"


def event(document: object, name: str = "") -> bytes:
    """One event of a stream."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + orjson.dumps(document) + b"\n\n"


def chunk(delta: object = None, finish: object = None, index: int = 0, **top: Any) -> bytes:
    """An event with one choice."""
    document = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
        **top,
    }
    return event(document)


def text(content: str, index: int = 0) -> bytes:
    return chunk({"content": content}, index=index)


def stream(*events: bytes, done: bool = True) -> bytes:
    return b"".join(events) + (DONE if done else b"")


def calls(*entries: dict[str, Any], finish: object = None) -> bytes:
    """An event with tool call deltas."""
    return chunk({"tool_calls": list(entries)}, finish)


def call(
    index: int | None = None, id: str | None = None, name: str | None = None, arguments: Any = None
) -> dict[str, Any]:
    """One tool call delta; what is None is left out."""
    function = {"name": name, "arguments": arguments}
    entry: dict[str, Any] = {
        "index": index,
        "id": id,
        "function": {key: value for key, value in function.items() if value is not None},
    }
    return {key: value for key, value in entry.items() if value is not None}


def completion(message: dict[str, Any], finish: str | None = "stop", **top: Any) -> bytes:
    """A whole, unstreamed completion."""
    document = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
        ],
        **top,
    }
    return orjson.dumps(document)
