"""Stream events as the events of Anthropic's Messages API.

Blocks come one after another, each with an index of its own: text, thinking, tool calls, and what
only Anthropic has. One exception: text or thinking within a tool call that is not over (some hosts
send it) has a block of its own while the call's stays open; the call's ends first.

`message_start` comes with the first content, when the provider is known and has told its count of
the prompt, if it does so early; else that count is an estimate, marked in the event's `x_relay`,
which `message_delta` puts right. Thinking is shown to those who asked for it, and in any case where
it is signed: a provider that signs wants it back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from relay.errors import RelayError
from relay.frontends.messages_errors import error_body
from relay.frontends.surfaces.messages_ending import (
    Ending,
    entries_of,
    final_usage,
    message_head,
    own_citation,
    usage_object,
)
from relay.outcome import GenerationEnd
from relay.sse import encode_event

_dumps = orjson.dumps

_NONE, _TEXT, _THINKING = "", "text", "thinking"

_DELTA_HEAD: Final = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":'
_STOP: Final = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
_END: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

_HAVE_INPUT: Final = frozenset({"server_tool_use", "mcp_tool_use"})
"""Blocks whose input comes in deltas."""


class MessageEventEncoder:
    """Events to the bytes of one streamed message.

    The head of a block's deltas is rendered once; a text delta costs one `dumps` of its text and
    one concatenation.
    """

    def __init__(
        self,
        model: str,
        estimate_prompt: Callable[[], int],
        *,
        with_thinking: bool = False,
        with_relay: bool = False,
    ) -> None:
        """
        Args:
            model: shown if the provider names none.
            estimate_prompt: tokens of the prompt, asked for if the provider has not told by then.
            with_thinking: the client asked to see thinking.
            with_relay: and for the relay's own account (`x_relay`).
        """
        self._model = model
        self._estimate_prompt = estimate_prompt
        self._with_thinking = with_thinking
        self._with_relay = with_relay
        self._info: ResponseInfo | None = None
        self._usage: Usage | None = None
        self._is_started = False
        self._blocks = 0
        self._open = _NONE
        self._open_at = 0
        self._text_head = b""
        """Of the deltas of the open text; empty while there is none."""
        self._thought_head = b""
        self._is_unsigned = False
        """Thinking has ended whose signature has not come."""
        self._call_at: int | None = None
        self._call_head = b""
        self._ending = Ending()

    def encode(self, events: Events) -> bytes:
        """The events of a batch, possibly none."""
        out = b""
        for event in events:
            if type(event) is TextDelta:
                if self._text_head and not event.choice:
                    out += b"%s%s}}\n\n" % (self._text_head, _dumps(event.text))
                    continue
            elif type(event) is ToolArgumentsDelta:
                if not event.choice and event.fragment != "null":  # for no arguments
                    out += b"%s%s}}\n\n" % (self._call_head, _dumps(event.fragment))
                continue
            elif type(event) is ReasoningDelta and self._thought_head and not event.choice:
                out += b"%s%s}}\n\n" % (self._thought_head, _dumps(event.text))
                continue
            out += self._other(event)
        return out

    def _other(self, event: StreamEvent) -> bytes:
        if isinstance(event, ResponseInfo):
            self._info = self._info or event
            return b""
        if isinstance(event, Usage):
            self._usage = event
            return b""
        if getattr(event, "choice", 0):
            return b""  # this API has one
        if isinstance(event, TextDelta):
            return self._text(event.text)
        self._ending.note(event)
        if isinstance(event, ReasoningDelta):
            return self._thought(event.text) if self._with_thinking else b""
        if isinstance(event, RefusalDelta):
            return self._text(event.text)
        if isinstance(event, ToolCallStart):
            return self._begin_call(event)
        if isinstance(event, ToolCallDone):
            return self._end_call()
        if isinstance(event, OpaqueDelta):
            return self._opaque(event)
        return b""

    # --- blocks -------------------------------------------------------------------------------

    def _begin(self, block: Mapping[str, Any]) -> bytes:
        """Open a block at the next index."""
        before = b"" if self._is_started else self._start()
        index = self._blocks
        self._blocks += 1
        value = {"type": "content_block_start", "index": index, "content_block": block}
        return before + encode_event(_dumps(value), "content_block_start")

    def _open_block(self, kind: str, block: Mapping[str, Any]) -> bytes:
        out = self._close() + self._begin(block)
        self._open, self._open_at = kind, self._blocks - 1
        return out

    def _close(self) -> bytes:
        """End the open text or thinking, if there is one."""
        if self._open == _NONE:
            return b""
        self._is_unsigned = self._is_unsigned or self._open == _THINKING
        self._open, self._text_head, self._thought_head = _NONE, b"", b""
        return _STOP % self._open_at

    def _whole(self, block: Mapping[str, Any]) -> bytes:
        """A block that comes in one piece."""
        out = self._close() + self._begin(block)
        return out + _STOP % (self._blocks - 1)

    def _delta(self, index: int, delta: Mapping[str, Any]) -> bytes:
        return b'%s%d,"delta":%s}\n\n' % (_DELTA_HEAD, index, _dumps(delta))

    def _text(self, text: str) -> bytes:
        before = b""
        if self._open != _TEXT:
            before = self._open_block(_TEXT, {"type": "text", "text": ""})
            self._text_head = b'%s%d,"delta":{"type":"text_delta","text":' % (
                _DELTA_HEAD,
                self._open_at,
            )
        return b"%s%s%s}}\n\n" % (before, self._text_head, _dumps(text))

    def _thought(self, text: str) -> bytes:
        before = b""
        if self._open != _THINKING:
            before = self._open_thinking()
        return b"%s%s%s}}\n\n" % (before, self._thought_head, _dumps(text))

    def _open_thinking(self) -> bytes:
        block = {"type": "thinking", "thinking": "", "signature": ""}
        out = self._open_block(_THINKING, block)
        self._thought_head = b'%s%d,"delta":{"type":"thinking_delta","thinking":' % (
            _DELTA_HEAD,
            self._open_at,
        )
        return out

    def _begin_call(self, call: ToolCallStart) -> bytes:
        before = self._close() + self._end_call()
        block = {"type": "tool_use", "id": call.call_id, "name": call.name, "input": {}}
        before += self._begin(block)
        self._call_at = self._blocks - 1
        self._call_head = b'%s%d,"delta":{"type":"input_json_delta","partial_json":' % (
            _DELTA_HEAD,
            self._call_at,
        )
        return before

    def _end_call(self) -> bytes:
        if self._call_at is None:
            return b""
        out = _STOP % self._call_at
        self._call_at = None
        return out

    # --- what only some providers have --------------------------------------------------------

    def _opaque(self, event: OpaqueDelta) -> bytes:
        if event.key == "reasoning_details":
            return b"".join(map(self._reasoning, entries_of(event)))
        if event.key == "annotations":
            cited = b"".join(map(self._citation, entries_of(event)))
            return cited + self._close() if cited else b""  # they come when their block is over
        if event.key == "anthropic_blocks":
            return b"".join(map(self._own_block, entries_of(event)))
        return b""

    def _reasoning(self, entry: dict[str, Any]) -> bytes:
        """What signs thinking, or stands in its place."""
        block = self._ending.block_of(entry)
        if block is None:
            return b""
        if block["type"] != _THINKING:
            return self._whole(block)
        out = b""
        if self._open != _THINKING:
            if self._is_unsigned:
                self._ending.keep_signed(block)
                return b""
            text = block["thinking"]
            out = self._thought(text) if text else self._open_thinking()
        signature = {"type": "signature_delta", "signature": block["signature"]}
        out += self._delta(self._open_at, signature) + self._close()
        self._is_unsigned = False
        return out

    def _citation(self, entry: dict[str, Any]) -> bytes:
        citation = own_citation(entry)
        if citation is None or self._open != _TEXT:
            return b""
        return self._delta(self._open_at, {"type": "citations_delta", "citation": citation})

    def _own_block(self, entry: dict[str, Any]) -> bytes:
        block = entry.get("block")
        if not isinstance(block, dict):
            return b""
        if block.get("type") not in _HAVE_INPUT:
            return self._whole(block)
        out = self._close() + self._begin({**block, "input": {}})
        index = self._blocks - 1
        text = _dumps(block.get("input") or {}).decode()
        out += self._delta(index, {"type": "input_json_delta", "partial_json": text})
        return out + _STOP % index

    # --- beginning and end --------------------------------------------------------------------

    def _start(self) -> bytes:
        self._is_started = True
        usage = usage_object(self._usage)
        if self._usage is None:
            usage["input_tokens"] = self._estimate_prompt()
        message = {
            **message_head(self._info, self._model),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        value: dict[str, Any] = {"type": "message_start", "message": message}
        if self._usage is None:
            # Beside the message, since clients keep what is inside for the final one.
            value["x_relay"] = {"input_tokens_estimated": True}
        return encode_event(_dumps(value), "message_start")

    def encode_end(self, end: GenerationEnd) -> bytes:
        """What follows the last event of a clean end."""
        out = self._end_call() + self._close()
        if self._ending.has_calls or self._with_thinking:
            state = self._ending.state_block()
            if state is not None:
                out += self._whole(state)
        if not self._is_started:
            self._usage = self._usage or end.usage
            out = self._start()
        usage = final_usage(end, with_relay=self._with_relay)
        value = {"type": "message_delta", "delta": self._ending.delta(end), "usage": usage}
        return out + encode_event(_dumps(value), "message_delta") + _END

    def encode_error(self, error: RelayError, request_id: str) -> bytes:
        """An `error` event, and no `message_stop`."""
        return encode_event(error_body(error, request_id), "error")
