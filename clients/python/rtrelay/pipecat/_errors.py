"""Failures of the relay in Pipecat's terms.

What Pipecat calls permanent (a bad key, a malformed request) makes it give up on a service, so only
what every next turn would meet as well is called that.
"""

from __future__ import annotations

import grpc
from pipecat.utils.errors import ErrorCategory

from rtrelay.errors import STREAM_LOST, RelayError

_BY_REASON = {
    # The prompt is at fault, and the next one will be another.
    "UPSTREAM_CONTENT_BLOCKED": ErrorCategory.APPLICATION,
    "GUARDRAIL_BLOCKED": ErrorCategory.APPLICATION,
    "CACHE_MISS": ErrorCategory.APPLICATION,
    "REQUEST_TOO_LARGE": ErrorCategory.APPLICATION,
    "SLOW_CONSUMER": ErrorCategory.APPLICATION,
    # The relay's own key at the provider: others may take over, and the operator mends it.
    "UPSTREAM_PERMISSION_DENIED": ErrorCategory.SERVER,
    "BUDGET_EXCEEDED": ErrorCategory.QUOTA,
    STREAM_LOST: ErrorCategory.CONNECTIVITY,
    "DRAINING": ErrorCategory.CONNECTIVITY,
    "SESSION_IDLE": ErrorCategory.CONNECTIVITY,
    "": ErrorCategory.CONNECTIVITY,  # the relay said nothing: gRPC could not reach it
}
_BY_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: ErrorCategory.INVALID_REQUEST,
    grpc.StatusCode.NOT_FOUND: ErrorCategory.INVALID_REQUEST,
    grpc.StatusCode.UNIMPLEMENTED: ErrorCategory.INVALID_REQUEST,
    grpc.StatusCode.UNAUTHENTICATED: ErrorCategory.AUTHENTICATION,
    grpc.StatusCode.PERMISSION_DENIED: ErrorCategory.AUTHORIZATION,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ErrorCategory.RATE_LIMIT,
    grpc.StatusCode.FAILED_PRECONDITION: ErrorCategory.QUOTA,
    grpc.StatusCode.DEADLINE_EXCEEDED: ErrorCategory.SERVER,
    grpc.StatusCode.UNAVAILABLE: ErrorCategory.SERVER,
    grpc.StatusCode.INTERNAL: ErrorCategory.SERVER,
}


def category_of(error: RelayError) -> ErrorCategory:
    """Whose fault it is, and whether another try may help."""
    lasting = _BY_CODE.get(error.code, ErrorCategory.UNKNOWN)
    if not error.reason and lasting.is_permanent:
        return lasting
    return _BY_REASON.get(error.reason, lasting)


def is_timeout(error: RelayError) -> bool:
    """A time limit ran out."""
    return error.code == grpc.StatusCode.DEADLINE_EXCEEDED


def message_of(error: RelayError) -> str:
    """For the error frame: the relay's words and its reason. In this order: Pipecat takes what
    follows a `..._TOKEN_...:` for a secret and blackens it."""
    return f"LLM answer failed: {error.message} ({error.reason or error.code.name})"
