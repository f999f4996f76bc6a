"""Ways to a provider for the time when no relay answers: `Client(direct=...)`.

    direct = rtrelay.direct.OpenAIChat("https://api.openai.com/v1", api_key=key, model="gpt-5-mini")
    async with rtrelay.Client("127.0.0.1:50051", model="fast", direct=direct) as client: ...

`OpenAIChat` speaks the chat completions that most providers do; it needs `rtrelay-client[direct]`.
Anything with the three methods of `Provider` does as well.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

import grpc

from rtrelay._chat_body import Dialect, chat_body, model_of
from rtrelay._chat_errors import error_of_answer
from rtrelay._chat_stream import ChatStream
from rtrelay.errors import RelayError
from rtrelay.events import Event
from rtrelay.v1 import End, Start

Answer: TypeAlias = AsyncIterator[Event | End]
"""Events of an answer as they come. An `End` may be the last of them: `usage`, `choices` with their
finish reasons, `model`, `response_id` of it are told on, the rest is filled in."""


_DRAIN_S = 0.05
_MOST_LINE_BYTES = 4 << 20


class Provider(Protocol):
    """Who can be asked without a relay. Subclass it, or write the three methods."""

    def generate(self, start: Start) -> AbstractAsyncContextManager[Answer]:
        """One answer. Leaving the block, also by a cancellation, closes what was opened for it, at
        once.

        What the start says of time limits, withholding, segments and wanted kinds of output is seen
        to by the client: give all that comes, and only that. A normal end of the iteration is a
        whole answer.

        Args:
            start: with the session's defaults; `start.model` is the relay's name for it.

        Raises:
            RelayError: it failed; told as it is. Other exceptions become UPSTREAM_FAILED.
        """
        ...

    async def warm(self) -> None:
        """Have a connection open for the next answer. Called now and then; failures are nobody's
        business."""

    async def aclose(self) -> None:
        """Close everything. Idempotent; `generate` may open it again."""


class OpenAIChat(Provider):
    """Chat completions over HTTP/1.1, streamed, on a connection that is kept open.

    One event loop at a time. Cancelling an answer closes its connection, which stops the provider.
    Nothing is asked twice, but for a request that met the end of a kept connection: an agent whose
    relay is gone must not multiply what it asks.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        model: str = "",
        models: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        max_tokens_field: str = "",
        ca_file: str | None = None,
        connect_timeout_s: float = 3.0,
        silence_timeout_s: float = 20.0,
        trust_env: bool = True,
    ) -> None:
        """
        Args:
            base_url: what `/chat/completions` follows: `https://api.openai.com/v1`.
            api_key: sent as `authorization: Bearer ...`.
            model: the provider's name of the model, for all that `models` does not name.
            models: from the relay's names (aliases) to the provider's.
            headers: added to each request (`api-key` of Azure and the like); secrets, too.
            max_tokens_field: what the host calls the limit of tokens; empty for
                `max_completion_tokens` at OpenAI and Azure, `max_tokens` elsewhere.
            ca_file: PEM of who signs for the provider, instead of the machine's authorities.
            silence_timeout_s: how long the provider may say nothing, where `Budgets` set no less.
            trust_env: obey `https_proxy` and its like.

        Raises:
            ImportError: httpx2 is not installed.
            OSError, ssl.SSLError: `ca_file` cannot be read.
            TypeError, ValueError: an argument cannot be right; secrets are not shown.
        """
        self._httpx: Any = _import_httpx2()
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("base_url: an address like https://api.openai.com/v1")
        if parts.username is not None or parts.password is not None:
            raise ValueError("base_url: it holds a password; use api_key or headers")
        if not model and not models:
            raise ValueError("model: name one, or several by models={alias: model}")
        self._base_url = base_url.rstrip("/")
        is_openai = parts.hostname.endswith((".openai.com", ".azure.com"))
        known_field = "max_completion_tokens" if is_openai else "max_tokens"
        self._dialect = Dialect(max_tokens_field or known_field, has_developer_role=is_openai)
        self._model = model
        self._models = dict(models or {})
        self._headers = {
            "accept": "text/event-stream",
            "accept-encoding": "identity",  # compressors wait for more
            **_checked_headers(headers or {}),
        }
        if api_key is not None:
            self._headers["authorization"] = f"Bearer {_checked_key(api_key)}"
        # Here, for it reads files, which a loop must not wait for.
        self._tls: ssl.SSLContext = (
            ssl.create_default_context(cafile=ca_file)
            if ca_file is not None
            else self._httpx.create_ssl_context(trust_env=trust_env)
        )
        self._timeout = self._httpx.Timeout(
            silence_timeout_s, connect=connect_timeout_s, pool=connect_timeout_s
        )
        self._trust_env = trust_env
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<OpenAIChat {urlsplit(self._base_url).hostname}: {self._model or self._models}>"

    @asynccontextmanager
    async def generate(self, start: Start) -> AsyncIterator[Answer]:
        """One answer; as `Provider.generate`."""
        name = model_of(start)
        model = self._models.get(name, self._model)
        if not model:
            raise RelayError(
                "UNKNOWN_MODEL",
                grpc.StatusCode.NOT_FOUND,
                f"direct.models: there is no model for {name!r}",
                details={"field": "direct.models"},
            )
        body = chat_body(start, model, self._dialect)
        response = await self._send(body)
        try:
            if response.status_code != 200:
                retry_after = response.headers.get("retry-after", "")
                raise error_of_answer(response.status_code, await _read(response), retry_after)
            async with aclosing(self._read_answer(response)) as answer:
                yield answer
        except self._httpx.TransportError as error:
            raise self._failure(error) from None
        finally:
            await response.aclose()

    async def warm(self) -> None:
        """Ask for the list of models: what matters is the connection."""
        headers = {**self._headers, "accept": "*/*"}
        try:
            await self._opened().get(f"{self._base_url}/models", headers=headers)
        except self._httpx.HTTPError:
            return

    async def aclose(self) -> None:
        """Close the connections. Idempotent; they open again with the next answer."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _opened(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._loop = loop
            self._client = self._httpx.AsyncClient(
                http2=False,
                verify=self._tls,
                timeout=self._timeout,
                trust_env=self._trust_env,
                limits=self._httpx.Limits(max_keepalive_connections=4, keepalive_expiry=120.0),
            )
        return self._client

    async def _send(self, body: bytes) -> Any:
        """The answer, its body unread.

        Raises:
            RelayError: there was none.
        """
        client = self._opened()
        headers = {**self._headers, "content-type": "application/json"}
        for is_last in (False, True):
            request = client.build_request(
                "POST", f"{self._base_url}/chat/completions", content=body, headers=headers
            )
            try:
                return await client.send(request, stream=True)
            except (self._httpx.RemoteProtocolError, self._httpx.ReadError) as error:
                # A kept connection that the server closed just now; another one is new.
                if is_last:
                    raise self._failure(error) from None
            except self._httpx.TransportError as error:
                raise self._failure(error) from None
        raise AssertionError("not reached")

    async def _read_answer(self, response: Any) -> AsyncGenerator[Event | End, None]:
        stream = ChatStream()
        whole: list[bytes] = []
        async with aclosing(_lines(response)) as lines:
            async for line in lines:
                if whole or line.lstrip().startswith(b"{"):
                    whole.append(line)  # a host that streams nothing sends one document
                elif line.startswith(b"data:"):  # else a comment, a name, a blank line
                    for event in stream.feed(line[5:].strip()):
                        yield event
                    if stream.is_done:
                        break
            if whole:
                for event in stream.feed(b"\n".join(whole)):
                    yield event
            for event in stream.finish():
                yield event
            yield stream.end
            await _drain(lines)

    def _failure(self, error: Exception) -> RelayError:
        httpx = self._httpx
        code = grpc.StatusCode.UNAVAILABLE
        if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
            reason = "CONNECT_TIMEOUT"
        elif isinstance(error, httpx.TimeoutException):
            reason, code = "STREAM_STALLED", grpc.StatusCode.DEADLINE_EXCEEDED
        elif isinstance(error, httpx.ConnectError):
            reason = "UPSTREAM_UNREACHABLE"
        else:
            reason = "UPSTREAM_RESET"
        host = urlsplit(self._base_url).hostname
        message = f"{host}: {type(error).__name__}"
        return RelayError(reason, code, message, details={"provider": "direct"})


async def _lines(response: Any) -> AsyncGenerator[bytes, None]:
    """Its lines. Not by the library, which cuts at marks that JSON may hold as they are (U+2028).

    Raises:
        RelayError: UPSTREAM_EVENT_TOO_LARGE.
    """
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > _MOST_LINE_BYTES:
            raise RelayError(
                "UPSTREAM_EVENT_TOO_LARGE",
                grpc.StatusCode.UNAVAILABLE,
                f"a line of the answer is longer than {_MOST_LINE_BYTES} bytes",
                details={"provider": "direct"},
            )
    yield rest


async def _drain(lines: AsyncIterator[bytes]) -> None:
    """Read to the end of the answer, for its connection can be kept then; but wait for nobody."""
    try:
        async with asyncio.timeout(_DRAIN_S):
            async for _ in lines:
                pass
    except TimeoutError:
        return


async def _read(response: Any) -> bytes:
    """Of an error; no more than errors need."""
    data = b""
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) > 65_536:
            break
    return data


def _import_httpx2() -> Any:
    """With the first use: `rtrelay` alone does not need it."""
    try:
        return importlib.import_module("httpx2")
    except ImportError as error:
        raise ImportError(
            "rtrelay.direct.OpenAIChat needs httpx2 (pip install httpx2),"
            " the extra `direct` of rtrelay-client"
        ) from error


def _checked_key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError("api_key: a text")
    if not key or not (key.isascii() and key.isprintable()) or key != key.strip():
        raise ValueError("api_key: empty, or with characters that cannot be sent (a line end?)")
    return key


def _checked_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    for name, value in headers.items():
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise ValueError(f"headers: {name} cannot be sent")
    return {name.lower(): value for name, value in headers.items()}
