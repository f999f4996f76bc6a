"""Stream events as OpenAI chat chunks, and as one whole completion.

The chunks satisfy the strictest clients in use; what each rule is for stands beside it in the
tests. Per choice: the role comes with the first content and not before; a delta holds either text
or one tool call, never both; a call's id, index and name come together in its first delta and the
name never again; one finishing chunk, after everything else of all choices, since some providers
send text in or after theirs; usage last, with no choices, if asked for.

A choice that made tool calls ends with `tool_calls` even where the provider says `stop` or
`length`, because clients drop the last call otherwise; only when its arguments were cut does
`length` stand.
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
from relay.errors import EventTooLarge, RelayError
from relay.event_size import HEAD_BYTES, held_bytes
from relay.frontends.http_errors import error_body
from relay.outcome import GenerationEnd

_dumps = orjson.dumps

_FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.OTHER: "stop",
}

_CHOICE_LEVEL = frozenset({"logprobs"})
"""Opaque fields that stand beside `delta` or `message`, not inside."""


MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Of one completion while it is collected, each piece with its object: several hundred thousand
tokens, or some minutes of uncompressed sound."""

_CHOICE_BYTES = 2048
"""What a choice is counted with beside its content."""

_NOT_COLLECTED = ToolCallStart | ToolArgumentsDelta
"""The call comes whole when it is done."""


class _ChoiceState:
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


def usage_object(usage: Usage) -> dict[str, Any]:
    """Usage as OpenAI counts it, over the provider's own extra fields."""
    value: dict[str, Any] = {}
    if usage.raw_json:
        raw = orjson.loads(usage.raw_json)
        if isinstance(raw, dict):
            value = raw
    value["prompt_tokens"] = usage.prompt_tokens
    value["completion_tokens"] = usage.completion_tokens
    value["total_tokens"] = usage.total_tokens
    if usage.cached_tokens is not None:
        _details(value, "prompt_tokens_details")["cached_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens is not None:
        _details(value, "completion_tokens_details")["reasoning_tokens"] = usage.reasoning_tokens
    return value


def _details(value: dict[str, Any], key: str) -> dict[str, Any]:
    details = value.get(key)
    if not isinstance(details, dict):
        details = value[key] = {}
    return details


def relay_object(end: GenerationEnd) -> dict[str, Any]:
    """The `x_relay` field: the whole timeline and the attempts."""
    return {
        "provider": end.provider,
        "model": end.model,
        "usage_final": end.is_usage_final,
        "usage_estimated": bool(end.usage and end.usage.is_estimated),
        "wall_us": end.wall_us,
        "timeline_us": end.phases_us,
        "stalls": end.stall_count,
        "longest_gap_us": end.longest_gap_us,
        "attempts": [
            {
                "provider": record.provider,
                "model": record.model,
                "outcome": record.outcome.value,
                "reason": record.error.reason.name if record.error else None,
                "started_us": record.started_us,
                "ended_us": record.ended_us,
                "winner": record.is_winner,
            }
            for record in end.attempts
        ],
    }


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
        self._choices: dict[int, _ChoiceState] = {}
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

    def _other(self, event: StreamEvent) -> bytes:
        if isinstance(event, ResponseInfo):
            self._take(event)
            return b""
        if isinstance(event, Usage):
            return b""
        choice: int = getattr(event, "choice", 0)
        state = self._choices.setdefault(choice, _ChoiceState())
        state.note(event)
        if isinstance(event, ChoiceFinished):
            self._finished[choice] = event.reason  # told at the end: more may follow it
            return b""
        if isinstance(event, OpaqueDelta) and event.key in _CHOICE_LEVEL:
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
        state = self._choices.setdefault(choice, _ChoiceState())
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
            state = self._choices.setdefault(choice, _ChoiceState())
            if not state.is_started:  # an empty answer still has its role
                out += self._chunk(choice, {"content": ""}, None)
            finish = state.finish(reason)
            out += self._chunk(choice, {}, _old_finish(finish) if self._as_functions else finish)
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


def _delta(event: StreamEvent, state: _ChoiceState) -> dict[str, Any]:
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


def _old_finish(finish: str) -> str:
    return "function_call" if finish == "tool_calls" else finish


def _call_piece(index: int, fragment: str, state: _ChoiceState) -> dict[str, Any]:
    """A later delta of a tool call."""
    if index in state.custom_calls:
        return {"index": index, "custom": {"input": fragment}}
    return {"index": index, "function": {"arguments": fragment}}


class _WholeChoice:
    """One choice of a completion while it is collected."""

    __slots__ = (
        "audio",
        "audio_data",
        "audio_transcript",
        "calls",
        "finish",
        "opaque",
        "reasoning",
        "refusal",
        "state",
        "text",
    )

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.audio: dict[str, Any] = {}
        self.audio_data: list[str] = []
        self.audio_transcript: list[str] = []
        self.opaque: dict[str, list[Any]] = {}
        self.state = _ChoiceState()
        self.finish: FinishReason | None = None

    def add(self, event: StreamEvent) -> None:
        self.state.note(event)
        if isinstance(event, TextDelta):
            self.text.append(event.text)
        elif isinstance(event, ReasoningDelta):
            self.reasoning.append(event.text)
        elif isinstance(event, RefusalDelta):
            self.refusal.append(event.text)
        elif isinstance(event, ToolCallDone):
            inner = (
                {"custom": {"name": event.name, "input": event.arguments}}
                if event.kind == "custom"
                else {"function": {"name": event.name, "arguments": event.arguments}}
            )
            extra = orjson.loads(event.extra_json) if event.extra_json else {}
            self.calls.append({"id": event.call_id, "type": event.kind, **inner, **extra})
        elif isinstance(event, AudioDelta):
            self._add_audio(event)
        elif isinstance(event, OpaqueDelta):
            self.opaque.setdefault(event.key, []).append(orjson.loads(event.value_json))
        elif isinstance(event, ChoiceFinished):
            self.finish = event.reason

    def _add_audio(self, event: AudioDelta) -> None:
        audio = self.audio
        if event.audio_id:
            audio["id"] = event.audio_id
        if event.expires_at_s:
            audio["expires_at"] = event.expires_at_s
        audio["data"] = audio["transcript"] = ""  # joined at the end
        self.audio_data.append(event.data_base64)
        self.audio_transcript.append(event.transcript)

    def to_object(self, index: int) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self.text) if self.text or not self.calls else None,
            "refusal": "".join(self.refusal) or None,
        }
        if self.refusal and not self.text:
            message["content"] = None
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.calls:
            message["tool_calls"] = self.calls
        if self.audio:
            self.audio["data"] = "".join(self.audio_data)
            self.audio["transcript"] = "".join(self.audio_transcript)
            message["audio"] = self.audio
        choice: dict[str, Any] = {"index": index, "message": message}
        for key, values in self.opaque.items():
            merged = _merge_opaque(values)
            (choice if key in _CHOICE_LEVEL else message)[key] = merged
        choice.setdefault("logprobs", None)
        reason = self.finish if self.finish is not None else FinishReason.OTHER
        choice["finish_reason"] = self.state.finish(reason)
        return choice


def _merge_opaque(values: list[Any]) -> Any:
    """Pieces of one opaque field as one value: lists are joined, objects merged, else the last."""
    if all(isinstance(value, list) for value in values):
        return [item for value in values for item in value]
    if all(isinstance(value, dict) for value in values):
        merged: dict[str, Any] = {}
        for value in values:
            for key, item in value.items():
                held = merged.get(key)
                both = isinstance(held, list) and isinstance(item, list)
                merged[key] = [*held, *item] if both and held is not None else item
        return merged
    return values[-1]


class ChatCollector:
    """Events to one `chat.completion` object of at most `MAX_ANSWER_BYTES`."""

    def __init__(self, model: str, *, with_relay: bool = False, as_functions: bool = False) -> None:
        """
        Args:
            model: shown if the provider names none.
            with_relay: the client asked for the relay's own account (`x_relay`).
            as_functions: tools were given as `functions`: a call is told as `function_call`.
        """
        self._as_functions = as_functions
        self._model = model
        self._with_relay = with_relay
        self._info: ResponseInfo | None = None
        self._choices: dict[int, _WholeChoice] = {}
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
            elif not isinstance(event, Usage):
                index: int = getattr(event, "choice", 0)
                choice = self._choices.get(index)
                if choice is None:
                    choice = self._choices[index] = _WholeChoice()
                    self._held_bytes += _CHOICE_BYTES
                choice.add(event)
                if not isinstance(event, _NOT_COLLECTED):
                    self._held_bytes += HEAD_BYTES + held_bytes(event)
        if self._held_bytes > MAX_ANSWER_BYTES:
            self._choices.clear()
            raise EventTooLarge(
                f"the answer is too large for one document ({MAX_ANSWER_BYTES} bytes): stream it"
            )

    def _choice(self, index: int) -> dict[str, Any]:
        choice = self._choices[index].to_object(index)
        if self._as_functions:
            calls = choice["message"].pop("tool_calls", ())
            if calls and "function" in calls[0]:
                choice["message"]["function_call"] = calls[0]["function"]
            choice["finish_reason"] = _old_finish(choice["finish_reason"])
        return choice

    def to_json(self, end: GenerationEnd) -> bytes:
        """The completion; `end` is a clean end."""
        info = self._info
        value: dict[str, Any] = {
            "id": (info and info.response_id) or f"chatcmpl-{secrets.token_hex(12)}",
            "object": "chat.completion",
            "created": (info and info.created_s) or int(time.time()),
            "model": (info and info.model) or self._model,
            "choices": [self._choice(index) for index in sorted(self._choices)],
        }
        if info and info.service_tier:
            value["service_tier"] = info.service_tier
        if info and info.system_fingerprint:
            value["system_fingerprint"] = info.system_fingerprint
        if end.usage is not None:
            value["usage"] = usage_object(end.usage)
            if self._with_relay:
                value["usage"]["x_relay"] = relay_object(end)
        return _dumps(value)
