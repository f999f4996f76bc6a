"""Failures of an OpenAI chat provider as the errors that the relay would give. No I/O."""

from __future__ import annotations

import json
from typing import Any

import grpc

from rtrelay.errors import RelayError

_Code = grpc.StatusCode
_BY_STATUS: dict[int, tuple[str, grpc.StatusCode]] = {
    400: ("UPSTREAM_REJECTED", _Code.INVALID_ARGUMENT),
    # The application's own key, which it must mend: the callers of the agent cannot.
    401: ("UPSTREAM_MISCONFIGURED", _Code.UNAVAILABLE),
    402: ("UPSTREAM_QUOTA_EXHAUSTED", _Code.FAILED_PRECONDITION),
    403: ("UPSTREAM_PERMISSION_DENIED", _Code.PERMISSION_DENIED),
    404: ("UPSTREAM_MODEL_NOT_FOUND", _Code.NOT_FOUND),
    413: ("UPSTREAM_REJECTED", _Code.INVALID_ARGUMENT),
    422: ("UPSTREAM_REJECTED", _Code.INVALID_ARGUMENT),
    429: ("UPSTREAM_RATE_LIMITED", _Code.RESOURCE_EXHAUSTED),
    503: ("UPSTREAM_OVERLOADED", _Code.UNAVAILABLE),
    529: ("UPSTREAM_OVERLOADED", _Code.UNAVAILABLE),
}
_BY_CODE: dict[str, tuple[str, grpc.StatusCode]] = {
    "insufficient_quota": ("UPSTREAM_QUOTA_EXHAUSTED", _Code.FAILED_PRECONDITION),
    "rate_limit_exceeded": ("UPSTREAM_RATE_LIMITED", _Code.RESOURCE_EXHAUSTED),
    "model_not_found": ("UPSTREAM_MODEL_NOT_FOUND", _Code.NOT_FOUND),
    "content_filter": ("UPSTREAM_CONTENT_BLOCKED", _Code.INVALID_ARGUMENT),
    "content_policy_violation": ("UPSTREAM_CONTENT_BLOCKED", _Code.INVALID_ARGUMENT),
}
_OTHER = ("UPSTREAM_FAILED", _Code.UNAVAILABLE)
_MOST_CHARS = 500


def error_of_answer(status: int, body: bytes, retry_after: str) -> RelayError:
    """The error that an answer with this status tells of."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    told = document.get("error") if isinstance(document, dict) else None
    if 300 <= status < 400:
        known = ("UPSTREAM_REDIRECT", _Code.UNAVAILABLE)
    else:
        known = _BY_STATUS.get(status, _OTHER)
    return _made(known, told, f"the provider answered {status}", status, _seconds(retry_after))


def error_in_stream(told: Any) -> RelayError:
    """The error that came instead of the rest of an answer."""
    return _made(_OTHER, told, "the provider broke the answer off", 0, None)


def _made(
    known: tuple[str, grpc.StatusCode],
    told: Any,
    message: str,
    status: int,
    retry_after_s: float | None,
) -> RelayError:
    fields = told if isinstance(told, dict) else {"message": told}
    code, kind = (str(fields.get(name) or "") for name in ("code", "type"))
    reason, grpc_code = _BY_CODE.get(code) or _BY_CODE.get(kind) or known
    if reason != "UPSTREAM_MISCONFIGURED" and isinstance(fields.get("message"), str):
        # Of a key that is refused providers tell a part of it.
        message = f"{message}: {fields['message'][:_MOST_CHARS]}"
    details = {
        "provider": "direct",
        "upstream_status": str(status) if status else "",
        "provider_type": kind,
        "provider_code": code,
        "provider_param": str(fields.get("param") or ""),
    }
    return RelayError(
        reason,
        grpc_code,
        message,
        retry_after_s=retry_after_s,
        details={name: value for name, value in details.items() if value},
    )


def _seconds(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:  # a date, or nothing
        return None
    return found if 0 <= found < 86_400 else None
