"""The OpenAPI document of the shim, served at `/openapi.json`.

It says which paths there are, what each needs, and what can come back. The bodies are OpenAI's and
Anthropic's: their own references describe every field, and unknown ones are let through, so what
stands here is what the relay itself reads or refuses.

Source: OpenAPI 3.1; JSON Schema 2020-12.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

import orjson

from relay import __version__

Schema = dict[str, Any]

_MAX_LABEL: Final = 256
_MS: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 86_400_000}
_TEXT: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": _MAX_LABEL}

_POLICY_HEADERS: Final[dict[str, tuple[Schema, str]]] = {
    "x-relay-route": (_TEXT, "The alias to use in place of the body's model."),
    "x-relay-tags": ({"type": "string"}, "Tags, with commas between them."),
    "x-relay-session-id": (_TEXT, "Turns of one session stay where their prompt cache is."),
    "x-relay-turn-id": (_TEXT, "Yours, for logs."),
    "x-relay-hedge": (
        {"type": "string", "pattern": "^(off|auto|race|[1-9][0-9]{0,7})$"},
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
    "x-relay-timeline": (
        {"enum": ["true", "false"]},
        "Adds the whole timeline and the attempts to usage, as x_relay.",
    ),
    "idempotency-key": (
        _TEXT,
        "Yours, for this very request: a repeat gets the same answer and costs nothing.",
    ),
    "traceparent": ({"type": "string"}, "W3C trace context."),
}

_ANSWER_HEADERS: Final[dict[str, str]] = {
    "x-relay-request-id": "Of this request, in the relay's log too.",
    "x-relay-provider": "Who answered.",
    "x-relay-model": "The provider's own name of the model.",
    "x-relay-attempts": "How many attempts were started.",
    "x-relay-cache": "Whether a cache answered.",
    "server-timing": "The phases up to the first content.",
    "idempotent-replayed": "Where a repeat got the answer that its key had before.",
}

_STATUSES: Final[dict[str, str]] = {
    "400": "A field is missing or wrong, or the provider found the request wrong.",
    "401": "The key is not valid.",
    "403": "The key may not do this.",
    "404": "There is no such model, or no such path.",
    "405": "Another method is needed.",
    "408": "The request did not come in time.",
    "409": "In conflict with another request.",
    "413": "The body, or what it holds, is too large.",
    "429": "A rate limit, of the provider or the relay; retry-after where it is known.",
    "499": "The client went away.",
    "500": "A bug of the relay's.",
    "501": "A part of the contract that this version does not serve.",
    "502": "The provider answered with what is no answer.",
    "503": "No provider can answer now, or the relay is shutting down.",
    "504": "A time limit has passed.",
}

_ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
                "x_relay": {"type": "object"},
            },
        }
    },
}
_ANTHROPIC_ERROR: Final[Schema] = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
    },
}

_MODEL: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "description": "An alias, `provider/model`, or a model that one provider lists.",
}
_MESSAGES: Final[Schema] = {
    "type": "array",
    "minItems": 1,
    "maxItems": 10_000,
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {
            "role": {"enum": ["system", "developer", "user", "assistant", "tool", "function"]},
            "content": {
                "anyOf": [
                    {"type": "string"},
                    {"type": "null"},
                    {"type": "array", "items": {"type": "object", "required": ["type"]}},
                ]
            },
        },
    },
}
_TURNS: Final[Schema] = {
    **_MESSAGES,
    "items": {
        "type": "object",
        "required": ["role", "content"],
        "properties": {
            "role": {"enum": ["user", "assistant"]},
            "content": {
                "anyOf": [
                    {"type": "string"},
                    {"type": "array", "items": {"type": "object", "required": ["type"]}},
                ]
            },
        },
    },
}
_CHAT: Final[Schema] = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": _MODEL,
        "messages": _MESSAGES,
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {"type": ["object", "null"]},
        "tools": {"type": ["array", "null"], "items": {"type": "object"}},
        "tool_choice": {"type": ["string", "object", "null"]},
        "response_format": {"type": ["object", "null"]},
        "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 8},
        "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 100},
        "top_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "max_completion_tokens": {"type": ["integer", "null"], "minimum": 1},
        "max_tokens": {"type": ["integer", "null"], "minimum": 1},
        "stop": {"type": ["string", "array", "null"]},
        "seed": {"type": ["integer", "null"]},
        "user": {"type": ["string", "null"]},
        "relay": {"type": ["object", "null"], "description": "The x-relay-* headers as fields."},
    },
}
_COMPLETION: Final[Schema] = {
    "type": "object",
    "required": ["model", "prompt"],
    "properties": {
        "model": _MODEL,
        "prompt": {"type": ["string", "array"]},
        "stream": {"type": ["boolean", "null"]},
        "echo": {"type": ["boolean", "null"]},
    },
}
_EMBEDDINGS: Final[Schema] = {
    "type": "object",
    "required": ["model", "input"],
    "properties": {
        "model": _MODEL,
        "input": {"type": ["string", "array"]},
        "dimensions": {"type": ["integer", "null"], "minimum": 1},
        "encoding_format": {"enum": ["float", "base64", None]},
        "user": {"type": ["string", "null"]},
    },
}
_RESPONSES: Final[Schema] = {
    "type": "object",
    "required": ["model"],
    "properties": {
        "model": _MODEL,
        "input": {"type": ["string", "array"]},
        "instructions": {"type": ["string", "null"]},
        "stream": {"type": ["boolean", "null"]},
        "tools": {"type": ["array", "null"], "items": {"type": "object"}},
        "previous_response_id": {"type": ["string", "null"]},
        "store": {"type": ["boolean", "null"]},
    },
}
_ANTHROPIC: Final[Schema] = {
    "type": "object",
    "required": ["model", "max_tokens", "messages"],
    "properties": {
        "model": _MODEL,
        "max_tokens": {"type": "integer", "minimum": 1},
        "messages": _TURNS,
        "system": {"type": ["string", "array"]},
        "stream": {"type": ["boolean", "null"]},
    },
}
_COUNT: Final[Schema] = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {"model": _MODEL, "messages": _TURNS},
}

_HELLO: Final[Schema] = {"messages": [{"role": "user", "content": "Hello"}]}
_POSTS: Final[dict[str, tuple[str, Schema, Schema]]] = {
    "/v1/chat/completions": ("OpenAI's chat", _CHAT, _HELLO),
    "/v1/completions": ("OpenAI's legacy completions", _COMPLETION, {"prompt": "Hello"}),
    "/v1/embeddings": ("Vectors of texts", _EMBEDDINGS, {"input": "Hello"}),
    "/v1/responses": ("OpenAI's Responses", _RESPONSES, {"input": "Hello"}),
    "/v1/messages": ("Anthropic's Messages", _ANTHROPIC, {"max_tokens": 100, **_HELLO}),
    "/v1/messages/count_tokens": ("Tokens of an Anthropic prompt", _COUNT, _HELLO),
}
"""What it is, its body, and what an example holds beside the model."""
_KEPT: Final = "/v1/responses/{id}"
"""Served where responses are kept."""
_WITHOUT_STREAM: Final = ("/v1/embeddings", "/v1/messages/count_tokens")
_ANTHROPIC_PATHS: Final = ("/v1/messages", "/v1/messages/count_tokens")


def openapi_json(paths: Container[str], model: str) -> bytes:
    """The document of a shim.

    Args:
        paths: that it serves.
        model: one that can be asked for, in examples.
    """
    found: dict[str, Any] = {}
    for path, (summary, body, example) in _POSTS.items():
        if path in paths:
            found[path] = {"post": _post(path, summary, body, {"model": model, **example})}
    found["/v1/models"] = {"get": _get("What can be asked for", "400", "405", "500")}
    named: Schema = {
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    }
    found["/v1/models/{id}"] = {**named, "get": _get("One model", "400", "404", "405", "500")}
    if _KEPT in paths:
        found[_KEPT] = {
            **named,
            "get": _get("A response that is kept", "404", "405", "500"),
            "delete": _get("Forget it", "404", "405", "500"),
        }
    found["/healthz"] = {"get": _get("The process lives", "405")}
    found["/readyz"] = {"get": _get("New work is welcome", "405", "503")}
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "rtrelay",
                "version": __version__,
                "description": "One relay in front of many LLM providers. Bodies are those of the"
                " APIs named; unknown fields are let through.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "security": [{}, {"bearer": []}],
            "paths": found,
            "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        }
    )


def _post(path: str, summary: str, body: Schema, example: Schema) -> Schema:
    content: Schema = {"application/json": {"schema": {"type": "object"}}}
    if path not in _WITHOUT_STREAM:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    error = _ANTHROPIC_ERROR if path in _ANTHROPIC_PATHS else _ERROR
    return {
        "summary": summary,
        "parameters": [
            {"name": name, "in": "header", "description": words, "schema": schema}
            for name, (schema, words) in _POLICY_HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body, "example": example}},
        },
        "responses": {
            "200": {
                "description": "The answer; with stream: true as server-sent events.",
                "headers": {
                    name: {"description": words, "schema": {"type": "string"}}
                    for name, words in _ANSWER_HEADERS.items()
                },
                "content": content,
            },
            **{status: _failure(words, error) for status, words in _STATUSES.items()},
        },
    }


def _get(summary: str, *statuses: str) -> Schema:
    return {
        "summary": summary,
        "responses": {
            "200": {
                "description": "So it is.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            **{status: _failure(_STATUSES[status], {}) for status in statuses},
        },
    }


def _failure(words: str, schema: Schema) -> Schema:
    return {"description": words, "content": {"application/json": {"schema": schema}}}
