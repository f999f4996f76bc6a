"""Bodies of the Responses API for tests, written from the documented format."""

from __future__ import annotations

from typing import Any

import orjson

RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 7,
    "model": "m",
    "status": "in_progress",
    "error": None,
    "incomplete_details": None,
    "output": [],
    "service_tier": "auto",
    "usage": None,
}
USAGE: dict[str, Any] = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4},
    "output_tokens": 10,
    "output_tokens_details": {"reasoning_tokens": 6},
    "total_tokens": 30,
}


def event(kind: str, is_named: bool = True, **fields: Any) -> bytes:
    """One event; its name is that of its type."""
    head = f"event: {kind}\n".encode() if is_named else b""
    return head + b"data: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"


def created() -> bytes:
    return event("response.created", response=RESPONSE) + event(
        "response.in_progress", response=RESPONSE
    )


def added(index: int, **item: Any) -> bytes:
    return event("response.output_item.added", output_index=index, item=item)


def done(index: int, **item: Any) -> bytes:
    return event("response.output_item.done", output_index=index, item=item)


def text(delta: str, index: int = 0, part: int = 0, **fields: Any) -> bytes:
    return event(
        "response.output_text.delta",
        item_id="msg_1",
        output_index=index,
        content_index=part,
        delta=delta,
        **fields,
    )


def message(*contents: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A finished message item."""
    return {"type": "message", "id": "msg_1", "status": "completed", "content": contents, **fields}


def output_text(content: str, **fields: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": content, "annotations": [], **fields}


def call(call_id: str, name: str, arguments: str, **fields: Any) -> dict[str, Any]:
    """A finished call item."""
    return {
        "type": "function_call",
        "id": f"fc_{call_id}",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        "status": "completed",
        **fields,
    }


def arguments(delta: str, index: int, item_id: str = "") -> bytes:
    return event(
        "response.function_call_arguments.delta", item_id=item_id, output_index=index, delta=delta
    )


def response(status: str = "completed", **fields: Any) -> dict[str, Any]:
    """A response that is over."""
    return {**RESPONSE, "status": status, "usage": USAGE, **fields}


def ended(status: str = "completed", **fields: Any) -> bytes:
    """The terminal event."""
    return event(f"response.{status}", response=response(status, **fields))


def cut_by(reason: str, **fields: Any) -> bytes:
    return ended("incomplete", incomplete_details={"reason": reason}, **fields)


def stream(*events: bytes, end: bytes | None = None) -> bytes:
    return b"".join((created(), *events, ended() if end is None else end))
