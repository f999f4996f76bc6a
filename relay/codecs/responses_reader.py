"""What each event of a Responses stream, or a whole response, says: documents in, events out.

Every text comes up to four times: in deltas, in the `done` of its part, in the `done` of its item
and in the terminal event. It is told once: deltas as they come, and of what repeats them only what
they left out. The terminal's `output` is read where no item came before it, which is also how a
whole response is read.

Text and reasoning of one answer are one text each. Parts of the reasoning are set apart by a blank
line; where an item has both a summary and its plain text, the kind that comes first is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relay.codecs import openai_errors, openai_usage
from relay.codecs.opaque_field import pass_on
from relay.codecs.responses_calls import KINDS, ResponseCalls
from relay.codecs.responses_hot_event import HotEvent
from relay.codecs.responses_state import (
    ITEMS_KEY,
    REASONING_KEY,
    opaque_entry,
    reasoning_entries,
)
from relay.content import (
    ChoiceFinished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
)
from relay.errors import (
    NotAnAnswer,
    Reason,
    RemoteProtocolError,
    StreamTruncated,
    UpstreamError,
    UpstreamStatus,
)

MAX_PARTS: Final = 10_000
"""Parts of one answer; only keeps a mad peer from filling memory."""

MAX_KEPT_CHARS: Final = 1 << 20
"""Of one part's text; what repeats a longer one adds nothing."""

INCOMPLETE_REASONS: Final[Mapping[str, FinishReason]] = {
    "max_output_tokens": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}
"""By `incomplete_details.reason`."""

# Kinds of text.
_TEXT: Final = "text"
_REFUSAL: Final = "refusal"
_SUMMARY: Final = "summary"
_THOUGHT: Final = "thought"

_KIND_OF_PART: Final[Mapping[str, str]] = {
    "output_text": _TEXT,
    "text": _TEXT,
    "refusal": _REFUSAL,
    "summary_text": _SUMMARY,
    "reasoning_text": _THOUGHT,
}
_DELTAS: Final[Mapping[str, tuple[str, str]]] = {
    "response.output_text.delta": (_TEXT, "content_index"),
    "response.refusal.delta": (_REFUSAL, "content_index"),
    "response.reasoning_summary_text.delta": (_SUMMARY, "summary_index"),
    "response.reasoning_text.delta": (_THOUGHT, "content_index"),
}
"""Events that bring a piece of text: of which kind, and which field tells its part."""

_DONES: Final[Mapping[str, tuple[str, str]]] = {
    f"{name.removesuffix('delta')}done": row for name, row in _DELTAS.items()
}
"""Events that repeat a part's whole text, with the fields of the part."""

_ARGUMENTS: Final[Mapping[str, str]] = {
    "response.function_call_arguments.delta": "function",
    "response.custom_tool_call_input.delta": "custom",
}
"""Events that bring a piece of a call. Their `done` says nothing that the item's does not, which
also tells whether the arguments were cut."""

_TERMINALS: Final[Mapping[str, str]] = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
}
"""Events that end the response, and the status they mean where it names none."""

_STATUSES: Final = frozenset(_TERMINALS.values())

_FIELD_OF_KIND: Final = {_TEXT: "text", _REFUSAL: "refusal", _SUMMARY: "text", _THOUGHT: "text"}


class _Part:
    """One part of an item while its text comes."""

    __slots__ = (
        "annotations",
        "chars",
        "has_logprobs",
        "index",
        "is_closed",
        "is_kept",
        "part_index",
        "said",
    )

    def __init__(self, index: int, part_index: int) -> None:
        self.index = index
        self.part_index = part_index
        self.said: list[str] = []
        self.chars = 0
        self.is_kept = True  # what was said, to compare with what repeats it
        self.is_closed = False
        self.annotations = 0
        self.has_logprobs = False

    def keep(self, text: str) -> None:
        """Remember what was said, not without bounds."""
        if self.chars >= MAX_KEPT_CHARS:
            self.forget()
        self.chars += len(text)
        if self.is_kept:
            self.said.append(text)

    def forget(self) -> None:
        self.is_kept = False
        self.said.clear()


class ResponseReader:
    """Reads the events of one response.

    Args:
        format_name: `format` of the state that the provider wants back (`responses_state`).

    Raises (every `read` method, after adding the events that came before):
        UpstreamStatus: the response failed.
        RemoteProtocolError: it breaks the format.
    """

    __slots__ = (
        "_calls",
        "_format",
        "_has_info",
        "_has_output",
        "_has_reasoning",
        "_last_parts",
        "_next_index",
        "_parts",
        "_phase",
        "_reasoning_kinds",
        "_text_part",
        "is_finished",
        "left_out",
    )

    def __init__(self, format_name: str) -> None:
        self._format = format_name
        self._calls = ResponseCalls()
        self.left_out = 0
        """Fields that could not be passed on."""
        self._parts: dict[tuple[str, int, int], _Part] = {}
        self._last_parts: dict[str, _Part] = {}  # by kind
        self._text_part = _Part(-1, -1)
        self._reasoning_kinds: dict[int, str] = {}
        self._next_index = 0  # of entries and items, see responses_state
        self._phase = ""  # of the last message
        self._has_info = False
        self._has_output = False
        self._has_reasoning = False
        self.is_finished = False
        """The terminal event has come."""

    # --- documents --------------------------------------------------------------------------

    def read_text(self, event: HotEvent, events: list[StreamEvent]) -> None:
        """Take an event that is just text."""
        text = event.delta
        if not text:
            return
        part = self._text_part
        if (
            part.is_closed
            or event.output_index != part.index
            or event.content_index != part.part_index
        ):
            part = self._open_part(_TEXT, event.output_index, event.content_index)
        if part.is_kept and part.chars < MAX_KEPT_CHARS:
            part.chars += len(text)
            part.said.append(text)
        else:
            part.keep(text)
        events.append(TextDelta(text))

    def read(self, name: str, document: Any, events: list[StreamEvent]) -> None:
        """Take one event.

        Args:
            name: of the event, for hosts that leave out its `type`.
        """
        if type(document) is not dict:
            if document is None and name != "error":
                return
            if name == "error" or openai_errors.read_facts(document) is not None:
                raise openai_errors.decode_inner_error(document)
            raise RemoteProtocolError("the provider sent JSON that is no event of a response")
        event = document.get("type") or name
        if type(event) is not str:
            event = ""
        if row := _DELTAS.get(event):
            self._on_delta(*row, document, events)
        elif kind := _ARGUMENTS.get(event):
            self._has_output = True
            self._calls.add(document, kind, events)
        elif row := _DONES.get(event):
            kind, index_field = row
            self._on_whole_part(kind, index_field, document, document, events)
        elif status := _TERMINALS.get(event):
            self._on_terminal(status, document, events)
        else:
            self._on_other(event, name, document, events)

    def _on_other(
        self, event: str, name: str, document: dict[str, Any], events: list[StreamEvent]
    ) -> None:
        match event:
            case "response.created" | "response.in_progress" | "response.queued":
                self._tell_info(document.get("response"), events)
            case "response.output_item.added":
                self._on_item_added(document, events)
            case "response.output_item.done":
                self._on_item_done(document, events)
            case "response.content_part.done" | "response.reasoning_summary_part.done":
                self._on_part_done(document, events)
            case "response.output_text.annotation.added":
                self._on_annotation(document, events)
            case "error":
                raise _decode_error_event(document)
            case _ if name == "error" or document.get("error"):
                raise openai_errors.decode_inner_error(document)
            case _:
                pass  # it says nothing that the client needs

    def read_whole(self, document: Any, events: list[StreamEvent]) -> None:
        """Take a response that came as one document."""
        if type(document) is not dict or document.get("type") == "error":
            self.read("error", document, events)
        status = _text(document.get("status"))
        if status not in _STATUSES and document.get("error"):
            raise openai_errors.decode_inner_error(document)
        if status not in _STATUSES and type(document.get("output")) is not list:
            if openai_errors.read_facts(document) is not None:
                raise openai_errors.decode_inner_error(document)
            raise NotAnAnswer("the provider sent JSON that is not a response")
        if status in ("queued", "in_progress"):
            raise StreamTruncated("the provider's answer is not finished")
        self._end(document, status if status in _STATUSES else "completed", events)

    # --- the response as a whole ------------------------------------------------------------

    def _tell_info(self, response: object, events: list[StreamEvent]) -> None:
        if self._has_info or self._has_output or type(response) is not dict:
            return
        self._has_info = True
        tier = _text(response.get("service_tier"))
        info = ResponseInfo(
            _text(response.get("id")),
            _text(response.get("model")),
            _created_s(response.get("created_at")),
            "" if tier == "auto" else tier,  # what was asked; the tier itself comes at the end
        )
        self._calls.id_seed = f"{info.response_id}/{info.created_s}"
        events.append(info)

    def _on_terminal(
        self, event_status: str, document: dict[str, Any], events: list[StreamEvent]
    ) -> None:
        response = document.get("response")
        if type(response) is not dict:
            response = {}
        status = _text(response.get("status"))
        self._end(response, status if status in _STATUSES else event_status, events)

    def _end(self, response: dict[str, Any], status: str, events: list[StreamEvent]) -> None:
        self._tell_info(response, events)
        self._read_output(response.get("output"), events)
        usage = response.get("usage")
        counts = openai_usage.normalise_responses(usage) if type(usage) is dict else None
        if status in ("failed", "cancelled") or response.get("error"):
            if counts is not None:
                events.append(counts)
            raise _failure(response, status)
        reason, raw = _finish(response, status)
        self._calls.finish(events, by_length=reason is FinishReason.LENGTH)
        if reason is FinishReason.STOP and self._calls.count:
            reason = FinishReason.TOOL_CALLS
        if self._phase:
            # The messages go back as one, in the place of the last. Told once, since OpenAI's own
            # client would join two words to one.
            self.left_out += not pass_on(
                "extra_content", {"openai": {"phase": self._phase}}, events
            )
        events.append(ChoiceFinished(reason, raw))
        if counts is not None:
            events.append(counts)
        self.is_finished = True

    def _read_output(self, output: object, events: list[StreamEvent]) -> None:
        """What the response repeats at its end, as far as it is new."""
        if type(output) is not list:
            return
        has_come = self._has_output
        for index, item in enumerate(output):
            place = {"output_index": index, "item": item}
            if not has_come:
                self._on_item_done(place, events)
            elif self._calls.has_open and type(item) is dict and _type(item) in KINDS:
                self._calls.complete(place, item, events)

    # --- items ------------------------------------------------------------------------------

    def _on_item_added(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        self._has_output = True
        item = document.get("item")
        if type(item) is dict and _type(item) in KINDS:
            self._calls.open(document, item, events)

    def _on_item_done(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        self._has_output = True
        item = document.get("item")
        if type(item) is not dict:
            raise RemoteProtocolError("an output item is not an object")
        kind = _type(item)
        index = _index(document, "output_index")
        if kind in KINDS:
            self._calls.complete(document, item, events)
            self._next_index += 1
        elif kind == "message":
            self._on_parts(index, item.get("content"), events)
            if (phase := item.get("phase")) and type(phase) is str:
                self._phase = phase
            self._next_index += 1
        elif kind == "reasoning":
            self._on_parts(index, item.get("summary"), events)
            self._on_parts(index, item.get("content"), events)
            if entries := reasoning_entries(item, self._format, self._next_index):
                self._next_index += len(entries)
                self.left_out += not pass_on(REASONING_KEY, entries, events)
        elif kind:
            self.left_out += not pass_on(
                ITEMS_KEY, [opaque_entry(item, self._format, self._next_index)], events
            )
            self._next_index += 1

    def _on_parts(self, index: int, parts: object, events: list[StreamEvent]) -> None:
        if type(parts) is list:
            for part_index, part in enumerate(parts):
                if type(part) is dict:
                    place = dict.fromkeys(("content_index", "summary_index"), part_index)
                    self._on_part_done({"output_index": index, **place, "part": part}, events)

    # --- texts ------------------------------------------------------------------------------

    def _on_delta(
        self, kind: str, index_field: str, document: dict[str, Any], events: list[StreamEvent]
    ) -> None:
        index, part_index = _index(document, "output_index"), _index(document, index_field)
        text = document.get("delta")
        if text and type(text) is str:
            self._say(kind, index, self._open_part(kind, index, part_index), text, events)
        if kind == _TEXT and (logprobs := document.get("logprobs")):
            self._part(kind, index, part_index).has_logprobs = True
            self.left_out += not pass_on("logprobs", {"content": logprobs}, events)

    def _on_part_done(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        part = document.get("part")
        if type(part) is dict and (kind := _KIND_OF_PART.get(_type(part))):
            index_field = "summary_index" if kind == _SUMMARY else "content_index"
            self._on_whole_part(kind, index_field, document, part, events)

    def _on_annotation(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        if annotation := document.get("annotation"):
            place = _index(document, "output_index"), _index(document, "content_index")
            self._part(_TEXT, *place).annotations += 1
            self.left_out += not pass_on("annotations", [_annotation(annotation)], events)

    def _on_whole_part(
        self,
        kind: str,
        index_field: str,
        place: dict[str, Any],
        whole: dict[str, Any],
        events: list[StreamEvent],
    ) -> None:
        """A part is complete: tell what its deltas have left out."""
        index = _index(place, "output_index")
        part = self._part(kind, index, _index(place, index_field))
        text = whole.get(_FIELD_OF_KIND[kind])
        if text and type(text) is str and not part.is_closed:
            said = "".join(part.said)
            if (part.is_kept or not part.chars) and text.startswith(said) and text != said:
                self._say(kind, index, part, text[len(said) :], events)
            part.is_closed = True
            part.forget()
        if kind == _TEXT:
            self._on_extras(part, whole, events)

    def _on_extras(self, part: _Part, whole: dict[str, Any], events: list[StreamEvent]) -> None:
        """What stands beside a text that is complete, as far as it is new."""
        annotations = whole.get("annotations")
        if type(annotations) is list and len(annotations) > part.annotations:
            more = annotations[part.annotations :]
            part.annotations = len(annotations)
            self.left_out += not pass_on("annotations", [_annotation(one) for one in more], events)
        if not part.has_logprobs and (logprobs := whole.get("logprobs")):
            part.has_logprobs = True
            self.left_out += not pass_on("logprobs", {"content": logprobs}, events)

    # --- parts ------------------------------------------------------------------------------

    def _part(self, kind: str, index: int, part_index: int) -> _Part:
        """The part of this place."""
        self._has_output = True
        part = self._parts.get((kind, index, part_index))
        if part is None:
            if len(self._parts) >= MAX_PARTS:
                raise RemoteProtocolError("too many parts in one answer")
            part = self._parts[kind, index, part_index] = _Part(index, part_index)
        return part

    def _open_part(self, kind: str, index: int, part_index: int) -> _Part:
        """The same, to say more: where the last one is complete, another stands in its place."""
        part = self._part(kind, index, part_index)
        if part.is_closed:
            part = self._parts[kind, index, part_index] = _Part(index, part_index)
        last = self._last_parts.get(kind)
        if last is not part:
            if last is not None:
                last.forget()  # parts come one after another, so that one is remembered
            self._last_parts[kind] = part
        if kind == _TEXT:
            self._text_part = part
        return part

    def _say(
        self, kind: str, index: int, part: _Part, text: str, events: list[StreamEvent]
    ) -> None:
        is_first = not part.chars
        part.keep(text)
        if kind == _TEXT:
            events.append(TextDelta(text))
        elif kind == _REFUSAL:
            events.append(RefusalDelta(text))
        elif self._reasoning_kinds.setdefault(index, kind) == kind:
            if is_first and self._has_reasoning:
                text = f"\n\n{text}"
            self._has_reasoning = True
            events.append(ReasoningDelta(text))


def _finish(response: dict[str, Any], status: str) -> tuple[FinishReason, str]:
    """Why the answer ended, and in whose words."""
    if status == "completed":
        return FinishReason.STOP, status
    details = response.get("incomplete_details")
    raw = _text(details.get("reason")) if type(details) is dict else ""
    return INCOMPLETE_REASONS.get(raw, FinishReason.OTHER), raw or status


def _failure(response: dict[str, Any], status: str) -> UpstreamError:
    """The error of a response that failed."""
    if status == "cancelled":
        return UpstreamStatus(
            "the provider cancelled its answer",
            reason=Reason.UPSTREAM_FAILED,
            http_status=200,
            provider_code=status,
        )
    return openai_errors.decode_inner_error({"error": response.get("error")})


def _decode_error_event(document: dict[str, Any]) -> UpstreamError:
    if document.get("error"):
        return openai_errors.decode_inner_error(document)
    # The older shape has its facts beside the type, which says nothing.
    facts = {key: value for key, value in document.items() if key != "type"}
    return openai_errors.decode_inner_error({"error": facts})


def _created_s(value: Any) -> int:
    """Older recordings have 1741476777.0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and 0 <= value < 1 << 40 else 0


def _annotation(annotation: Any) -> Any:
    """A citation in Chat's shape, where its facts are an object of their own."""
    if type(annotation) is dict and annotation.get("type") == "url_citation":
        facts = {key: value for key, value in annotation.items() if key != "type"}
        return {"type": "url_citation", "url_citation": facts}
    return annotation


def _index(document: dict[str, Any], field: str) -> int:
    value = document.get(field)
    return value if type(value) is int else 0


def _type(value: dict[str, Any]) -> str:
    return _text(value.get("type"))


def _text(value: object) -> str:
    return value if type(value) is str else ""
