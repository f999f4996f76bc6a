"""Which answers a credential is told of, by head and by what was read of the body."""

from __future__ import annotations

import pytest

from relay.credentials.refusals import is_credential_refused, refuses_who_asks
from relay.errors import FirstTokenTimeout, Reason, UpstreamStatus
from relay.transport.base import Headers


def _aws(kind: str) -> Headers:
    return [("content-type", "application/json"), ("x-amzn-errortype", kind)]


@pytest.mark.parametrize(
    ("status", "headers", "wanted"),
    [
        (401, [], True),
        (401, _aws("AccessDeniedException"), True),
        (403, [], False),
        (403, _aws("InvalidSignatureException"), True),
        (403, _aws("ExpiredTokenException:http://internal.amazon.com/coral/"), True),
        (403, _aws("UnrecognizedClientException"), True),
        (403, _aws("AccessDeniedException"), False),
        (429, _aws("InvalidSignatureException"), False),
        (500, [], False),
        (200, [], False),
    ],
)
def test_by_the_head(status: int, headers: Headers, wanted: bool) -> None:
    assert refuses_who_asks(status, headers) == wanted
    rejected = UpstreamStatus("no", reason=Reason.UPSTREAM_REJECTED, http_status=status)
    assert is_credential_refused(rejected, status, headers) == wanted
    assert is_credential_refused(FirstTokenTimeout("late"), status, headers) == wanted


@pytest.mark.parametrize(
    ("reason", "told_at"),
    [
        (Reason.UPSTREAM_MISCONFIGURED, [400, 401, 403]),
        (Reason.UPSTREAM_QUOTA_EXHAUSTED, [400, 401, 402, 403, 405, 429, 500]),
        (Reason.UPSTREAM_PERMISSION_DENIED, [401]),
        (Reason.UPSTREAM_RATE_LIMITED, [401]),
    ],
)
def test_by_what_was_read(reason: Reason, told_at: list[int]) -> None:
    """An error inside of a 200 is no refusal: the request was let in."""
    told = [
        status
        for status in (200, 400, 401, 402, 403, 405, 429, 500)
        if is_credential_refused(
            UpstreamStatus("no", reason=reason, http_status=status), status, []
        )
    ]
    assert told == told_at
