"""One choice of a chat answer, as far as its end depends on what came before.

A choice that made tool calls ends with `tool_calls` even where the provider says `stop` or
`length`, because clients drop the last call otherwise; only when its arguments were cut does
`length` stand.
"""

from __future__ import annotations

from typing import Any, Final

from relay.content import FinishReason, StreamEvent, ToolCallDone, ToolCallStart

_FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.OTHER: "stop",
}

CHOICE_LEVEL: Final = frozenset({"logprobs"})
"""Opaque fields that stand beside `delta` or `message`, not inside."""


class ChatChoice:
    """What must be remembered of one choice to keep the rules."""

    __slots__ = ("beside", "custom_calls", "has_calls", "is_cut", "is_started")

    def __init__(self) -> None:
        self.beside: dict[str, Any] = {}
        self.custom_calls: set[int] = set()
        self.is_started = False
        self.has_calls = False
        self.is_cut = False

    def note(self, event: StreamEvent) -> None:
        if isinstance(event, ToolCallStart):
            self.has_calls = True
            if event.kind == "custom":
                self.custom_calls.add(event.index)
        elif isinstance(event, ToolCallDone):
            self.has_calls = True
            self.is_cut = self.is_cut or event.is_partial

    def finish(self, reason: FinishReason) -> str:
        if self.has_calls and not self.is_cut and reason is not FinishReason.CONTENT_FILTER:
            return "tool_calls"
        return _FINISH[reason]


def legacy_finish(finish: str) -> str:
    return "function_call" if finish == "tool_calls" else finish
