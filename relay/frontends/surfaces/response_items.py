"""The output items of a response, from their first event to the object that stays.

An item tells what it is (`to_object`); the events about it are told by whoever builds the response
(`response_output`).
"""

from __future__ import annotations

from typing import Any, Final

from relay.frontends.response_state import pack

Json = dict[str, Any]

TEXT: Final = "response.output_text"
"""How the events of a message's text begin."""

_IN_PROGRESS: Final = "in_progress"


class Growing:
    """A text that comes in pieces, with the event that tells each of them."""

    __slots__ = ("beside", "event", "pieces", "place")

    def __init__(self, event: str, place: Json, beside: Json | None = None) -> None:
        """
        Args:
            event: name of its deltas, without `.delta`.
            place: where it stands (`item_id`, `output_index`, ...).
            beside: what its deltas have after the piece.
        """
        self.event = event
        self.place = place
        self.beside = beside or {}
        self.pieces: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class MessagePart:
    """A text, or a refusal, of a message."""

    __slots__ = ("annotations", "growing", "is_refusal", "logprobs")

    def __init__(self, item_id: str, output_index: int, content_index: int, is_refusal: bool):
        place = {
            "item_id": item_id,
            "output_index": output_index,
            "content_index": content_index,
        }
        self.is_refusal = is_refusal
        self.growing = (
            Growing("response.refusal", place)
            if is_refusal
            else Growing(TEXT, place, {"logprobs": []})
        )
        self.annotations: list[Any] = []
        self.logprobs: list[Any] = []

    def to_object(self, text: str | None = None) -> Json:
        text = self.growing.text if text is None else text
        if self.is_refusal:
            return {"type": "refusal", "refusal": text}
        return {
            "type": "output_text",
            "annotations": self.annotations,
            "logprobs": self.logprobs,
            "text": text,
        }


class MessageItem:
    """What the assistant says."""

    __slots__ = ("beside", "id", "output_index", "parts", "phase", "status")

    def __init__(self, item_id: str, output_index: int) -> None:
        self.id = item_id
        self.output_index = output_index
        self.parts: list[MessagePart] = []
        self.beside: Json = {}
        """Fields of the provider that we do not read."""
        self.phase = ""
        self.status = _IN_PROGRESS

    def to_object(self) -> Json:
        value: Json = {
            **self.beside,
            "id": self.id,
            "type": "message",
            "status": self.status,
            "content": [part.to_object() for part in self.parts],
            "role": "assistant",
        }
        if self.phase:
            value["phase"] = self.phase
        return value


class ReasoningItem:
    """What the model thinks, as far as it is told, and the state that goes back."""

    __slots__ = ("growing", "id", "is_late", "output_index", "state", "status")

    def __init__(self, item_id: str, output_index: int, *, is_late: bool = False) -> None:
        self.id = item_id
        self.output_index = output_index
        self.is_late = is_late
        self.state: Json = {}
        self.growing: Growing | None = None
        self.status = _IN_PROGRESS

    def begin_summary(self) -> Growing:
        place = {"item_id": self.id, "output_index": self.output_index, "summary_index": 0}
        self.growing = Growing("response.reasoning_summary_text", place)
        return self.growing

    def to_object(self) -> Json:
        summary = []
        if self.growing is not None and self.growing.pieces:
            summary.append({"type": "summary_text", "text": self.growing.text})
        value: Json = {"id": self.id, "type": "reasoning", "summary": summary}
        if self.state:
            value["encrypted_content"] = pack(self.state, is_late=self.is_late)
        return value


class CallItem:
    """A call of a tool."""

    __slots__ = (
        "beside",
        "call_id",
        "growing",
        "id",
        "is_custom",
        "name",
        "output_index",
        "status",
    )

    def __init__(
        self, item_id: str, output_index: int, call_id: str, name: str, *, is_custom: bool
    ) -> None:
        self.id = item_id
        self.output_index = output_index
        self.call_id = call_id
        self.name = name
        self.is_custom = is_custom
        event = "custom_tool_call_input" if is_custom else "function_call_arguments"
        place = {"item_id": item_id, "output_index": output_index}
        self.growing = Growing(f"response.{event}", place)
        self.beside: Json = {}
        """State of the provider that goes back with the call."""
        self.status = _IN_PROGRESS

    @property
    def field(self) -> str:
        """Where its arguments stand."""
        return "input" if self.is_custom else "arguments"

    def to_object(self) -> Json:
        return {
            **self.beside,
            "id": self.id,
            "type": "custom_tool_call" if self.is_custom else "function_call",
            "status": self.status,
            self.field: self.growing.text,
            "call_id": self.call_id,
            "name": self.name,
        }


class UnreadItem:
    """An item of the provider's that passes through."""

    __slots__ = ("output_index", "status", "value")

    def __init__(self, output_index: int, value: Json) -> None:
        self.output_index = output_index
        self.value = value
        self.status = _IN_PROGRESS

    def to_object(self) -> Json:
        return self.value


Item = MessageItem | ReasoningItem | CallItem | UnreadItem
