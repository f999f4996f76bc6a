"""Other wires' state inside a Messages answer: what Gemini, OpenAI and others want back unchanged.

The format has one place for state that a client keeps without reading it, a block of
`redacted_thinking`. Anthropic's own goes there as it is. What other providers give out (thought
signatures of calls, encrypted reasoning, items of their own tools) goes there as JSON in base64
behind a mark of ours, in one block at the end of the turn, and becomes the fields it was when the
client sends the turn back. It is the client's to change, as it is in a chat message: nothing is
trusted because it stands here. To Anthropic such a block is never sent.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from relay.errors import InvalidRequest
from relay.frontends.chat_body import check_depth
from relay.frontends.limits import Allowance

MARK: Final = "rtrelay.1."
"""What the data of our blocks begins with; Anthropic's is base64, which has no dots."""

MAX_STATE_BYTES: Final = 1024 * 1024
"""Of one answer; beyond it the state is not told, and the provider does without."""

STATE_KEYS: Final = frozenset(
    {"reasoning_details", "extra_content", "output_items", "converse_blocks", "gemini_parts"}
)
"""Opaque fields of a message that are state (docs/wires.md)."""


def pack(message: Mapping[str, Any], calls: Mapping[str, Any]) -> str:
    """The data of a block.

    Args:
        message: opaque fields of the message.
        calls: of its tool calls, by their id.
    """
    document = orjson.dumps({"message": message, "calls": calls})
    return MARK + base64.b64encode(document).decode()


def is_ours(data: str) -> bool:
    """Whether a block of redacted thinking was made here."""
    return data.startswith(MARK)


def unpack(
    data: str, path: str, allowance: Allowance
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What `pack` was given.

    Raises:
        InvalidRequest: the data is not as it was given out, or holds too much.
    """
    document = None
    with contextlib.suppress(binascii.Error, ValueError):  # of what is neither base64 nor JSON
        text = base64.b64decode(data[len(MARK) :], validate=True)
        allowance.take_json(text, f"{path}.data")
        document = orjson.loads(text)
    if not isinstance(document, dict):
        raise InvalidRequest(f"{path}.data is not as the relay gave it out", field=f"{path}.data")
    check_depth(document, f"{path}.data", f"{path}.data")
    message, calls = document.get("message"), document.get("calls")
    return (
        {
            key: value
            for key, value in (message.items() if isinstance(message, dict) else ())
            if key in STATE_KEYS
        },
        {
            call_id: extra
            for call_id, extra in (calls.items() if isinstance(calls, dict) else ())
            if isinstance(extra, dict)
        },
    )
