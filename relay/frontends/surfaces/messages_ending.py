"""What streamed and whole Messages have alike: head, stop reason, counts, what comes unread."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

import orjson

from relay.content import (
    FinishReason,
    OpaqueDelta,
    RefusalDelta,
    ResponseInfo,
    StreamEvent,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from relay.frontends.messages_content import REASONING_FORMAT
from relay.frontends.messages_state import MAX_STATE_BYTES, STATE_KEYS, pack
from relay.frontends.surfaces.account import relay_object
from relay.outcome import GenerationEnd

_STOP_REASON: Final[Mapping[FinishReason, str]] = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
    FinishReason.OTHER: "end_turn",
}

_OWN_REASONS: Final = frozenset(
    {
        "end_turn",
        "max_tokens",
        "model_context_window_exceeded",
        "pause_turn",
        "refusal",
        "stop_sequence",
        "tool_use",
    }
)
"""Words of Anthropic's own, which say more than the neutral ones."""

_OWN_COUNTS: Final = ("cache_creation", "server_tool_use", "service_tier", "inference_geo")
"""Fields beside the counts that no other provider's usage has."""

_DETAILS: Final = "reasoning_details"
_THINKING_KINDS: Final = frozenset({"reasoning.text", "reasoning.encrypted"})

_BESIDE: Final = frozenset({"stop_details", "stop_sequence", "container"})


class Ending:
    """What must be remembered of an answer for its end."""

    __slots__ = (
        "_beside",
        "_has_refused",
        "_held",
        "_is_cut",
        "_of_calls",
        "_pieces",
        "_state",
        "has_calls",
    )

    def __init__(self) -> None:
        self.has_calls = False
        self._has_refused = False
        self._is_cut = False
        self._beside: dict[str, Any] = {}
        self._state: dict[str, list[Any]] = {}
        self._of_calls: dict[str, Any] = {}
        self._held = 0
        self._pieces: list[str] = []  # of thinking that is not signed yet

    def note(self, event: StreamEvent) -> None:
        """Take any event but text and pieces of arguments."""
        if isinstance(event, ToolCallStart):
            self.has_calls = True
        elif isinstance(event, ToolCallDone):
            self._is_cut = self._is_cut or event.is_partial
            if event.extra_json and self._has_room(len(event.extra_json)):
                self._of_calls[event.call_id] = orjson.loads(event.extra_json)
        elif isinstance(event, RefusalDelta):
            self._has_refused = True
        elif isinstance(event, OpaqueDelta):
            if event.key in _BESIDE:
                self._beside[event.key] = orjson.loads(event.value_json)
            elif event.key in STATE_KEYS - {_DETAILS} and self._has_room(len(event.value_json)):
                self._state.setdefault(event.key, []).append(orjson.loads(event.value_json))

    def block_of(self, entry: dict[str, Any]) -> dict[str, Any] | None:
        """The block that an entry of `reasoning_details` completes; None where it is a piece of
        one, or another wire's, which is kept as state.

        Hosts that stream entries in pieces send the signature with the last of one.
        """
        kind = entry.get("type")
        if entry.get("format") != REASONING_FORMAT or kind not in _THINKING_KINDS:
            self.keep(entry)
            return None
        if kind == "reasoning.encrypted":
            return {"type": "redacted_thinking", "data": entry.get("data")}
        text, signature = entry.get("text"), entry.get("signature")
        if isinstance(text, str) and self._has_room(len(text)):
            self._pieces.append(text)
        if not signature:
            return None
        text = "".join(self._pieces)
        self._pieces.clear()
        if self._held > MAX_STATE_BYTES:
            return None  # what is cut may not be signed
        return {"type": "thinking", "thinking": text, "signature": signature}

    def keep_signed(self, block: Mapping[str, Any]) -> None:
        """Keep signed thinking whose text was told before its signature came, as state."""
        entry = {"type": "reasoning.text", "format": REASONING_FORMAT, "index": 0}
        self.keep({**entry, "text": block["thinking"], "signature": block["signature"]})

    def keep(self, entry: dict[str, Any]) -> None:
        """Keep an entry of `reasoning_details` as state."""
        self._state.setdefault(_DETAILS, []).append([entry])

    def _has_room(self, size: int) -> bool:
        self._held += size
        return self._held <= MAX_STATE_BYTES

    def delta(self, end: GenerationEnd) -> dict[str, Any]:
        """`stop_reason` and what stands beside it; `end` is a clean end."""
        value: dict[str, Any] = {
            "stop_reason": self._reason(end),
            "stop_sequence": None,
            "stop_details": None,
        }
        value.update(self._beside)
        return value

    def _reason(self, end: GenerationEnd) -> str:
        reason = end.finish_reasons.get(0, FinishReason.OTHER)
        if self.has_calls and not self._is_cut and reason is not FinishReason.CONTENT_FILTER:
            return "tool_use"
        if self._has_refused and reason is FinishReason.STOP:
            return "refusal"
        raw = end.raw_finish_reasons.get(0, "")
        return raw if raw in _OWN_REASONS else _STOP_REASON[reason]

    def state_block(self) -> dict[str, Any] | None:
        """A block with the state of a wire other than this one, if there was any."""
        state = {
            key: joined for key, values in self._state.items() if (joined := _joined(key, values))
        }
        if not (state or self._of_calls):
            return None
        data = pack(state, self._of_calls)
        return {"type": "redacted_thinking", "data": data} if len(data) < MAX_STATE_BYTES else None


def _joined(key: str, values: list[Any]) -> Any:
    """Pieces of a field as one."""
    if key == "extra_content":  # an object
        merged: dict[str, Any] = {}
        for value in values:
            merged.update(value if isinstance(value, dict) else {})
        return merged
    return [entry for value in values if isinstance(value, list) for entry in value]


def usage_object(usage: Usage | None) -> dict[str, Any]:
    """Counts as Anthropic has them: its input leaves out what the cache read or was written."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    value: dict[str, Any] = {}
    if usage.raw_json:
        raw = orjson.loads(usage.raw_json)
        if isinstance(raw, dict):
            value = {name: raw[name] for name in _OWN_COUNTS if raw.get(name) is not None}
    cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    value["input_tokens"] = max(0, usage.prompt_tokens - cached - written)
    value["cache_creation_input_tokens"] = written
    value["cache_read_input_tokens"] = cached
    value["output_tokens"] = usage.completion_tokens
    if usage.reasoning_tokens is not None:
        value["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return value


def final_usage(end: GenerationEnd, *, with_relay: bool) -> dict[str, Any]:
    """The last word on the counts.

    Args:
        with_relay: the client asked for the relay's own account; that counts are estimates is
            said in any case.
    """
    value = usage_object(end.usage)
    if with_relay:
        value["x_relay"] = relay_object(end)
    elif end.usage is None or end.usage.is_estimated:
        value["x_relay"] = {"usage_estimated": True}
    return value


def message_head(info: ResponseInfo | None, model: str) -> dict[str, Any]:
    """What a message is known by."""
    return {
        "id": (info and info.response_id) or f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": (info and info.model) or model,
    }


def own_citation(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """The citation in an annotation, None for one that is not Anthropic's."""
    citation = entry.get(str(entry.get("type")))
    if not isinstance(citation, dict) or not isinstance(citation.get("type"), str):
        return None
    return {
        name: value for name, value in citation.items() if name not in ("start_index", "end_index")
    }


def entries_of(event: OpaqueDelta) -> list[dict[str, Any]]:
    """The entries of a list that is passed on."""
    values = orjson.loads(event.value_json)
    entries = values if isinstance(values, list) else []
    return [entry for entry in entries if isinstance(entry, dict)]
