"""The relay's errors as LiveKit knows them.

The relay has asked whom it may ask, so LiveKit is told to try no more: its own retries (4 tries,
2 s apart) would only add up. FallbackAdapter goes to its next LLM in any case.
"""

from __future__ import annotations

from typing import Final

import grpc
from livekit.agents import APIConnectionError, APIError, APIStatusError, APITimeoutError

from rtrelay.errors import STREAM_LOST, RelayError

_WORTH_ANOTHER_TRY: Final = frozenset({"DRAINING", "OVERLOADED", "POOL_EXHAUSTED"})
"""What another worker of the relay, or a moment later, can serve."""

_STATUS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
}
"""As the relay's HTTP surface answers, but for `_STATUS_OF_REASON`. 499 is left out:
LiveKit takes it for a quiet end."""

_STATUS_OF_REASON: Final = {"GUARDRAIL_BLOCKED": 400, "CACHE_MISS": 504}


def to_api_error(error: RelayError, *, has_output: bool) -> APIError:
    """
    Args:
        has_output: something was sent before it; nothing is tried again then.
    """
    retryable = error.reason in _WORTH_ANOTHER_TRY and not has_output
    message = f"{error.message} ({error.reason or error.code.name})"
    if error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return APITimeoutError(message, retryable=retryable)
    if error.reason == STREAM_LOST or error.end is None:
        return APIConnectionError(message, retryable=retryable)
    body: dict[str, object] = {"reason": error.reason, **error.details}
    if error.retry_after_s is not None:
        body["retry_after_s"] = error.retry_after_s
    return APIStatusError(
        message,
        status_code=_STATUS_OF_REASON.get(error.reason) or _STATUS.get(error.code, 500),
        request_id=error.end.request_id or None,
        body=body,
        retryable=retryable,
    )
