"""A start as the body of an OpenAI chat completion that is streamed."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import grpc

from rtrelay.errors import RelayError
from rtrelay.v1 import (
    Message,
    Part,
    Prompt,
    ResponseFormat,
    ResponseFormatKind,
    Role,
    Sampling,
    Start,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
    ToolKind,
)

_ROLES = {
    Role.ROLE_SYSTEM: "system",
    Role.ROLE_DEVELOPER: "developer",
    Role.ROLE_USER: "user",
    Role.ROLE_ASSISTANT: "assistant",
    Role.ROLE_TOOL: "tool",
}
_CHOICES = {
    ToolChoiceMode.TOOL_CHOICE_MODE_AUTO: "auto",
    ToolChoiceMode.TOOL_CHOICE_MODE_NONE: "none",
    ToolChoiceMode.TOOL_CHOICE_MODE_REQUIRED: "required",
}
_RELAYS_OWN = ("relay", "x_relay", "stream", "stream_options")
"""What a body says to the relay, or what is not the caller's to say."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """In what hosts differ. The defaults are what most of them take."""

    max_tokens_field: str = "max_tokens"
    """What they call `max_output_tokens`."""
    has_developer_role: bool = False
    """Else it is `system`."""


def chat_body(start: Start, model: str, dialect: Dialect) -> bytes:
    """The body of `POST .../chat/completions`.

    Raises:
        RelayError: INVALID_REQUEST or UNSUPPORTED_FEATURE, which names the field.
    """
    kind = start.WhichOneof("input")
    if kind == "openai_chat_body":
        body = _object(start.openai_chat_body, "openai_chat_body")
        for name in _RELAYS_OWN:
            body.pop(name, None)
    elif kind == "prompt":
        body = _prompt(start.prompt, dialect)
    else:
        raise _invalid("input", "a start needs a prompt or a chat body")
    body |= {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def model_of(start: Start) -> str:
    """What the start asks for; empty if it names nothing."""
    if start.model or start.WhichOneof("input") != "openai_chat_body":
        return start.model
    named = _object(start.openai_chat_body, "openai_chat_body").get("model", "")
    return named if isinstance(named, str) else ""


def _prompt(prompt: Prompt, dialect: Dialect) -> dict[str, Any]:
    body = _object(prompt.extra_json, "prompt.extra_json")
    body["messages"] = [
        _message(message, f"prompt.messages[{at}]", dialect)
        for at, message in enumerate(prompt.messages)
    ]
    if prompt.tools:
        body["tools"] = [_tool(tool, f"prompt.tools[{at}]") for at, tool in enumerate(prompt.tools)]
        if prompt.HasField("parallel_tool_calls"):
            body["parallel_tool_calls"] = prompt.parallel_tool_calls
    if prompt.HasField("tool_choice"):
        choice = _tool_choice(prompt.tool_choice)
        if prompt.tools or choice not in ("auto", "none"):  # those say nothing without tools
            body["tool_choice"] = choice
    if prompt.HasField("response_format"):
        body["response_format"] = _response_format(prompt.response_format)
    body |= _sampling(prompt.sampling, dialect.max_tokens_field)
    if prompt.reasoning.effort:
        body["reasoning_effort"] = prompt.reasoning.effort
    for name in ("service_tier", "user", "prompt_cache_key"):
        if value := getattr(prompt, name):
            body[name] = value
    return body


def _sampling(sampling: Sampling, max_tokens_field: str) -> dict[str, Any]:
    names = {"max_output_tokens": max_tokens_field, "choices": "n"}
    return {
        names.get(field.name, field.name): list(value) if field.name == "stop" else value
        for field, value in sampling.ListFields()
    }


def _message(message: Message, path: str, dialect: Dialect) -> dict[str, Any]:
    found = _object(message.extra_json, f"{path}.extra_json")
    role = _ROLES.get(message.role)
    if role is None:
        raise _invalid(f"{path}.role", "it is required")
    if role == "developer" and not dialect.has_developer_role:
        role = "system"
    found["role"] = role
    found["content"] = _content(message, path)
    if message.name:
        found["name"] = message.name
    if message.tool_calls:
        found["tool_calls"] = [
            _past_call(call, f"{path}.tool_calls[{at}]")
            for at, call in enumerate(message.tool_calls)
        ]
    if message.role == Role.ROLE_TOOL:
        found["tool_call_id"] = message.tool_call_id
    return found


def _content(message: Message, path: str) -> str | list[dict[str, Any]] | None:
    if not message.parts:
        return None if message.tool_calls else ""
    if len(message.parts) == 1 and message.parts[0].HasField("text"):
        return message.parts[0].text  # the one form that every host reads
    return [_part(part, f"{path}.parts[{at}]") for at, part in enumerate(message.parts)]


def _part(part: Part, path: str) -> dict[str, Any]:
    match part.WhichOneof("kind"):
        case "text":
            return {"type": "text", "text": part.text}
        case "image":
            image = part.image
            url = image.url or _data_url(image.media_type, image.data)
            detail = {"detail": image.detail} if image.detail else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
        case "audio":
            data = base64.b64encode(part.audio.data).decode()
            return {
                "type": "input_audio",
                "input_audio": {"data": data, "format": part.audio.format},
            }
        case "file":
            file = part.file
            found = {"file_id": file.file_id} if file.file_id else {}
            if file.filename:
                found["filename"] = file.filename
            if file.data:
                found["file_data"] = _data_url(file.media_type, file.data)
            return {"type": "file", "file": found}
        case "refusal":
            return {"type": "refusal", "refusal": part.refusal}
        case "opaque" if part.opaque.wire == "openai_chat":
            return _object(part.opaque.value_json, f"{path}.opaque.value_json")
        case "opaque":
            raise RelayError(
                "UNSUPPORTED_FEATURE",
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{path}: a part for {part.opaque.wire} cannot go to an OpenAI chat provider",
                details={"feature": f"a {part.opaque.wire} content part", "provider": "direct"},
            )
        case _:
            raise _invalid(path, "a part needs a kind")


def _past_call(call: ToolCall, path: str) -> dict[str, Any]:
    found = _object(call.extra_json, f"{path}.extra_json")
    found["id"] = call.call_id
    if call.kind == ToolKind.TOOL_KIND_CUSTOM:
        found |= {"type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    else:
        function = {"name": call.name, "arguments": call.arguments or "{}"}
        found |= {"type": "function", "function": function}
    return found


def _tool(tool: Tool, path: str) -> dict[str, Any]:
    if tool.opaque_json:
        return _object(tool.opaque_json, f"{path}.opaque_json")
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters_json:
        function["parameters"] = _object(tool.parameters_json, f"{path}.parameters_json")
    if tool.HasField("strict"):
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> Any:
    if choice.mode == ToolChoiceMode.TOOL_CHOICE_MODE_NAMED:
        return {"type": "function", "function": {"name": choice.name}}
    if choice.mode == ToolChoiceMode.TOOL_CHOICE_MODE_OPAQUE:
        return _json(choice.opaque_json, "prompt.tool_choice.opaque_json")
    word = _CHOICES.get(choice.mode)
    if word is None:
        raise _invalid("prompt.tool_choice.mode", "it is required")
    return word


def _response_format(wanted: ResponseFormat) -> dict[str, Any]:
    match wanted.kind:
        case ResponseFormatKind.RESPONSE_FORMAT_KIND_TEXT:
            return {"type": "text"}
        case ResponseFormatKind.RESPONSE_FORMAT_KIND_JSON_OBJECT:
            return {"type": "json_object"}
        case ResponseFormatKind.RESPONSE_FORMAT_KIND_JSON_SCHEMA:
            schema: dict[str, Any] = {"name": wanted.name or "answer"}
            if wanted.description:
                schema["description"] = wanted.description
            if wanted.schema_json:
                path = "prompt.response_format.schema_json"
                schema["schema"] = _object(wanted.schema_json, path)
            if wanted.HasField("strict"):
                schema["strict"] = wanted.strict
            return {"type": "json_schema", "json_schema": schema}
        case _:
            raise _invalid("prompt.response_format.kind", "it is required")


def _data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _json(data: bytes, path: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:  # UnicodeDecodeError among them
        raise _invalid(path, "it is no JSON") from None


def _object(data: bytes, path: str) -> dict[str, Any]:
    value = _json(data, path) if data else {}
    if not isinstance(value, dict):
        raise _invalid(path, "it is no JSON object")
    return value


def _invalid(path: str, message: str) -> RelayError:
    return RelayError(
        "INVALID_REQUEST",
        grpc.StatusCode.INVALID_ARGUMENT,
        f"start.{path}: {message}",
        details={"field": f"start.{path}"},
    )
