"""AWS's event stream, read: a decoder of the tests' own, which believes nothing."""

from __future__ import annotations

import base64
import json
import struct
from binascii import crc32
from typing import Any, NamedTuple


class AwsFrame(NamedTuple):
    """One frame: its headers without the colon, and its payload."""

    headers: dict[str, str]
    payload: bytes

    @property
    def json(self) -> Any:
        """The payload as JSON."""
        return json.loads(self.payload)


class BadFrame(ValueError):
    """A length or a checksum is wrong."""


def aws_frames(body: bytes) -> list[AwsFrame]:
    """All frames of a body.

    Raises:
        BadFrame: it is not made of whole frames.
    """
    found = []
    while body:
        if len(body) < 16:
            raise BadFrame("too short")
        total, headers_bytes, checksum = struct.unpack("!III", body[:12])
        if crc32(body[:8]) != checksum or total > len(body) or total < headers_bytes + 16:
            raise BadFrame("lengths")
        frame, body = body[:total], body[total:]
        if crc32(frame[:-4]) != struct.unpack("!I", frame[-4:])[0]:
            raise BadFrame("checksum")
        found.append(
            AwsFrame(_headers(frame[12 : 12 + headers_bytes]), frame[12 + headers_bytes : -4])
        )
    return found


def _headers(data: bytes) -> dict[str, str]:
    headers = {}
    while data:
        size = data[0]
        name, kind = data[1 : 1 + size].decode(), data[1 + size]
        assert kind == 7, "only strings are written"
        (length,) = struct.unpack("!H", data[2 + size : 4 + size])
        headers[name.removeprefix(":")] = data[4 + size : 4 + size + length].decode()
        data = data[4 + size + length :]
    return headers


def messages_events(body: bytes) -> list[dict[str, Any]]:
    """Anthropic's events inside the chunks of a stream."""
    return [
        json.loads(base64.b64decode(frame.json["bytes"]))
        for frame in aws_frames(body)
        if frame.headers.get("event-type") == "chunk"
    ]
