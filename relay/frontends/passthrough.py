"""What the relay does not translate, handed through to one provider as it is: files, images, sound.

    /pass/PROVIDER/PATH      any row that allows it, PATH after the row's base address
    /v1/AREA/...             the areas of `passthrough_rules`, where exactly one row allows them

Off unless a provider's row says `passthrough`. The caller's credentials stay here and the row's go
out; of headers only those named there pass, in either direction. Nothing is raced or counted as
tokens, and nothing is retried but what was refused for a credential that is another one by then: a
request is bounded in size and time, logged with who asked and what came.
What the relay serves itself (chat, responses, embeddings, messages) is refused here, since it would
go past every rule that an operator has set for it. Of the request's own limits `x-relay-total-ms`
holds, and `x-relay-first-token-ms` for the first byte.

A request that is a WebSocket's handshake is one (`passthrough_socket`); from a browser only where
its page's origin is among `cors_origins`, since browsers ask nobody before they open one.

A client that leaves resets the provider's stream; an answer that breaks breaks the connection, as
nobody could tell half a file from a whole one otherwise.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection
from typing import Final

import structlog

from relay.config import PassthroughConfig
from relay.content import Budgets
from relay.deadline import Scope as Deadline
from relay.deadline import Timer, Watchdog
from relay.dispatch import Services
from relay.errors import (
    AttemptTimeout,
    ClientCancelled,
    Draining,
    FirstTokenTimeout,
    InvalidRequest,
    Reason,
    RelayError,
    StreamStalled,
    UnknownModel,
    UpstreamStatus,
)
from relay.frontends.asgi import (
    ABORT,
    BEGUN,
    STREAMS,
    WEBSOCKET,
    Receive,
    Scope,
    Send,
    read_body,
)
from relay.frontends.caller import caller_of
from relay.frontends.cors import check_host, check_page
from relay.frontends.passthrough_rules import (
    AREAS,
    PREFIX,
    answer_headers,
    checked,
    is_worth_another_try,
    path_of,
    request_headers,
)
from relay.frontends.passthrough_socket import SocketExchange
from relay.frontends.request_policy import read_policy
from relay.governance.ledger import Refused, Visit, VisitEntry
from relay.outcome import HandedThrough
from relay.redaction import forms_of, without
from relay.routing.endpoint import Endpoint
from relay.transport.base import Headers, UpstreamRequest, UpstreamStream
from relay.transport.websocket import HandshakeRefused

_log = structlog.get_logger("relay.passthrough")

MAX_ERROR_BYTES: Final = 256 * 1024
"""Of an error that is looked through for our credentials; a longer one is cut."""
_HEAD, _BODY, _CLIENT = 0, 1, 2
"""Whom a request waits for, as its watchdog knows it."""


class Passthrough:
    """Serves what the module says; finds nothing where no row allows it."""

    def __init__(self, services: Services, origins: Collection[str] = ()) -> None:
        """
        Args:
            origins: of pages that may open a WebSocket; `*` for all.
        """
        self._services = services
        self._origins = origins

    def find(self, path: str) -> tuple[Endpoint, PassthroughConfig, str] | None:
        """The row that a path goes to, and what is behind its base address; None if none does.

        Raises:
            InvalidRequest: several rows allow it, or the path is not one to be sent on.
        """
        endpoints = self._services.catalog.endpoints
        if path.startswith(PREFIX):
            name, _, rest = path[len(PREFIX) :].partition("/")
            endpoint = endpoints.get(name)
            if endpoint is None or endpoint.passthrough is None:
                return None
            return endpoint, endpoint.passthrough, checked(rest)
        area = path.removeprefix("/v1/").partition("/")[0]
        if not path.startswith("/v1/") or area not in AREAS:
            return None
        found = [
            (row, row.passthrough) for row in endpoints.values() if row.passthrough is not None
        ]
        if len(found) > 1:
            names = ", ".join(f"{PREFIX}{row.provider}/{area}" for row, _ in found)
            raise InvalidRequest(f"several providers may serve {area}: ask one of {names}")
        if not found:
            return None
        return *found[0], checked(path.removeprefix("/v1/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Serve one request to its end.

        Raises:
            RelayError: before anything was sent; the caller answers.
            ClientCancelled: it went away.
        """
        services = self._services
        if not services.gate.needs_keys and WEBSOCKET not in scope:  # those name their origin
            check_host(scope, self._origins)
        found = self.find(scope["path"])
        if found is None:
            raise UnknownModel(scope["path"], ())
        if services.is_draining:
            raise Draining("this relay is shutting down; connect again")
        endpoint, limits, rest = found
        budgets = read_policy(scope, {})[0].budgets
        path = path_of(scope, endpoint, rest)
        caller = caller_of(scope)

        def visit(surface: str) -> Visit:
            provider = endpoint.provider
            return Visit(request_id, caller.tenant, caller.key_id, provider, surface, path)

        self._check_unread(visit("passthrough" if WEBSOCKET not in scope else "websocket"))
        if (offer := scope.get(WEBSOCKET)) is not None:
            check_page(scope, self._origins)
            socket = SocketExchange(services, endpoint, limits, budgets, scope, send, request_id)
            leave = await services.ledger.enter(caller.tenant, caller.key_id)
            try:
                socket.entry = await services.ledger.hand_through(visit("websocket"))
                await socket.run(path, offer, receive)
            except HandshakeRefused as refused:
                length = (b"content-length", b"%d" % len(refused.body))
                headers = answer_headers(
                    refused.headers, endpoint, request_id, socket.credential_headers
                )
                head = {"type": "http.response.start", "status": refused.status}
                await send({**head, "headers": [*headers, length]})
                await send({"type": "http.response.body", "body": refused.body})
            finally:
                leave()
            return
        exchange = _Exchange(services, endpoint, limits, budgets, scope, send, request_id)
        body = await read_body(scope, receive, limits.max_request_bytes)
        await send({"type": STREAMS})  # a client that ends its sending side has gone
        exchange.entry = await services.ledger.hand_through(visit("passthrough"))
        await exchange.run(path, body, receive)

    def _check_unread(self, visit: Visit) -> None:
        """
        Raises:
            GuardrailBlocked: guardrails hold for the caller, and nothing is read of this.
        """
        services = self._services
        if services.course is None:
            return
        try:
            services.course.check_passthrough(
                visit.provider, visit.tenant, visit.key_id, visit.surface
            )
        except RelayError as error:
            services.ledger.refused(error, Refused.of_visit(visit))
            raise


class _Exchange:
    """One request at the provider."""

    def __init__(
        self,
        services: Services,
        endpoint: Endpoint,
        limits: PassthroughConfig,
        budgets: Budgets,
        scope: Scope,
        send: Send,
        request_id: str,
    ) -> None:
        self._services = services
        self._endpoint = endpoint
        self._limits = limits
        self._total_s = min(limits.total_ms / 1000, budgets.total_s or math.inf)
        self._first_byte_s = min(limits.first_byte_ms / 1000, budgets.first_token_s or math.inf)
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._deadline = Deadline()
        self._is_head_out = False
        self._status = 0
        self._credential_headers: Headers = []
        self._answer_bytes = 0
        self._began_s = services.clock()
        self.entry: VisitEntry | None = None
        """Its account; settled when it is over."""

    async def run(self, path: str, body: bytes, receive: Receive) -> None:
        """Send, and stream back what comes.

        Raises:
            RelayError: nothing of an answer was sent.
        """
        deadline, limits, clock = self._deadline, self._limits, self._services.clock
        live = self._services.live
        self._scope[BEGUN] = True
        deadline.enter()
        live.add(self, deadline.cancel)
        listener = asyncio.get_running_loop().create_task(self._watch_client(receive))
        timer = Timer(deadline, self._total_s, self._too_long)
        limits_s = (self._first_byte_s, limits.idle_ms / 1000, None)
        watchdog = Watchdog(deadline, limits_s, self._silent, clock)
        failure: RelayError | None = None
        try:
            await self._exchange(path, body, watchdog)
        except asyncio.CancelledError:
            failure = deadline.caught()
            if failure is None:
                raise
            await self._fail(failure)
        except RelayError as error:
            failure = error
            await self._fail(error)
        finally:
            watchdog.stop()
            timer.stop()
            deadline.leave()
            live.discard(self)
            listener.cancel()
            await asyncio.wait([listener])
            self._log(len(body), failure)

    async def _exchange(self, path: str, body: bytes, watchdog: Watchdog) -> None:
        endpoint, clock = self._endpoint, self._services.clock
        stream = await self._ask(path, body)
        try:
            self._status = stream.status
            if 300 <= stream.status < 400 and stream.status != 304:
                raise UpstreamStatus(
                    f"{endpoint.provider} answered with a redirect, which is not followed",
                    reason=Reason.UPSTREAM_REDIRECT,
                    http_status=stream.status,
                )
            if stream.status >= 400:
                await self._error_answer(stream, watchdog)
                return
            # Framed anew: what was announced holds for the body only if it is not cut.
            length = [(n, v) for n, v in stream.headers if n == "content-length"]
            await self._head(stream.status, stream.headers, length)
            watchdog.enter(_BODY, clock())
            async for chunk in stream.chunks():
                watchdog.enter(_CLIENT, clock())
                self._answer_bytes += len(chunk)
                await self._send(
                    {"type": "http.response.body", "body": bytes(chunk), "more_body": True}
                )
                watchdog.enter(_BODY, clock())
            await self._send({"type": "http.response.body", "body": b""})
        finally:
            stream.abort()
            await stream.aclose()

    async def _ask(self, path: str, body: bytes) -> UpstreamStream:
        """The head of the answer: of the second one, where the first refused a credential that is
        another one by now."""
        endpoint, services = self._endpoint, self._services
        method, given = self._scope["method"], request_headers(self._scope["headers"])
        is_second = False
        while True:
            headers, sent = endpoint.signed(method, path, given, body, time.time())
            self._credential_headers = sent
            stream = await services.transport.open(
                endpoint.origin,
                UpstreamRequest(method, path, headers, body),
                connect_timeout_s=self._limits.connect_ms / 1000,
            )
            is_worth = is_worth_another_try(
                endpoint, stream.status, stream.headers, sent, services.clock()
            )
            if is_second or not is_worth:
                return stream
            is_second = True
            stream.abort()
            await stream.aclose()

    async def _error_answer(self, stream: UpstreamStream, watchdog: Watchdog) -> None:
        """The provider's own error, with our credentials masked where it quotes them."""
        body = bytearray()
        watchdog.enter(_BODY, self._services.clock())
        async for chunk in stream.chunks():
            body += chunk[: MAX_ERROR_BYTES - len(body)]
        secrets = forms_of([*self._endpoint.secrets(), *self._credential_headers])
        text = without(body.decode("utf-8", "replace"), secrets).encode()
        self._answer_bytes = len(text)
        await self._head(stream.status, stream.headers, [("content-length", str(len(text)))])
        await self._send({"type": "http.response.body", "body": text})

    async def _head(self, status: int, headers: Headers, length: Headers) -> None:
        found = answer_headers(headers, self._endpoint, self._request_id, self._credential_headers)
        found += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in length]
        self._is_head_out = True
        await self._send({"type": "http.response.start", "status": status, "headers": found})

    # --- ends -------------------------------------------------------------------------------

    async def _watch_client(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._deadline.cancel(ClientCancelled("the client closed the connection"))

    def _too_long(self) -> RelayError:
        return AttemptTimeout(f"{self._endpoint.provider} took longer than {self._total_s:g} s")

    def _silent(self, state: int) -> RelayError:
        limits, provider = self._limits, self._endpoint.provider
        if state == _HEAD:
            return FirstTokenTimeout(f"{provider} did not answer within {self._first_byte_s:g} s")
        return StreamStalled(f"{provider} sent nothing for {limits.idle_ms / 1000:g} s")

    async def _fail(self, error: RelayError) -> None:
        if not self._is_head_out:
            raise error
        if not isinstance(error, ClientCancelled):
            await self._send({"type": ABORT})

    def _log(self, request_bytes: int, failure: RelayError | None) -> None:
        caller, provider = caller_of(self._scope), self._endpoint.provider
        wall_us = round((self._services.clock() - self._began_s) * 1e6)
        if self.entry is not None:
            self.entry.settle(self._status, failure, wall_us)
        self._services.handed_through(
            HandedThrough(provider, "passthrough", self._status, failure, wall_us)
        )
        _log.info(
            "passthrough",
            id=self._request_id,
            tenant=caller.tenant or None,
            key=caller.key_id or None,
            provider=provider,
            method=self._scope["method"],
            path=self._scope["path"][:200],
            status=self._status or None,
            reason=failure.reason.name if failure is not None else None,
            request_bytes=request_bytes,
            answer_bytes=self._answer_bytes,
            wall_us=wall_us,
        )
