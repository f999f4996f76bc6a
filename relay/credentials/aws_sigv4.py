"""AWS Signature Version 4 over a request's head and body, cheap enough for every request.

It is botocore's `SigV4Auth` for what the relay sends, five to fifteen times as fast for bodies of up
to 8 kB (`python -m bench.micro.sign`): the signing key of a day and the text of a second are kept,
and what is left is the SHA-256 of the body. `tests/credentials/test_aws_sigv4.py` holds the two against each other.

Source: AWS, "Create a signed AWS API request" (IAM user guide); botocore 1.44 `auth.py`, where the
guide is silent: a path that is encoded is encoded once more, empty and dot segments go.
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from relay.credentials.base import Call
from relay.transport.base import Headers, Origin

ALGORITHM: Final = "AWS4-HMAC-SHA256"
_EMPTY: Final = hashlib.sha256(b"").hexdigest()
_SIGNED: Final = ("content-type", "x-amz-", "x-amzn-")
"""Beginnings of the names that are signed, beside `host`. What a proxy may change is left out."""
_TRACE: Final = "x-amzn-trace-id"
"""Balancers write it."""
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True, repr=False)
class AwsKeys:
    """Of one identity; its text shows no secret."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""
    """Of temporary keys; empty for none."""

    def __repr__(self) -> str:
        return "AwsKeys(***)"

    def values(self) -> tuple[str, ...]:
        """All that must not be seen."""
        return tuple(
            value
            for value in (self.access_key_id, self.secret_access_key, self.session_token)
            if value
        )


class SigV4Signer:
    """Signs for one service in one region. Keys come with each call, so that they may change."""

    __slots__ = ("_date", "_day_key", "_key", "_scope", "_second", "region", "service")

    def __init__(self, service: str, region: str) -> None:
        self.service = service
        self.region = region
        self._scope = ""
        self._second = -1
        self._date = ""
        self._day_key: tuple[str, str] | None = None
        """Day and secret that `_key` was made of."""
        self._key = b""

    def headers(self, call: Call, keys: AwsKeys, at_s: float) -> Headers:
        """What is sent beside the call's own headers: the time, the session's token, the signature.

        Args:
            at_s: seconds since 1970 by the service's clock.
        """
        date = self._dated(at_s, keys.secret_access_key)
        sent: Headers = [("x-amz-date", date)]
        if keys.session_token:
            sent.append(("x-amz-security-token", keys.session_token))
        headers: dict[str, str] = {"host": host_of(call.origin)}
        for name, value in (*call.headers, *sent):
            if name.startswith(_SIGNED) and name != _TRACE:
                value = " ".join(value.split())
                headers[name] = f"{headers[name]},{value}" if name in headers else value
        names = sorted(headers)
        signed = ";".join(names)
        canonical = "\n".join(
            (
                call.method,
                *_canonical_target(call.path),
                *(f"{name}:{headers[name]}" for name in names),
                "",
                signed,
                hashlib.sha256(call.body).hexdigest() if call.body else _EMPTY,
            )
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"{ALGORITHM}\n{date}\n{self._scope}\n{digest}"
        signature = hmac.digest(self._key, text.encode(), "sha256").hex()
        sent.append(
            (
                "authorization",
                f"{ALGORITHM} Credential={keys.access_key_id}/{self._scope}, "
                f"SignedHeaders={signed}, Signature={signature}",
            )
        )
        return sent

    def _dated(self, at_s: float, secret: str) -> str:
        """The text of the second; the day's scope and key are made ready."""
        second = int(at_s)
        if second != self._second:
            self._date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
            self._second = second
        day = self._date[:8]
        if self._day_key != (day, secret):
            key = f"AWS4{secret}".encode()
            for part in (day, self.region, self.service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._scope = f"{day}/{self.region}/{self.service}/aws4_request"
            self._key, self._day_key = key, (day, secret)
        return self._date

    def __repr__(self) -> str:
        return f"SigV4Signer({self.service!r}, {self.region!r})"


def host_of(origin: Origin) -> str:
    """The header `host` of a request to there, as every HTTP engine sends it."""
    host = origin.host.lower()
    if ":" in host:
        host = f"[{host}]"
    return host if origin.port == _PORTS[origin.scheme] else f"{host}:{origin.port}"


def _canonical_target(target: str) -> tuple[str, str]:
    """Path and query as they are signed."""
    path, _, query = target.partition("#")[0].partition("?")
    if "//" in path or "/." in path:
        path = _without_dots(path)
    path = quote(path or "/", safe="/~")
    if "&" in query:
        pairs = sorted(pair.partition("=")[::2] for pair in query.split("&"))
        return path, "&".join(f"{name}={value}" for name, value in pairs)
    return path, query if not query or "=" in query else f"{query}="


def _without_dots(path: str) -> str:
    """RFC 3986, section 5.2.4, and without empty segments."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    begin = "/" if path.startswith("/") else ""
    end = "/" if path.endswith("/") and kept else ""
    return f"{begin}{'/'.join(kept)}{end}"


def time_of(sent: Headers) -> float | None:
    """When these headers say that they were made, seconds since 1970; None if they do not."""
    for name, value in sent:
        if name == "x-amz-date":
            return float(calendar.timegm(time.strptime(value, "%Y%m%dT%H%M%SZ")))
    return None


def key_of(sent: Headers) -> str:
    """The access key that these headers name; empty for none."""
    for name, value in sent:
        if name == "authorization":
            return value.partition("Credential=")[2].partition("/")[0]
    return ""
