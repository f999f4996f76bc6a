"""What the administration answers when something was not done: a closed list of codes."""

from __future__ import annotations

from typing import Any, Final

import orjson

from relay.administration.faults import Fault

PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    "invalid": (400, "the request is wrong; `field` names where"),
    "unauthenticated": (401, "the token is not valid"),
    "permission_denied": (403, "the role does not allow it"),
    "not_found": (404, "there is nothing here"),
    "method_not_allowed": (405, "not with this method"),
    "conflict": (409, "it is taken, or its state does not allow it"),
    "too_large": (413, "the body is too large"),
    "too_many_failures": (429, "too many tokens that are not valid"),
    "internal": (500, "the relay failed; the request id is in its log"),
    "unavailable": (503, "the store cannot be asked now; nothing was changed, try again"),
    "busy": (503, "too many requests at once; nothing was done, try again"),
}
"""Code, its HTTP status, and what is said where there is nothing nearer."""


class Problem(Exception):
    """Ends a request.

    Args:
        code: one of `PROBLEMS`.
        retry_s: seconds after which it may be tried again; None: not told.
        allowed: methods that there are.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        field: str = "",
        retry_s: float | None = None,
        allowed: str = "",
    ) -> None:
        self.code = code
        self.status, words = PROBLEMS[code]
        super().__init__(message or words)
        self.field = field
        self.retry_s = retry_s
        self.allowed = allowed

    @classmethod
    def of(cls, fault: Fault) -> Problem:
        return cls(fault.code, str(fault), field=fault.field)

    def body(self, request_id: str) -> bytes:
        """`{"error": {...}}`"""
        error: dict[str, Any] = {
            "code": self.code,
            "message": str(self),
            "request_id": request_id,
        }
        if self.field:
            error["field"] = self.field
        return orjson.dumps({"error": error})
