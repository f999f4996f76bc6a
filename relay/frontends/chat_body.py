"""An OpenAI chat body, parsed into the neutral request.

Used by the HTTP shim and by gRPC starts that carry such a body. Wrong types are refused with the
path of the field; top-level fields we do not know go on to OpenAI-compatible wires unread, so that
a provider's new feature works on the day it appears. A caller can name no host and no key here.
What there may be many of is counted before it is built (`limits`); whoever decodes a body counts
its values before that (`Allowance.take_json`).

Source: OpenAI Chat Completions request, and the clients listed in the wire notes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from relay.content import (
    NO_SAMPLING,
    AudioPart,
    FilePart,
    GenerateRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    Policy,
    ReasoningOptions,
    RefusalPart,
    ResponseFormat,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
)
from relay.errors import InvalidRequest
from relay.frontends.body_fields import further, integer, number, said, typed
from relay.frontends.legacy_functions import as_tools, uses_functions
from relay.frontends.limits import (
    MAX_MESSAGES,
    MAX_NODES,
    MAX_STOPS,
    MAX_TOOLS,
    Allowance,
    check_count,
)

WIRE = "openai_chat"
MAX_CHOICES = 8
MAX_DEPTH = 64
"""Of nested JSON: deeper is nobody's request and somebody's attack."""

KnownPart = TextPart | ImagePart | AudioPart | FilePart | RefusalPart

_PLAIN_KEYS = frozenset({"model", "messages", "stream", "stream_options", "user"})
"""Top-level fields beside those of `Sampling` of a request that only talks."""
_SAMPLING_KEYS = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "seed",
        "n",
        "presence_penalty",
        "frequency_penalty",
        "logprobs",
        "top_logprobs",
    }
)
_TALKS_ALONE = _PLAIN_KEYS | _SAMPLING_KEYS
READ_HERE = _TALKS_ALONE | {
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "service_tier",
    "prompt_cache_key",
}
"""Top-level fields that are no further ones."""

_MESSAGE_KEYS = frozenset(
    {"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "reasoning_content"}
)
_CALL_KEYS = frozenset({"id", "type", "function", "custom", "index"})
_TOOL_KEYS = frozenset({"type", "function", "cache_control"})
_FUNCTION_KEYS = frozenset({"name", "description", "parameters", "strict", "cache_control"})

_SAID_IN_EACH_PIECE = ("format", "id")
"""Of an entry of `reasoning_details`."""
_MAX_REPEATED_CHARS = 16_384


_PLAIN_MESSAGE = {"role", "content"}
_NO_POLICY = Policy()


def decode_json(
    body: bytes, max_nodes: int = MAX_NODES, *, nodes: int | None = None
) -> dict[str, Any]:
    """The body as a JSON object of at most so many values.

    Args:
        nodes: how many it holds at most, where they have been counted.

    Raises:
        InvalidRequest: no JSON, no object, or nested too deep.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            f"the body is not valid JSON (line {error.lineno}, column {error.colno})"
        ) from None
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    if nodes is None or nodes > MAX_DEPTH:  # each level is a value: so few are never too deep
        check_depth(document, "the body", max_nodes=max_nodes)
    return document


def check_depth(
    document: object, what: str, field: str = "", *, max_nodes: int = MAX_NODES
) -> None:
    """
    Raises:
        InvalidRequest: nested deeper than MAX_DEPTH (what is deeper cannot be sent on either), or
            more than `max_nodes` values.
    """
    level: list[object] = [document]
    seen = 0
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
            elif isinstance(value, list):
                below += value
        if not below:
            return
        seen += len(below)
        if seen > max_nodes:
            raise InvalidRequest(f"{what} holds more than {max_nodes} JSON values", field=field)
        level = below
    raise InvalidRequest(f"{what} is nested deeper than {MAX_DEPTH} levels", field=field)


def to_request(body: Mapping[str, Any], policy: Policy | None = None) -> GenerateRequest:
    """The neutral request of a decoded body.

    Raises:
        InvalidRequest: a field is missing or wrong; `field` is its path.
    """
    talks_alone = body.keys() <= _TALKS_ALONE  # most do, and need not be asked for all the rest
    prefers_one_call = uses_functions(body)
    body = as_tools(body)
    model = typed(body, "model", str)
    if not model:
        raise InvalidRequest("model is required", field="model")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("messages must be a non-empty array", field="messages")
    check_count(len(messages), MAX_MESSAGES, "messages")
    allowance = Allowance()
    read = tuple([_message(item, i, allowance) for i, item in enumerate(messages)])
    extra = (
        {}
        if talks_alone
        else {key: value for key, value in further(body, READ_HERE).items() if value is not None}
    )
    if options := _stream_options(body.get("stream_options")):
        extra["stream_options"] = options
    if talks_alone:
        return GenerateRequest(
            model=model,
            messages=read,
            sampling=_sampling(body),
            user=typed(body, "user", str) or "",
            extra=extra,
            policy=policy or _NO_POLICY,
        )
    return GenerateRequest(
        model=model,
        messages=read,
        tools=_tools(body),
        tool_choice=_tool_choice(body.get("tool_choice")),
        parallel_tool_calls=typed(body, "parallel_tool_calls", bool),
        prefers_one_call=prefers_one_call,
        response_format=_response_format(body.get("response_format")),
        sampling=_sampling(body),
        reasoning=ReasoningOptions(effort=typed(body, "reasoning_effort", str) or ""),
        service_tier=typed(body, "service_tier", str) or "",
        user=typed(body, "user", str) or "",
        prompt_cache_key=typed(body, "prompt_cache_key", str) or "",
        extra=extra,
        policy=policy or _NO_POLICY,
    )


# --- scalars ----------------------------------------------------------------------------------


SAMPLING_RANGES: Mapping[str, tuple[int, int]] = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "top_k": (-1, 1_000_000),
    "presence_penalty": (-100, 100),
    "frequency_penalty": (-100, 100),
    "top_logprobs": (0, 100),
}
"""Wide enough for every provider; beyond is a mistake that some of them answer with nonsense."""


_MAX_TOKENS = 10_000_000


def _sampling(body: Mapping[str, Any]) -> Sampling:
    if _SAMPLING_KEYS.isdisjoint(body):
        return NO_SAMPLING
    limit = integer(body, "max_completion_tokens", 1, _MAX_TOKENS)
    if limit is None:
        limit = integer(body, "max_tokens", 1, _MAX_TOKENS)
    stop = body.get("stop")
    if stop is None:
        stops: tuple[str, ...] = ()
    elif isinstance(stop, str):
        stops = (stop,)
    elif isinstance(stop, list) and all(isinstance(item, str) for item in stop):
        check_count(len(stop), MAX_STOPS, "stop")
        stops = tuple(stop)
    else:
        raise InvalidRequest("stop must be a string or an array of strings", field="stop")
    return Sampling(
        temperature=number(body, "temperature", *SAMPLING_RANGES["temperature"]),
        top_p=number(body, "top_p", *SAMPLING_RANGES["top_p"]),
        top_k=integer(body, "top_k", *SAMPLING_RANGES["top_k"]),
        max_output_tokens=limit,
        stop=stops,
        seed=integer(body, "seed", -(2**63), 2**64 - 1),
        choices=integer(body, "n", 1, MAX_CHOICES),
        presence_penalty=number(body, "presence_penalty", *SAMPLING_RANGES["presence_penalty"]),
        frequency_penalty=number(body, "frequency_penalty", *SAMPLING_RANGES["frequency_penalty"]),
        logprobs=typed(body, "logprobs", bool),
        top_logprobs=integer(body, "top_logprobs", *SAMPLING_RANGES["top_logprobs"]),
    )


def _stream_options(value: object) -> dict[str, Any]:
    """What is asked of the provider there, beside usage, which it is always asked for."""
    if not isinstance(value, dict):
        return {}  # refused where streams are read
    return {k: v for k, v in value.items() if k != "include_usage" and v is not None}


# --- messages ---------------------------------------------------------------------------------

_ROLES = {role.value: role for role in Role} | {"function": Role.TOOL}


def _message(item: object, at: int, allowance: Allowance) -> Message:
    if type(item) is dict and item.keys() == _PLAIN_MESSAGE:
        role_name, content = item["role"], item["content"]
        if type(content) is str and type(role_name) is str and role_name in _ROLES:
            return Message(_ROLES[role_name], (TextPart(content),))
    path = f"messages[{at}]"
    if not isinstance(item, dict):
        raise InvalidRequest(f"{path} must be an object", field=path)
    role_name = item.get("role")
    role = _ROLES.get(role_name) if isinstance(role_name, str) else None
    if role is None:
        raise InvalidRequest(
            f"{path}.role must be one of {', '.join(sorted(_ROLES))}", field=f"{path}.role"
        )
    parts = _parts(item.get("content"), f"{path}.content", allowance)
    refusal = typed(item, "refusal", str, path)
    if refusal:
        parts = (*parts, RefusalPart(refusal))
    calls = item.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise InvalidRequest(f"{path}.tool_calls must be an array", field=f"{path}.tool_calls")
    if calls:
        allowance.take_calls(len(calls), f"{path}.tool_calls")
    return Message(
        role=role,
        parts=parts,
        name=typed(item, "name", str, path) or "",
        tool_calls=tuple(
            _tool_call(call, f"{path}.tool_calls[{i}]") for i, call in enumerate(calls or ())
        ),
        tool_call_id=typed(item, "tool_call_id", str, path) or "",
        reasoning=typed(item, "reasoning_content", str, path) or "",
        extra=_message_extra(item),
    )


def _message_extra(item: Mapping[str, Any]) -> dict[str, Any]:
    extra = {k: v for k, v in item.items() if k not in _MESSAGE_KEYS and v is not None}
    if isinstance(details := extra.get("reasoning_details"), list):
        extra["reasoning_details"] = [_said_once(entry) for entry in details]
    return extra


def _said_once(entry: object) -> object:
    """An entry without what clients do to it that put pieces of one together, as OpenAI's own does:
    they join its texts, and with them the words that each piece repeats."""
    if not isinstance(entry, dict):
        return entry
    mended: dict[str, str] = {}
    for name in _SAID_IN_EACH_PIECE:
        word = entry.get(name)
        if isinstance(word, str) and 0 < len(word) <= _MAX_REPEATED_CHARS:
            period = (word + word).find(word, 1)  # the length of the word, unless it repeats
            if period < len(word):
                mended[name] = word[:period]
    return {**entry, **mended} if mended else entry


def _parts(content: object, path: str, allowance: Allowance) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextPart(content),)
    if not isinstance(content, list):
        raise InvalidRequest(f"{path} must be a string or an array of parts", field=path)
    allowance.take_parts(len(content), path)
    return tuple(_part(item, f"{path}[{i}]") for i, item in enumerate(content))


def _part(item: object, path: str) -> Part:
    if not isinstance(item, dict):
        raise InvalidRequest(f"{path} must be an object", field=path)
    kind = item.get("type")
    if not isinstance(kind, str):
        raise InvalidRequest(f"{path}.type must be a string", field=f"{path}.type")
    reader = _PART_READERS.get(kind)
    if reader is None:
        return OpaquePart(WIRE, item)
    if len(item) > 2:
        beside = said(item) - {"type", kind}
        if beside == {"cache_control"}:
            return replace(reader(item, path), cache_control=_cache_mark(item, path))
        if beside:  # a part with fields that we do not read goes on whole
            return OpaquePart(WIRE, item)
    return reader(item, path)


def _cache_mark(item: Mapping[str, Any], path: str) -> Mapping[str, Any] | None:
    return typed(item, "cache_control", dict, path) or None


def _text_part(item: Mapping[str, Any], path: str) -> KnownPart:
    text = item.get("text")
    if not isinstance(text, str):
        raise InvalidRequest(f"{path}.text must be a string", field=f"{path}.text")
    return TextPart(text)


def _refusal_part(item: Mapping[str, Any], path: str) -> KnownPart:
    text = item.get("refusal")
    if not isinstance(text, str):
        raise InvalidRequest(f"{path}.refusal must be a string", field=f"{path}.refusal")
    return RefusalPart(text)


def _inner(item: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
    inner = item.get(key)
    if not isinstance(inner, dict):
        raise InvalidRequest(f"{path}.{key} must be an object", field=f"{path}.{key}")
    return inner


def _image_part(item: Mapping[str, Any], path: str) -> KnownPart:
    inner = _inner(item, "image_url", path)
    path = f"{path}.image_url"
    url = typed(inner, "url", str, path)
    if not url:
        raise InvalidRequest(f"{path}.url is required", field=f"{path}.url")
    detail = typed(inner, "detail", str, path) or ""
    if url.startswith("data:"):
        head, separator, data = url[5:].partition(",")
        media_type, _, encoding = head.partition(";")
        if not separator or encoding != "base64":
            raise InvalidRequest(f"{path}.url: a data URL must be base64", field=f"{path}.url")
        return ImagePart(data_base64=data, media_type=known_type(media_type), detail=detail)
    if not url.startswith(("https://", "http://")):
        raise InvalidRequest(f"{path}.url must be an http(s) or data URL", field=f"{path}.url")
    return ImagePart(url=url, detail=detail)


def known_type(media_type: str) -> str:
    """A media type as providers know it: they refuse `image/jpg`, which many clients write."""
    media_type = media_type.strip().lower()
    return "image/jpeg" if media_type == "image/jpg" else media_type


def _audio_part(item: Mapping[str, Any], path: str) -> KnownPart:
    inner = _inner(item, "input_audio", path)
    path = f"{path}.input_audio"
    data = typed(inner, "data", str, path)
    sound = typed(inner, "format", str, path)
    if not data or not sound:
        raise InvalidRequest(f"{path} needs data and format", field=path)
    return AudioPart(data, sound)


def _file_part(item: Mapping[str, Any], path: str) -> KnownPart:
    inner = _inner(item, "file", path)
    path = f"{path}.file"
    data = typed(inner, "file_data", str, path) or ""
    media_type = ""
    if data.startswith("data:"):
        head, _, data = data[5:].partition(",")
        media_type = known_type(head.partition(";")[0])
    return FilePart(
        file_id=typed(inner, "file_id", str, path) or "",
        filename=typed(inner, "filename", str, path) or "",
        data_base64=data,
        media_type=media_type,
    )


_PART_READERS: Mapping[str, Callable[[Mapping[str, Any], str], KnownPart]] = {
    "text": _text_part,
    "refusal": _refusal_part,
    "image_url": _image_part,
    "input_audio": _audio_part,
    "file": _file_part,
}


def _tool_call(item: object, path: str) -> ToolCall:
    if not isinstance(item, dict):
        raise InvalidRequest(f"{path} must be an object", field=path)
    extra = {k: v for k, v in item.items() if k not in _CALL_KEYS and v is not None}
    call_id = typed(item, "id", str, path) or ""
    if item.get("type") == "custom":
        inner = _inner(item, "custom", path)
        return ToolCall(
            call_id=call_id,
            name=typed(inner, "name", str, f"{path}.custom") or "",
            arguments=typed(inner, "input", str, f"{path}.custom") or "",
            kind="custom",
            extra=extra,
        )
    inner = _inner(item, "function", path)
    name = typed(inner, "name", str, f"{path}.function")
    if not name:
        raise InvalidRequest(f"{path}.function.name is required", field=f"{path}.function.name")
    arguments = inner.get("arguments")
    if isinstance(arguments, dict):  # some frameworks keep them parsed
        arguments = orjson.dumps(arguments).decode()
    if arguments is not None and not isinstance(arguments, str):
        raise InvalidRequest(
            f"{path}.function.arguments must be a string", field=f"{path}.function.arguments"
        )
    return ToolCall(call_id=call_id, name=name, arguments=arguments or "", extra=extra)


# --- tools and formats ------------------------------------------------------------------------


def _tools(body: Mapping[str, Any]) -> tuple[Tool, ...]:
    tools = body.get("tools")
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise InvalidRequest("tools must be an array", field="tools")
    check_count(len(tools), MAX_TOOLS, "tools")
    return tuple(_tool(item, f"tools[{i}]") for i, item in enumerate(tools))


def _tool(item: object, path: str) -> Tool:
    if not isinstance(item, dict):
        raise InvalidRequest(f"{path} must be an object", field=path)
    if _function_kind(item, path) != "function":
        return Tool(name="", opaque=item)
    inner = _inner(item, "function", path)
    outer, path = path, f"{path}.function"
    name = typed(inner, "name", str, path)
    if not name:
        raise InvalidRequest(f"{path}.name is required", field=f"{path}.name")
    if said(item) - _TOOL_KEYS or said(inner) - _FUNCTION_KEYS:
        whole = {"type": "function", **_without_nulls(item), "function": _without_nulls(inner)}
        return Tool(name=name, opaque=whole)
    parameters = typed(inner, "parameters", dict, path)
    return Tool(
        name=name,
        description=typed(inner, "description", str, path) or "",
        parameters_json=b"" if parameters is None else orjson.dumps(parameters),
        strict=typed(inner, "strict", bool, path),
        cache_control=_cache_mark(item, outer) or _cache_mark(inner, path),
    )


def _without_nulls(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if value is not None}


def _function_kind(item: Mapping[str, Any], path: str) -> str:
    """The type of a tool or a choice; one that holds a function is one, said or not."""
    kind = typed(item, "type", str, path)
    return kind or ("function" if "function" in item else "")


def _tool_choice(value: object) -> ToolChoice | None:
    if value is None:
        return None
    if isinstance(value, str):
        if value not in ("auto", "none", "required"):
            raise InvalidRequest(
                "tool_choice must be auto, none, required or an object", field="tool_choice"
            )
        return ToolChoice(ToolChoiceMode(value))
    if not isinstance(value, dict):
        raise InvalidRequest("tool_choice must be a string or an object", field="tool_choice")
    if _function_kind(value, "tool_choice") == "function":
        name = _inner(value, "function", "tool_choice").get("name")
        if not isinstance(name, str) or not name:
            raise InvalidRequest(
                "tool_choice.function.name is required", field="tool_choice.function.name"
            )
        return ToolChoice(ToolChoiceMode.NAMED, name=name)
    return ToolChoice(ToolChoiceMode.OPAQUE, opaque=value)


def _response_format(value: object) -> ResponseFormat | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidRequest("response_format must be an object", field="response_format")
    kind = value.get("type")
    if kind == "text":
        return ResponseFormat("text")
    if kind == "json_object":
        return ResponseFormat("json_object")
    if kind != "json_schema":
        raise InvalidRequest(
            "response_format.type must be text, json_object or json_schema",
            field="response_format.type",
        )
    inner = _inner(value, "json_schema", "response_format")
    path = "response_format.json_schema"
    schema = typed(inner, "schema", dict, path)
    return ResponseFormat(
        "json_schema",
        name=typed(inner, "name", str, path) or "",
        description=typed(inner, "description", str, path) or "",
        schema_json=b"" if schema is None else orjson.dumps(schema),
        strict=typed(inner, "strict", bool, path),
    )
