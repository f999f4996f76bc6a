"""The answers of the shim, as JSON Schema: what every client may count on, and every status."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

HEADERS: Final[dict[str, str]] = {
    "x-relay-request-id": "Of this request, in the relay's log too.",
    "x-relay-provider": "Who answered.",
    "x-relay-model": "The provider's own name of the model.",
    "x-relay-attempts": "How many attempts were started.",
    "x-relay-cache": "Whether a cache answered.",
    "server-timing": "The phases up to the first content.",
    "idempotent-replayed": "Where a repeat got the answer that its key had before.",
    **{
        f"x-ratelimit-{name}-{what}": f"Of the caller's {what} a minute, where they are limited;"
        f" /v1/messages has anthropic-ratelimit-{what}-{name}."
        for what in ("requests", "tokens")
        for name in ("limit", "remaining", "reset")
    },
}

STATUSES: Final[dict[str, str]] = {
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

_STRING: Final[Schema] = {"type": "string"}
_INTEGER: Final[Schema] = {"type": "integer"}
_WORD: Final[Schema] = {"type": ["string", "null"]}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}


def _object(**properties: Schema) -> Schema:
    """All of them are there; others may be."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_FACTS: Final[Schema] = {"type": "object", "required": ["reason", "request_id"]}
ERROR: Final = _object(
    error=_object(message=_STRING, type=_STRING, param=_WORD, code=_WORD, x_relay=_FACTS)
)
ANTHROPIC_ERROR: Final = _object(
    type={"const": "error"},
    error=_object(type=_STRING, message=_STRING, x_relay=_FACTS),
    request_id=_STRING,
)

_OPENAI_USAGE: Final = _object(prompt_tokens=_COUNT, total_tokens=_COUNT)
_CHAT: Final = _object(
    id=_STRING,
    object={"const": "chat.completion"},
    created=_INTEGER,
    model=_STRING,
    choices=_list(
        _object(
            index=_COUNT,
            message=_object(role={"const": "assistant"}, content=_WORD),
            finish_reason=_STRING,
        )
    ),
)
_COMPLETION: Final = _object(
    id=_STRING,
    object={"const": "text_completion"},
    created=_INTEGER,
    model=_STRING,
    choices=_list(_object(index=_COUNT, text=_STRING, finish_reason=_STRING)),
)
_EMBEDDINGS: Final = _object(
    object={"const": "list"},
    data=_list(
        _object(
            object={"const": "embedding"},
            index=_COUNT,
            embedding={"type": ["array", "string"]},
        )
    ),
    model=_STRING,
    usage=_OPENAI_USAGE,
)
RESPONSE: Final = _object(
    id=_STRING,
    object={"const": "response"},
    status={"enum": ["completed", "incomplete"]},
    model=_STRING,
    output=_list(_object(type=_STRING)),
    usage={"type": ["object", "null"]},
)
_MESSAGE: Final = _object(
    id=_STRING,
    type={"const": "message"},
    role={"const": "assistant"},
    model=_STRING,
    content=_list(_object(type=_STRING)),
    stop_reason=_STRING,
    usage=_object(input_tokens=_COUNT, output_tokens=_COUNT),
)
_TOKENS: Final = _object(input_tokens=_COUNT)

ANSWERS: Final[dict[str, Schema]] = {
    "/v1/chat/completions": _CHAT,
    "/v1/completions": _COMPLETION,
    "/v1/embeddings": _EMBEDDINGS,
    "/v1/responses": RESPONSE,
    "/v1/messages": _MESSAGE,
    "/v1/messages/count_tokens": _TOKENS,
}
"""By path, of a 200 that is no stream."""

FEEDBACK: Final = _object(
    object={"const": "feedback"}, request_id=_STRING, counts_for_experiment={"type": "boolean"}
)
MODEL: Final = _object(id=_STRING)
MODELS: Final = _object(data=_list(MODEL))
STATUS: Final = _object(status=_STRING)
DELETED: Final = _object(id=_STRING, object=_STRING, deleted={"const": True})
