"""State that providers give out with tool calls and want back with them, unchanged.

Signatures of thinking, encrypted reasoning and the like come as `ToolCall.extra_json` and as extras
of the message. Pipecat's context has no place for them, so they are kept here, by the ids of the
calls, and put into the messages of the context when it is sent again.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtrelay.events import Extra, ToolCall

MOST_CALLS = 512
"""What is kept; older calls lose their state, as after a restart of the agent."""

_NOT_STATE = frozenset({"logprobs", "annotations"})
"""Extras that say something of an answer and are not wanted back."""


class ToolState:
    """Of one service."""

    def __init__(self) -> None:
        self._of_calls: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._of_messages: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def keep(self, calls: Iterable[ToolCall], extras: Iterable[Extra]) -> None:
        """Remember what came with the calls of one answer."""
        calls = list(calls)
        for event in calls:
            if event.call.extra_json:
                self._put(self._of_calls, event.call.call_id, json.loads(event.call.extra_json))
        if calls and (message := _joined(extras)):
            # Pipecat writes a message for each call; the first one stands for the answer.
            self._put(self._of_messages, calls[0].call.call_id, message)

    def restore(self, messages: Iterable[Any]) -> list[Any]:
        """The messages with their state; those that have any are copies."""
        if not self._of_calls and not self._of_messages:
            return list(messages)
        return [self._restored(message) for message in messages]

    def _restored(self, message: Any) -> Any:
        calls = message.get("tool_calls") if isinstance(message, Mapping) else None
        if not isinstance(calls, list):
            return message
        whole = dict(message)
        whole["tool_calls"] = [{**self._of_calls.get(call.get("id"), {}), **call} for call in calls]
        for call in calls:
            whole = {**self._of_messages.get(call.get("id"), {}), **whole}
        return whole

    @staticmethod
    def _put(kept: OrderedDict[str, dict[str, Any]], call_id: str, state: dict[str, Any]) -> None:
        kept[call_id] = state
        while len(kept) > MOST_CALLS:
            kept.popitem(last=False)


def _joined(extras: Iterable[Extra]) -> dict[str, Any]:
    """Extras by key: lists joined, of other values the last."""
    joined: dict[str, Any] = {}
    for extra in extras:
        if extra.key in _NOT_STATE or extra.choice:
            continue
        value = json.loads(extra.value_json)
        before = joined.get(extra.key)
        if isinstance(value, list) and isinstance(before, list):
            value = before + value
        joined[extra.key] = value
    return joined
