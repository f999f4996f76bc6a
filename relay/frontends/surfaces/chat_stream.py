"""Stream events as OpenAI chat chunks.

The chunks satisfy the strictest clients in use; what each rule is for stands beside it in the
tests. Per choice: the role comes with the first content and not before; a delta holds either text
or one tool call, never both; a call's id, index and name come together in its first delta and the
name never again; one finishing chunk, after everything else of all choices, since some providers
send text in or after theirs; usage last, with no choices, if asked for.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

import orjson

from relay.content import (
    AudioDelta,
    ChoiceFinished,
    Events,
    FinishReason,
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
from relay.frontends.http_errors import error_body
from relay.frontends.surfaces.account import relay_object, usage_object
from relay.frontends.surfaces.chat_choice import CHOICE_LEVEL, ChatChoice, legacy_finish
from relay.outcome import GenerationEnd

_dumps = orjson.dumps


class ChatChunkEncoder:
    """Events to the bytes of a chat stream; one object a response.

    The head of every chunk is rendered once; a text delta costs one `dumps` of its text and one
    concatenation.
    """

    def __init__(
        self,
        model: str,
        *,
        with_usage: bool = False,
        with_relay: bool = False,
        as_functions: bool = False,
    ) -> None:
        """
        Args:
            model: shown until the provider names its own.
            with_usage: the client asked for usage at the end.
            with_relay: and for the relay's own account of it (`x_relay`).
            as_functions: tools were given as `functions`: a call is told as `function_call`.
        """
        self._as_functions = as_functions
        self._model = model
        self._with_usage = with_usage
        self._with_relay = with_relay
        self._id = ""
        self._created_s = 0
        self._service_tier = ""
        self._fingerprint = ""
        self._head = b""
        self._choices: dict[int, ChatChoice] = {}
        self._finished: dict[int, FinishReason] = {}

    def encode(self, events: Events) -> bytes:
        """The chunks of a batch, possibly none."""
        out = b""
        for event in events:
            if type(event) is TextDelta:
                state = self._choices.get(event.choice)
                if state is not None and state.is_started:
                    out += b'%s%d,"delta":{"content":%s},"finish_reason":null}]}\n\n' % (
                        self._head,
                        event.choice,
                        _dumps(event.text),
                    )
                    continue
            out += self._other(event)
        return out

    def encode_text(self, delta: TextDelta) -> bytes:
        """See `TextEncoder`."""
        state = self._choices.get(delta.choice)
        if state is not None and state.is_started:
            return b'%s%d,"delta":{"content":%s},"finish_reason":null}]}\n\n' % (
                self._head,
                delta.choice,
                _dumps(delta.text),
            )
        return self._other(delta)

    def _other(self, event: StreamEvent) -> bytes:
        if isinstance(event, ResponseInfo):
            self._take(event)
            return b""
        if isinstance(event, Usage):
            return b""
        choice: int = getattr(event, "choice", 0)
        state = self._choices.setdefault(choice, ChatChoice())
        state.note(event)
        if isinstance(event, ChoiceFinished):
            self._finished[choice] = event.reason  # told at the end: more may follow it
            return b""
        if isinstance(event, OpaqueDelta) and event.key in CHOICE_LEVEL:
            state.beside[event.key] = orjson.Fragment(event.value_json)
            # Before the first content nothing has a chunk of its own.
            return self._chunk(choice, {}, None) if state.is_started else b""
        delta = _delta(event, state)
        if self._as_functions and "tool_calls" in delta:
            delta = _old_delta(delta["tool_calls"][0])
        return self._chunk(choice, delta, None) if delta else b""

    def _take(self, info: ResponseInfo) -> None:
        if self._head:
            return  # id and model are stable over a stream, whatever the provider repeats
        self._id = info.response_id
        self._model = info.model or self._model
        self._created_s = info.created_s
        self._service_tier = info.service_tier
        self._fingerprint = info.system_fingerprint

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "id": self._id or f"chatcmpl-{secrets.token_hex(12)}",
            "object": "chat.completion.chunk",
            "created": self._created_s or int(time.time()),
            "model": self._model,
        }
        if self._service_tier:
            fields["service_tier"] = self._service_tier
        if self._fingerprint:
            fields["system_fingerprint"] = self._fingerprint
        return fields

    def _render_head(self) -> None:
        self._head = b"data: " + _dumps(self._fields())[:-1] + b',"choices":[{"index":'

    def _chunk(
        self,
        choice: int,
        delta: dict[str, Any],
        finish: str | None,
    ) -> bytes:
        if not self._head:
            self._render_head()
        state = self._choices.setdefault(choice, ChatChoice())
        before = b""
        if not state.is_started:
            # OpenAI's own client adds choices up in a list: a choice cannot come before those
            # with lower numbers, so they begin here.
            for lower in range(choice):
                if lower not in self._choices or not self._choices[lower].is_started:
                    before += self._chunk(lower, {"content": ""}, None)
            if delta or finish:
                state.is_started = True
                delta = {"role": "assistant", **delta}
        more = b""
        if state.beside:
            more = b"," + _dumps(state.beside)[1:-1]
            state.beside = {}
        return before + b'%s%d,"delta":%s%s,"finish_reason":%s}]}\n\n' % (
            self._head,
            choice,
            _dumps(delta),
            more,
            _dumps(finish),
        )

    def encode_end(self, end: GenerationEnd) -> bytes:
        """What follows the last event of a clean end: the finishing chunks, usage if asked for,
        and `[DONE]`."""
        out = b""
        for choice, reason in self._finished.items():
            state = self._choices.setdefault(choice, ChatChoice())
            if not state.is_started:  # an empty answer still has its role
                out += self._chunk(choice, {"content": ""}, None)
            finish = state.finish(reason)
            out += self._chunk(choice, {}, legacy_finish(finish) if self._as_functions else finish)
        if self._with_usage or self._with_relay:
            if not self._head:
                self._render_head()
            usage = usage_object(end.usage) if end.usage else {}
            if self._with_relay:
                usage["x_relay"] = relay_object(end)
            head = self._head.removesuffix(b'[{"index":')
            out += b'%s[],"usage":%s}\n\n' % (head, _dumps(usage))
        return out + b"data: [DONE]\n\n"

    def encode_error(self, error: RelayError, request_id: str) -> bytes:
        """An error object, and no `[DONE]`."""
        return b"data: " + error_body(error, request_id) + b"\n\n"


def _delta(event: StreamEvent, state: ChatChoice) -> dict[str, Any]:
    """The `delta` of one event; empty for events that say nothing in this format."""
    if isinstance(event, TextDelta):
        return {"content": event.text}
    if isinstance(event, ReasoningDelta):
        return {"reasoning_content": event.text}
    if isinstance(event, RefusalDelta):
        return {"refusal": event.text}
    if isinstance(event, ToolCallStart):
        call: dict[str, Any] = {"index": event.index, "id": event.call_id, "type": event.kind}
        if event.kind == "custom":
            call["custom"] = {"name": event.name, "input": ""}
        else:
            call["function"] = {"name": event.name, "arguments": ""}
        return {"tool_calls": [call]}
    if isinstance(event, ToolArgumentsDelta):
        return {"tool_calls": [_call_piece(event.index, event.fragment, state)]}
    if isinstance(event, ToolCallDone) and event.extra_json:
        # Clients merge deltas of one index, so provider state may follow its call; they fail on
        # one without arguments, so it brings empty ones.
        extra = orjson.loads(event.extra_json)
        return {"tool_calls": [{**_call_piece(event.index, "", state), **extra}]}
    if isinstance(event, AudioDelta):
        audio: dict[str, Any] = {}
        if event.audio_id:
            audio["id"] = event.audio_id
        if event.data_base64:
            audio["data"] = event.data_base64
        if event.transcript:
            audio["transcript"] = event.transcript
        if event.expires_at_s:
            audio["expires_at"] = event.expires_at_s
        return {"audio": audio}
    if isinstance(event, OpaqueDelta):
        return {event.key: orjson.Fragment(event.value_json)}
    return {}


def _old_delta(call: dict[str, Any]) -> dict[str, Any]:
    """A piece of a tool call as one of the only function call there could be."""
    if call["index"] > 0 or not (function := call.get("function")):
        return {}
    return {"function_call": function} if function.get("name") or function["arguments"] else {}


def _call_piece(index: int, fragment: str, state: ChatChoice) -> dict[str, Any]:
    """A later delta of a tool call."""
    if index in state.custom_calls:
        return {"index": index, "custom": {"input": fragment}}
    return {"index": index, "function": {"arguments": fragment}}
