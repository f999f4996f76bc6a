"""Frames, read back by a decoder of the tests' own and by botocore's where it is installed."""

from __future__ import annotations

from typing import Any

import pytest

from relay.emulator import event_stream
from tests.emulator.frames import BadFrame, aws_frames

STREAM = (
    event_stream.event("messageStart", b'{"role":"assistant"}')
    + event_stream.event("contentBlockDelta", '{"delta":{"text":"Zürich 北京"}}'.encode())
    + event_stream.exception("throttlingException", "Too many requests")
    + event_stream.error("InternalFailure", "no")
)


def test_what_is_written_is_read() -> None:
    first, second, third, fourth = aws_frames(STREAM)
    assert first.headers == {
        "event-type": "messageStart",
        "content-type": "application/json",
        "message-type": "event",
    }
    assert second.json == {"delta": {"text": "Zürich 北京"}}
    assert third.headers["exception-type"] == "throttlingException"
    assert third.headers["message-type"] == "exception"
    assert third.json == {"message": "Too many requests"}
    assert fourth.headers == {
        "message-type": "error",
        "error-code": "InternalFailure",
        "error-message": "no",
    }
    assert fourth.payload == b""


def test_a_flipped_bit_is_seen_wherever_it_is() -> None:
    frame = event_stream.event("chunk", b'{"bytes":""}')
    for place in range(len(frame)):
        broken = bytearray(frame)
        broken[place] ^= 1
        with pytest.raises((BadFrame, AssertionError)):
            aws_frames(bytes(broken))


def test_botocore_reads_it() -> None:
    eventstream: Any = pytest.importorskip("botocore.eventstream")
    buffer = eventstream.EventStreamBuffer()
    buffer.add_data(STREAM)
    read = [(message.headers, message.payload) for message in buffer]
    assert len(read) == 4
    assert read[1] == (
        {
            ":event-type": "contentBlockDelta",
            ":content-type": "application/json",
            ":message-type": "event",
        },
        '{"delta":{"text":"Zürich 北京"}}'.encode(),
    )
