"""The bodies and headers that the shim takes, as JSON Schema.

No mirror of the vendors' references: what stands here is what the relay itself reads or refuses.
Unknown fields are let through, and so are kinds of parts, items and tools that are not listed, as
far as the provider's wire is the client's own.
"""

from __future__ import annotations

from typing import Any, Final

from relay.frontends.chat_body import MAX_CHOICES, SAMPLING_RANGES
from relay.frontends.limits import MAX_LABEL_CHARS, MAX_TAGS
from relay.frontends.surfaces.embeddings import MAX_DIMENSIONS
from relay.governance.feedback import MAX_COMMENT_CHARS, MAX_ID_CHARS
from relay.governance.feedback import MAX_LABEL_CHARS as MAX_LABEL_CHARS_OF_FEEDBACK

Schema = dict[str, Any]

# --- pieces -----------------------------------------------------------------------------------

_STRING: Final[Schema] = {"type": "string"}
_FILLED: Final[Schema] = {"type": "string", "minLength": 1}
_FLAG: Final[Schema] = {"type": ["boolean", "null"]}
_WORD: Final[Schema] = {"type": ["string", "null"]}
_OBJECT: Final[Schema] = {"type": ["object", "null"]}
_TOKENS: Final[Schema] = {"type": ["integer", "null"], "minimum": 1, "maximum": 10_000_000}
_WEB: Final[Schema] = {"type": "string", "pattern": "^https?://[!-~]+$"}
_NULL: Final[Schema] = {"type": "null"}

_MODEL: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "description": "An alias, `provider/model`, or a model that one provider lists.",
}


def _object(required: list[str], /, **properties: Schema) -> Schema:
    return {"type": "object", "required": required, "properties": properties}


def _kind(name: str, required: list[str], /, **properties: Schema) -> Schema:
    return _object(["type", *required], type={"const": name}, **properties)


def _list(items: Schema, least: int = 0) -> Schema:
    """The most that it may hold is in `limits`, far beyond what anybody sends."""
    return {"type": "array", "minItems": least, "items": items}


def _any(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def _range(name: str, kind: str = "number") -> Schema:
    low, high = SAMPLING_RANGES[name]
    return {"type": [kind, "null"], "minimum": low, "maximum": high}


# --- headers ----------------------------------------------------------------------------------

_LABEL: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": MAX_LABEL_CHARS}
_SECONDS: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 604_800}
_MS: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 86_400_000}
_TAG: Final = f"[!-+.-~-]{{1,{MAX_LABEL_CHARS}}}"
"""Visible characters but the comma."""

POLICY_HEADERS: Final[dict[str, tuple[Schema, str]]] = {
    "x-relay-route": (_LABEL, "The alias to use in place of the body's model."),
    "x-relay-tags": (
        {"type": "string", "pattern": f"^{_TAG}(,{_TAG}){{0,{MAX_TAGS - 1}}}$"},
        "Tags, with commas between them.",
    ),
    "x-relay-session-id": (_LABEL, "Turns of one session stay where their prompt cache is."),
    "x-relay-turn-id": (_LABEL, "Yours, for logs."),
    "x-relay-class": (
        {"enum": ["interactive", "batch"]},
        "What can wait is batch: a relay with too much to do refuses it first.",
    ),
    "x-relay-hedge": (
        {"type": "string", "pattern": "^(off|auto|race|[1-9][0-9]{0,6})$"},
        "Less or sooner hedging: off, auto, race, or milliseconds.",
    ),
    "x-relay-commit-on": (
        {"enum": ["first_content", "first_segment"]},
        "What decides a race: the first content, or the first sentence.",
    ),
    "x-relay-first-token-ms": (_MS, "From receipt to the first content."),
    "x-relay-first-segment-ms": (_MS, "From receipt to the first text that can be spoken whole."),
    "x-relay-inter-token-ms": (_MS, "The longest silence after that."),
    "x-relay-total-ms": (_MS, "From receipt to the end."),
    "x-relay-prompt-cache": ({"enum": ["auto", "off"]}, "Whether cache breakpoints are placed."),
    "x-relay-cache": (
        {"enum": ["off", "refresh", "only"]},
        "Of kept answers: none, a new one in place of the old, or a kept one or 504.",
    ),
    "x-relay-cache-ttl-s": (
        _SECONDS,
        "How old a kept answer may be, and how long a new one is kept.",
    ),
    "x-relay-timeline": (
        {"enum": ["true", "false"]},
        "Adds the whole timeline and the attempts to usage, as x_relay.",
    ),
    "idempotency-key": (
        _LABEL,
        "Yours, for this very request: a repeat gets the same answer and costs nothing.",
    ),
    "traceparent": (_STRING, "W3C trace context."),
}

_PREFIX: Final = "x-relay-"
_RELAY: Final[Schema] = {
    "type": ["object", "null"],
    "description": "The x-relay-* headers as fields, for clients that set none.",
    "properties": {
        name.removeprefix(_PREFIX).replace("-", "_"): schema
        for name, (schema, _) in POLICY_HEADERS.items()
        if name.startswith(_PREFIX)
    },
    "additionalProperties": False,
}

# --- OpenAI's chat and completions --------------------------------------------------------------

_PART: Final = _any(
    _kind("text", ["text"], text=_STRING),
    _kind("image_url", ["image_url"], image_url=_object(["url"], url=_WEB)),
    _kind(
        "input_audio",
        ["input_audio"],
        input_audio=_object(["data", "format"], data=_FILLED, format=_FILLED),
    ),
    _kind("file", ["file"], file=_object(["file_id"], file_id=_FILLED)),
)
_SAID: Final = _any(_STRING, _list(_kind("text", ["text"], text=_STRING), 1))
_CALL: Final = _kind(
    "function",
    ["id", "function"],
    id=_FILLED,
    function=_object(["name", "arguments"], name=_FILLED, arguments=_STRING),
)
_MESSAGES: Final = _list(
    _any(
        _object(["role", "content"], role={"enum": ["system", "developer"]}, content=_SAID),
        _object(
            ["role", "content"],
            role={"const": "user"},
            content=_any(_STRING, _list(_PART, 1)),
        ),
        _object(
            ["role"],
            role={"const": "assistant"},
            content=_any(_SAID, _NULL),
            refusal=_WORD,
            tool_calls=_list(_CALL, 1),
        ),
        _object(
            ["role", "content", "tool_call_id"],
            role={"const": "tool"},
            content=_SAID,
            tool_call_id=_FILLED,
        ),
    ),
    1,
)
_FUNCTION: Final = _kind(
    "function",
    ["function"],
    function=_object(
        ["name"],
        name=_FILLED,
        description=_WORD,
        parameters=_OBJECT,
        strict=_FLAG,
    ),
)
_SHAPE: Final = _any(
    _NULL,
    _kind("text", []),
    _kind("json_object", []),
    _kind(
        "json_schema",
        ["json_schema"],
        json_schema=_object(["name"], name=_FILLED, schema=_OBJECT, strict=_FLAG),
    ),
)
_STOP: Final = _any(_NULL, _STRING, _list(_STRING))
_STREAM: Final[dict[str, Schema]] = {
    "stream": _FLAG,
    "stream_options": {
        **_OBJECT,
        "description": "With `stream: true` only.",
        "properties": {"include_usage": _FLAG},
    },
}
_NEEDS_STREAM: Final[Schema] = {
    "if": {"properties": {"stream_options": {"type": "object"}}, "required": ["stream_options"]},
    "then": {"properties": {"stream": {"const": True}}, "required": ["stream"]},
}
_CHAT: Final[Schema] = {
    **_object(
        ["model", "messages"],
        model=_MODEL,
        messages=_MESSAGES,
        **_STREAM,
        tools=_any(_NULL, _list(_FUNCTION)),
        tool_choice=_any(
            {"enum": ["auto", "none", "required", None]},
            _kind("function", ["function"], function=_object(["name"], name=_FILLED)),
        ),
        parallel_tool_calls=_FLAG,
        response_format=_SHAPE,
        n={"type": ["integer", "null"], "minimum": 1, "maximum": MAX_CHOICES},
        temperature=_range("temperature"),
        top_p=_range("top_p"),
        presence_penalty=_range("presence_penalty"),
        frequency_penalty=_range("frequency_penalty"),
        logprobs=_FLAG,
        max_completion_tokens=_TOKENS,
        max_tokens=_TOKENS,
        stop=_STOP,
        seed={"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1},
        reasoning_effort=_WORD,
        user=_WORD,
        relay=_RELAY,
    ),
    **_NEEDS_STREAM,
}
_COMPLETION: Final[Schema] = {
    **_object(
        ["model", "prompt"],
        model=_MODEL,
        prompt=_any(_FILLED, {**_list(_FILLED, 1), "maxItems": 1}),
        **_STREAM,
        echo=_FLAG,
        max_tokens=_TOKENS,
        temperature=_range("temperature"),
        stop=_STOP,
        relay=_RELAY,
    ),
    **_NEEDS_STREAM,
}
_TOKEN: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_EMBEDDINGS: Final = _object(
    ["model", "input"],
    model=_MODEL,
    input=_any(
        _FILLED,
        _list(_FILLED, 1),
        {"type": "array", "minItems": 1, "items": _TOKEN},
        _list({"type": "array", "minItems": 1, "items": _TOKEN}, 1),
    ),
    dimensions={"type": ["integer", "null"], "minimum": 1, "maximum": MAX_DIMENSIONS},
    encoding_format={"enum": ["float", "base64", None]},
    user=_WORD,
    relay=_RELAY,
)

# --- OpenAI's Responses -------------------------------------------------------------------------

_INPUT_TEXT: Final = _kind("input_text", ["text"], text=_STRING)
_INPUT_PART: Final = _any(
    _INPUT_TEXT,
    _kind("input_image", ["image_url"], image_url=_WEB),
)
_ITEM: Final = _any(
    _object(
        ["role", "content"],
        role={"const": "user"},
        content=_any(_STRING, _list(_INPUT_PART, 1)),
    ),
    _object(
        ["role", "content"],
        role={"enum": ["system", "developer"]},
        content=_any(_STRING, _list(_INPUT_TEXT, 1)),
    ),
    _object(["role", "content"], role={"const": "assistant"}, content=_STRING),
    _kind(
        "function_call",
        ["call_id", "name", "arguments"],
        call_id=_FILLED,
        name=_FILLED,
        arguments=_STRING,
    ),
    _kind("function_call_output", ["call_id", "output"], call_id=_FILLED, output=_STRING),
)
_RESPONSES: Final = _object(
    ["model", "input"],
    model=_MODEL,
    input=_any(_STRING, _list(_ITEM, 1)),
    instructions=_WORD,
    stream=_FLAG,
    tools=_any(
        _NULL,
        _list(
            _kind(
                "function",
                ["name"],
                name=_FILLED,
                description=_WORD,
                parameters=_OBJECT,
                strict=_FLAG,
            ),
        ),
    ),
    tool_choice=_any(
        {"enum": ["auto", "none", "required", None]},
        _kind("function", ["name"], name=_FILLED),
    ),
    parallel_tool_calls=_FLAG,
    temperature=_range("temperature"),
    top_p=_range("top_p"),
    max_output_tokens=_TOKENS,
    store=_FLAG,
    previous_response_id={
        **_WORD,
        "description": "Of a response that is kept; `input` may then be left out.",
    },
    relay=_RELAY,
)

# --- Anthropic's Messages -----------------------------------------------------------------------

_TEXT_BLOCK: Final = _kind("text", ["text"], text=_STRING)
_IMAGE_BLOCK: Final = _kind(
    "image",
    ["source"],
    source=_any(
        _kind("url", ["url"], url=_WEB),
        _kind(
            "base64",
            ["media_type", "data"],
            media_type={"enum": ["image/png", "image/jpeg"]},
            data=_FILLED,
        ),
    ),
)
_TURNS: Final = _list(
    _any(
        _object(
            ["role", "content"],
            role={"const": "user"},
            content=_any(
                _STRING,
                _list(
                    _any(
                        _TEXT_BLOCK,
                        _IMAGE_BLOCK,
                        _kind(
                            "tool_result",
                            ["tool_use_id"],
                            tool_use_id=_FILLED,
                            content=_any(_STRING, _list(_TEXT_BLOCK)),
                            is_error=_FLAG,
                        ),
                    ),
                    1,
                ),
            ),
        ),
        _object(
            ["role", "content"],
            role={"const": "assistant"},
            content=_any(
                _STRING,
                _list(
                    _any(
                        _TEXT_BLOCK,
                        _kind(
                            "tool_use",
                            ["id", "name", "input"],
                            id=_FILLED,
                            name=_FILLED,
                            input={"type": "object"},
                        ),
                    ),
                    1,
                ),
            ),
        ),
    ),
    1,
)
_COUNT_FIELDS: Final[dict[str, Schema]] = {
    "model": _MODEL,
    "messages": _TURNS,
    "system": _any(_NULL, _STRING, _list(_TEXT_BLOCK)),
    "tools": _any(
        _NULL,
        _list(
            _object(
                ["name", "input_schema"],
                name=_FILLED,
                description=_WORD,
                input_schema={"type": "object"},
            ),
        ),
    ),
    "relay": _RELAY,
}
_COUNT: Final = _object(["model", "messages"], **_COUNT_FIELDS)
_ANTHROPIC: Final = _object(
    ["model", "max_tokens", "messages"],
    **_COUNT_FIELDS,
    max_tokens={**_TOKENS, "type": "integer"},
    stream=_FLAG,
    stop_sequences=_any(_NULL, _list(_STRING)),
    temperature=_range("temperature"),
    top_p=_range("top_p"),
    top_k=_range("top_k", "integer"),
    tool_choice=_any(
        _NULL,
        _kind("auto", []),
        _kind("any", []),
        _kind("none", []),
        _kind("tool", ["name"], name=_FILLED),
    ),
    thinking=_any(
        _NULL,
        _kind("disabled", []),
        _kind("adaptive", []),
        _kind("enabled", ["budget_tokens"], budget_tokens={**_TOKENS, "type": "integer"}),
    ),
)

FEEDBACK: Final[Schema] = {
    **_object(
        ["request_id"],
        request_id={
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_ID_CHARS,
            "description": "x-relay-request-id of the answer.",
        },
        score={
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": 1,
            "description": "How good it was; this or a label is needed.",
        },
        label={"type": ["string", "null"], "maxLength": MAX_LABEL_CHARS_OF_FEEDBACK},
        comment={"type": ["string", "null"], "maxLength": MAX_COMMENT_CHARS},
    ),
    "additionalProperties": False,
}

# --- all of them ------------------------------------------------------------------------------

_HELLO: Final[Schema] = {"messages": [{"role": "user", "content": "Hello"}]}

POSTS: Final[dict[str, tuple[str, Schema, Schema]]] = {
    "/v1/chat/completions": ("OpenAI's chat", _CHAT, _HELLO),
    "/v1/completions": ("OpenAI's legacy completions", _COMPLETION, {"prompt": "Hello"}),
    "/v1/embeddings": ("Vectors of texts", _EMBEDDINGS, {"input": "Hello"}),
    "/v1/responses": ("OpenAI's Responses", _RESPONSES, {"input": "Hello"}),
    "/v1/messages": ("Anthropic's Messages", _ANTHROPIC, {"max_tokens": 100, **_HELLO}),
    "/v1/messages/count_tokens": ("Tokens of an Anthropic prompt", _COUNT, _HELLO),
}
"""What it is, its body, and what an example holds beside the model."""
