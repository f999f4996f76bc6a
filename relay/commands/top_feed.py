"""Readings of `/admin/state` over HTTP, one after another.

No proxy of the environment is used and no redirect is followed: the token goes to the address that
was given, and nowhere else.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self
from urllib.parse import urlsplit

import httpx2
import orjson

from relay.commands.top_snapshot import NoState, Snapshot, snapshot

TIMEOUT_S: Final = 5.0
MOST_BYTES: Final = 64 << 20


class TopError(Exception):
    """It cannot work, however often it is tried; the message names the option."""


class Lost(Exception):
    """This reading failed, and the next may not; public text."""


class Place(NamedTuple):
    """Where and how the admin listener is asked."""

    url: str
    token: str
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def __repr__(self) -> str:
        return f"Place({self.url})"


def checked_url(url: str) -> str:
    """The address without a `/` at its end.

    Raises:
        TopError
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError:
        raise TopError("--url: that is no address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise TopError("--url: an address like http://127.0.0.1:8081 is expected")
    if parts.username is not None or parts.password is not None:
        raise TopError("--url: no user or password belongs here; a token goes into --token")
    if parts.query or parts.fragment:
        raise TopError("--url: no ? and no # belong here")
    return parts.geturl().rstrip("/").removesuffix("/admin/state")


class Feed:
    """A client of one admin listener; to be used in `async with`, which closes it.

    Raises:
        TopError: an option is wrong.
    """

    def __init__(self, place: Place) -> None:
        self.url = checked_url(place.url)
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if place.token:
            if not place.token.isascii() or not place.token.isprintable():
                raise TopError("--token: that is no token")
            headers["authorization"] = f"Bearer {place.token}"
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=TIMEOUT_S,
            trust_env=False,
            follow_redirects=False,
            verify=_trust(place),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def read(self) -> Snapshot:
        """One reading.

        Raises:
            Lost: nothing came, or an error that may pass.
            TopError: we may not, or there is no relay.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status, content = await self._ask()
        except TimeoutError:
            raise Lost(f"no answer within {TIMEOUT_S:g} s") from None
        except httpx2.InvalidURL:
            raise TopError("--url: that is no address") from None
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            raise Lost(_words(error)) from None
        at_s = time.monotonic()
        match status:
            case 200:
                pass
            case 401:
                raise TopError(
                    f"{self.url} takes an administrator's token: --token, or the environment"
                    " variable RTRELAY_ADMIN_TOKEN (relay admins create); the one that was given"
                    " is not good"
                    if "authorization" in self._client.headers
                    else f"{self.url} takes an administrator's token: --token, or the environment"
                    " variable RTRELAY_ADMIN_TOKEN (relay admins create)"
                )
            case 403:
                raise TopError(f"{self.url} does not show its state to this token, or by this name")
            case 404:
                raise TopError(f"{self.url} is no admin listener of a relay (--url)")
            case _:
                raise Lost(f"it answers with status {status}")
        try:
            return snapshot(orjson.loads(content), at_s)
        except (orjson.JSONDecodeError, NoState):
            raise TopError(f"{self.url} is no admin listener of a relay (--url)") from None

    async def _ask(self) -> tuple[int, bytes]:
        """The status, and what came with it where that is read."""
        async with self._client.stream("GET", f"{self.url}/admin/state") as answer:
            content = bytearray()
            if answer.status_code == 200:
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > MOST_BYTES:
                        raise TopError(f"{self.url} answers with more than {MOST_BYTES} bytes")
            return answer.status_code, bytes(content)


def _trust(place: Place) -> ssl.SSLContext:
    if (place.cert_file is None) != (place.key_file is None):
        raise TopError("--cert-file and --key-file go together")
    try:
        context = ssl.create_default_context(cafile=place.ca_file)
    except (OSError, ssl.SSLError):
        raise TopError(f"--ca-file: {place.ca_file} cannot be read as PEM") from None
    if place.cert_file is not None:
        try:
            context.load_cert_chain(place.cert_file, place.key_file, password="")
        except (OSError, ssl.SSLError, ValueError):
            raise TopError(
                f"--cert-file, --key-file: {place.cert_file} and {place.key_file} cannot be read as"
                " PEM of one certificate"
            ) from None
    return context


def _words(error: Exception) -> str:
    match error:
        case httpx2.ConnectTimeout() | httpx2.ReadTimeout() | httpx2.PoolTimeout():
            return f"no answer within {TIMEOUT_S:g} s"
        case httpx2.ConnectError() if "attempts failed" in str(error):
            return "nobody answers there"
        case httpx2.ConnectError():
            return str(error)[:200]
    return str(error)[:200] or type(error).__name__
