"""Inputs of fuzz targets whose events come in frames: lines, which are put into them."""

from __future__ import annotations

import base64

from tests.codecs.aws_frames import frame

FRAMES: dict[str, tuple[str, ...]] = {
    "bedrock_messages": ("chunk", "throttlingException", "initial-response"),
    "bedrock_converse": (
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
        "throttlingException",
        "brandNew",
    ),
}
"""Of targets whose events come in frames, by the first byte of a line."""


def framed(target: str, body: bytes) -> bytes:
    """An input as a body: in frames where the target has them, unless it begins with 0."""
    names = FRAMES.get(target)
    if names is None or not body or body[0] == 0:
        return body
    made = b""
    for line in body.split(b"\n"):
        if line:
            name = names[line[0] % len(names)]
            is_failure = name.endswith("Exception")
            payload = line[1:]
            if name == "chunk":
                payload = b'{"bytes":"%b","p":"ab"}' % base64.b64encode(payload)
            kind = ":exception-type" if is_failure else ":event-type"
            made += frame(kind, payload, name, message="exception" if is_failure else "event")
    return made
