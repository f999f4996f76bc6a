"""What a credential is asked to sign, and its answers."""

from __future__ import annotations

import calendar
import time
from typing import Final

from relay.credentials.base import Call
from relay.transport.base import Headers, Origin

AT_S: Final = float(calendar.timegm((2026, 11, 27, 12, 0, 0, 0, 0, 0)))
ORIGIN: Final = Origin("https", "bedrock-runtime.us-east-1.amazonaws.com", 443)


def call(
    *,
    path: str = "/model/m/converse-stream",
    body: bytes = b"{}",
    session: str = "",
    origin: Origin = ORIGIN,
    headers: Headers | None = None,
) -> Call:
    given = [("content-type", "application/json")] if headers is None else headers
    return Call("POST", origin, path, given, body, session)


def dated(at_s: float) -> Headers:
    """An answer's headers, by a clock that shows this."""
    return [("date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(at_s)))]
