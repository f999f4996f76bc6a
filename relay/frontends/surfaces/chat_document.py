"""Stream events as one whole OpenAI chat completion, bounded."""

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
from relay.errors import EventTooLarge
from relay.event_size import HEAD_BYTES, held_bytes
from relay.frontends.limits import MAX_ANSWER_BYTES
from relay.frontends.surfaces.account import relay_object, usage_object
from relay.frontends.surfaces.chat_choice import CHOICE_LEVEL, ChatChoice, legacy_finish
from relay.outcome import GenerationEnd

_CHOICE_BYTES = 2048
"""What a choice is counted with beside its content."""

_NOT_COLLECTED = ToolCallStart | ToolArgumentsDelta
"""The call comes whole when it is done."""


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
        self.state = ChatChoice()
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
            (choice if key in CHOICE_LEVEL else message)[key] = merged
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
            choice["finish_reason"] = legacy_finish(choice["finish_reason"])
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
        return orjson.dumps(value)
