"""google-auth's own search for credentials: federation, impersonation and what else it knows.

It works in a thread and asks over the relay's transport, so that proxy and roots are the row's. It
is imported where a row wants it, before anything is served: its threads hold the interpreter for
milliseconds when they sign, and for more when they import.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import urlsplit

from relay.credentials.ask import TIMEOUT_S, Ask
from relay.credentials.google_service_account import quota_headers
from relay.credentials.token import FOREVER_S, UNTOLD_LIFE_S, AccessToken, TokenCredential
from relay.errors import CredentialUnavailable

RENEWAL_S = 30.0
"""For all requests of one renewal; impersonation makes several."""
_LOCAL_HOSTS = ("metadata.google.internal", "169.254.169.254", "127.0.0.1", "localhost", "::1")


class LibraryCredential(TokenCredential):
    """Whatever google-auth finds, renewed by it when we say."""

    kind: ClassVar[str] = "google"

    def __init__(self, path: str | None, scopes: Sequence[str], quota_project: str | None) -> None:
        """
        Args:
            path: a file in the place of its search.

        Raises:
            ValueError: google-auth is not installed.
        """
        try:
            import google.auth
            import google.auth.exceptions
        except ImportError:
            raise ValueError(
                "credential.source: library needs google-auth: install rtrelay[google]"
            ) from None
        self._auth: Any = google.auth
        self._faults: Any = google.auth.exceptions
        super().__init__("library", beside=quota_headers(quota_project))
        self._path = path
        self._scopes = list(scopes)
        self._found: Any = None

    async def _fetch(self, ask: Ask) -> AccessToken:
        request = _Request(ask, asyncio.get_running_loop(), self._faults)
        asked_s = ask.now_s()
        try:
            async with asyncio.timeout(RENEWAL_S):
                value, ends_s = await asyncio.to_thread(self._refresh, request)
        except TimeoutError:
            raise CredentialUnavailable(f"google-auth: no token in {RENEWAL_S:g} s") from None
        except self._faults.GoogleAuthError as error:
            # Its texts quote answers whole; its own names do not.
            why = request.last_error or type(error).__name__
            raise CredentialUnavailable(f"google-auth: {why}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CredentialUnavailable(f"google-auth: {type(error).__name__}") from None
        finally:
            request.close()
        life_s = UNTOLD_LIFE_S if ends_s is None else ends_s - ask.wall_s()
        if life_s <= 0:
            raise CredentialUnavailable("google-auth: the token that was given is over")
        return AccessToken(value, min(life_s, FOREVER_S), asked_s)

    def _refresh(self, request: _Request) -> tuple[str, float | None]:
        """In a thread."""
        if self._found is None:
            if self._path is not None:
                load = self._auth.load_credentials_from_file
                self._found, _ = load(self._path, scopes=self._scopes, request=request)
            else:
                self._found, _ = self._auth.default(scopes=self._scopes, request=request)
        found = self._found
        found.refresh(request)
        if not found.token:
            raise ValueError("no token")
        expiry: datetime | None = found.expiry
        quota = getattr(found, "quota_project_id", None)
        if quota and not self._beside:
            self._beside = quota_headers(quota)
        return str(found.token), None if expiry is None else expiry.replace(tzinfo=UTC).timestamp()


class _Answer:
    """google.auth.transport.Response."""

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.status = status
        self.headers = headers
        self.data = data


class _Request:
    """google.auth.transport.Request over `Ask`, called in a thread that has no loop."""

    def __init__(self, ask: Ask, loop: asyncio.AbstractEventLoop, faults: Any) -> None:
        self._ask = ask
        self._loop = loop
        self._faults = faults
        self._closed = threading.Event()
        self._running: set[Any] = set()
        self.last_error = ""

    def close(self) -> None:
        """Let the thread fail at its next request, and at the one that it waits for."""
        self._closed.set()
        for future in list(self._running):
            future.cancel()

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> _Answer:
        if self._closed.is_set():
            raise self._faults.TransportError("the renewal was given up")
        data = body.encode() if isinstance(body, str) else body or b""
        asking = self._ask(
            "POST" if method == "POST" else "GET",
            url,
            [(name.lower(), value) for name, value in (headers or {}).items()],
            data,
            is_local=urlsplit(url).hostname in _LOCAL_HOSTS,
            timeout_s=min(timeout or TIMEOUT_S, TIMEOUT_S),
        )
        future = asyncio.run_coroutine_threadsafe(asking, self._loop)
        self._running.add(future)
        try:
            answer = future.result(TIMEOUT_S + 1.0)
        except CredentialUnavailable as error:
            self.last_error = error.public_message
            raise self._faults.TransportError("no answer") from None
        except (asyncio.CancelledError, FutureTimeout):
            raise self._faults.TransportError("the renewal was given up") from None
        finally:
            self._running.discard(future)
        if answer.status >= 400:
            self.last_error = f"{answer.host} answered {answer.status}"
        return _Answer(answer.status, dict(answer.headers), answer.body)
