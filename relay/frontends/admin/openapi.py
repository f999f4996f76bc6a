"""The OpenAPI document of the administration, made of its routes.

Source: OpenAPI 3.1; JSON Schema 2020-12.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from relay import __version__
from relay.administration.roles import PERMISSIONS
from relay.frontends.admin.problems import PROBLEMS
from relay.frontends.admin.route import Route, Schema
from relay.frontends.admin.schemas import TEXT, thing

_FIELD: Final = {**TEXT, "description": "of the request, that is wrong"}
ERROR: Final = thing(
    {
        "error": {
            **thing(
                {
                    "code": {"type": "string", "enum": sorted(PROBLEMS)},
                    "message": TEXT,
                    "request_id": TEXT,
                    "field": _FIELD,
                },
                "code",
                "message",
                "request_id",
            )
        }
    },
    "error",
)
_ALWAYS: Final = (401, 403, 429, 500, 503)


def document(routes: Iterable[Route]) -> bytes:
    """As JSON."""
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "rtrelay administration",
                "version": __version__,
                "description": "Organisations, teams, keys, budgets, administrators, audit."
                " Money is whole micro-dollars, moments are microseconds since 1970. Each operation"
                " names the permission that it takes (x-permission) and the roles that have it"
                " (x-roles).",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "security": [{"administrator": []}],
            "paths": paths,
            "components": {
                "securitySchemes": {
                    "administrator": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "an administrator's token, rta_...",
                    }
                },
                "schemas": {"Error": ERROR},
            },
        }
    )


def _operation(route: Route) -> Schema:
    parameters: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": TEXT} for name in route.names
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in route.query.items()
    ]
    words = route.path.replace("{", "").replace("}", "").strip("/").split("/")
    found: Schema = {
        "operationId": "_".join([route.method.lower(), *words[1:]]).replace(".", "_"),
        "summary": route.summary,
        "parameters": parameters,
        "security": [{"administrator": []}],
        "x-permission": route.permission,
        "x-roles": sorted(PERMISSIONS.get(route.permission, ())),
        "responses": _responses(route),
    }
    if route.body is not None:
        content: Schema = {"schema": route.body, "example": dict(route.example)}
        is_needed = bool(route.body.get("required") or route.body.get("minProperties"))
        found["requestBody"] = {
            "required": is_needed,
            "content": {"application/json": content},
        }
    return found


def _responses(route: Route) -> Schema:
    done: Schema = {"description": "done"}
    if route.answer is not None:
        done["content"] = {route.content_type: {"schema": route.answer}}
    statuses = list(_ALWAYS)
    if route.names or route.body is not None or route.query:
        statuses += [400, 404]
    if route.method != "GET":
        statuses += [409, 413]
    found: Schema = {str(route.status): done}
    for status in sorted(statuses):
        content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
        codes = sorted(code for code, (number, _) in PROBLEMS.items() if number == status)
        found[str(status)] = {"description": ", ".join(codes), "content": content}
    return found
