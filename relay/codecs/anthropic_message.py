"""What one message of the Messages API says: wire events, or a whole document, to events of ours.

Keeps what must be known across events: the blocks that are open, the tool calls, the counts. A
whole document is read as if its blocks had been streamed. Blocks become:

    text                    `TextDelta`; its citations `OpaqueDelta("annotations")` when it is over
    thinking                `ReasoningDelta` as it comes; with its signature, when it is over,
                            `OpaqueDelta("reasoning_details")`, type `reasoning.text`
    redacted_thinking       the same, type `reasoning.encrypted`
    tool_use                a tool call
    every other block       `OpaqueDelta("anthropic_blocks")` when it is over, whole and unread:
                            server_tool_use, mcp_tool_use, *_tool_result, compaction, ...

Entries of the three lists have an `index` of their own each, without which OpenAI's clients cannot
join lists. An annotation is `{"index", "type", <type>: citation}` with `start_index` and
`end_index` put in: the characters of the answer that the cited block of text takes; what cites an
address has type `url_citation`, as OpenAI names it. An entry of `anthropic_blocks` is
`{"index", "block"}`. `stop_details` of a refusal, `stop_sequence` (the one that was met) and
`container` are passed on under their names.

Lenient in what costs nothing: unknown events, blocks and deltas are skipped, as are pings; a block
may lack its end; text needs no block. A piece of a tool call without one breaks the format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from relay.codecs import anthropic_usage, lenient_json
from relay.codecs.anthropic_errors import decode_inner_error
from relay.codecs.block_values import block_index, list_of, text_of
from relay.codecs.opaque_field import pass_on
from relay.codecs.tool_calls import ToolCallAssembler
from relay.content import (
    ChoiceFinished,
    FinishReason,
    OpaqueDelta,
    ReasoningDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
)
from relay.errors import EventTooLarge, NotAnAnswer, RemoteProtocolError, StreamTruncated
from relay.sse import MAX_EVENT_BYTES

REASONING_FORMAT: Final = "anthropic-claude-v1"
"""Of entries in `reasoning_details`; OpenRouter's name for this wire's thinking."""

MAX_OPEN_BLOCKS: Final = 64
"""Blocks come one after another; only keeps a mad peer from filling memory."""

MAX_HELD_CHARS: Final = MAX_EVENT_BYTES
"""Of thinking, citations and unread blocks kept until their block is over, together."""

MAX_USAGE_BYTES: Final = 64 * 1024
"""Of one object of counts; a larger one is none."""

STOP_REASONS: Final[Mapping[str, FinishReason]] = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.CONTENT_FILTER,
    # `pause_turn` and what is to come: OTHER. The answer is whole as far as it goes; who wants
    # more sends it back with its `anthropic_blocks`.
}

_PASSED_ON: Final = ("stop_details", "stop_sequence", "container")


class _Block:
    """A block that is open."""

    __slots__ = ("call", "citations", "index", "kind", "pieces", "signature", "start_at", "value")

    def __init__(self, index: int, kind: str, value: dict[str, Any], start_at: int) -> None:
        self.index = index
        self.kind = kind
        self.value = value
        self.start_at = start_at  # in the answer's text, characters
        self.call = 0  # which tool call this is, counted from 0
        self.pieces: list[str] = []  # thinking, or JSON of an unread block's input
        self.signature = ""
        self.citations: list[dict[str, Any]] = []


class MessageReader:
    """Reads the events of one response.

    Raises (every `read` method, after adding the events that came before):
        UpstreamStatus: the document reports an error.
        RemoteProtocolError: it breaks the format.
    """

    __slots__ = (
        "_annotations",
        "_blocks",
        "_has_begun",
        "_held_chars",
        "_tool_calls",
        "_usage",
        "is_done",
        "is_in_text",
        "left_out",
        "stop_reason",
        "text_chars",
    )

    def __init__(self) -> None:
        self.is_done = False
        """`message_stop` has come."""
        self.is_in_text = False
        """The block that began last is text."""
        self.left_out = 0
        """Fields and blocks so far that no JSON of ours can hold, left out."""
        self.stop_reason: str | None = None
        self.text_chars = 0
        """Of the answer so far; who takes text past the reader adds to it."""
        self._blocks: dict[int, _Block] = {}
        self._tool_calls: ToolCallAssembler | None = None
        self._usage: dict[str, Any] = {}
        self._held_chars = 0
        self._annotations = 0
        self._has_begun = False

    def read(self, document: Any, events: list[StreamEvent]) -> None:
        """Take the data of one event."""
        if type(document) is not dict:
            raise RemoteProtocolError("the provider sent JSON that is no event of a message")
        kind = document.get("type")
        if kind == "error" or document.get("error"):
            raise decode_inner_error(document)
        handler = self._EVENTS.get(kind) if type(kind) is str else None
        if handler is not None:
            handler(self, document, events)

    def read_whole(self, document: Any, events: list[StreamEvent]) -> None:
        """Take the whole message, from a provider that did not stream.

        Raises:
            StreamTruncated: it has no stop reason.
        """
        if type(document) is dict and (document.get("type") == "error" or document.get("error")):
            raise decode_inner_error(document)
        if type(document) is not dict or document.get("type") != "message":
            raise NotAnAnswer("the provider sent JSON that is no message")
        self._on_info(document, events)
        content = document.get("content")
        for index, block in enumerate(content if type(content) is list else ()):
            self._on_block_start({"index": index, "content_block": block}, events)
            self._on_block_stop({"index": index}, events)
        self._on_ending(document, document.get("usage"), events)
        if self.stop_reason is None:
            raise StreamTruncated("the provider's answer ended without a stop reason")

    # --- events of the wire -------------------------------------------------------------------

    def _on_message_start(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        message = document.get("message")
        if type(message) is dict:
            self._on_info(message, events)
            self._on_usage(message.get("usage"), events)

    def _on_info(self, message: dict[str, Any], events: list[StreamEvent]) -> None:
        if self._has_begun or self.text_chars:
            return  # it stands before everything else, or nowhere
        self._has_begun = True
        usage = message.get("usage")
        tier = usage.get("service_tier") if type(usage) is dict else None
        events.append(
            ResponseInfo(
                text_of(message.get("id")), text_of(message.get("model")), 0, text_of(tier)
            )
        )

    def _on_usage(self, usage: Any, events: list[StreamEvent]) -> None:
        if type(usage) is dict and len(lenient_json.dumps(usage)) <= MAX_USAGE_BYTES:
            anthropic_usage.merge(self._usage, usage)
            if (counts := anthropic_usage.normalise(self._usage)) is not None:
                events.append(counts)

    def _on_block_start(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        self._has_begun = True
        value = document.get("content_block")
        if type(value) is not dict:
            raise RemoteProtocolError("a block of the answer is not an object")
        index = block_index(document.get("index"))
        if index in self._blocks:
            self._close(self._blocks.pop(index), events)
        if len(self._blocks) >= MAX_OPEN_BLOCKS:
            raise RemoteProtocolError("too many open blocks in one answer")
        kind = text_of(value.get("type"))
        self.is_in_text = kind == "text"
        block = self._blocks[index] = _Block(index, kind, value, self.text_chars)
        if kind == "text":
            self._on_text(text_of(value.get("text")), events)
            for citation in list_of(value.get("citations")):
                self._on_citation(block, {"citation": citation}, events)
        elif kind == "thinking":
            self._on_thinking(block, value, events)
            self._on_signature(block, value, events)
        elif kind == "tool_use":
            self._on_tool_use(block, value, events)
        else:
            text = lenient_json.dumps(value)
            self._hold(len(text))
            if not text:
                block.kind = ""
                self.left_out += 1

    def _on_tool_use(self, block: _Block, value: dict[str, Any], events: list[StreamEvent]) -> None:
        calls = self._tool_calls
        if calls is None:
            # A tool without arguments: the wire says nothing.
            calls = self._tool_calls = ToolCallAssembler(0, text_of(value.get("id")), "{}")
        given = value.get("input")
        # Almost always {} here, with the arguments to come; whole in a document, and from some
        # gateways.
        fragment = lenient_json.dumps(given).decode() if given else ""
        if given and not fragment:
            raise RemoteProtocolError("the arguments of a tool call are nested too deeply")
        block.call = calls.count
        calls.add(
            events,
            index=block.call,
            call_id=text_of(value.get("id")),
            name=text_of(value.get("name")),
            fragment=fragment,
        )

    def _on_block_delta(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        delta = document.get("delta")
        if type(delta) is not dict:
            return
        kind = delta.get("type")
        if kind == "text_delta":
            self._on_text(text_of(delta.get("text")), events)
            return
        handler = self._DELTAS.get(kind) if type(kind) is str else None
        if handler is None:
            return
        block = self._blocks.get(block_index(document.get("index")))
        if block is None:
            if kind == "thinking_delta" and (text := text_of(delta.get("thinking"))):
                self._has_begun = True
                events.append(ReasoningDelta(text))
            elif kind == "input_json_delta":
                raise RemoteProtocolError("a piece of a tool call came without its call")
            return
        handler(self, block, delta, events)

    def _on_text(self, text: str, events: list[StreamEvent]) -> None:
        if text:
            self.text_chars += len(text)
            events.append(TextDelta(text))

    def _on_block_stop(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        block = self._blocks.pop(block_index(document.get("index")), None)
        if block is not None:
            self._close(block, events)

    def _on_message_delta(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        delta = document.get("delta")
        self._on_ending(delta if type(delta) is dict else {}, document.get("usage"), events)

    def _on_ending(self, ending: dict[str, Any], usage: Any, events: list[StreamEvent]) -> None:
        """What comes with the stop reason."""
        raw = ending.get("stop_reason")
        if type(raw) is str and raw and self.stop_reason is None:
            self.stop_reason = raw
            self._has_begun = True
            reason = STOP_REASONS.get(raw, FinishReason.OTHER)
            self._close_all(events)
            if self._tool_calls is not None:
                self._tool_calls.finish(events, by_length=reason is FinishReason.LENGTH)
                if reason is FinishReason.STOP and self._tool_calls.count:
                    reason = FinishReason.TOOL_CALLS  # gateways that forget to say so
            for name in _PASSED_ON:
                if value := ending.get(name):
                    self.left_out += not pass_on(name, value, events)
            events.append(ChoiceFinished(reason, raw))
        self._on_usage(usage, events)

    def _on_message_stop(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        if self.stop_reason is None:
            raise RemoteProtocolError("the provider's answer stopped without a reason")
        self._close_all(events)
        if self._tool_calls is not None:
            self._tool_calls.finish(events, by_length=False)
        self.is_done = True

    # --- deltas of a block --------------------------------------------------------------------

    def _on_input_json(
        self, block: _Block, delta: dict[str, Any], events: list[StreamEvent]
    ) -> None:
        fragment = text_of(delta.get("partial_json"))
        if not fragment:
            return
        if block.kind != "tool_use" or self._tool_calls is None:
            self._hold(len(fragment))
            block.pieces.append(fragment)
            return
        self._tool_calls.add(events, index=block.call, call_id="", name="", fragment=fragment)
        if self._tool_calls.held_chars > MAX_EVENT_BYTES:
            raise EventTooLarge("the arguments of a tool call are too large")

    def _on_thinking(self, block: _Block, delta: dict[str, Any], events: list[StreamEvent]) -> None:
        if text := text_of(delta.get("thinking")):
            self._hold(len(text))
            block.pieces.append(text)
            events.append(ReasoningDelta(text))

    def _on_signature(
        self, block: _Block, delta: dict[str, Any], events: list[StreamEvent]
    ) -> None:
        if signature := text_of(delta.get("signature")):
            self._hold(len(signature))
            block.signature = signature  # comes whole

    def _on_citation(self, block: _Block, delta: dict[str, Any], events: list[StreamEvent]) -> None:
        citation = delta.get("citation")
        if type(citation) is dict:
            if text := lenient_json.dumps(citation):
                self._hold(len(text))
                block.citations.append(citation)
            else:
                self.left_out += 1

    def _on_compaction(
        self, block: _Block, delta: dict[str, Any], events: list[StreamEvent]
    ) -> None:
        self._hold(len(lenient_json.dumps(delta)))
        content = delta.get("content")
        held = block.value.get("content")
        is_piece = type(held) is str and type(content) is str
        block.value["content"] = f"{held}{content}" if is_piece else content

    # --- blocks that are over -----------------------------------------------------------------

    def _close_all(self, events: list[StreamEvent]) -> None:
        blocks = list(self._blocks.values())
        self._blocks.clear()
        for block in blocks:
            self._close(block, events)

    def _close(self, block: _Block, events: list[StreamEvent]) -> None:
        if block.kind == "tool_use":
            if self._tool_calls is not None:
                self._tool_calls.close(events, block.call)
            return
        if block.kind == "text":
            if block.citations:
                pass_on("annotations", self._annotated(block), events)
        elif block.kind == "thinking":
            if block.signature:
                entry = {
                    "type": "reasoning.text",
                    "text": "".join(block.pieces),
                    "signature": block.signature,
                }
                events.append(_reasoning(entry, block.index))
        elif block.kind == "redacted_thinking":
            entry = {"type": "reasoning.encrypted", "data": text_of(block.value.get("data"))}
            events.append(_reasoning(entry, block.index))
        elif block.kind:
            self.left_out += not pass_on("anthropic_blocks", self._unread(block), events)
        if not self._blocks:
            self._held_chars = 0

    def _annotated(self, block: _Block) -> list[dict[str, Any]]:
        found = []
        for citation in block.citations:
            kind = "url_citation" if citation.get("url") else text_of(citation.get("type"))
            where = {"start_index": block.start_at, "end_index": self.text_chars}
            found.append({"index": self._annotations, "type": kind, kind: {**citation, **where}})
            self._annotations += 1
        return found

    @staticmethod
    def _unread(block: _Block) -> list[dict[str, Any]]:
        value = block.value
        if block.pieces:
            text = "".join(block.pieces)
            try:
                value["input"] = lenient_json.loads(text.encode("utf-8", "replace"))
            except ValueError:
                value["input"] = {}  # cut; the block must stay an object to be taken back
        return [{"index": block.index, "block": value}]

    _EVENTS: ClassVar[
        Mapping[str, Callable[[MessageReader, dict[str, Any], list[StreamEvent]], None]]
    ] = {
        "message_start": _on_message_start,
        "content_block_start": _on_block_start,
        "content_block_delta": _on_block_delta,
        "content_block_stop": _on_block_stop,
        "message_delta": _on_message_delta,
        "message_stop": _on_message_stop,
    }

    _DELTAS: ClassVar[
        Mapping[str, Callable[[MessageReader, _Block, dict[str, Any], list[StreamEvent]], None]]
    ] = {
        "input_json_delta": _on_input_json,
        "thinking_delta": _on_thinking,
        "signature_delta": _on_signature,
        "citations_delta": _on_citation,
        "compaction_delta": _on_compaction,
    }

    def _hold(self, chars: int) -> None:
        """Count what is kept until its block is over.

        Raises:
            EventTooLarge: it is over the cap.
        """
        self._held_chars += chars
        if self._held_chars > MAX_HELD_CHARS:
            raise EventTooLarge("a block of the provider's answer is too large")


def _reasoning(entry: dict[str, Any], index: int) -> OpaqueDelta:
    full = [{**entry, "format": REASONING_FORMAT, "index": index}]
    return OpaqueDelta("reasoning_details", lenient_json.dumps(full))
