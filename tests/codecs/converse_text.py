"""Bodies of Bedrock's Converse for tests, written from botocore's model of the service."""

from __future__ import annotations

from typing import Any

import orjson

from tests.codecs.aws_frames import event

START = event("messageStart", {"role": "assistant", "p": "ab"})


def start(index: int, **kind: Any) -> bytes:
    return event("contentBlockStart", {"contentBlockIndex": index, "start": kind, "p": "abc"})


def delta(index: int, **kind: Any) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": kind, "p": "abcd"})


def stop(index: int) -> bytes:
    return event("contentBlockStop", {"contentBlockIndex": index, "p": "a"})


def text(index: int, *pieces: str) -> bytes:
    """A block of text, which has no start."""
    return b"".join(delta(index, text=piece) for piece in pieces) + stop(index)


def call(index: int, call_id: str, name: str, *pieces: str) -> bytes:
    """A block of a tool call."""
    first = start(index, toolUse={"toolUseId": call_id, "name": name})
    return (
        first + b"".join(delta(index, toolUse={"input": piece}) for piece in pieces) + stop(index)
    )


def reasoning(index: int, signature: str, *pieces: str) -> bytes:
    """A block of reasoning."""
    body = b"".join(delta(index, reasoningContent={"text": piece}) for piece in pieces)
    if signature:
        body += delta(index, reasoningContent={"signature": signature})
    return body + stop(index)


def ending(reason: str = "end_turn", **more: Any) -> bytes:
    return event("messageStop", {"stopReason": reason, **more, "p": "abcdef"})


def metadata(*, given: int = 10, made: int = 5, counts: Any = None, **more: Any) -> bytes:
    usage = {"inputTokens": given, "outputTokens": made, "totalTokens": given + made}
    document = {"usage": {**usage, **(counts or {})}, "metrics": {"latencyMs": 7}, **more, "p": "a"}
    return event("metadata", document)


def document(*content: dict[str, Any], reason: str | None = "end_turn", **more: Any) -> bytes:
    """A whole answer, from a host that did not stream."""
    body: dict[str, Any] = {
        "output": {"message": {"role": "assistant", "content": list(content)}},
        "usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15},
        "metrics": {"latencyMs": 7},
        **more,
    }
    if reason is not None:
        body["stopReason"] = reason
    return orjson.dumps(body)
