"""Telling one address, so that it can be sure who tells.

The header `x-rtrelay-signature` is `t=<seconds since 1970>,v1=<hex HMAC-SHA256>`, where the mac is
over `t`, a dot and the body with the secret that both sides have. A receiver computes the same,
compares in constant time, and refuses a moment that is minutes away, so that what was overheard
cannot be sent again. Only the configured address is ever asked, no redirect is followed, and
nothing of the answer but its status is looked at.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import httpx2

from relay import __version__
from relay.pinned_http import PinnedTransport

SIGNATURE_HEADER: Final = "x-rtrelay-signature"
ID_HEADER: Final = "x-rtrelay-id"
LEAST_SECRET_CHARS: Final = 32
TOLERANCE_S: Final = 300
"""How far off a moment may be."""


class NotDelivered(Exception):
    """It was not taken; the message says why, and names neither address nor secret."""


class Webhook:
    """One address and its secret.

    Args:
        url: `https://...`, or `http://` of this machine.
        secret: at least 32 characters.
        timeout_s: of a delivery, from connecting to the status.
        private: networks that its name may lead to: see `relay.addresses.may_connect`.

    Raises:
        ValueError: the address or the secret will not do.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        timeout_s: float = 10.0,
        private: Sequence[str] | None = None,
    ) -> None:
        require_address(url)
        if len(secret.strip()) < LEAST_SECRET_CHARS:
            raise ValueError(f"a signing secret has at least {LEAST_SECRET_CHARS} characters")
        self._url = url
        self._secret = secret.encode()
        self._timeout_s = timeout_s
        self._private = private
        self._client: httpx2.AsyncClient | None = None

    def __repr__(self) -> str:
        return "Webhook(***)"

    async def send(self, message_id: str, body: bytes, now_s: float) -> None:
        """Deliver a message.

        Args:
            message_id: by which the receiver knows it again.
            now_s: seconds since 1970, by which it is signed.

        Raises:
            NotDelivered: the answer was no 2xx, or there was none in time.

        Cancelled: it may have been delivered.
        """
        client = self._client
        if client is None:
            # Made when it is first needed: it reads every trusted root, some 20 ms.
            client = self._client = await asyncio.to_thread(_client, self._private)
        headers = {
            "content-type": "application/json",
            "user-agent": f"rtrelay/{__version__}",
            ID_HEADER: message_id,
            SIGNATURE_HEADER: sign(self._secret, body, int(now_s)),
        }
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                client.stream("POST", self._url, content=body, headers=headers) as answer,
            ):
                status = answer.status_code
        except TimeoutError:
            raise NotDelivered("no answer in time") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            raise NotDelivered(type(error).__name__) from None
        if not 200 <= status < 300:
            raise NotDelivered(f"status {status}")

    async def aclose(self) -> None:
        """Close the connection. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def sign(secret: bytes, body: bytes, moment_s: int) -> str:
    """The value of `x-rtrelay-signature`."""
    mac = hmac.new(secret, b"%d." % moment_s + body, hashlib.sha256).hexdigest()
    return f"t={moment_s},v1={mac}"


def is_signed(
    secret: bytes, body: bytes, signature: str, now_s: float, tolerance_s: float = TOLERANCE_S
) -> bool:
    """What a receiver asks: whether a body is from whoever has the secret, and of now.

    Of several `v1` one must be right, so that a secret can be changed.
    """
    pairs = [part.strip().partition("=") for part in signature.split(",")]
    moments = [value for name, _, value in pairs if name == "t"]
    if len(moments) != 1 or not (moments[0].isascii() and moments[0].isdigit()):
        return False
    if len(moments[0]) > 15 or abs(now_s - int(moments[0])) > tolerance_s:
        return False
    expected = sign(secret, body, int(moments[0])).partition("v1=")[2].encode()
    given = [value.encode() for name, _, value in pairs if name == "v1"]
    return any(hmac.compare_digest(expected, one) for one in given)


def require_address(url: str) -> None:
    """
    Raises:
        ValueError: it is neither `https://` nor `http://` of this machine, or has a user in it.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        is_plain = "@" not in parts.netloc and parts.netloc.rfind("[") <= 0  # not `a[::1]`
        is_right = bool(host) and parts.port != 0 and is_plain
    except ValueError:
        is_right, host = False, ""
    if not is_right or not url.isprintable() or " " in url:
        raise ValueError("an https:// address without user and password is expected")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ValueError("an https:// address is expected; http:// for this machine alone")


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine; names but `localhost` are not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _client(private: Sequence[str] | None) -> httpx2.AsyncClient:
    transport = httpx2.AsyncHTTPTransport(
        trust_env=False,
        http2=False,
        limits=httpx2.Limits(max_connections=4, max_keepalive_connections=1),
    )
    return httpx2.AsyncClient(
        transport=PinnedTransport(transport, private),
        follow_redirects=False,
        trust_env=False,
        timeout=None,
    )
