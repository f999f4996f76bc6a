"""What a renewal may do of the world outside: one bounded request at a time, a file, two clocks.

Requests go over the relay's own transport, so they need no thread, obey the row's proxy and roots,
and run on a virtual clock in tests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

from relay import __version__
from relay.addresses import ANYWHERE
from relay.credentials.clock_offset import date_in
from relay.credentials.google_file import is_token_address
from relay.errors import CredentialUnavailable, RelayError
from relay.transport.base import Headers, Origin, Transport, UpstreamRequest

TIMEOUT_S = 10.0
"""From the beginning of a request to the last byte of its answer."""
MAX_ANSWER_BYTES = 64 * 1024
MAX_FILE_BYTES = 1024 * 1024

T = TypeVar("T")

_USER_AGENT = ("user-agent", f"rtrelay/{__version__}")


class Way(NamedTuple):
    """How token endpoints are reached: as the provider of the row is."""

    egress_proxy: str | None = None
    ca_file: str | None = None
    ca_digest: str = ""
    private: tuple[str, ...] | None = None
    """As of `Origin`."""


class Answer(NamedTuple):
    """Of a token endpoint, whole. `body` holds secrets: never log it."""

    host: str
    status: int
    headers: Headers
    body: bytes
    asked_s: float
    """Monotonic, before the request was sent: lives are counted from there, which errs on the safe
    side."""
    date_s: float | None
    """Its `Date` header, seconds since 1970: by the clock that it will judge by."""

    def __repr__(self) -> str:
        return f"Answer({self.status} of {self.host})"


async def _read_file(path: str) -> bytes:
    return await asyncio.to_thread(_read, path)


def _read(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(MAX_FILE_BYTES)


class Ask:
    """Hand it to `Renewing.renew`. Holds nothing that must be closed.

    Args:
        transport: stays its owner's.
        now_s: monotonic, the clock that `wait_s` and `due_s` are asked by.
        wall_s: seconds since 1970.
        read: the content of a file, read in a thread.
        run: does what takes long beside the loop, in a thread.
    """

    def __init__(
        self,
        transport: Transport,
        way: Way = Way(),  # noqa: B008 - immutable
        *,
        now_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
        read: Callable[[str], Awaitable[bytes]] = _read_file,
        run: Callable[[Callable[[], Any]], Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self._transport = transport
        self._way = way
        self.now_s = now_s
        self.wall_s = wall_s
        self._read = read
        self._run = run

    async def __call__(
        self,
        method: Literal["GET", "POST"],
        url: str,
        headers: Headers,
        body: bytes = b"",
        *,
        is_local: bool = False,
        timeout_s: float = TIMEOUT_S,
    ) -> Answer:
        """Send one request and read its answer, whatever its status; follows no redirect.

        Args:
            headers: lower-case names.
            is_local: of this machine or its hypervisor: no proxy leads there.

        Raises:
            CredentialUnavailable: no whole answer in time, or a body that would be sent in the
                clear to another machine; names the host and why, no more.

        Cancelled: the request is withdrawn.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        # What the machine's own cloud serves it has addresses that nothing else may have.
        way = Way(private=ANYWHERE) if is_local else self._way
        is_secure = parts.scheme == "https"
        if method == "POST" and not is_local and not is_token_address(url):
            raise CredentialUnavailable(f"{host}: secrets are sent to https:// addresses alone")
        origin = Origin(
            scheme="https" if is_secure else "http",
            host=host,
            port=parts.port or (443 if is_secure else 80),
            http="h1" if is_local else "auto",
            ca_file=way.ca_file,
            egress_proxy=way.egress_proxy,
            ca_digest=way.ca_digest,
            private=way.private,
        )
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        request = UpstreamRequest(method, path, [*headers, _USER_AGENT], body)
        asked_s = self.now_s()
        try:
            async with asyncio.timeout(timeout_s):
                stream = await self._transport.open(origin, request, connect_timeout_s=timeout_s)
                try:
                    chunks: list[bytes] = []
                    total_bytes = 0
                    async for chunk in stream.chunks():
                        total_bytes += len(chunk)
                        if total_bytes > MAX_ANSWER_BYTES:
                            raise CredentialUnavailable(f"{host}: the answer is too long")
                        chunks.append(bytes(chunk))
                finally:
                    await stream.aclose()
        except TimeoutError:
            raise CredentialUnavailable(f"{host}: no answer within {timeout_s:g} s") from None
        except CredentialUnavailable:
            raise
        except RelayError as error:
            raise CredentialUnavailable(f"{host}: {error.public_message}") from error
        return Answer(
            host, stream.status, stream.headers, b"".join(chunks), asked_s, date_in(stream.headers)
        )

    async def file(self, path: str) -> bytes:
        """What is in a file now, its first megabyte.

        Raises:
            CredentialUnavailable: it cannot be read.
        """
        try:
            return await self._read(path)
        except OSError as error:
            raise CredentialUnavailable(f"cannot read {path}: {error.strerror}") from error

    async def work(self, work: Callable[[], T]) -> T:
        """What would hold up the loop for milliseconds, done beside it. Raises what it raises.

        Cancelled: it runs to its end, and nobody sees it.
        """
        done: T = await self._run(work)
        return done
