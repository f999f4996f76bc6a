"""Which answers refuse who asks, and not what is asked: those that a credential is told of.

A status alone does not say so: 403 is what a key's project may not do as well, and Gemini answers
400 to a key that is none.
"""

from __future__ import annotations

from typing import Final

from relay.errors import Reason, RelayError
from relay.transport.base import Headers

_STATUSES: Final = frozenset({400, 401, 403})
_OF_AWS: Final = frozenset(
    {
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    }
)
"""Of the errors that AWS names in a header (common errors of its APIs), which all come with 403."""


def refuses_who_asks(status: int, headers: Headers) -> bool:
    """By the head alone, which is less than there is to know: what no codec reads, or whose codec
    knows the vendor of its wire and not the cloud before it."""
    if status != 403:
        return status == 401
    kind = next((value for name, value in headers if name == "x-amzn-errortype"), "")
    return kind.partition(":")[0] in _OF_AWS


def is_credential_refused(error: RelayError, status: int, headers: Headers) -> bool:
    """By what a codec has read.

    An account that is used up is no fault of its key, but another account's key serves.

    Args:
        status, headers: of the answer.
    """
    if error.reason is Reason.UPSTREAM_QUOTA_EXHAUSTED:
        return status >= 400
    if error.reason is Reason.UPSTREAM_MISCONFIGURED and status in _STATUSES:
        return True
    return refuses_who_asks(status, headers)
