"""Stream events as one Message of Anthropic's API."""

from __future__ import annotations

from typing import Any, Final

import orjson

from relay.content import (
    Events,
    OpaqueDelta,
    ReasoningDelta,
    RefusalDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from relay.errors import EventTooLarge
from relay.event_size import HEAD_BYTES, held_bytes
from relay.frontends.limits import MAX_ANSWER_BYTES
from relay.frontends.surfaces.messages_ending import (
    Ending,
    entries_of,
    final_usage,
    message_head,
    own_citation,
)
from relay.outcome import GenerationEnd

_NOT_COLLECTED: Final = ToolCallStart | ToolArgumentsDelta
"""The call comes whole when it is done."""


class MessageCollector:
    """Events to one message of at most `MAX_ANSWER_BYTES`."""

    def __init__(
        self, model: str, *, with_thinking: bool = False, with_relay: bool = False
    ) -> None:
        """
        Args:
            model: shown if the provider names none.
            with_thinking: the client asked to see thinking.
            with_relay: and for the relay's own account (`x_relay`).
        """
        self._model = model
        self._with_thinking = with_thinking
        self._with_relay = with_relay
        self._info: ResponseInfo | None = None
        self._content: list[dict[str, Any]] = []
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._is_unsigned = False
        self._ending = Ending()
        self._held_bytes = 0

    def add(self, events: Events) -> None:
        """Take a batch.

        Raises:
            EventTooLarge: the answer is over `MAX_ANSWER_BYTES`; leave the generation, which ends
                its attempt.
        """
        for event in events:
            if isinstance(event, ResponseInfo):
                self._info = self._info or event
            elif not isinstance(event, Usage) and not getattr(event, "choice", 0):
                self._add(event)
                if not isinstance(event, _NOT_COLLECTED):
                    self._held_bytes += HEAD_BYTES + held_bytes(event)
        if self._held_bytes > MAX_ANSWER_BYTES:
            self._content.clear()
            self._text.clear()
            raise EventTooLarge(
                f"the answer is too large for one document ({MAX_ANSWER_BYTES} bytes): stream it"
            )

    def _add(self, event: StreamEvent) -> None:
        if isinstance(event, TextDelta | RefusalDelta):
            self._end_thinking()
            self._text.append(event.text)
        elif isinstance(event, ReasoningDelta):
            if self._with_thinking:
                self._end_text()
                self._thoughts.append(event.text)
        elif isinstance(event, ToolCallDone):
            self._end_open()
            self._content.append(
                {
                    "type": "tool_use",
                    "id": event.call_id,
                    "name": event.name,
                    "input": _input(event),
                }
            )
        elif isinstance(event, OpaqueDelta):
            self._opaque(event)
        if not isinstance(event, TextDelta):
            self._ending.note(event)

    def _opaque(self, event: OpaqueDelta) -> None:
        if event.key == "reasoning_details":
            for entry in entries_of(event):
                self._reasoning(entry)
        elif event.key == "annotations":
            citations = [one for one in map(own_citation, entries_of(event)) if one is not None]
            if citations and self._text:
                self._end_text(citations)
        elif event.key == "anthropic_blocks":
            self._end_open()
            blocks = (entry.get("block") for entry in entries_of(event))
            self._content += [block for block in blocks if isinstance(block, dict)]

    def _reasoning(self, entry: dict[str, Any]) -> None:
        """What signs thinking, or stands in its place."""
        block = self._ending.block_of(entry)
        if block is None:
            return
        self._end_text()
        if block["type"] == "thinking":
            if not self._thoughts and self._is_unsigned:
                self._ending.keep_signed(block)
                return
            self._thoughts.clear()  # the block has all of it
        self._end_thinking()
        self._content.append(block)

    def _end_text(self, citations: list[dict[str, Any]] | None = None) -> None:
        if self._text:
            block: dict[str, Any] = {"type": "text", "text": "".join(self._text)}
            self._content.append({**block, "citations": citations} if citations else block)
            self._text.clear()

    def _end_thinking(self) -> None:
        if self._thoughts:
            text = "".join(self._thoughts)
            self._content.append({"type": "thinking", "thinking": text, "signature": ""})
            self._thoughts.clear()
            self._is_unsigned = True

    def _end_open(self) -> None:
        self._end_text()
        self._end_thinking()

    def to_json(self, end: GenerationEnd) -> bytes:
        """The message; `end` is a clean end."""
        self._end_open()
        content = list(self._content)
        if self._ending.has_calls or self._with_thinking:
            state = self._ending.state_block()
            if state is not None:
                content.append(state)
        value = {
            **message_head(self._info, self._model),
            "content": content,
            **self._ending.delta(end),
            "usage": final_usage(end, with_relay=self._with_relay),
        }
        return orjson.dumps(value)


def _input(call: ToolCallDone) -> object:
    """The arguments, which must be an object: what was cut is empty, and what a model wrote
    otherwise stands as the text it is under one key."""
    if not call.arguments or call.is_partial:
        return {}
    try:
        value = orjson.loads(call.arguments)
    except orjson.JSONDecodeError:
        return {"arguments": call.arguments}
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"arguments": value}
