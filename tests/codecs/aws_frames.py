"""Frames of AWS's event streams for tests, and the judge of who reads them.

Written from botocore's decoder and service model: there are no recordings of Bedrock.
"""

from __future__ import annotations

import base64
import importlib.util
from functools import cache
from typing import Any, Final
from zlib import crc32

import orjson
import pytest

needs_botocore: Final = pytest.mark.skipif(
    importlib.util.find_spec("botocore") is None,
    reason="botocore, which judges AWS's formats here, is not installed (dependency group `dev`)",
)


@cache
def service_model() -> Any:
    """Botocore's model of `bedrock-runtime`, which takes a fifth of a second to read."""
    from botocore.session import Session

    return Session().get_service_model("bedrock-runtime")


Header = tuple[str, int, bytes]
"""Name, type, value as bytes."""


def text_header(name: str, value: str) -> Header:
    return (name, 7, value.encode())


def frame_of(headers: list[Header], payload: bytes) -> bytes:
    """One frame, with headers of any type."""
    block = b""
    for name, kind, value in headers:
        length = len(value).to_bytes(2) if kind in (6, 7) else b""
        encoded = name.encode()
        block += bytes([len(encoded)]) + encoded + bytes([kind]) + length + value
    prelude = (16 + len(block) + len(payload)).to_bytes(4) + len(block).to_bytes(4)
    whole = prelude + crc32(prelude).to_bytes(4) + block + payload
    return whole + crc32(whole).to_bytes(4)


def frame(kind: str, payload: bytes, name: str, *, message: str = "event") -> bytes:
    """A frame as Bedrock sends them: `kind` is the header that names it."""
    headers = [
        text_header(kind, name),
        text_header(":content-type", "application/json"),
        text_header(":message-type", message),
    ]
    return frame_of(headers, payload)


def event(name: str, document: Any) -> bytes:
    """An event."""
    return frame(":event-type", orjson.dumps(document), name)


def exception(name: str, message: str = "no", **fields: Any) -> bytes:
    """A failure that the model of the service knows."""
    payload = orjson.dumps({"message": message, **fields})
    return frame(":exception-type", payload, name, message="exception")


def error(code: str, message: str) -> bytes:
    """A failure that it does not know."""
    headers = [
        text_header(":error-code", code),
        text_header(":error-message", message),
        text_header(":message-type", "error"),
    ]
    return frame_of(headers, b"")


def chunk(data: bytes, padding: str = "abcdefgh") -> bytes:
    """One of a model's own events."""
    return event("chunk", {"bytes": base64.b64encode(data).decode(), "p": padding})
