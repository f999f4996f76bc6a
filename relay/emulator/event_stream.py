"""Frames of AWS's event stream, written.

A frame is the length of all of it, that of its headers, the CRC-32 of those eight bytes, headers,
payload, and the CRC-32 of everything before; numbers are big-endian (Smithy, "Amazon Event Stream
Specification"). All headers here are strings (type 7).
"""

from __future__ import annotations

import struct
from binascii import crc32
from functools import lru_cache

import orjson

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_STRING = 7
_FIXED_BYTES = 16
"""Two lengths and two checksums."""


def event(name: str, payload: bytes) -> bytes:
    """One event whose payload is JSON."""
    return _frame(_event_headers(name), payload)


def exception(name: str, message: str) -> bytes:
    """A modelled exception, such as `throttlingException`; nothing follows it."""
    return _frame(_exception_headers(name), orjson.dumps({"message": message}))


def error(code: str, message: str) -> bytes:
    """An error that is none of the service's own; all of it is in the headers."""
    headers = {":message-type": "error", ":error-code": code, ":error-message": message}
    return _frame(_headers(headers), b"")


@lru_cache(maxsize=64)
def _event_headers(name: str) -> bytes:
    kind = "application/json"
    return _headers({":event-type": name, ":content-type": kind, ":message-type": "event"})


@lru_cache(maxsize=64)
def _exception_headers(name: str) -> bytes:
    kind = "application/json"
    return _headers({":exception-type": name, ":content-type": kind, ":message-type": "exception"})


def _headers(values: dict[str, str]) -> bytes:
    written = b""
    for name, value in values.items():
        raw = value.encode()
        written += struct.pack("!B", len(name)) + name.encode()
        written += struct.pack("!BH", _STRING, len(raw)) + raw
    return written


def _frame(headers: bytes, payload: bytes) -> bytes:
    start = struct.pack("!II", _FIXED_BYTES + len(headers) + len(payload), len(headers))
    start += struct.pack("!I", crc32(start))
    whole = start + headers + payload
    return whole + struct.pack("!I", crc32(whole))
