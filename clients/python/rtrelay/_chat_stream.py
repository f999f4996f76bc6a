"""The stream of an OpenAI chat completion as events, and its last word as an `End`. No I/O.

Reading is liberal, since many hosts speak this format: fields may be missing, null or empty
anywhere; a whole `message` is read like one big delta; the first finish reason of a choice counts.
What is not forgiven is an end without a finish reason: the answer was cut.
"""

from __future__ import annotations

import json
from typing import Any

import grpc

from rtrelay._chat_errors import error_in_stream
from rtrelay.errors import RelayError
from rtrelay.events import (
    Event,
    Extra,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCall,
)
from rtrelay.v1 import ChoiceEnd, End, FinishReason, ToolKind, Usage
from rtrelay.v1 import ToolCall as ToolCallMessage

_REASONS = {
    "stop": FinishReason.FINISH_REASON_STOP,
    "length": FinishReason.FINISH_REASON_LENGTH,
    "tool_calls": FinishReason.FINISH_REASON_TOOL_CALLS,
    "function_call": FinishReason.FINISH_REASON_TOOL_CALLS,
    "content_filter": FinishReason.FINISH_REASON_CONTENT_FILTER,
}


class ChatStream:
    """One answer."""

    def __init__(self) -> None:
        self.end = End()
        """What is known of the end so far; whole after `finish`."""
        self.is_done = False
        """The provider said so."""
        self._choices: dict[int, _Choice] = {}

    def feed(self, data: bytes) -> list[Event]:
        """The events of one `data:` of the stream.

        Raises:
            RelayError: it tells of a failure, or is no JSON.
        """
        if data.startswith(b"[DONE"):
            self.is_done = True
            return []
        try:
            document = json.loads(data)
        except ValueError:
            raise _broken("UPSTREAM_PROTOCOL", "an event of the answer is no JSON") from None
        if not isinstance(document, dict):
            return []
        if document.get("error"):
            raise error_in_stream(document["error"])
        self._note(document)
        found: list[Event] = []
        for entry in _objects(document.get("choices")):
            number = _whole(entry.get("index"))
            choice = self._choices.setdefault(number, _Choice(number))
            choice.read(entry, found)
        return found

    def finish(self) -> list[Event]:
        """The stream is over: what is still to be said.

        Raises:
            RelayError: UPSTREAM_TRUNCATED, it was cut.
        """
        if not self._choices or any(not choice.raw_reason for choice in self._choices.values()):
            raise _broken("UPSTREAM_TRUNCATED", "the answer ended without a finish reason")
        found: list[Event] = []
        for choice in self._choices.values():
            choice.close_calls(found)
            self.end.choices.append(choice.end())
        return found

    def _note(self, document: dict[str, Any]) -> None:
        end = self.end
        end.response_id = end.response_id or _text(document.get("id"))
        end.model = end.model or _text(document.get("model"))
        end.created_s = end.created_s or _whole(document.get("created"))
        end.service_tier = _text(document.get("service_tier")) or end.service_tier
        end.system_fingerprint = end.system_fingerprint or _text(document.get("system_fingerprint"))
        usage = document.get("usage")
        if isinstance(usage, dict):
            end.usage.CopyFrom(usage_of(usage))


class _Choice:
    def __init__(self, number: int) -> None:
        self.raw_reason = ""
        self._number = number
        self._chars = 0
        self._calls: dict[int, _Call] = {}
        self._made = 0

    def read(self, entry: dict[str, Any], found: list[Event]) -> None:
        delta = entry.get("delta") or entry.get("message")
        if isinstance(delta, dict):
            self._read_delta(delta, found)
        if isinstance(entry.get("logprobs"), dict):
            value = json.dumps(entry["logprobs"]).encode()
            found.append(Extra("logprobs", value, self._number))
        reason = _text(entry.get("finish_reason"))
        if reason and not self.raw_reason:
            self.raw_reason = reason

    def _read_delta(self, delta: dict[str, Any], found: list[Event]) -> None:
        reasoning = _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
        if reasoning:
            found.append(ReasoningDelta(reasoning, self._number))
        if text := _text(delta.get("content")):
            found.append(TextDelta(text, self._chars, self._number))
            self._chars += len(text)
        if refusal := _text(delta.get("refusal")):
            found.append(RefusalDelta(refusal, self._number))
        for piece in _objects(delta.get("tool_calls")):
            self._read_call(piece, found)

    def _read_call(self, piece: dict[str, Any], found: list[Event]) -> None:
        call_id = _text(piece.get("id"))
        place = piece.get("index")
        if not isinstance(place, int):  # some hosts send whole calls without one
            place = len(self._calls) if call_id or not self._calls else max(self._calls)
        call = self._calls.get(place)
        is_first = call is None
        if call is None:
            call = self._calls[place] = _Call(len(self._calls))
        fragment = call.read(piece)
        if is_first or fragment:
            first = (call.call_id, call.name) if is_first else ("", "")
            found.append(ToolArgumentsDelta(call.index, fragment, *first, self._number))

    def close_calls(self, found: list[Event]) -> None:
        """Whole calls, in the order in which they began."""
        is_partial = self.raw_reason == "length"
        last = len(self._calls) - 1
        for call in self._calls.values():
            is_cut = is_partial and call.index == last
            found.append(ToolCall(call.made(), call.index, is_cut, self._number))

    def end(self) -> ChoiceEnd:
        reason = _REASONS.get(self.raw_reason, FinishReason.FINISH_REASON_OTHER)
        if self._calls and reason == FinishReason.FINISH_REASON_STOP:
            reason = FinishReason.FINISH_REASON_TOOL_CALLS
        return ChoiceEnd(
            choice=self._number,
            finish_reason=reason,
            raw_reason=self.raw_reason,
            text_chars=self._chars,
        )


class _Call:
    def __init__(self, index: int) -> None:
        self.index = index
        self.call_id = ""
        self.name = ""
        self._pieces: list[str] = []
        self._is_custom = False
        self._extra: dict[str, Any] = {}

    def read(self, piece: dict[str, Any]) -> str:
        """Take a piece; the text of arguments in it."""
        self.call_id = self.call_id or _text(piece.get("id"))
        custom = piece.get("custom")
        self._is_custom = self._is_custom or isinstance(custom, dict)
        body = custom if isinstance(custom, dict) else piece.get("function")
        if isinstance(piece.get("extra_content"), dict):
            self._extra["extra_content"] = piece["extra_content"]
        if not isinstance(body, dict):
            return ""
        self.name = self.name or _text(body.get("name"))
        fragment = _text(body.get("input" if self._is_custom else "arguments"))
        if fragment:
            self._pieces.append(fragment)
        return fragment

    def made(self) -> ToolCallMessage:
        return ToolCallMessage(
            call_id=self.call_id or f"call_{self.index}",
            name=self.name,
            arguments="".join(self._pieces),
            kind=ToolKind.TOOL_KIND_CUSTOM if self._is_custom else ToolKind.TOOL_KIND_FUNCTION,
            extra_json=json.dumps(self._extra).encode() if self._extra else b"",
        )


def usage_of(value: dict[str, Any]) -> Usage:
    """Token counts as the provider gives them."""
    usage = Usage(
        prompt_tokens=_whole(value.get("prompt_tokens")),
        completion_tokens=_whole(value.get("completion_tokens")),
        raw_json=json.dumps(value).encode(),
    )
    usage.total_tokens = _whole(value.get("total_tokens")) or (
        usage.prompt_tokens + usage.completion_tokens
    )
    prompt = value.get("prompt_tokens_details")
    if isinstance(prompt, dict) and isinstance(prompt.get("cached_tokens"), int):
        usage.cached_tokens = _whole(prompt["cached_tokens"])
    completion = value.get("completion_tokens_details")
    if isinstance(completion, dict) and isinstance(completion.get("reasoning_tokens"), int):
        usage.reasoning_tokens = _whole(completion["reasoning_tokens"])
    return usage


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: object) -> int:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return max(0, value) if is_whole else 0  # type: ignore[call-overload]


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _broken(reason: str, message: str) -> RelayError:
    return RelayError(reason, grpc.StatusCode.UNAVAILABLE, message, details={"provider": "direct"})
