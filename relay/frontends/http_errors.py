"""Errors as HTTP: the status, the OpenAI error object, and whether a client should try again.

The relay has already tried what it may, so its final failures carry `x-should-retry: false`; the
official clients would otherwise repeat each of them twice. Only what another worker or a moment
later can serve (a drain, too much to do, no free stream slot, a twin that is being answered) is
left to their judgement, and a limit of the caller's own that has room again after a while.
"""

from __future__ import annotations

import math
from http import HTTPStatus

import orjson

from relay.errors import Code, LimitReached, Reason, RelayError

_STATUS = {
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    Code.FAILED_PRECONDITION: HTTPStatus.TOO_MANY_REQUESTS,
    Code.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    Code.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    Code.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    Code.ABORTED: HTTPStatus.CONFLICT,
    Code.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    Code.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}

_STATUS_OF_REASON = {
    Reason.REQUEST_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Reason.UPSTREAM_PROTOCOL: HTTPStatus.BAD_GATEWAY,
    Reason.UPSTREAM_TRUNCATED: HTTPStatus.BAD_GATEWAY,
    Reason.UPSTREAM_EVENT_TOO_LARGE: HTTPStatus.BAD_GATEWAY,
    Reason.UPSTREAM_REDIRECT: HTTPStatus.BAD_GATEWAY,
    Reason.UPSTREAM_TLS: HTTPStatus.BAD_GATEWAY,
    Reason.GUARDRAIL_BLOCKED: HTTPStatus.BAD_REQUEST,
    Reason.CACHE_MISS: HTTPStatus.GATEWAY_TIMEOUT,  # as RFC 9111 says of only-if-cached
}

_TYPE = {
    HTTPStatus.BAD_REQUEST: "invalid_request_error",
    HTTPStatus.NOT_FOUND: "invalid_request_error",
    HTTPStatus.CONFLICT: "invalid_request_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "invalid_request_error",
    HTTPStatus.NOT_IMPLEMENTED: "invalid_request_error",
    HTTPStatus.METHOD_NOT_ALLOWED: "invalid_request_error",
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout_error",
}

_CODE_OF_REASON = {
    Reason.UNAUTHENTICATED: "invalid_api_key",
    Reason.UNKNOWN_MODEL: "model_not_found",
    Reason.UPSTREAM_MODEL_NOT_FOUND: "model_not_found",
    Reason.UPSTREAM_RATE_LIMITED: "rate_limit_exceeded",
    Reason.LIMIT_EXCEEDED: "rate_limit_exceeded",
    Reason.UPSTREAM_QUOTA_EXHAUSTED: "insufficient_quota",
    Reason.UPSTREAM_CONTENT_BLOCKED: "content_filter",
}
"""Codes that clients of OpenAI know and act on; other reasons are their own names in lower case."""

_WORTH_ANOTHER_TRY = frozenset({Reason.DRAINING, Reason.OVERLOADED, Reason.POOL_EXHAUSTED})


def http_status(error: RelayError) -> int:
    """The HTTP status of an error; 500 for what has no other."""
    by_reason = _STATUS_OF_REASON.get(error.reason)
    return int(by_reason or _STATUS.get(error.status_code, HTTPStatus.INTERNAL_SERVER_ERROR))


def error_object(error: RelayError, request_id: str) -> dict[str, object]:
    """`{"error": {...}}` as OpenAI clients read it, the relay's own facts under `x_relay`."""
    status = http_status(error)
    metadata = error.metadata
    return {
        "error": {
            "message": error.public_message,
            "type": "insufficient_quota"
            if error.reason is Reason.UPSTREAM_QUOTA_EXHAUSTED
            else _TYPE.get(HTTPStatus(status), "server_error")
            if status != 499
            else "cancelled",
            "param": metadata.get("field") or metadata.get("provider_param"),
            "code": _CODE_OF_REASON.get(error.reason, error.reason.name.lower()),
            "x_relay": relay_facts(error, request_id),
        }
    }


def relay_facts(error: RelayError, request_id: str) -> dict[str, object]:
    """What the relay itself knows of an error, and the provider's own words for it: `x_relay`."""
    facts: dict[str, object] = {"reason": error.reason.name, "request_id": request_id}
    for key in ("upstream_status", "provider_type", "provider_code"):
        if key in error.metadata:
            facts[key] = error.metadata[key]
    if error.retry_after_s is not None:
        facts["retry_after_ms"] = round(error.retry_after_s * 1000)
    return facts


def error_body(error: RelayError, request_id: str) -> bytes:
    """The error object as JSON."""
    return orjson.dumps(error_object(error, request_id))


def retry_headers(error: RelayError) -> list[tuple[bytes, bytes]]:
    """`x-should-retry` and, where the provider gave a hint, `retry-after`, and `retry-after-ms` for
    the clients that know it (OpenAI's, Anthropic's, the AI SDK): a hint of 250 ms is no second.
    With a 401, what would have let it in (RFC 9110 11.6.1)."""
    headers: list[tuple[bytes, bytes]] = []
    if error.status_code is Code.UNAUTHENTICATED:
        headers.append((b"www-authenticate", b'Bearer realm="rtrelay"'))
    is_held_up = error.status_code is Code.ABORTED  # by another request, which will be over soon
    has_room_later = isinstance(error, LimitReached) and error.is_worth_another_try
    if error.reason not in _WORTH_ANOTHER_TRY and not is_held_up and not has_room_later:
        headers.append((b"x-should-retry", b"false"))
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
        headers.append((b"retry-after-ms", b"%d" % max(1, math.ceil(1000 * error.retry_after_s))))
    return headers
