"""Neutral events as the output items of a response, and the events about them in OpenAI's order.

One item is open at a time. A message stays open until another item begins or the answer ends, since
text may follow what finishes a choice; reasoning until something else is said. State that comes
when its item is gone already is carried by a reasoning item of its own at the end.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from relay.content import (
    ChoiceFinished,
    FinishReason,
    OpaqueDelta,
    ReasoningDelta,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
)
from relay.errors import EventTooLarge
from relay.event_size import HEAD_BYTES, held_bytes
from relay.frontends.response_state import (
    DETAILS,
    FORMAT_KEY,
    ITEMS,
    OPENAI_FORMAT,
    STATE_KEYS,
    merge,
)
from relay.frontends.surfaces.response_items import (
    CallItem,
    Growing,
    Item,
    Json,
    MessageItem,
    MessagePart,
    ReasoningItem,
    UnreadItem,
)

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""Of one response, which its last event holds whole: several hundred thousand tokens."""

_EMPTY_ARGUMENTS: Final = "{}"


class ResponseOutput:
    """Collects the items of one response; what is to be told of them goes to `tell` and
    `tell_delta`, which do nothing here.

    Args:
        id_base: of the items' ids, at least 20 hexadecimal digits.
        with_logprobs: the client asked for log probabilities.
    """

    def __init__(self, id_base: str, *, with_logprobs: bool) -> None:
        self._id_base = id_base
        self._with_logprobs = with_logprobs
        self._open: MessageItem | ReasoningItem | CallItem | None = None
        self._late: Json = {}
        self._beside: Json = {}  # fields of the next message
        self._held_bytes = 0
        self.part: MessagePart | None = None
        """The text that is open, if that is what is open."""
        self.items: list[Item] = []
        self.finish = FinishReason.OTHER
        """Why the answer ended, once it has."""

    # --- told of it -------------------------------------------------------------------------

    def tell(self, event: str, fields: Json) -> None:
        """Something has happened."""

    def tell_delta(self, growing: Growing, piece: str) -> None:
        """A text has grown."""

    # --- events -----------------------------------------------------------------------------

    def take(self, event: StreamEvent) -> None:
        """Take one event.

        Raises:
            EventTooLarge: the answer is over `MAX_ANSWER_BYTES`.
        """
        self.hold(HEAD_BYTES + held_bytes(event))
        if isinstance(event, TextDelta):
            self._grow_part(event.text, is_refusal=False)
        elif isinstance(event, RefusalDelta):
            self._grow_part(event.text, is_refusal=True)
        elif isinstance(event, ReasoningDelta):
            self._on_reasoning(event.text)
        elif isinstance(event, ToolCallStart):
            self._on_call(event)
        elif isinstance(event, ToolArgumentsDelta):
            if isinstance(self._open, CallItem):
                self._grow(self._open.growing, event.fragment)
        elif isinstance(event, ToolCallDone):
            self._on_call_done(event)
        elif isinstance(event, OpaqueDelta):
            self._on_opaque(event.key, orjson.loads(event.value_json))
        elif isinstance(event, ChoiceFinished):
            self.finish = event.reason

    def hold(self, count_bytes: int) -> None:
        """Count what is held.

        Raises:
            EventTooLarge: it is too much.
        """
        self._held_bytes += count_bytes
        if self._held_bytes > MAX_ANSWER_BYTES:
            raise EventTooLarge(
                f"the answer is too large for one response ({MAX_ANSWER_BYTES} bytes)"
            )

    def end(self) -> None:
        """Nothing more comes: close what is open."""
        is_cut = self.finish in (FinishReason.LENGTH, FinishReason.CONTENT_FILTER)
        if not self.items or self._beside:  # an empty answer is still a message
            self._message()
        self._close("incomplete" if is_cut else "completed")
        if self._late:
            item = ReasoningItem(self._next_id("rs"), len(self.items), is_late=True)
            item.state = self._late
            self._late = {}
            self._begin(item)
            self._close()

    def abandon(self) -> None:
        """The answer broke off: nothing more is told, and what is open stays incomplete."""
        if self._open is not None:
            self._open.status = "incomplete"

    def to_list(self) -> list[Json]:
        """All items as they are now."""
        return [item.to_object() for item in self.items]

    # --- items ------------------------------------------------------------------------------

    def _next_id(self, prefix: str) -> str:
        return f"{prefix}_{self._id_base}{len(self.items):04x}"

    def _begin(self, item: MessageItem | ReasoningItem | CallItem) -> None:
        self._close()
        self._open = item
        self._add(item)

    def _add(self, item: Item) -> None:
        self.items.append(item)
        value = item.to_object()
        value.pop("encrypted_content", None)  # it comes with the whole item
        self.tell("response.output_item.added", {"output_index": item.output_index, "item": value})

    def _close(self, status: str = "completed") -> None:
        item, self._open = self._open, None
        if item is None:
            return
        if isinstance(item, MessageItem):
            self._close_part()
        elif isinstance(item, ReasoningItem):
            self._close_summary(item)
        item.status = status
        self._tell_item_done(item)

    def _tell_item_done(self, item: Item) -> None:
        self.tell(
            "response.output_item.done",
            {"output_index": item.output_index, "item": item.to_object()},
        )

    def _grow(self, growing: Growing, piece: str) -> None:
        growing.pieces.append(piece)
        self.tell_delta(growing, piece)

    # --- what is said -----------------------------------------------------------------------

    def _message(self) -> MessageItem:
        """The open message, begun if there is none."""
        if isinstance(self._open, MessageItem):
            return self._open
        item = MessageItem(self._next_id("msg"), len(self.items))
        item.beside, self._beside = self._beside, {}
        self._begin(item)
        return item

    def _grow_part(self, piece: str, *, is_refusal: bool) -> None:
        part = self.part
        if part is None or part.is_refusal is not is_refusal:
            part = self._begin_part(is_refusal=is_refusal)
        self._grow(part.growing, piece)

    def _begin_part(self, *, is_refusal: bool) -> MessagePart:
        self._close_part()
        message = self._message()
        part = MessagePart(message.id, message.output_index, len(message.parts), is_refusal)
        self.tell("response.content_part.added", {**part.growing.place, "part": part.to_object()})
        message.parts.append(part)
        self.part = part
        return part

    def _close_part(self) -> None:
        part, self.part = self.part, None
        if part is None:
            return
        growing, whole = part.growing, part.growing.text
        if part.is_refusal:
            self.tell(f"{growing.event}.done", {**growing.place, "refusal": whole})
        else:
            fields = {**growing.place, "text": whole, "logprobs": part.logprobs}
            self.tell(f"{growing.event}.done", fields)
        self.tell("response.content_part.done", {**growing.place, "part": part.to_object(whole)})

    def _on_annotations(self, listed: list[Any]) -> None:
        part = self.part
        if part is None or part.is_refusal:
            part = self._begin_part(is_refusal=False)
        for one in listed:
            annotation = _flat_annotation(one)
            self.tell(
                "response.output_text.annotation.added",
                {
                    **part.growing.place,
                    "annotation_index": len(part.annotations),
                    "annotation": annotation,
                },
            )
            part.annotations.append(annotation)

    # --- reasoning and state ----------------------------------------------------------------

    def _reasoning(self) -> ReasoningItem:
        """The open reasoning, begun if there is none."""
        if isinstance(self._open, ReasoningItem):
            return self._open
        item = ReasoningItem(self._next_id("rs"), len(self.items))
        self._begin(item)
        return item

    def _on_reasoning(self, piece: str) -> None:
        item = self._reasoning()
        growing = item.growing
        if growing is None:
            growing = item.begin_summary()
            self.tell(
                "response.reasoning_summary_part.added",
                {**growing.place, "part": {"type": "summary_text", "text": ""}},
            )
        self._grow(growing, piece)

    def _close_summary(self, item: ReasoningItem) -> None:
        growing = item.growing
        if growing is None:
            return
        whole = growing.text
        self.tell(f"{growing.event}.done", {**growing.place, "text": whole})
        part = {"type": "summary_text", "text": whole}
        self.tell("response.reasoning_summary_part.done", {**growing.place, "part": part})

    def _on_opaque(self, key: str, value: Any) -> None:
        if key == "logprobs":
            if self._with_logprobs and self.part is not None:
                self.part.logprobs += logprobs_of(value)
        elif key == "annotations" and isinstance(value, list):
            self._on_annotations(value)
        elif key == ITEMS and isinstance(value, list):
            for entry in value:
                self._on_unread(entry)
        elif key == DETAILS and (self._open is None or isinstance(self._open, ReasoningItem)):
            merge(self._reasoning().state, key, value)
        elif key in STATE_KEYS:
            self._on_state(key, value)
        elif isinstance(self._open, MessageItem):
            merge(self._open.beside, key, value)
        else:
            merge(self._beside, key, value)

    def _on_state(self, key: str, value: Any) -> None:
        match value:
            case {"openai": {"phase": str(phase)}} if key == "extra_content":
                for item in reversed(self.items):
                    if isinstance(item, MessageItem):
                        item.phase = phase
                        break
                value = {name: one for name, one in value.items() if name != "openai"}
                if not value:
                    return
            case _:
                pass
        merge(self._late, key, value)

    def _on_unread(self, entry: Any) -> None:
        if not isinstance(entry, dict) or not isinstance(entry.get("item"), dict):
            return
        value = dict(entry["item"])
        if (whose := entry.get("format")) != OPENAI_FORMAT and isinstance(whose, str):
            value[FORMAT_KEY] = whose
        self._close()
        item = UnreadItem(len(self.items), value)
        self._add(item)
        item.status = "completed"
        self._tell_item_done(item)

    # --- calls ------------------------------------------------------------------------------

    def _on_call(self, event: ToolCallStart) -> None:
        is_custom = event.kind == "custom"
        self._begin(
            CallItem(
                self._next_id("ctc" if is_custom else "fc"),
                len(self.items),
                event.call_id,
                event.name,
                is_custom=is_custom,
            )
        )

    def _on_call_done(self, event: ToolCallDone) -> None:
        item = self._open
        if not isinstance(item, CallItem):
            return
        growing = item.growing
        if not event.arguments and not item.is_custom and not event.is_partial:
            self._grow(growing, _EMPTY_ARGUMENTS)  # clients parse them
        if event.extra_json:
            item.beside = orjson.loads(event.extra_json)
        fields = {**growing.place, item.field: growing.text}
        if not item.is_custom:
            fields["name"] = item.name
        self.tell(f"{growing.event}.done", fields)
        self._close("incomplete" if event.is_partial else "completed")


def logprobs_of(value: Any) -> list[Any]:
    """Log probabilities of text, which Chat has in an object of their own."""
    listed = value.get("content") if isinstance(value, dict) else value
    return listed if isinstance(listed, list) else []


def _flat_annotation(value: Any) -> Any:
    """A citation without the inner object that Chat has, which may have another wire's type."""
    if isinstance(value, dict):
        kind = value.get("type")
        inner = value.get(kind) if isinstance(kind, str) else None
        if isinstance(inner, dict):
            return {**inner, "type": kind}
    return value
