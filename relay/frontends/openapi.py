"""The OpenAPI document of the shim, served at `/openapi.json`.

It says which paths there are, what each needs (`openapi_requests`), and what can come back
(`openapi_answers`).

Source: OpenAPI 3.1; JSON Schema 2020-12.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

import orjson

from relay import __version__
from relay.frontends.openapi_answers import (
    ANSWERS,
    ANTHROPIC_ERROR,
    DELETED,
    ERROR,
    FEEDBACK,
    HEADERS,
    MODEL,
    MODELS,
    RESPONSE,
    STATUS,
    STATUSES,
)
from relay.frontends.openapi_requests import FEEDBACK as FEEDBACK_BODY
from relay.frontends.openapi_requests import POLICY_HEADERS, POSTS

Schema = dict[str, Any]

_KEPT: Final = "/v1/responses/{id}"
"""Served where responses are kept."""
_FEEDBACK: Final = "/v1/feedback"
_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
}
_KEYS: Final[list[Schema]] = [{name: []} for name in _SCHEMES]
_WITHOUT_STREAM: Final = ("/v1/embeddings", "/v1/messages/count_tokens")
_FEEDBACK_STATUSES: Final = ("400", "405", "408", "413", "429", "499", "500", "503")
_ANTHROPIC_PATHS: Final = ("/v1/messages", "/v1/messages/count_tokens")


def openapi_json(paths: Container[str], model: str, *, needs_keys: bool = False) -> bytes:
    """The document of a shim.

    Args:
        paths: that it serves.
        model: one that can be asked for, in examples.
        needs_keys: it lets nobody in without one.
    """
    found: dict[str, Any] = {}
    refusals = ("401", "403", "429", "503") if needs_keys else ()
    for path, (summary, body, example) in POSTS.items():
        if path in paths:
            found[path] = {"post": _post(path, summary, body, {"model": model, **example})}
    found["/v1/models"] = {
        "get": _get("What can be asked for", MODELS, *refusals, "400", "405", "500")
    }
    found["/v1/models/{id}"] = {
        **_named(model),
        "get": _get("One model", MODEL, *refusals, "400", "404", "405", "500"),
    }
    if _KEPT in paths:
        found[_KEPT] = {
            **_named("resp_1"),
            "get": _get("A response that is kept", RESPONSE, *refusals, "404", "405", "500"),
            "delete": _get("Forget it", DELETED, *refusals, "404", "405", "500"),
        }
    if _FEEDBACK in paths:
        found[_FEEDBACK] = {"post": _feedback(*refusals)}
    found["/healthz"] = {"get": _get("The process lives", STATUS, "405")}
    found["/readyz"] = {"get": _get("New work is welcome", STATUS, "405", "503")}
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
            "security": _KEYS if needs_keys else [{}, *_KEYS],
            "paths": found,
            "components": {"securitySchemes": _SCHEMES},
        }
    )


def _named(example: str) -> Schema:
    schema = {"type": "string", "minLength": 1}
    named = {"name": "id", "in": "path", "required": True, "schema": schema, "example": example}
    return {"parameters": [named]}


def _post(path: str, summary: str, body: Schema, example: Schema) -> Schema:
    content: Schema = {"application/json": {"schema": ANSWERS[path]}}
    if path not in _WITHOUT_STREAM:
        content["text/event-stream"] = {"schema": {"description": "The API's own events."}}
    error = ANTHROPIC_ERROR if path in _ANTHROPIC_PATHS else ERROR
    return {
        "summary": summary,
        "parameters": [
            {"name": name, "in": "header", "description": words, "schema": schema}
            for name, (schema, words) in POLICY_HEADERS.items()
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
                    for name, words in HEADERS.items()
                },
                "content": content,
            },
            **{status: _failure(words, error) for status, words in STATUSES.items()},
        },
    }


def _feedback(*refusals: str) -> Schema:
    told = _get("What a user thinks of an answer", FEEDBACK, *_FEEDBACK_STATUSES, *refusals)
    example = {"request_id": "req_1", "score": 1.0, "label": "thumbs_up"}
    content = {"application/json": {"schema": FEEDBACK_BODY, "example": example}}
    return {**told, "requestBody": {"required": True, "content": content}}


def _get(summary: str, answer: Schema, *statuses: str) -> Schema:
    return {
        "summary": summary,
        "responses": {
            "200": {
                "description": "So it is.",
                "content": {"application/json": {"schema": answer}},
            },
            **{status: _failure(STATUSES[status], {}) for status in statuses},
        },
    }


def _failure(words: str, schema: Schema) -> Schema:
    return {"description": words, "content": {"application/json": {"schema": schema}}}
