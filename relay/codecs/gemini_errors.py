"""Errors of the Gemini wire: `google.rpc.Status` in JSON, to one `UpstreamStatus`.

Shape: `{"error": {"code": 429, "message", "status": "RESOURCE_EXHAUSTED", "details": [...]}}`,
in a list where a stream of JSON was asked for, and in an event of a stream that began as a
success. Of the details these are read: ErrorInfo (`reason`), QuotaFailure (which quota),
RetryInfo (when to come back), BadRequest (which field), RequestInfo.

Classed by tables, most telling first: the reason of ErrorInfo, phrases of messages, the name of
the status, the number. The name is `provider_type`; the reason, or else the number, is
`provider_code`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from relay.codecs import error_body
from relay.codecs.error_text import public_text
from relay.codecs.retry_hints import WORTH_WAITING, retry_after_s
from relay.errors import Reason, UpstreamError, UpstreamStatus

Headers = Iterable[tuple[str, str]]

# `google.api.ErrorReason`: our credentials or project, whatever the status.
_BY_ERROR_REASON: Final[Mapping[str, Reason]] = {
    **dict.fromkeys(
        (
            "ACCESS_TOKEN_EXPIRED",
            "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
            "ACCESS_TOKEN_TYPE_UNSUPPORTED",
            "ACCOUNT_STATE_INVALID",
            "API_KEY_ANDROID_APP_BLOCKED",
            "API_KEY_EXPIRED",
            "API_KEY_HTTP_REFERRER_BLOCKED",
            "API_KEY_INVALID",
            "API_KEY_IOS_APP_BLOCKED",
            "API_KEY_IP_ADDRESS_BLOCKED",
            "API_KEY_SERVICE_BLOCKED",
            "CONSUMER_INVALID",
            "CONSUMER_SUSPENDED",
            "CREDENTIALS_MISSING",
            "SERVICE_DISABLED",
            "USER_PROJECT_DENIED",
        ),
        Reason.UPSTREAM_MISCONFIGURED,
    ),
    "BILLING_DISABLED": Reason.UPSTREAM_QUOTA_EXHAUSTED,
    "LOCATION_POLICY_VIOLATED": Reason.UPSTREAM_PERMISSION_DENIED,
}

# With the names of the statuses that they may come with.
_BY_PHRASE: Final[tuple[tuple[re.Pattern[str], frozenset[str], Reason], ...]] = (
    (
        re.compile(r"(?i)api key (not valid|expired|was reported as leaked)|api_key_invalid"),
        frozenset({"INVALID_ARGUMENT", "PERMISSION_DENIED"}),
        Reason.UPSTREAM_MISCONFIGURED,
    ),
    (
        re.compile(r"(?i)\bbilling\b"),
        frozenset({"FAILED_PRECONDITION", "PERMISSION_DENIED"}),
        Reason.UPSTREAM_QUOTA_EXHAUSTED,
    ),
    (
        # A free tier without this model; prepaid money that is spent; the operator's own cap.
        re.compile(r"(?i)\blimit: 0\b|\bcredits? (are|is) depleted|\bspend(ing)? (cap|limit)"),
        frozenset({"RESOURCE_EXHAUSTED"}),
        Reason.UPSTREAM_QUOTA_EXHAUSTED,
    ),
)

_BY_NAME: Final[Mapping[str, Reason]] = {
    "CANCELLED": Reason.UPSTREAM_FAILED,
    "DEADLINE_EXCEEDED": Reason.FIRST_TOKEN_TIMEOUT,
    "FAILED_PRECONDITION": Reason.UPSTREAM_PERMISSION_DENIED,  # the region
    "INTERNAL": Reason.UPSTREAM_FAILED,
    "INVALID_ARGUMENT": Reason.UPSTREAM_REJECTED,
    "NOT_FOUND": Reason.UPSTREAM_MODEL_NOT_FOUND,
    "OUT_OF_RANGE": Reason.UPSTREAM_REJECTED,
    "PERMISSION_DENIED": Reason.UPSTREAM_PERMISSION_DENIED,
    "RESOURCE_EXHAUSTED": Reason.UPSTREAM_RATE_LIMITED,
    "UNAUTHENTICATED": Reason.UPSTREAM_MISCONFIGURED,
    "UNAVAILABLE": Reason.UPSTREAM_OVERLOADED,
    "UNIMPLEMENTED": Reason.UPSTREAM_REJECTED,
}

# For bodies that are no Status: what stands in front of Google answers with these.
_BY_NUMBER: Final[Mapping[int, Reason]] = {
    401: Reason.UPSTREAM_MISCONFIGURED,
    403: Reason.UPSTREAM_PERMISSION_DENIED,
    404: Reason.UPSTREAM_MODEL_NOT_FOUND,
    405: Reason.UPSTREAM_MISCONFIGURED,  # a wrong base_url, most likely
    407: Reason.UPSTREAM_MISCONFIGURED,
    408: Reason.FIRST_TOKEN_TIMEOUT,
    429: Reason.UPSTREAM_RATE_LIMITED,
    499: Reason.UPSTREAM_FAILED,
    503: Reason.UPSTREAM_OVERLOADED,
    504: Reason.FIRST_TOKEN_TIMEOUT,
}


_MAX_READ: Final = 16
"""Of the details of an error, and of the entries of each; more are not looked at."""


class _Facts(NamedTuple):
    """What a Status says, each empty or 0 where it says nothing."""

    message: str = ""
    name: str = ""
    number: int = 0
    error_reason: str = ""
    field: str = ""
    request_id: str = ""
    retry_delay: str = ""
    has_daily_quota: bool = False


def decode_error(status: int, headers: Headers, body: bytes) -> UpstreamError:
    """The error of a response whose status says so (300 and above), its body whole."""
    if 300 <= status < 400:
        return UpstreamStatus(
            f"the provider answered with a redirect ({status}), which is not followed",
            reason=Reason.UPSTREAM_REDIRECT,
            http_status=status,
        )
    return _to_error(_read(error_body.parse(body)), status, headers, "")


def decode_inner_error(document: object, *, response_id: str = "") -> UpstreamError:
    """The error reported inside a response that began as a success.

    Args:
        document: the whole object that holds the error.
        response_id: of the response, which is all that Google gives to ask about.
    """
    return _to_error(_read(document), 200, (), response_id)


def is_status(document: object) -> bool:
    """Whether an error body is a Status, as Google's hosts answer for other wires' models too."""
    if isinstance(document, list) and document:
        document = document[0]
    error = document.get("error") if isinstance(document, dict) else None
    return isinstance(error, dict) and _text(error.get("status")) in _BY_NAME


def _read(document: object) -> _Facts:
    if isinstance(document, list) and document:
        document = document[0]
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        return _Facts(message=_text(error))
    number = error.get("code")
    facts = _Facts(
        message=_text(error.get("message")),
        name=_text(error.get("status")),
        number=number if type(number) is int and 400 <= number < 600 else 0,
    )
    for detail in _objects(error.get("details")):
        facts = facts._replace(**_read_detail(detail))
    return facts


def _read_detail(detail: Mapping[str, Any]) -> dict[str, Any]:
    """What one of the details adds to the facts."""
    kind = _text(detail.get("@type")).rpartition(".")[2]
    if kind == "ErrorInfo":
        return {"error_reason": _text(detail.get("reason"))}
    if kind == "RetryInfo":
        return {"retry_delay": _text(detail.get("retryDelay"))}
    if kind == "RequestInfo":
        return {"request_id": _text(detail.get("requestId"))}
    if kind == "BadRequest":
        violations = _objects(detail.get("fieldViolations"))
        return {"field": _text(violations[0].get("field"))} if violations else {}
    if kind == "QuotaFailure":
        violations = _objects(detail.get("violations"))
        if any("PerDay" in _text(violation.get("quotaId")) for violation in violations):
            return {"has_daily_quota": True}
    return {}


def _classify(facts: _Facts, status: int) -> Reason:
    if facts.error_reason in _BY_ERROR_REASON:
        return _BY_ERROR_REASON[facts.error_reason]
    if facts.has_daily_quota:
        return Reason.UPSTREAM_QUOTA_EXHAUSTED
    for pattern, names, reason in _BY_PHRASE:
        if facts.name in names and pattern.search(facts.message):
            return reason
    if facts.name in _BY_NAME:
        return _BY_NAME[facts.name]
    if status in _BY_NUMBER:
        return _BY_NUMBER[status]
    return Reason.UPSTREAM_REJECTED if 400 <= status < 500 else Reason.UPSTREAM_FAILED


def _to_error(
    facts: _Facts, http_status: int, headers: Headers, response_id: str
) -> UpstreamStatus:
    reason = _classify(facts, http_status if http_status >= 400 else facts.number)
    hint = None
    if reason in WORTH_WAITING:
        # Whole seconds; the message often has them with a fraction, and then wins.
        told = [("retry-after", facts.retry_delay.removesuffix("s"))] if facts.retry_delay else ()
        hint = retry_after_s([*headers, *told], facts.message)
    message = public_text(facts.message)
    if not message:
        said = f"status {http_status}" if http_status >= 400 else "an error inside its answer"
        message = f"the provider answered with {said}"
    return UpstreamStatus(
        message,
        reason=reason,
        http_status=http_status,
        provider_type=_word(facts.name),
        provider_code=_word(facts.error_reason) or (str(facts.number) if facts.number else ""),
        provider_param=_word(facts.field),
        provider_request_id=_word(facts.request_id or response_id),
        retry_after_s=hint,
    )


def _objects(value: object) -> list[dict[str, Any]]:
    entries = value[:_MAX_READ] if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, dict)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _word(value: str) -> str:
    return public_text(value)[:200]
