"""An OpenAI Responses body, parsed into the neutral request and what its answer repeats of it.

Fields that another API has too go where every wire finds them. Those that only this API has go to
providers of this API alone (`GenerateRequest.native`), and hosted tools likewise, which others
refuse by name. Fields that nobody knows are let through and reach nobody.

Source: OpenAI's Responses reference and the wire notes, mid 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from relay.content import (
    GenerateRequest,
    Policy,
    ReasoningOptions,
    ResponseFormat,
    Role,
    Sampling,
    Tool,
    ToolChoice,
    ToolChoiceMode,
)
from relay.errors import InvalidRequest
from relay.frontends.body_fields import integer, needed, number, text, typed, wrong
from relay.frontends.chat_body import SAMPLING_RANGES
from relay.frontends.limits import MAX_TOOLS, Allowance, check_count
from relay.frontends.responses_input import WIRE, InputReader

LOGPROBS: Final = "message.output_text.logprobs"

_CHAT_TOO: Final = ("safety_identifier", "prompt_cache_retention")
"""Fields that Chat calls the same."""

_NATIVE: Final = (
    "context_management",
    "include",
    "max_tool_calls",
    "metadata",
    "stream_options",
    "truncation",
)
"""Fields of this API alone that go on as they are."""

_MAX_METADATA: Final = 16
_MAX_METADATA_CHARS: Final = 512
_MAX_TOKENS: Final = 10_000_000
_WORDS: Final = frozenset({"auto", "none", "required"})
_SECRET_TOOL_FIELDS: Final = frozenset({"authorization", "headers"})
"""Of tools at another server: never repeated."""


class Earlier(NamedTuple):
    """What an earlier response and those before it were asked and answered, in order."""

    items: tuple[bytes, ...]
    """JSON arrays of items."""


class ResponsesRequest(NamedTuple):
    """One body, read."""

    request: GenerateRequest
    echo: dict[str, Any]
    """What every snapshot of the response repeats."""
    input_items: list[Any]
    """The request's own items."""
    wants_logprobs: bool
    store: bool
    """The client lets its response be kept."""


def previous_response_id(body: Mapping[str, Any]) -> str:
    """Empty for none.

    Raises:
        InvalidRequest: it is no string.
    """
    return text(body, "previous_response_id")


def to_request(
    body: Mapping[str, Any], policy: Policy, earlier: Earlier | None = None
) -> ResponsesRequest:
    """The neutral request of a decoded body.

    Args:
        earlier: the conversation that `previous_response_id` names.

    Raises:
        InvalidRequest: a field is missing or wrong, or cannot be had here; `field` is its path.
    """
    _refuse_what_needs_a_server(body)
    model = needed(body, "model")
    allowance = Allowance()
    reader = InputReader(allowance)
    instructions = text(body, "instructions")
    if instructions:
        reader.say(Role.SYSTEM, instructions)
    for piece in earlier.items if earlier else ():
        allowance.take_json(piece, "previous_response_id")
        reader.read(orjson.loads(piece), "previous_response_id")
    items = _input(body.get("input"), is_needed=earlier is None)
    reader.read(items, "input")
    include = _include(body)
    wants_logprobs = LOGPROBS in include
    sampling = Sampling(
        temperature=number(body, "temperature", *SAMPLING_RANGES["temperature"]),
        top_p=number(body, "top_p", *SAMPLING_RANGES["top_p"]),
        max_output_tokens=integer(body, "max_output_tokens", 1, _MAX_TOKENS),
        logprobs=True if wants_logprobs else None,
    )
    top_logprobs = integer(body, "top_logprobs", *SAMPLING_RANGES["top_logprobs"])
    if wants_logprobs:
        sampling = _with_top(sampling, top_logprobs)
    reasoning = typed(body, "reasoning", dict) or {}
    effort = text(reasoning, "effort", "reasoning")
    summary = text(reasoning, "summary", "reasoning") or text(
        reasoning, "generate_summary", "reasoning"
    )
    shape = typed(body, "text", dict) or {}
    verbosity = text(shape, "verbosity", "text")
    tools = _tools(body)
    extra = {name: body[name] for name in _CHAT_TOO if body.get(name) is not None}
    if verbosity:
        extra["verbosity"] = verbosity
    native = {name: body[name] for name in _NATIVE if body.get(name) is not None}
    if reasoning:
        native["reasoning"] = {k: v for k, v in reasoning.items() if v is not None}
    request = GenerateRequest(
        model=model,
        messages=reader.messages(),
        tools=tools,
        tool_choice=_tool_choice(body.get("tool_choice")),
        parallel_tool_calls=typed(body, "parallel_tool_calls", bool),
        response_format=_format(shape),
        sampling=sampling,
        reasoning=ReasoningOptions(effort=effort),
        service_tier=text(body, "service_tier"),
        user=text(body, "user"),
        prompt_cache_key=text(body, "prompt_cache_key"),
        # Thoughts that nobody asked to see are no answer yet.
        want_reasoning=bool(summary),
        extra=extra,
        native={WIRE: native} if native else {},
        policy=policy,
    )
    if not request.messages:
        raise wrong("input", "must be a string or a non-empty array of items")
    echo = _echo(body, request, summary, top_logprobs or 0)
    store = typed(body, "store", bool) is not False
    return ResponsesRequest(request, echo, items, wants_logprobs, store)


def _refuse_what_needs_a_server(body: Mapping[str, Any]) -> None:
    if typed(body, "background", bool):
        raise wrong("background", "is not supported: the relay answers while the client waits")
    if body.get("conversation") is not None:
        raise wrong(
            "conversation", "is not supported: send its items as input, or a previous_response_id"
        )
    if body.get("prompt") is not None:
        raise wrong("prompt", "is not supported: send instructions and input")


def _input(value: object, *, is_needed: bool) -> list[Any]:
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    if value is None and not is_needed:
        return []
    if not isinstance(value, list) or (is_needed and not value):
        raise wrong("input", "must be a string or a non-empty array of items")
    return value


def _include(body: Mapping[str, Any]) -> list[str]:
    given = typed(body, "include", list) or []
    if not all(isinstance(one, str) for one in given):
        raise wrong("include", "must be an array of strings")
    return given


def _with_top(sampling: Sampling, top_logprobs: int | None) -> Sampling:
    return Sampling(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_output_tokens=sampling.max_output_tokens,
        logprobs=True,
        top_logprobs=top_logprobs,
    )


# --- tools and shape ------------------------------------------------------------------------------


def _tools(body: Mapping[str, Any]) -> tuple[Tool, ...]:
    tools = typed(body, "tools", list) or []
    check_count(len(tools), MAX_TOOLS, "tools")
    return tuple(_tool(item, f"tools[{at}]") for at, item in enumerate(tools))


def _tool(item: object, path: str) -> Tool:
    if not isinstance(item, dict):
        raise wrong(path, "must be an object")
    kind = needed(item, "type", path)
    if kind == "custom":
        return Tool(name=needed(item, "name", path), opaque=_custom_of_chat(item))
    if kind != "function":
        return Tool(name="", opaque=item, opaque_wire=WIRE)
    parameters = typed(item, "parameters", dict, path)
    return Tool(
        name=needed(item, "name", path),
        description=text(item, "description", path),
        parameters_json=b"" if parameters is None else orjson.dumps(parameters),
        strict=typed(item, "strict", bool, path),
    )


def _custom_of_chat(item: Mapping[str, Any]) -> dict[str, Any]:
    """A tool that takes free text, as Chat writes it: other wires know it so, or refuse it."""
    inner = {key: item[key] for key in ("name", "description") if item.get(key) is not None}
    shape = item.get("format")
    if isinstance(shape, Mapping):
        kind = shape.get("type")
        if kind == "grammar":
            grammar = {key: shape[key] for key in ("syntax", "definition") if key in shape}
            inner["format"] = {"type": kind, "grammar": grammar}
        else:
            inner["format"] = dict(shape)
    return {"type": "custom", "custom": inner}


def _tool_choice(value: object) -> ToolChoice | None:
    if value is None:
        return None
    if isinstance(value, str):
        if value not in _WORDS:
            raise wrong("tool_choice", "must be auto, none, required or an object")
        return ToolChoice(ToolChoiceMode(value))
    if not isinstance(value, dict):
        raise wrong("tool_choice", "must be a string or an object")
    if text(value, "type", "tool_choice") == "function":
        return ToolChoice(ToolChoiceMode.NAMED, name=needed(value, "name", "tool_choice"))
    return ToolChoice(ToolChoiceMode.OPAQUE, opaque=_choice_of_chat(value))


def _choice_of_chat(value: Mapping[str, Any]) -> dict[str, Any]:
    """A choice of tools with the inner objects that Chat has."""
    kind = value.get("type")
    if kind in ("function", "custom") and isinstance(value.get("name"), str):
        return {"type": kind, kind: {"name": value["name"]}}
    if kind == "allowed_tools":
        tools = value.get("tools")
        if not isinstance(tools, list) or not all(isinstance(one, dict) for one in tools):
            raise wrong("tool_choice.tools", "must be an array of objects")
        inner = {"mode": value.get("mode"), "tools": [_choice_of_chat(one) for one in tools]}
        return {"type": kind, kind: inner}
    return dict(value)


def _format(shape: Mapping[str, Any]) -> ResponseFormat | None:
    value = typed(shape, "format", dict, "text")
    if value is None:
        return None
    path = "text.format"
    kind = value.get("type")
    if kind == "text":
        return ResponseFormat("text")
    if kind == "json_object":
        return ResponseFormat("json_object")
    if kind != "json_schema":
        raise InvalidRequest(
            f"{path}.type must be text, json_object or json_schema", field=f"{path}.type"
        )
    schema = typed(value, "schema", dict, path)
    return ResponseFormat(
        "json_schema",
        name=text(value, "name", path),
        description=text(value, "description", path),
        schema_json=b"" if schema is None else orjson.dumps(schema),
        strict=typed(value, "strict", bool, path),
    )


# --- what the answer repeats ----------------------------------------------------------------------


def _echo(
    body: Mapping[str, Any], request: GenerateRequest, summary: str, top_logprobs: int
) -> dict[str, Any]:
    """Every field that a response has beside its answer, with this API's defaults."""
    shape = body.get("text") or {}
    choice = body.get("tool_choice")
    temperature, top_p = request.sampling.temperature, request.sampling.top_p
    return {
        "background": False,
        "instructions": body.get("instructions") or None,
        "max_output_tokens": request.sampling.max_output_tokens,
        "max_tool_calls": integer(body, "max_tool_calls", 1, _MAX_TOKENS),
        "metadata": _metadata(body),
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": previous_response_id(body) or None,
        "prompt_cache_key": request.prompt_cache_key or None,
        "reasoning": {"effort": request.reasoning.effort or None, "summary": summary or None},
        "safety_identifier": text(body, "safety_identifier") or None,
        "temperature": 1.0 if temperature is None else temperature,
        "text": {**shape, "format": shape.get("format") or {"type": "text"}},
        "tool_choice": "auto" if choice is None else choice,
        "tools": [_without_secrets(tool) for tool in body.get("tools") or ()],
        "top_logprobs": top_logprobs,
        "top_p": 1.0 if top_p is None else top_p,
        "truncation": text(body, "truncation") or "disabled",
        "user": request.user or None,
    }


def _without_secrets(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tool.items() if key not in _SECRET_TOOL_FIELDS}


def _metadata(body: Mapping[str, Any]) -> dict[str, Any]:
    given = typed(body, "metadata", dict) or {}
    check_count(len(given), _MAX_METADATA, "metadata")
    for key, value in given.items():
        if not isinstance(value, str) or len(value) > _MAX_METADATA_CHARS:
            raise wrong("metadata", f"must have texts of at most {_MAX_METADATA_CHARS} characters")
        if len(key) > _MAX_METADATA_CHARS:
            raise wrong("metadata", f"has a key of more than {_MAX_METADATA_CHARS} characters")
    return given
