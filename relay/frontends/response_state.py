"""Provider state inside a reasoning item, where clients of the Responses API carry it back.

They send reasoning items back as they came, `encrypted_content` with them, and need not know what
is in it: OpenAI's own is a secret too. Ours holds the opaque fields of an assistant's message
(signatures of thoughts, encrypted reasoning with the provider's own ids, blocks that we do not
read), whichever wire they came from. An `encrypted_content` without our mark is OpenAI's own, of a
conversation that began without the relay.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import orjson

from relay.frontends.body_fields import wrong
from relay.frontends.chat_body import check_depth
from relay.frontends.limits import Allowance

DETAILS: Final = "reasoning_details"
ITEMS: Final = "output_items"
OPENAI_FORMAT: Final = "openai-responses-v1"
"""`format` of state that is OpenAI's own."""

FORMAT_KEY: Final = "x_relay_format"
"""Of an item that we do not read: whose form it has, if it is not OpenAI's."""

STATE_KEYS: Final = frozenset(
    {DETAILS, "extra_content", "anthropic_blocks", "converse_blocks", "gemini_parts"}
)
"""Opaque fields of a message that must go back unchanged."""

_MARK: Final = "rtrelay1."
_LATE: Final = "late"


def pack(state: Mapping[str, Any], *, is_late: bool) -> str:
    """`encrypted_content` of an item that carries this state.

    Args:
        is_late: it belongs to what was said before the item, not to what comes after.
    """
    document = orjson.dumps({**state, _LATE: True} if is_late else state)
    return _MARK + base64.b64encode(document).decode()


def unpack(
    encrypted_content: str, field: str, allowance: Allowance
) -> tuple[dict[str, Any], bool] | None:
    """The state, and whether it is late; None for what is not ours.

    Raises:
        InvalidRequest: it has our mark and was changed since.
    """
    if not encrypted_content.startswith(_MARK):
        return None
    broken = wrong(field, "is not what the relay sent")
    try:
        document = base64.b64decode(encrypted_content[len(_MARK) :], validate=True)
    except (binascii.Error, ValueError):
        raise broken from None
    allowance.take_json(document, field)
    try:
        value = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise broken from None
    if not isinstance(value, dict):
        raise broken
    check_depth(value, field, field)
    state = {key: value[key] for key in STATE_KEYS if key in value}
    return state, value.get(_LATE) is True


def merge(state: dict[str, Any], key: str, value: Any) -> None:
    """Add a piece of an opaque field: lists are joined, objects merged, else the last one stays."""
    held = state.get(key)
    if isinstance(held, list) and isinstance(value, list):
        held.extend(value)
    elif isinstance(held, dict) and isinstance(value, dict):
        state[key] = {**held, **value}
    else:
        state[key] = list(value) if isinstance(value, list) else value
