"""Bodies of the Messages API for tests, written from the documented format."""

from __future__ import annotations

from typing import Any

import orjson

PING = b'event: ping\ndata: {"type": "ping"}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"    }\n\n'


def event(document: dict[str, Any], name: str | None = None) -> bytes:
    """One event, named by its type as the provider does, with the blanks that it pads with."""
    name = document["type"] if name is None else name
    return f"event: {name}\ndata: ".encode() + orjson.dumps(document) + b"     \n\n"


def start(**usage: Any) -> bytes:
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage or {"input_tokens": 10, "output_tokens": 1},
    }
    return event({"type": "message_start", "message": message})


def block(index: int, content: dict[str, Any]) -> bytes:
    return event({"type": "content_block_start", "index": index, "content_block": content})


def delta(index: int, kind: str, **fields: Any) -> bytes:
    return event({"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}})


def stop(index: int) -> bytes:
    return event({"type": "content_block_stop", "index": index})


def ending(reason: str | None = "end_turn", usage: dict[str, Any] | None = None, **d: Any) -> bytes:
    """`message_delta`."""
    body: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": reason, **d}}
    if usage is not None:
        body["usage"] = usage
    return event(body)


def text(index: int, *pieces: str) -> bytes:
    """A block of text."""
    deltas = b"".join(delta(index, "text_delta", text=piece) for piece in pieces)
    return block(index, {"type": "text", "text": ""}) + deltas + stop(index)


def call(index: int, call_id: str, name: str, *pieces: str) -> bytes:
    """A block of a tool call."""
    first = block(index, {"type": "tool_use", "id": call_id, "name": name, "input": {}})
    deltas = b"".join(delta(index, "input_json_delta", partial_json=piece) for piece in pieces)
    return first + deltas + stop(index)


def thinking(index: int, signature: str, *pieces: str) -> bytes:
    """A block of thinking."""
    deltas = b"".join(delta(index, "thinking_delta", thinking=piece) for piece in pieces)
    return (
        block(index, {"type": "thinking", "thinking": "", "signature": ""})
        + deltas
        + (delta(index, "signature_delta", signature=signature) if signature else b"")
        + stop(index)
    )


def message(*content: dict[str, Any], reason: str | None = "end_turn", **more: Any) -> bytes:
    """A whole message, from a provider that did not stream."""
    return orjson.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": list(content),
            "stop_reason": reason,
            "usage": {"input_tokens": 10, "output_tokens": 5},
            **more,
        }
    )
