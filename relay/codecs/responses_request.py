"""A neutral request as the body of OpenAI's `POST /responses`.

Every message keeps its role and its place as an item of `input`; `instructions` is never written by
us, since it has one place and one authority where a conversation may have several. The tables
below say what is passed on, refused and dropped; `openai_responses` has the whole picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from relay.codecs.request_json import (
    CHAT_ONLY,
    cache_key,
    data_url,
    default_tier,
    dump_body,
    parallel_calls,
    readable_tool,
    refuse_asked,
    said_stops,
    spliced,
    without_marks,
)
from relay.codecs.responses_quirks import ResponsesQuirks
from relay.codecs.responses_state import with_state
from relay.content import (
    AudioPart,
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

WIRE: Final = "openai_responses"

ENCRYPTED_REASONING: Final = "reasoning.encrypted_content"
LOGPROBS: Final = "message.output_text.logprobs"

_NATIVE: Final = frozenset(
    {
        "context_management",
        "conversation",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "previous_response_id",
        "prompt",
        "prompt_cache_retention",
        "safety_identifier",
        "truncation",
    }
)
"""Extra fields that are called the same in this API and are sent as they are."""

_UNSAYABLE: Final = {**CHAT_ONLY, "background": (False,)}
"""Extra fields that are refused. `background` needs the storage that `store: false` forbids."""

_REASONING_FIELDS: Final = ("context", "effort", "generate_summary", "summary")
"""Of an extra `reasoning` object, which has other fields at OpenRouter."""

_FLAT_TOOL_FIELDS: Final = ("name", "description", "parameters", "strict", "defer_loading")

_NO_REASONING: Final = frozenset({"none", "minimal"})

_PART_FEATURES: Final[Mapping[type, str]] = {
    ImagePart: "image parts",
    AudioPart: "audio parts",
    FilePart: "file parts",
}


def encode_body(
    request: GenerateRequest, model: str, quirks: ResponsesQuirks, provider: str
) -> bytes:
    """The body of `POST .../responses` asking for a stream of which nothing is kept.

    Raises:
        UnsupportedFeature: something this wire or the provider's row cannot say, named.
        InvalidRequest: a schema that is not JSON.
    """
    return _BodyBuilder(request, quirks, provider).build(model)


class _BodyBuilder:
    """Collects the body of one request."""

    def __init__(self, request: GenerateRequest, quirks: ResponsesQuirks, provider: str) -> None:
        self._request = request
        self._quirks = quirks
        self._provider = provider
        self._custom_calls = {
            call.call_id
            for message in request.messages
            for call in message.tool_calls
            if call.kind == "custom"
        }

    def build(self, model: str) -> bytes:
        request, extra = self._request, self._request.extra_on(WIRE)
        self._refuse_the_unsayable()
        body: dict[str, Any] = {
            "model": model,
            "input": [item for message in request.messages for item in self._items(message)],
            "stream": True,
            "store": False,
        }
        known = _NATIVE | self._quirks.passes
        for name, value in extra.items():
            if name in known and name not in body:
                self._put(body, name, value)
        for name, value in self._typed_fields(model).items():
            if value is not None:
                self._put(body, name, value)
        return dump_body(body)

    def _put(self, body: dict[str, Any], name: str, value: Any) -> None:
        """Set a top-level field unless the row leaves it out or refuses it."""
        if name not in self._quirks.leaves_out:
            self._check(name)
            body[name] = value

    def _check(self, feature: str) -> None:
        if feature in self._quirks.refuses:
            raise UnsupportedFeature(feature, self._provider)

    def _refuse_the_unsayable(self) -> None:
        sampling, least = self._request.sampling, self._quirks.least_output_tokens
        asked = {
            "stop": bool(said_stops(sampling)),
            "n": sampling.choices not in (None, 1),
            "seed": sampling.seed is not None,
            "presence_penalty": bool(sampling.presence_penalty),
            "frequency_penalty": bool(sampling.frequency_penalty),
            "top_k": sampling.top_k not in (None, -1, 0),  # how hosts that know it say "off"
            f"max_tokens below {least}": (sampling.max_output_tokens or least) < least,
        }
        for name, is_asked in asked.items():
            if is_asked:
                raise UnsupportedFeature(name, self._provider)
        refuse_asked(self._request.extra_on(WIRE), _UNSAYABLE, self._provider)

    def _typed_fields(self, model: str) -> dict[str, Any]:
        request, sampling = self._request, self._request.sampling
        reasons = self._asks_for_reasoning() or bool(
            re.search(self._quirks.reasoning_models, model)
        )
        wants_logprobs = sampling.logprobs or (
            sampling.logprobs is None and sampling.top_logprobs is not None
        )
        if wants_logprobs:
            self._check("logprobs")
        return {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_output_tokens": sampling.max_output_tokens,
            "top_logprobs": sampling.top_logprobs if wants_logprobs else None,
            "tools": [self._tool(tool, at) for at, tool in enumerate(request.tools)] or None,
            "tool_choice": self._tool_choice(request.tool_choice),
            "parallel_tool_calls": parallel_calls(request),
            "text": self._text() or None,
            "reasoning": self._reasoning() or None,
            "include": self._include(reasons=reasons, logprobs=bool(wants_logprobs)) or None,
            "service_tier": default_tier(request.service_tier),
            "user": request.user or None,
            "prompt_cache_key": cache_key(request) or None,
            "stream_options": self._stream_options(),
        }

    # --- conversation -----------------------------------------------------------------------

    def _items(self, message: Message) -> list[dict[str, Any]]:
        if message.role is Role.TOOL:
            return [self._tool_output(message)]
        if message.role is Role.ASSISTANT:
            own = list(self._assistant_items(message))
            items = with_state(own, message.extra, self._quirks.reasoning_format)
            return items or [{"role": message.role.value, "content": ""}]
        role = message.role.value
        if message.role is Role.DEVELOPER and not self._quirks.has_developer_role:
            role = Role.SYSTEM.value
        return [{"role": role, "content": self._content(message)}]

    def _assistant_items(self, message: Message) -> Iterator[dict[str, Any]]:
        if message.extra.get("function_call"):
            raise UnsupportedFeature("messages.function_call", self._provider)
        if message.parts:
            item = {"role": message.role.value, "content": self._content(message)}
            phase = _phase(message.extra)
            if phase and "messages.phase" not in self._quirks.leaves_out:
                item["phase"] = phase
            yield item
        for call in message.tool_calls:
            yield _past_call(call)

    def _tool_output(self, message: Message) -> dict[str, Any]:
        is_custom = message.tool_call_id in self._custom_calls
        return {
            "type": "custom_tool_call_output" if is_custom else "function_call_output",
            "call_id": message.tool_call_id,
            "output": self._content(message),
        }

    def _content(self, message: Message) -> str | list[dict[str, Any]]:
        parts = message.parts
        if not parts:
            return ""
        if len(parts) == 1 and isinstance(parts[0], TextPart):
            return parts[0].text  # the one form that every host reads
        return [self._part(part, message.role) for part in parts]

    def _part(self, part: Part, role: Role) -> dict[str, Any]:
        is_output = role is Role.ASSISTANT
        feature = _PART_FEATURES.get(type(part), "")
        if feature:
            self._check(feature)
            if is_output:
                raise UnsupportedFeature(f"{feature} of an assistant message", self._provider)
        match part:
            case TextPart():
                return {"type": "output_text" if is_output else "input_text", "text": part.text}
            case RefusalPart():
                if is_output:
                    return {"type": "refusal", "refusal": part.text}
                return {"type": "input_text", "text": part.text}
            case ImagePart():
                return {
                    "type": "input_image",
                    "image_url": part.url or data_url(part.media_type, part.data_base64),
                    "detail": part.detail or "auto",  # which is required here
                }
            case AudioPart():
                audio = {"data": part.data_base64, "format": part.format}
                return {"type": "input_audio", "input_audio": audio}
            case FilePart():
                file = {"type": "input_file"}
                if part.file_id:
                    file["file_id"] = part.file_id
                if part.filename:
                    file["filename"] = part.filename
                if part.data_base64:
                    file["file_data"] = data_url(part.media_type, part.data_base64)
                return file
            case OpaquePart():
                if part.wire != WIRE:
                    raise UnsupportedFeature(f"a {part.wire} content part", self._provider)
                return dict(part.value)

    # --- tools ------------------------------------------------------------------------------

    def _tool(self, tool: Tool, at: int) -> dict[str, Any]:
        tool = readable_tool(tool, WIRE, self._provider)
        if tool.opaque is not None:
            return self._opaque_tool(tool.opaque)
        encoded: dict[str, Any] = {"type": "function", "name": tool.name}
        if tool.description:
            encoded["description"] = tool.description
        encoded["parameters"] = (
            spliced(tool.parameters_json, f"tools[{at}].parameters")
            if tool.parameters_json
            else {"type": "object", "properties": {}}
        )
        self._put_strict(encoded, tool.strict)
        return encoded

    def _opaque_tool(self, tool: Mapping[str, Any]) -> dict[str, Any]:
        """A tool of Chat's shape made flat; built-in ones and those of this API as they are."""
        kind = tool.get("type")
        inner = tool.get(kind) if isinstance(kind, str) else None
        if not isinstance(inner, Mapping) or kind not in ("function", "custom"):
            return without_marks(tool)
        merged = {**tool, **inner}
        if kind == "custom":
            encoded = {name: merged[name] for name in ("name", "description") if name in merged}
            grammar = merged.get("format")
            if isinstance(grammar, Mapping):
                given = grammar.get("grammar")
                encoded["format"] = {
                    "type": grammar.get("type"),
                    **(given if isinstance(given, Mapping) else {}),
                }
            return {"type": kind, **encoded}
        encoded = {name: merged[name] for name in _FLAT_TOOL_FIELDS if name in merged}
        self._put_strict(encoded, encoded.pop("strict", None))
        encoded.setdefault("parameters", {"type": "object", "properties": {}})
        return {"type": kind, **encoded}

    def _put_strict(self, encoded: dict[str, Any], strict: bool | None) -> None:
        if "tools.strict" in self._quirks.leaves_out:
            return
        if strict:
            self._check("tools.strict")
        # Chat's default is false and this API's is true, so it is always said.
        encoded["strict"] = bool(strict)

    def _tool_choice(self, choice: ToolChoice | None) -> Any:
        if choice is None:
            return None
        match choice.mode:
            case ToolChoiceMode.AUTO | ToolChoiceMode.NONE:
                # Says nothing without tools.
                return choice.mode.value if self._request.tools else None
            case ToolChoiceMode.REQUIRED:
                self._check("forced tool_choice")
                return choice.mode.value
            case ToolChoiceMode.NAMED:
                self._check("forced tool_choice")
                return {"type": "function", "name": choice.name}
            case ToolChoiceMode.OPAQUE:
                return _flat_choice(choice.opaque or {})

    # --- shape, reasoning, extras -------------------------------------------------------------

    def _text(self) -> dict[str, Any]:
        """The `text` object: a native one, over it what Chat calls by other names."""
        extra = self._request.extra_on(WIRE)
        given = extra.get("text")
        text = dict(given) if isinstance(given, Mapping) else {}
        if verbosity := extra.get("verbosity"):
            text["verbosity"] = verbosity
        if shape := self._format(self._request.response_format):
            text["format"] = shape
        return text

    def _format(self, wanted: ResponseFormat | None) -> dict[str, Any] | None:
        if wanted is None or wanted.kind == "text":
            return None
        self._check("response_format")
        if wanted.kind != "json_schema":
            return {"type": wanted.kind}
        self._check("json_schema")
        shape: dict[str, Any] = {"type": wanted.kind, "name": wanted.name or "answer"}
        if wanted.description:
            shape["description"] = wanted.description
        shape["schema"] = (
            spliced(wanted.schema_json, "response_format.json_schema.schema")
            if wanted.schema_json
            else {}
        )
        shape["strict"] = bool(wanted.strict)
        return shape

    def _asks_for_reasoning(self) -> bool:
        options = self._request.reasoning
        if options.effort:
            return options.effort not in _NO_REASONING
        return bool(options.budget_tokens)

    def _reasoning(self) -> dict[str, Any]:
        given = self._request.extra_on(WIRE).get("reasoning")
        reasoning: dict[str, Any] = {}
        if isinstance(given, Mapping):
            reasoning = {name: given[name] for name in _REASONING_FIELDS if name in given}
        if self._request.reasoning.effort:
            reasoning["effort"] = self._request.reasoning.effort
        summary = self._quirks.reasoning_summary
        if self._request.want_reasoning and self._asks_for_reasoning() and summary != "none":
            reasoning.setdefault("summary", summary)
        return reasoning

    def _include(self, *, reasons: bool, logprobs: bool) -> list[str]:
        given = self._request.extra_on(WIRE).get("include")
        wanted = [one for one in given if isinstance(one, str)] if isinstance(given, list) else []
        if reasons:
            wanted.append(ENCRYPTED_REASONING)
        if logprobs:
            wanted.append(LOGPROBS)
        return list(dict.fromkeys(wanted))

    def _stream_options(self) -> dict[str, Any] | None:
        """Chat's `include_usage` is no option here: usage always comes."""
        given = self._request.extra_on(WIRE).get("stream_options")
        if isinstance(given, Mapping) and isinstance(given.get("include_obfuscation"), bool):
            return {"include_obfuscation": given["include_obfuscation"]}
        return None


def _past_call(call: ToolCall) -> dict[str, Any]:
    if call.kind == "custom":
        return {
            "type": "custom_tool_call",
            "call_id": call.call_id,
            "name": call.name,
            "input": call.arguments,
        }
    return {
        "type": "function_call",
        "call_id": call.call_id,
        "name": call.name,
        "arguments": call.arguments or "{}",
    }


def _phase(extra: Mapping[str, Any]) -> str:
    """What part of a turn a message was, as `responses_reader` told it."""
    match extra.get("extra_content"):
        case {"openai": {"phase": str(phase)}}:
            return phase
        case _:
            return ""


def _flat_choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    """A tool choice of Chat's shape without its inner objects; others as they are."""
    kind = choice.get("type")
    inner = choice.get(kind) if isinstance(kind, str) else None
    if not isinstance(inner, Mapping):
        return dict(choice)
    flat = {"type": kind, **inner}
    if isinstance(flat.get("tools"), list):
        flat["tools"] = [
            _flat_choice(tool) if isinstance(tool, Mapping) else tool for tool in flat["tools"]
        ]
    return flat
