"""Errors in the shape of Anthropic's API: its types, and the relay's own facts under `x_relay`.

The status is the one that every surface gives (`http_errors`): an overloaded provider is 503 with
type `overloaded_error`, not Anthropic's own 529, which proxies between here and the client do not
know. Clients of either kind act on it alike, and on `x-should-retry` before both.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import orjson

from relay.errors import Reason, RelayError
from relay.frontends.http_errors import http_status, relay_facts

_TYPE_OF_REASON: Final[Mapping[Reason, str]] = {
    Reason.UPSTREAM_QUOTA_EXHAUSTED: "billing_error",
    Reason.UPSTREAM_OVERLOADED: "overloaded_error",
    Reason.DRAINING: "overloaded_error",
    Reason.OVERLOADED: "overloaded_error",
    Reason.POOL_EXHAUSTED: "overloaded_error",
    Reason.BREAKER_OPEN: "overloaded_error",
}

_TYPE: Final[Mapping[int, str]] = {
    HTTPStatus.BAD_REQUEST: "invalid_request_error",
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.METHOD_NOT_ALLOWED: "invalid_request_error",
    HTTPStatus.REQUEST_TIMEOUT: "timeout_error",
    HTTPStatus.CONFLICT: "invalid_request_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.NOT_IMPLEMENTED: "invalid_request_error",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout_error",
}
"""`api_error` for every other status."""


def error_type(error: RelayError) -> str:
    """Anthropic's word for an error."""
    by_reason = _TYPE_OF_REASON.get(error.reason)
    return by_reason or _TYPE.get(http_status(error), "api_error")


def error_body(error: RelayError, request_id: str) -> bytes:
    """The error object as JSON."""
    facts = relay_facts(error, request_id)
    if field := error.metadata.get("field"):
        facts["field"] = field
    value = {
        "type": "error",
        "error": {
            "type": error_type(error),
            "message": error.public_message,
            "x_relay": facts,
        },
        "request_id": request_id,
    }
    return orjson.dumps(value)
