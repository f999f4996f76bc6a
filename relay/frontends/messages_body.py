"""A body of Anthropic's Messages API, parsed into the neutral request.

As with chat bodies (`chat_body`): wrong types are refused with the path of the field, fields that
nobody knows are no error. They go on to providers of this very wire unread, and to no others
(`GenerateRequest.extra_wire`). What this API says in its own way and every wire can say (thinking,
structured output, parallel calls) is read into the neutral fields; `thinking` and what is left of
`output_config` stay beside them for Claude, in its own words.

Source: wire/anthropic-messages.md, section 2, and Anthropic's API reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from relay.content import (
    GenerateRequest,
    Policy,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Tool,
    ToolChoice,
    ToolChoiceMode,
)
from relay.errors import InvalidRequest
from relay.frontends.body_fields import (
    an_object,
    further,
    integer,
    number,
    required,
    said,
    typed,
)
from relay.frontends.chat_body import SAMPLING_RANGES
from relay.frontends.limits import (
    MAX_MESSAGES,
    MAX_STOPS,
    MAX_TOOLS,
    Allowance,
    check_count,
)
from relay.frontends.messages_content import WIRE, read_messages, read_system

MAX_TOKENS: Final = 10_000_000

_READ_HERE: Final = frozenset(
    {
        "model",
        "messages",
        "system",
        "max_tokens",
        "tools",
        "tool_choice",
        "stop_sequences",
        "temperature",
        "top_p",
        "top_k",
        "thinking",
        "output_config",
        "output_format",
        "metadata",
        "service_tier",
        "stream",
    }
)


_BETAS: Final = "anthropic_beta"
"""Where the codec of this wire looks for the client's own `anthropic-beta`."""

_TOOL_KEYS: Final = frozenset(
    {"type", "name", "description", "input_schema", "strict", "cache_control"}
)

_EFFORTS: Final[Mapping[str, str]] = {"xhigh": "high", "max": "high"}
"""What other wires are told; Claude gets the client's own word."""

_ADAPTIVE_BUDGET: Final = 8192
"""What other wires are told of thinking that sets its own measure: a budget, since those that know
none leave it out, where an effort would be refused by models that do not reason."""

_CHOICES: Final[Mapping[str, ToolChoiceMode]] = {
    "auto": ToolChoiceMode.AUTO,
    "any": ToolChoiceMode.REQUIRED,
    "none": ToolChoiceMode.NONE,
    "tool": ToolChoiceMode.NAMED,
}


def to_request(
    body: Mapping[str, Any],
    policy: Policy | None = None,
    *,
    betas: Sequence[str] = (),
    needs_limit: bool = True,
) -> GenerateRequest:
    """The neutral request of a decoded body.

    Args:
        betas: names of the client's `anthropic-beta`.
        needs_limit: whether `max_tokens` must be there, as it must to make a message.

    Raises:
        InvalidRequest: a field is missing or wrong; `field` is its path.
    """
    model = required(body, "model", str)
    if needs_limit:
        required(body, "max_tokens", int)
    messages = required(body, "messages", list)
    if not messages:
        raise InvalidRequest("messages must not be empty", field="messages")
    check_count(len(messages), MAX_MESSAGES, "messages")
    allowance = Allowance()
    thinking = typed(body, "thinking", dict)
    config = typed(body, "output_config", dict) or {}
    choice, is_parallel = _tool_choice(body)
    return GenerateRequest(
        model=model,
        messages=(
            *read_system(body.get("system"), allowance),
            *read_messages(messages, allowance),
        ),
        tools=_tools(body),
        tool_choice=choice,
        parallel_tool_calls=is_parallel,
        response_format=_response_format(body, config),
        sampling=_sampling(body),
        reasoning=_reasoning(thinking, config),
        service_tier=_service_tier(body),
        user=_user_id(body),
        want_reasoning=_is_shown(thinking),
        extra=_extra(body, thinking, config, betas),
        extra_wire=WIRE,
        policy=policy or Policy(),
    )


def _extra(
    body: Mapping[str, Any],
    thinking: Mapping[str, Any] | None,
    config: Mapping[str, Any],
    betas: Sequence[str],
) -> dict[str, Any]:
    extra = {key: value for key, value in further(body, _READ_HERE).items() if value is not None}
    own_config = {key: value for key, value in config.items() if key != "format"}
    if thinking:
        extra["thinking"] = thinking
    if own_config:
        extra["output_config"] = own_config
    if betas:
        extra[_BETAS] = list(betas)
    return extra


# --- scalars ----------------------------------------------------------------------------------


def _sampling(body: Mapping[str, Any]) -> Sampling:
    stops = typed(body, "stop_sequences", list) or []
    check_count(len(stops), MAX_STOPS, "stop_sequences")
    if not all(isinstance(stop, str) for stop in stops):
        raise InvalidRequest("stop_sequences must be an array of strings", field="stop_sequences")
    return Sampling(
        temperature=number(body, "temperature", *SAMPLING_RANGES["temperature"]),
        top_p=number(body, "top_p", *SAMPLING_RANGES["top_p"]),
        top_k=integer(body, "top_k", *SAMPLING_RANGES["top_k"]),
        max_output_tokens=integer(body, "max_tokens", 1, MAX_TOKENS),
        stop=tuple(stops),
    )


def _service_tier(body: Mapping[str, Any]) -> str:
    tier = typed(body, "service_tier", str) or ""
    return "default" if tier == "standard_only" else tier


def _user_id(body: Mapping[str, Any]) -> str:
    metadata = typed(body, "metadata", dict) or {}
    return typed(metadata, "user_id", str, "metadata") or ""


# --- thinking and shape -----------------------------------------------------------------------


def _is_shown(thinking: Mapping[str, Any] | None) -> bool:
    """Whether the client asked to see what the model thinks."""
    if thinking is None or thinking.get("display") == "omitted":
        return False
    return thinking.get("type") != "disabled"


def _reasoning(thinking: Mapping[str, Any] | None, config: Mapping[str, Any]) -> ReasoningOptions:
    """What other wires than this one are told."""
    effort = typed(config, "effort", str, "output_config") or ""
    effort = _EFFORTS.get(effort, effort)
    if thinking is None:
        return ReasoningOptions(effort)
    match required(thinking, "type", str, "thinking"):
        case "disabled":
            return ReasoningOptions(budget_tokens=0)
        case "enabled":
            budget = integer(thinking, "budget_tokens", 1, MAX_TOKENS, "thinking")
            if budget is None:
                field = "thinking.budget_tokens"
                raise InvalidRequest(f"{field} is required", field=field)
            return ReasoningOptions(budget_tokens=budget)
        case _:  # adaptive, between_tools, and what is to come
            return ReasoningOptions(effort, None if effort else _ADAPTIVE_BUDGET)


def _response_format(body: Mapping[str, Any], config: Mapping[str, Any]) -> ResponseFormat | None:
    """`output_config.format`, or the older `output_format`."""
    path = "output_config.format"
    shape = typed(config, "format", dict, "output_config")
    if shape is None:
        path = "output_format"
        shape = typed(body, "output_format", dict)
    if shape is None:
        return None
    if shape.get("type") != "json_schema":
        raise InvalidRequest(f"{path}.type must be json_schema", field=f"{path}.type")
    schema = required(shape, "schema", dict, path)
    return ResponseFormat(
        "json_schema",
        schema_json=orjson.dumps(schema),
        strict=True if _is_closed(schema) else None,
    )


def _is_closed(schema: object) -> bool:
    """Whether a schema is one that OpenAI decodes strictly, as Anthropic does every schema: its
    objects are closed and all that they hold is required."""
    if isinstance(schema, list):
        return all(_is_closed(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        names = properties if isinstance(properties, dict) else {}
        needed = schema.get("required")
        if schema.get("additionalProperties") is not False:
            return False
        if not isinstance(needed, list) or any(name not in needed for name in names):
            return False
    return all(_is_closed(value) for value in schema.values())


# --- tools ------------------------------------------------------------------------------------


def _tools(body: Mapping[str, Any]) -> tuple[Tool, ...]:
    tools = typed(body, "tools", list) or []
    check_count(len(tools), MAX_TOOLS, "tools")
    return tuple(
        _tool(an_object(item, f"tools[{at}]"), f"tools[{at}]") for at, item in enumerate(tools)
    )


def _tool(item: Mapping[str, Any], path: str) -> Tool:
    if (typed(item, "type", str, path) or "custom") != "custom":
        # Of the provider's own: it runs there, or the model knows it by its type.
        return Tool(typed(item, "name", str, path) or "", opaque=item, opaque_wire=WIRE)
    schema = required(item, "input_schema", dict, path)
    is_read = not said(item) - _TOOL_KEYS
    return Tool(
        name=required(item, "name", str, path),
        description=typed(item, "description", str, path) or "",
        parameters_json=orjson.dumps(schema),
        strict=typed(item, "strict", bool, path),
        cache_control=typed(item, "cache_control", dict, path) or None,
        opaque=None if is_read else item,
        opaque_wire=WIRE,
    )


def _tool_choice(body: Mapping[str, Any]) -> tuple[ToolChoice | None, bool | None]:
    """The choice, and whether calls may be parallel (None: as the provider does)."""
    given = typed(body, "tool_choice", dict)
    if given is None:
        return None, None
    mode = _CHOICES.get(required(given, "type", str, "tool_choice"))
    if mode is None:
        raise InvalidRequest(
            "tool_choice.type must be auto, any, tool or none", field="tool_choice.type"
        )
    name = required(given, "name", str, "tool_choice") if mode is ToolChoiceMode.NAMED else ""
    is_single = typed(given, "disable_parallel_tool_use", bool, "tool_choice")
    return ToolChoice(mode, name=name), None if is_single is None else not is_single
