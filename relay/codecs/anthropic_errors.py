"""Errors of the Messages API: `{"type": "error", "error": {"type", "message", "details"},
"request_id"}`, as a response or as an event inside one.

Strategy: Anthropic's own types mean one thing each, whatever the status, except where a detail or
a phrase of the message says more; these are tables. Everything that is not Anthropic's own (a
gateway's error, markup, nothing) is read as every other host's is (`openai_errors`), and what
Google answers for Claude at Vertex as Google's (`gemini_errors`).

Source: wire/anthropic-messages.md, sections 4 and 5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from relay.codecs import error_body, gemini_errors, openai_errors
from relay.codecs.error_text import MAX_ID_CHARS, public_text
from relay.codecs.openai_errors import Headers
from relay.codecs.rate_limit_headers import read_rate_windows
from relay.codecs.retry_hints import MAX_HINT_S, WORTH_WAITING, retry_after_s
from relay.errors import Reason, UpstreamError, UpstreamStatus

_BY_TYPE: Final[Mapping[str, Reason]] = {
    "invalid_request_error": Reason.UPSTREAM_REJECTED,
    "request_too_large": Reason.UPSTREAM_REJECTED,
    "authentication_error": Reason.UPSTREAM_MISCONFIGURED,
    "billing_error": Reason.UPSTREAM_QUOTA_EXHAUSTED,
    "permission_error": Reason.UPSTREAM_PERMISSION_DENIED,
    "not_found_error": Reason.UPSTREAM_MODEL_NOT_FOUND,
    "rate_limit_error": Reason.UPSTREAM_RATE_LIMITED,
    "conflict_error": Reason.UPSTREAM_FAILED,
    "api_error": Reason.UPSTREAM_FAILED,
    "timeout_error": Reason.FIRST_TOKEN_TIMEOUT,
    "overloaded_error": Reason.UPSTREAM_OVERLOADED,
}

# `error.details.error_code`, which says more than the type.
_BY_DETAIL: Final[Mapping[str, Reason]] = {
    "enforced_spend_limit_reached": Reason.UPSTREAM_QUOTA_EXHAUSTED,
}

# What comes as an `invalid_request_error` with 400 and is not the request's fault.
_BY_PHRASE: Final[tuple[tuple[re.Pattern[str], Reason], ...]] = (
    (
        re.compile(r"(?i)credit balance is too low|reached your specified api usage limits"),
        Reason.UPSTREAM_QUOTA_EXHAUSTED,
    ),
    (
        re.compile(r"(?i)organization has been disabled"),
        Reason.UPSTREAM_MISCONFIGURED,
    ),
    (
        re.compile(r"(?i)blocked by content filtering policy"),
        Reason.UPSTREAM_CONTENT_BLOCKED,
    ),
)

_MAX_SEARCHED_CHARS: Final = 4000


def decode_error(status: int, headers: Headers, body: bytes) -> UpstreamError:
    """The error of a response whose status says so (300 and above), its body whole."""
    document = error_body.parse(body)
    own = _own_error(document)
    if own is None and gemini_errors.is_status(document):
        return gemini_errors.decode_error(status, headers, body)
    if status < 400 or own is None:
        return openai_errors.decode_error(status, headers, body)
    return _to_error(own, document, http_status=status, headers=list(headers))


def decode_inner_error(document: object) -> UpstreamError:
    """The error reported inside a response that began as a success.

    Args:
        document: the whole object that holds the error. What the response's headers say of
            retrying speaks of the success.
    """
    own = _own_error(document)
    if own is None and gemini_errors.is_status(document):
        return gemini_errors.decode_inner_error(document)
    if own is None:
        return openai_errors.decode_inner_error(document)
    return _to_error(own, document, http_status=200, headers=())


def _own_error(document: object) -> dict[str, Any] | None:
    """The error object, None when it is none of Anthropic's."""
    if type(document) is not dict or document.get("type") != "error":
        return None
    error = document.get("error")
    if type(error) is dict and type(error.get("type")) is str and error["type"] in _BY_TYPE:
        return error
    return None


def _to_error(
    error: dict[str, Any], document: object, *, http_status: int, headers: Headers
) -> UpstreamStatus:
    kind: str = error["type"]
    message = _text(error.get("message"))
    details = error.get("details")
    detail = _text(details.get("error_code")) if type(details) is dict else ""
    reason = _classify(kind, detail, message)
    return UpstreamStatus(
        public_text(message) or f"the provider answered with {kind}",
        reason=reason,
        http_status=http_status,
        provider_type=kind,
        provider_code=public_text(detail)[:MAX_ID_CHARS],
        provider_request_id=_request_id(document),
        retry_after_s=_hint_s(headers, message) if reason in WORTH_WAITING else None,
    )


def _classify(kind: str, detail: str, message: str) -> Reason:
    if detail in _BY_DETAIL:
        return _BY_DETAIL[detail]
    if kind == "invalid_request_error":
        for pattern, reason in _BY_PHRASE:
            if pattern.search(message[:_MAX_SEARCHED_CHARS]):
                return reason
    return _BY_TYPE[kind]


def _hint_s(headers: Headers, message: str) -> float | None:
    """`retry-after`, else the longest reset of a limit that is used up."""
    hint = retry_after_s(headers, message)
    if hint is not None:
        return hint
    resets = [window.reset_s for window in read_rate_windows(headers) if window.remaining == 0]
    return min(max(resets), MAX_HINT_S) if resets else None


def _request_id(document: object) -> str:
    value = document.get("request_id") if type(document) is dict else None
    return public_text(_text(value))[:MAX_ID_CHARS]


def _text(value: object) -> str:
    return value if type(value) is str else ""
