"""State of providers that has to come back with the next prompt: signatures, encrypted reasoning.

LiveKit keeps `extra` of tool calls and messages, and hands it back as `extra_content`, but only
what stands under `google`, `livekit` or `xai` there. What is not Google's or xAI's own travels
under `livekit` with a name of ours, and is put where the relay looks for it before it is sent.
State that belongs to a whole message goes with its first tool call, if it has one: LiveKit makes no
message of an answer without text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, MutableMapping
from typing import Any, Final

_CARRIER: Final = "livekit"
_OURS: Final = "rtrelay"
KEPT: Final = frozenset({"reasoning_details", "anthropic_blocks", "extra_content"})
"""Extras that have to come back; others (annotations, log probabilities) are nobody's here."""


class MessageState:
    """What came for one answer, until it can be handed over."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}

    def add(self, key: str, value_json: bytes) -> None:
        """Take an extra; pieces of a list add up."""
        if key not in KEPT:
            return
        value, before = json.loads(value_json), self._fields.get(key)
        if isinstance(value, list) and isinstance(before, list):
            before.extend(value)
        elif isinstance(value, dict) and isinstance(before, dict):
            before.update(value)
        else:
            self._fields[key] = value

    def take(self) -> dict[str, Any]:
        """What there is, as LiveKit keeps it; empty afterwards."""
        fields, self._fields = self._fields, {}
        extra = dict(fields.pop("extra_content", None) or {})
        if fields:
            extra[_CARRIER] = {_OURS: {"message": fields}}
        return extra


def call_extra(extra_json: bytes, message: dict[str, Any]) -> dict[str, Any] | None:
    """The `extra` of a tool call: its own state, and that of its message."""
    fields = json.loads(extra_json) if extra_json else {}
    extra = dict(fields.pop("extra_content", None) or {})
    carried = dict((message.get(_CARRIER) or {}).get(_OURS, {}))
    extra.update((key, value) for key, value in message.items() if key != _CARRIER)
    if fields:
        carried["call"] = fields
    if carried:
        extra[_CARRIER] = {_OURS: carried}
    return extra or None


def restore(messages: Iterable[MutableMapping[str, Any]]) -> None:
    """Put carried state where it was, in messages for a chat completion."""
    for message in messages:
        for holder in (message, *message.get("tool_calls", ())):
            content = holder.get("extra_content")
            carrier = content.get(_CARRIER) if isinstance(content, dict) else None
            carried = carrier.pop(_OURS, None) if isinstance(carrier, dict) else None
            if not isinstance(carried, dict):
                continue
            if not carrier:
                del content[_CARRIER]
            if not content:
                del holder["extra_content"]
            message.update(carried.get("message", {}))
            holder.update(carried.get("call", {}))
