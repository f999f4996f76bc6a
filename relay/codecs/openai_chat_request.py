"""A neutral request as an OpenAI chat completions body, bent to one provider's quirks.

The body is built as one dict and dumped once. Typed fields win over extra ones of the same
name; JSON that passes through (tool schemas) is checked and spliced in as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from relay.codecs.openai_quirks import OpenAIChatQuirks
from relay.codecs.request_json import (
    cache_key,
    data_url,
    default_tier,
    dump_body,
    parallel_calls,
    readable_tool,
    said_stops,
    spliced,
    without_marks,
)
from relay.content import (
    NO_SAMPLING,
    AudioPart,
    CacheMark,
    FilePart,
    GenerateRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    RefusalPart,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
)
from relay.errors import UnsupportedFeature

WIRE: Final = "openai_chat"

# What voice platforms add to any body they send (Vapi); OpenAI answers unknown fields with 400.
_PLATFORM_FIELDS: Final = frozenset({"call", "phoneNumber", "customer"})

# Extra fields must not undo what the relay decides itself.
_OURS: Final = frozenset({"model", "messages", "stream", "stream_options"})

# Sending these says nothing, so they are left out even where the field is refused.
_API_DEFAULTS: Final[Mapping[str, object]] = {
    "n": 1,
    "logprobs": False,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "parallel_tool_calls": True,
}

_PART_FEATURES: Final[Mapping[type, str]] = {
    ImagePart: "image parts",
    AudioPart: "audio parts",
    FilePart: "file parts",
}

_NINE_ALPHANUMERICS: Final = re.compile(r"[a-zA-Z0-9]{9}")
_BASE62: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def encode_body(
    request: GenerateRequest, model: str, quirks: OpenAIChatQuirks, provider: str
) -> bytes:
    """The body of `POST .../chat/completions` asking for a stream.

    Raises:
        UnsupportedFeature: something the provider's row refuses, named.
        InvalidRequest: a schema that is not JSON.
    """
    return _BodyBuilder(request, quirks, provider).build(model)


class _BodyBuilder:
    """Collects the body of one request; every rule of the quirks is applied here."""

    def __init__(self, request: GenerateRequest, quirks: OpenAIChatQuirks, provider: str) -> None:
        self._request = request
        self._quirks = quirks
        self._provider = provider

    def build(self, model: str) -> bytes:
        request, quirks = self._request, self._quirks
        body: dict[str, Any] = {"model": model, "messages": self._messages(), "stream": True}
        extra = request.extra_on(WIRE)
        for name, value in extra.items():
            if name in _OURS or name in _PLATFORM_FIELDS:
                continue
            if name == "cache_control" and not quirks.has_cache_marks:
                continue
            if quirks.only_extra is None or name in quirks.only_extra or name in quirks.refuses:
                self._put(body, name, value)
        for name, value in self._typed_fields():
            if value is not None:
                self._put(body, name, value)
        if quirks.has_stream_options:
            asked = extra.get("stream_options")
            options = dict(asked) if isinstance(asked, Mapping) else {}
            body["stream_options"] = {**options, "include_usage": True}
        return dump_body(body)

    def _put(self, body: dict[str, Any], name: str, value: Any) -> None:
        """Set a top-level field unless the row leaves it out or refuses it."""
        if name in self._quirks.leaves_out:
            return
        if name in self._quirks.refuses:
            if name in _API_DEFAULTS and value == _API_DEFAULTS[name]:
                return
            raise UnsupportedFeature(name, self._provider)
        body[name] = value

    def _check_part(self, feature: str) -> None:
        if feature in self._quirks.refuses:
            raise UnsupportedFeature(feature, self._provider)

    def _typed_fields(self) -> Iterator[tuple[str, Any]]:
        """What the request has words for; None where it says nothing."""
        request, quirks, sampling = self._request, self._quirks, self._request.sampling
        if sampling is not NO_SAMPLING:
            yield "temperature", sampling.temperature
            yield "top_p", sampling.top_p
            yield "top_k", sampling.top_k
            yield quirks.max_tokens_field, sampling.max_output_tokens
            yield "stop", said_stops(sampling) or None
            yield quirks.seed_field, sampling.seed
            # Some hosts refuse the field itself, and 1 is what they do without it.
            yield "n", None if sampling.choices == 1 else sampling.choices
            yield "presence_penalty", sampling.presence_penalty
            yield "frequency_penalty", sampling.frequency_penalty
            yield "logprobs", sampling.logprobs
            yield "top_logprobs", sampling.top_logprobs
        if request.tools:
            yield "tools", [self._tool(tool, at) for at, tool in enumerate(request.tools)]
        yield "tool_choice", self._tool_choice(request.tool_choice)
        # Only legal together with tools (400 otherwise on some models).
        yield "parallel_tool_calls", parallel_calls(request, quirks.refuses)
        yield "response_format", self._response_format(request.response_format)
        yield from self._reasoning().items()
        yield "service_tier", default_tier(request.service_tier)
        yield "user", request.user or None
        yield "prompt_cache_key", self._cache_key() or None

    # --- messages ---------------------------------------------------------------------------

    def _messages(self) -> list[dict[str, Any]]:
        messages = self._request.messages
        last_user = len(messages) - 1
        while last_user >= 0 and messages[last_user].role is not Role.USER:
            last_user -= 1
        return [
            self._plain(message) or self._message(message, in_tool_loop=at > last_user)
            for at, message in enumerate(messages)
        ]

    @staticmethod
    def _plain(message: Message) -> dict[str, Any] | None:
        """A message that is a text and nothing else, as no quirk changes it; None of others."""
        parts = message.parts
        if len(parts) != 1 or message.extra or message.tool_calls:
            return None
        part, role = parts[0], message.role
        if type(part) is not TextPart or part.cache_control or message.name or message.reasoning:
            return None
        if role is Role.TOOL or role is Role.DEVELOPER:
            return None
        return {"role": role._value_, "content": part.text}

    def _message(self, message: Message, *, in_tool_loop: bool) -> dict[str, Any]:
        quirks = self._quirks
        role = message.role.value
        if message.role is Role.DEVELOPER and not quirks.has_developer_role:
            role = Role.SYSTEM.value
        encoded: dict[str, Any] = self._opaque(message.extra)
        encoded["role"] = role
        encoded["content"] = self._content(message)
        if message.name and "messages.name" not in quirks.leaves_out:
            self._check_part("messages.name")
            encoded["name"] = message.name
        if message.tool_calls:
            encoded["tool_calls"] = [self._past_call(call) for call in message.tool_calls]
        if message.role is Role.TOOL:
            encoded["tool_call_id"] = self._call_id(message.tool_call_id)
        if (
            quirks.reasoning_history != "none"
            and in_tool_loop
            and message.role is Role.ASSISTANT
            and message.reasoning
        ):
            encoded[quirks.reasoning_history] = message.reasoning
        return encoded

    def _content(self, message: Message) -> str | list[dict[str, Any]] | None:
        parts = message.parts
        if message.role is Role.TOOL and not self._quirks.has_tool_media:
            for part in parts:
                if isinstance(part, ImagePart | AudioPart | FilePart):
                    feature = _PART_FEATURES[type(part)]
                    raise UnsupportedFeature(f"{feature} in results of tools", self._provider)
        if not parts:
            return None if message.tool_calls else ""
        if len(parts) == 1 and isinstance(parts[0], TextPart) and not self._mark_of(parts[0]):
            return parts[0].text  # the one form that every host reads
        return [self._marked(part) for part in parts]

    def _marked(self, part: Part) -> dict[str, Any]:
        encoded = self._part(part)
        if mark := self._mark_of(part):
            encoded["cache_control"] = mark
        return encoded

    def _mark_of(self, part: Part | Tool) -> CacheMark:
        if isinstance(part, OpaquePart) or not self._quirks.has_cache_marks:
            return None
        return part.cache_control

    def _unread(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return dict(value) if self._quirks.has_cache_marks else without_marks(value)

    def _part(self, part: Part) -> dict[str, Any]:
        match part:
            case TextPart():
                return {"type": "text", "text": part.text}
            case ImagePart():
                self._check_part(_PART_FEATURES[ImagePart])
                image = {"url": part.url or data_url(part.media_type, part.data_base64)}
                if part.detail:
                    image["detail"] = part.detail
                return {"type": "image_url", "image_url": image}
            case AudioPart():
                self._check_part(_PART_FEATURES[AudioPart])
                audio = {"data": part.data_base64, "format": part.format}
                return {"type": "input_audio", "input_audio": audio}
            case FilePart():
                self._check_part(_PART_FEATURES[FilePart])
                file: dict[str, str] = {}
                if part.file_id:
                    file["file_id"] = part.file_id
                if part.filename:
                    file["filename"] = part.filename
                if part.data_base64:
                    file["file_data"] = data_url(part.media_type, part.data_base64)
                return {"type": "file", "file": file}
            case RefusalPart():
                return {"type": "refusal", "refusal": part.text}
            case OpaquePart():
                if part.wire != WIRE:
                    raise UnsupportedFeature(f"a {part.wire} content part", self._provider)
                return self._unread(part.value)

    def _past_call(self, call: ToolCall) -> dict[str, Any]:
        encoded = self._opaque(call.extra)
        encoded["id"] = self._call_id(call.call_id)
        encoded["type"] = call.kind
        if call.kind == "custom":
            encoded["custom"] = {"name": call.name, "input": call.arguments}
        else:
            # Hosts that parse arguments of past calls (vLLM templates) choke on empty ones.
            encoded["function"] = {"name": call.name, "arguments": call.arguments or "{}"}
        return encoded

    def _call_id(self, call_id: str) -> str:
        if self._quirks.tool_call_ids == "as_is" or _NINE_ALPHANUMERICS.fullmatch(call_id):
            return call_id
        number = int.from_bytes(
            hashlib.blake2b(call_id.encode("utf-8", "replace"), digest_size=8).digest(), "big"
        )
        return "".join(_BASE62[number // 62**place % 62] for place in range(9))

    def _opaque(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        allowed = self._quirks.only_message_extra
        return {
            name: value
            for name, value in extra.items()
            if (allowed is None or name in allowed)
            and name != "is_error"  # of a tool's result, which this wire has no word for
            and (name != "cache_control" or self._quirks.has_cache_marks)
        }

    # --- tools, shape, reasoning --------------------------------------------------------------

    def _tool(self, tool: Tool, at: int) -> dict[str, Any]:
        tool = readable_tool(tool, WIRE, self._provider)
        if tool.opaque is not None:
            return self._unread(tool.opaque)
        function: dict[str, Any] = {"name": tool.name}
        if tool.description:
            function["description"] = tool.description
        if tool.parameters_json:
            function["parameters"] = spliced(tool.parameters_json, f"tools[{at}].parameters")
        if tool.strict is not None and "tools.strict" not in self._quirks.leaves_out:
            if tool.strict:
                self._check_part("tools.strict")
            function["strict"] = tool.strict
        encoded: dict[str, Any] = {"type": "function", "function": function}
        if mark := self._mark_of(tool):
            encoded["cache_control"] = mark
        return encoded

    def _tool_choice(self, choice: ToolChoice | None) -> str | Mapping[str, Any] | None:
        if choice is None:
            return None
        match choice.mode:
            case ToolChoiceMode.AUTO | ToolChoiceMode.NONE:
                # Says nothing without tools, where OpenAI answers 400.
                return choice.mode.value if self._request.tools else None
            case ToolChoiceMode.REQUIRED:
                self._check_part("forced tool_choice")
                return self._quirks.required_word
            case ToolChoiceMode.NAMED:
                self._check_part("forced tool_choice")
                return {"type": "function", "function": {"name": choice.name}}
            case ToolChoiceMode.OPAQUE:
                return choice.opaque

    def _response_format(self, wanted: ResponseFormat | None) -> dict[str, Any] | None:
        if wanted is None:
            return None
        if wanted.kind != "json_schema":
            return {"type": wanted.kind}
        self._check_part("json_schema")
        schema: dict[str, Any] = {"name": wanted.name or "answer"}
        if wanted.description:
            schema["description"] = wanted.description
        if wanted.schema_json:
            schema["schema"] = spliced(wanted.schema_json, "response_format.json_schema.schema")
        if wanted.strict is not None:
            schema["strict"] = wanted.strict
        return {"type": "json_schema", "json_schema": schema}

    def _cache_key(self) -> str:
        request = self._request
        return cache_key(request) if self._quirks.has_cache_key else request.prompt_cache_key

    def _reasoning(self) -> dict[str, Any]:
        effort, budget = self._request.reasoning.effort, self._request.reasoning.budget_tokens
        if not effort and budget is None:
            return {}
        is_off = effort == "none" or (not effort and budget == 0)
        match self._quirks.reasoning:
            case "effort":
                return {"reasoning_effort": effort or None}
            case "openrouter":
                # Exactly one of the two is taken.
                return {"reasoning": {"effort": effort} if effort else {"max_tokens": budget}}
            case "qwen":
                return {"enable_thinking": not is_off, "thinking_budget": budget or None}
            case "thinking":
                return {
                    "thinking": {"type": "disabled" if is_off else "enabled"},
                    "reasoning_effort": None if is_off else effort or None,
                }
            case "none":
                return {}
