"""What one answer of Converse says: events of the stream, or a whole document, to events of ours.

Keeps what must be known across events: the blocks that are open, the tool calls, the reason of the
end. A whole document is read as if its blocks had been streamed. Blocks become:

    text                    `TextDelta`; its citations `OpaqueDelta("annotations")` when it is over
    reasoningContent        `ReasoningDelta` as it comes; with its signature, when it is over,
                            `OpaqueDelta("reasoning_details")`, type `reasoning.text`; redacted
                            content the same, type `reasoning.encrypted`
    toolUse                 a tool call
    image                   `OpaqueDelta("images")` when it is over
    every other block       `OpaqueDelta("converse_blocks")` when it is over, unread: calls of
                            server tools and their results

Only calls, results and images have a start; text and reasoning begin with their first piece. The
answer has ended with `messageStop`, which says why, and `metadata`, which counts: whichever comes
last. Without `metadata` the counts are missing and nothing else.

`malformed_model_output` and `malformed_tool_use` are failures: the model broke off what it said.

Lenient in what costs nothing: unknown events and deltas are skipped, a block may lack its end. A
piece of a tool call without one, and anything of a block behind the end, break the format.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from relay.codecs import lenient_json
from relay.codecs.bedrock_converse_conversation import OWN_FORMAT
from relay.codecs.bedrock_converse_usage import normalise
from relay.codecs.block_values import block_index, list_of, text_of
from relay.codecs.opaque_field import pass_on
from relay.codecs.tool_calls import ToolCallAssembler
from relay.content import (
    ChoiceFinished,
    FinishReason,
    ReasoningDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
)
from relay.errors import (
    EventTooLarge,
    NotAnAnswer,
    Reason,
    RemoteProtocolError,
    StreamTruncated,
    UpstreamStatus,
)
from relay.sse import MAX_EVENT_BYTES

MAX_OPEN_BLOCKS: Final = 64
"""Blocks come one after another; only keeps a mad peer from filling memory."""

MAX_HELD_CHARS: Final = MAX_EVENT_BYTES
"""Of reasoning, citations, pictures and unread blocks kept until their block is over, together."""

STOP_REASONS: Final[Mapping[str, FinishReason]] = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "guardrail_intervened": FinishReason.CONTENT_FILTER,
    "content_filtered": FinishReason.CONTENT_FILTER,
    # Not in the model of the service, and Claude's own word.
    "refusal": FinishReason.CONTENT_FILTER,
}

FAILED_STOPS: Final = frozenset({"malformed_model_output", "malformed_tool_use"})

_MAX_WORD_CHARS: Final = 200


class _Block:
    """A block that is open."""

    __slots__ = ("call", "citations", "index", "kind", "pieces", "signature", "start_at", "value")

    def __init__(self, index: int, kind: str, start_at: int) -> None:
        self.index = index
        self.kind = kind  # text, reasoning, redacted, call, image; or one that is not read
        self.start_at = start_at  # in the answer's text, characters
        self.call = 0  # which tool call this is, counted from 0
        self.pieces: list[str] = []  # reasoning, pictures, or JSON of an unread call
        self.signature = ""
        self.citations: list[dict[str, Any]] = []
        self.value: dict[str, Any] = {}  # of an image or an unread block


class ConverseReader:
    """Reads the events of one response.

    Args:
        response_id: what the response's headers call the request, since nothing else does.
        model: to be told as the one that answers.
        reasoning_format: of signed reasoning in `reasoning_details`.

    Raises (every `read` method, after adding the events that came before):
        UpstreamStatus: the model failed.
        RemoteProtocolError: the event breaks the format.
    """

    __slots__ = (
        "_annotations",
        "_blocks",
        "_has_begun",
        "_has_counts",
        "_held_chars",
        "_images",
        "_info",
        "_reasoning_format",
        "_tool_calls",
        "is_in_text",
        "left_out",
        "stop_reason",
        "text_chars",
    )

    def __init__(
        self, response_id: str = "", model: str = "", reasoning_format: str = OWN_FORMAT
    ) -> None:
        self.is_in_text = False
        """The last piece was one of text."""
        self.left_out = 0
        """Fields and blocks so far that no JSON of ours can hold, left out."""
        self.stop_reason = ""
        self.text_chars = 0
        """Of the answer so far; who takes text past the reader adds to it."""
        self._info = ResponseInfo(response_id, model, 0)
        self._reasoning_format = reasoning_format
        self._blocks: dict[int, _Block] = {}
        # A tool without arguments: the wire says nothing.
        self._tool_calls = ToolCallAssembler(0, response_id, "{}")
        self._held_chars = 0
        self._annotations = 0
        self._images = 0
        self._has_begun = False
        self._has_counts = False

    @property
    def is_done(self) -> bool:
        """The end and the counts have come."""
        return self._has_counts and bool(self.stop_reason)

    def read(self, name: str, document: Any, events: list[StreamEvent]) -> None:
        """Take one event."""
        handler = self._EVENTS.get(name)
        if handler is None:
            return
        if type(document) is not dict:
            raise RemoteProtocolError("the provider sent JSON that is no event of Converse")
        self._begin(events)
        handler(self, document, events)

    def read_whole(self, document: Any, events: list[StreamEvent]) -> None:
        """Take the whole answer, from a host that did not stream.

        Raises:
            StreamTruncated: it has no stop reason.
        """
        output = document.get("output") if type(document) is dict else None
        message = output.get("message") if type(output) is dict else None
        if type(message) is not dict:
            raise NotAnAnswer("the provider sent JSON that is no answer of Converse")
        self._begin(events)
        for index, block in enumerate(list_of(message.get("content"))):
            self._read_block(index, block if type(block) is dict else {}, events)
        if not text_of(document.get("stopReason")):
            raise StreamTruncated("the provider's answer ended without a stop reason")
        self._on_stop(document, events)
        self._on_metadata(document, events)

    def _begin(self, events: list[StreamEvent]) -> None:
        if not self._has_begun:
            self._has_begun = True
            events.append(self._info)

    # --- events of the wire -------------------------------------------------------------------

    def _on_start(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        """`messageStart` says whose turn it is, which is known."""

    def _on_block_start(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        self._check_open()
        start = document.get("start")
        if type(start) is not dict:
            raise RemoteProtocolError("the start of a block is not an object")
        use, index = start.get("toolUse"), block_index(document.get("contentBlockIndex"))
        self.is_in_text = False
        if type(use) is dict and use.get("type") is None:
            block = self._open(index, "call", events)
            self._on_call(block, use, "", events)
        elif start:
            kind = next(iter(start))
            value = start[kind]
            block = self._open(index, kind[:_MAX_WORD_CHARS], events)
            if type(value) is not dict or not self._hold_json(value):
                block.kind = ""
            else:
                block.value = value

    def _on_call(
        self, block: _Block, use: dict[str, Any], fragment: str, events: list[StreamEvent]
    ) -> None:
        calls = self._tool_calls
        block.call = calls.count
        calls.add(
            events,
            index=block.call,
            call_id=text_of(use.get("toolUseId")),
            name=text_of(use.get("name")),
            fragment=fragment,
        )

    def _on_block_delta(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        self._check_open()
        delta = document.get("delta")
        if type(delta) is not dict:
            return
        self.is_in_text = False
        for kind, value in delta.items():  # one, being a union
            if handler := self._DELTAS.get(kind):
                handler(self, document, value, events)

    def _on_block_stop(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        self.is_in_text = False
        block = self._blocks.pop(block_index(document.get("contentBlockIndex")), None)
        if block is not None:
            self._close(block, events)

    def _on_stop(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        if self.stop_reason:
            return
        raw = text_of(document.get("stopReason"))[:_MAX_WORD_CHARS]
        if not raw:
            raise RemoteProtocolError("the provider's answer stopped without a reason")
        self.stop_reason = raw
        self.is_in_text = False
        if raw in FAILED_STOPS:
            raise UpstreamStatus(
                f"the provider broke off its answer ({raw})",
                reason=Reason.UPSTREAM_FAILED,
                http_status=200,
                provider_code=raw,
            )
        reason = STOP_REASONS.get(raw, FinishReason.OTHER)
        for block in list(self._blocks.values()):
            self._close(block, events)
        self._blocks.clear()
        self._tool_calls.finish(events, by_length=reason is FinishReason.LENGTH)
        if reason is FinishReason.STOP and self._tool_calls.count:
            reason = FinishReason.TOOL_CALLS
        if more := document.get("additionalModelResponseFields"):
            self.left_out += not pass_on("additional_model_response_fields", more, events)
        events.append(ChoiceFinished(reason, raw))

    def _on_metadata(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        if (counts := normalise(document.get("usage"), document.get("serviceTier"))) is not None:
            events.append(counts)
        if trace := document.get("trace"):  # of a guardrail, where it was asked for
            self.left_out += not pass_on("trace", trace, events)
        self._has_counts = True

    # --- pieces of a block --------------------------------------------------------------------

    def _on_text(self, document: dict[str, Any], value: Any, events: list[StreamEvent]) -> None:
        self.is_in_text = True
        if text := text_of(value):
            self._block(document, "text", events)
            self.text_chars += len(text)
            events.append(TextDelta(text))

    def _on_input(self, document: dict[str, Any], value: Any, events: list[StreamEvent]) -> None:
        block = self._blocks.get(block_index(document.get("contentBlockIndex")))
        if block is None:
            raise RemoteProtocolError("a piece of a tool call came without its call")
        fragment = text_of(value.get("input")) if type(value) is dict else ""
        if not fragment:
            return
        if block.kind != "call":
            self._hold(len(fragment))
            block.pieces.append(fragment)
            return
        self._tool_calls.add(events, index=block.call, call_id="", name="", fragment=fragment)
        if self._tool_calls.held_chars > MAX_EVENT_BYTES:
            raise EventTooLarge("the arguments of a tool call are too large")

    def _on_reasoning(
        self, document: dict[str, Any], value: Any, events: list[StreamEvent]
    ) -> None:
        if type(value) is not dict:
            return
        if text := text_of(value.get("text")):
            self._hold(len(text))
            self._block(document, "reasoning", events).pieces.append(text)
            events.append(ReasoningDelta(text))
        if signature := text_of(value.get("signature")):
            self._hold(len(signature))
            self._block(document, "reasoning", events).signature += signature
        if redacted := text_of(value.get("redactedContent")):
            self._hold(len(redacted))
            self._block(document, "redacted", events).pieces.append(redacted)

    def _on_citation(self, document: dict[str, Any], value: Any, events: list[StreamEvent]) -> None:
        self.is_in_text = True
        if type(value) is dict and self._hold_json(value):
            self._block(document, "text", events).citations.append(value)

    def _on_image(self, document: dict[str, Any], value: Any, events: list[StreamEvent]) -> None:
        block = self._blocks.get(block_index(document.get("contentBlockIndex")))
        source = value.get("source") if type(value) is dict else None
        if block is not None and type(source) is dict and (data := text_of(source.get("bytes"))):
            self._hold(len(data))
            block.pieces.append(data)

    def _on_result(self, document: dict[str, Any], value: Any, events: list[StreamEvent]) -> None:
        block = self._blocks.get(block_index(document.get("contentBlockIndex")))
        if block is not None and type(value) is list and self._hold_json(value):
            content = block.value.setdefault("content", [])
            if type(content) is list:
                content.extend(value)

    # --- a whole answer -----------------------------------------------------------------------

    def _read_block(self, index: int, given: dict[str, Any], events: list[StreamEvent]) -> None:
        at = {"contentBlockIndex": index}
        for kind, value in given.items():
            inner = value if type(value) is dict else {}
            if kind == "text":
                self._on_text(at, value, events)
            elif kind == "toolUse" and inner.get("type") is None:
                arguments = lenient_json.dumps(inner.get("input") or {}).decode()
                if not arguments:
                    raise RemoteProtocolError("the arguments of a tool call are nested too deeply")
                self._on_call(self._open(index, "call", events), inner, arguments, events)
            elif kind == "reasoningContent":
                text = inner.get("reasoningText")
                self._on_reasoning(at, text if type(text) is dict else inner, events)
            elif kind == "citationsContent":
                for piece in list_of(inner.get("content")):
                    self._on_text(at, piece.get("text") if type(piece) is dict else "", events)
                for citation in list_of(inner.get("citations")):
                    self._on_citation(at, citation, events)
            else:
                block = self._open(index, kind[:_MAX_WORD_CHARS], events)
                block.value = inner if self._hold_json(inner) else {}
                if kind == "image":
                    self._on_image(at, inner, events)
        self._on_block_stop(at, events)

    # --- blocks -------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.stop_reason:
            raise RemoteProtocolError("a piece of a block came behind the end of the answer")

    def _open(self, index: int, kind: str, events: list[StreamEvent]) -> _Block:
        if (before := self._blocks.pop(index, None)) is not None:
            self._close(before, events)
        if len(self._blocks) >= MAX_OPEN_BLOCKS:
            raise RemoteProtocolError("too many open blocks in one answer")
        block = self._blocks[index] = _Block(index, kind, self.text_chars)
        return block

    def _block(self, document: dict[str, Any], kind: str, events: list[StreamEvent]) -> _Block:
        """The open block of a piece, which begins with it."""
        index = block_index(document.get("contentBlockIndex"))
        block = self._blocks.get(index)
        if block is None or block.kind != kind:
            block = self._open(index, kind, events)
        return block

    def _close(self, block: _Block, events: list[StreamEvent]) -> None:
        match block.kind:
            case "call":
                self._tool_calls.close(events, block.call)
            case "text":
                if block.citations:
                    pass_on("annotations", self._annotated(block), events)
            case "reasoning":
                if block.signature:
                    entry = {
                        "type": "reasoning.text",
                        "text": "".join(block.pieces),
                        "signature": block.signature,
                        "format": self._reasoning_format,
                        "index": block.index,
                    }
                    pass_on("reasoning_details", [entry], events)
            case "redacted":
                entry = {
                    "type": "reasoning.encrypted",
                    "data": _joined(block.pieces),
                    "format": OWN_FORMAT,
                    "index": block.index,
                }
                pass_on("reasoning_details", [entry], events)
            case "image":
                self._tell_image(block, events)
            case "":
                pass
            case _:
                self.left_out += not pass_on("converse_blocks", self._unread(block), events)
        if not self._blocks:
            self._held_chars = 0

    def _annotated(self, block: _Block) -> list[dict[str, Any]]:
        found = []
        for citation in block.citations:
            location = citation.get("location")
            web = location.get("web") if type(location) is dict else None
            url = text_of(web.get("url")) if type(web) is dict else ""
            kind = "url_citation" if url else "citation"
            where: dict[str, Any] = {"start_index": block.start_at, "end_index": self.text_chars}
            if url:
                where["url"] = url
            found.append({"index": self._annotations, "type": kind, kind: {**citation, **where}})
            self._annotations += 1
        return found

    def _tell_image(self, block: _Block, events: list[StreamEvent]) -> None:
        data = _joined(block.pieces)
        if not data:
            return
        kind = text_of(block.value.get("format"))[:20] or "png"
        entry = {
            "type": "image_url",
            "image_url": {"url": f"data:image/{kind};base64,{data}"},
            "index": self._images,
        }
        if pass_on("images", [entry], events):
            self._images += 1
        else:
            self.left_out += 1

    @staticmethod
    def _unread(block: _Block) -> list[dict[str, Any]]:
        value = block.value
        if block.pieces:
            text = "".join(block.pieces)
            try:
                value["input"] = lenient_json.loads(text.encode("utf-8", "replace"))
            except ValueError:
                value["input"] = {}  # cut; the block must stay an object to be taken back
        return [{"index": block.index, "block": {block.kind: value}}]

    def _hold_json(self, value: Any) -> bool:
        """Count an object that is kept; False for one that no JSON of ours can hold."""
        text = lenient_json.dumps(value)
        self._hold(len(text))
        self.left_out += not text
        return bool(text)

    def _hold(self, chars: int) -> None:
        """Count what is kept until its block is over.

        Raises:
            EventTooLarge: it is over the cap.
        """
        self._held_chars += chars
        if self._held_chars > MAX_HELD_CHARS:
            raise EventTooLarge("a block of the provider's answer is too large")

    _EVENTS: ClassVar[
        Mapping[str, Callable[[ConverseReader, dict[str, Any], list[StreamEvent]], None]]
    ] = {
        "messageStart": _on_start,
        "contentBlockStart": _on_block_start,
        "contentBlockDelta": _on_block_delta,
        "contentBlockStop": _on_block_stop,
        "messageStop": _on_stop,
        "metadata": _on_metadata,
    }

    _DELTAS: ClassVar[
        Mapping[str, Callable[[ConverseReader, dict[str, Any], Any, list[StreamEvent]], None]]
    ] = {
        "text": _on_text,
        "toolUse": _on_input,
        "reasoningContent": _on_reasoning,
        "citation": _on_citation,
        "image": _on_image,
        "toolResult": _on_result,
    }


def _joined(pieces: list[str]) -> str:
    """Base64 of bytes that came in pieces, each in base64 of its own.

    Raises:
        RemoteProtocolError: one of them is not.
    """
    if len(pieces) < 2:
        return "".join(pieces)
    try:
        whole = b"".join(base64.b64decode(piece, validate=True) for piece in pieces)
    except binascii.Error:
        raise RemoteProtocolError("bytes of the provider's answer are not in base64") from None
    return base64.b64encode(whole).decode()
