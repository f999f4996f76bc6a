"""One WebSocket handed through: OpenAI's Realtime API and what is like it.

The provider is dialled first: what it refuses before its handshake is an HTTP answer to the client,
as for any other request. From then on messages go both ways unread, one at a time each way, so a
side that does not read holds up the other one and nothing piles up here. The one thing looked for:
an error in text that quotes our credentials.

How it ends is passed on: a side's close code and reason go to the other one (`1005`: none). What
no frame has said is told in our words: to the client `1011` when the provider's side broke, `1012`
when this relay stops, `1008` when its key holds no more, `1001` at a limit of ours; to the provider
`1001`, since the client has gone.
What breaks the protocol, or is too large, is answered to its sender with the code that says so.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

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
    InternalError,
    PermissionDenied,
    Reason,
    RelayError,
    RemoteProtocolError,
    StoreDown,
    StreamStalled,
    Unauthenticated,
    UpstreamStatus,
)
from relay.frontends.asgi import BEGUN, STREAMS, TAKE_OVER, Receive, Scope, Send
from relay.frontends.caller import caller_of
from relay.frontends.passthrough_rules import (
    answer_headers,
    is_worth_another_try,
    request_headers,
    subprotocols_of,
)
from relay.frontends.websocket_offer import Offer
from relay.governance.grants import scopes_of
from relay.governance.ledger import Refused, VisitEntry
from relay.outcome import HandedThrough
from relay.redaction import forms_of, without
from relay.routing.endpoint import Endpoint
from relay.transport.base import Headers
from relay.transport.websocket import (
    ClientSocket,
    Ending,
    HandshakeRefused,
    ServerSocket,
    SocketLimits,
    WebSocket,
    dial,
)

_log = structlog.get_logger("relay.passthrough")

_GOING_AWAY, _NO_STATUS, _ABNORMAL, _POLICY, _INTERNAL, _RESTART = (
    1001,
    1005,
    1006,
    1008,
    1011,
    1012,
)
_LOOK_S: Final = 0.5
"""Between looks at whether its key still holds: a revocation is in force within a second."""
_OPENING, _OPEN = 0, 1
"""What its watchdog knows it to do; opening has a limit of its own."""
_ERROR: Final = '"error"'


class _Goodbyes(NamedTuple):
    """What each side is told, and on whose account."""

    by: str
    """`client`, `provider` or `relay`."""
    code: int
    """Which that side said, 1006 if it just went; ours to the client where it was the relay."""
    fault: str
    to_client: tuple[int, str]
    to_provider: tuple[int, str]


class SocketExchange:
    """One WebSocket from its request to its end."""

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
        bounds = limits.websocket
        self._services = services
        self._endpoint = endpoint
        self._limits = SocketLimits(
            bounds.max_message_bytes,
            bounds.waiting_bytes,
            bounds.ping_ms / 1000,
            services.slow_consumer_s,
        )
        self._connect_s = min(bounds.connect_ms / 1000, budgets.first_token_s or math.inf)
        self._idle_s = bounds.idle_ms / 1000
        self._total_s = min(bounds.total_ms / 1000, budgets.total_s or math.inf)
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._deadline = Deadline()
        self._secrets: list[str] = []
        """What is masked, once it is known what was sent."""
        self.credential_headers: Headers = []
        """As the provider was shown them."""
        self._watchdog: Watchdog
        self._client: ServerSocket | None = None
        """Once the client's connection is a WebSocket."""
        self._provider: ClientSocket | None = None
        self._status = 0
        self._look: asyncio.TimerHandle | None = None
        self._began_s = services.clock()
        self.entry: VisitEntry | None = None
        """Its account; settled when it is over."""

    async def run(self, path: str, offer: Offer, receive: Receive) -> None:
        """Hand it through to its end, which is told to both sides.

        Raises:
            RelayError: nothing was sent to the client.
            ClientCancelled: it went away before it was a WebSocket.
            HandshakeRefused: as the provider said it, our credentials masked.

        Cancelled: both connections are broken off.
        """
        deadline, live = self._deadline, self._services.live
        self._scope[BEGUN] = True
        deadline.enter()
        live.add(self, deadline.cancel)
        timer = Timer(deadline, self._total_s, self._too_long)
        limits_s = (None, self._idle_s)
        self._watchdog = Watchdog(deadline, limits_s, self._silent, self._services.clock)
        failure: RelayError | None = None
        goodbyes: _Goodbyes | None = None
        self._look_at_key()
        try:
            try:
                await self._open(path, offer, receive)
                await self._talk()
            except asyncio.CancelledError:
                failure = deadline.caught()
                if failure is None:
                    raise
            except RelayError as error:
                failure = error
            finally:
                self._watchdog.stop()
                timer.stop()
                if self._look is not None:
                    self._look.cancel()
                deadline.leave()
            goodbyes = self._goodbyes(failure)
            await self._part(goodbyes)
            if self._client is None and failure is not None:
                raise failure
        finally:
            for side in (self._client, self._provider):
                if side is not None:
                    side.abort()
            live.discard(self)
            self._log(failure, goodbyes)

    # --- the beginning ----------------------------------------------------------------------

    async def _open(self, path: str, offer: Offer, receive: Receive) -> None:
        listener = asyncio.get_running_loop().create_task(self._watch_client(receive))
        try:
            await self._send({"type": STREAMS})  # a client that ends its sending side has gone
            self._provider = provider = await self._dial(path, offer)
        finally:
            listener.cancel()
            await asyncio.wait([listener])
        client = ServerSocket(self._limits)
        headers = list(provider.response.headers.raw_items()) if provider.response else []
        answer = answer_headers(
            [(name.lower(), value) for name, value in headers],
            self._endpoint,
            self._request_id,
            self.credential_headers,
        )
        chosen = offer.accepting(provider.subprotocol)
        await self._send({"type": TAKE_OVER, "headers": chosen + answer, "protocol": client})
        self._client, self._status = client, 101

    async def _dial(self, path: str, offer: Offer) -> ClientSocket:
        endpoint = self._endpoint
        try:
            try:
                return await self._dial_once(path, offer)
            except HandshakeRefused as refused:
                if not self._is_worth_another_try(refused):
                    raise
            try:
                return await self._dial_once(path, offer)
            except HandshakeRefused as refused:
                self._is_worth_another_try(refused)
                raise
        except HandshakeRefused as refused:
            self._status = refused.status
            if refused.status < 300:
                raise RemoteProtocolError(f"{endpoint.provider} has no WebSocket here") from None
            if refused.status < 400:
                raise UpstreamStatus(
                    f"{endpoint.provider} answered with a redirect, which is not followed",
                    reason=Reason.UPSTREAM_REDIRECT,
                    http_status=refused.status,
                ) from None
            text = without(refused.body.decode("utf-8", "replace"), self._secrets)
            raise HandshakeRefused(refused.status, refused.headers, text.encode()) from None

    def _is_worth_another_try(self, refused: HandshakeRefused) -> bool:
        now_s, sent = self._services.clock(), self.credential_headers
        return is_worth_another_try(self._endpoint, refused.status, refused.headers, sent, now_s)

    async def _dial_once(self, path: str, offer: Offer) -> ClientSocket:
        endpoint = self._endpoint
        given = request_headers(self._scope["headers"])
        headers, self.credential_headers = endpoint.signed("GET", path, given, b"", time.time())
        self._secrets = forms_of([*endpoint.secrets(), *self.credential_headers])
        return await dial(
            endpoint.origin,
            path,
            headers,
            subprotocols_of(offer.subprotocols),
            self._limits,
            connect_timeout_s=self._connect_s,
        )

    async def _watch_client(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._deadline.cancel(ClientCancelled("the client closed the connection"))

    # --- both ways --------------------------------------------------------------------------

    async def _talk(self) -> None:
        """Return when one side has ended and all that it had said is delivered."""
        client, provider = self._client, self._provider
        if client is None or provider is None:
            raise InternalError("there is nobody to talk to")
        self._watchdog.enter(_OPEN, self._services.clock())
        loop = asyncio.get_running_loop()
        pumps = {
            loop.create_task(self._pump(client, provider)),
            loop.create_task(self._pump(provider, client, self._secrets)),
        }
        try:
            done, rest = await asyncio.wait(pumps, return_when="FIRST_COMPLETED")
            if rest and not any(pump.result() for pump in done):
                # Whom it sent to has ended: what that side said before still goes out.
                done, _ = await asyncio.wait(rest)
                for pump in done:
                    pump.result()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)

    async def _pump(self, source: WebSocket, sink: WebSocket, secrets: Sequence[str] = ()) -> bool:
        """Returns whether the source has ended, not the sink.

        Args:
            secrets: masked in what may be an error.
        """
        watchdog, clock = self._watchdog, self._services.clock
        while (message := await source.receive()) is not None:
            watchdog.enter(_OPEN, clock())
            if secrets and isinstance(message, str) and _ERROR in message:
                for secret in secrets:
                    message = message.replace(secret, "***")
            if not await sink.deliver(message):
                return False
        return True

    # --- the end ----------------------------------------------------------------------------

    def _goodbyes(self, failure: RelayError | None) -> _Goodbyes:
        client, provider = self._client, self._provider
        gone = (_GOING_AWAY, "")
        if failure is not None or client is None or provider is None:
            text = "" if failure is None else failure.public_message
            code = _GOING_AWAY
            if isinstance(failure, Draining):
                code = _RESTART
            elif isinstance(failure, Unauthenticated | PermissionDenied):
                code = _POLICY
            return _Goodbyes("relay", code, "", (code, text), gone)
        # Both may have ended: then the provider's word is what the client waits for.
        if not provider.is_open:
            said = provider.ending()
            if said.code != _ABNORMAL:
                reason = without(said.reason, self._secrets) if said.reason else ""
                return _Goodbyes("provider", said.code, "", (said.code, reason), gone)
            return _Goodbyes(
                "provider", said.code, said.fault, (_INTERNAL, self._broken(said)), gone
            )
        said = client.ending()
        to_provider = gone if said.code == _ABNORMAL else (said.code, said.reason)
        return _Goodbyes("client", said.code, said.fault, gone, to_provider)

    def _broken(self, said: Ending) -> str:
        name = self._endpoint.provider
        return f"{name}: {said.fault}" if said.fault else f"the connection to {name} broke"

    async def _part(self, goodbyes: _Goodbyes) -> None:
        loop = asyncio.get_running_loop()
        partings = [
            loop.create_task(side.finish(code, reason))
            for side, (code, reason) in (
                (self._client, goodbyes.to_client),
                (self._provider, goodbyes.to_provider),
            )
            if side is not None
        ]
        if partings:
            try:
                await asyncio.wait(partings)
            finally:
                for parting in partings:
                    parting.cancel()
                await asyncio.wait(partings)

    def _too_long(self) -> RelayError:
        return AttemptTimeout(f"a WebSocket may last {self._total_s:g} s here")

    def _silent(self, state: int) -> RelayError:
        return StreamStalled(f"no message came either way for {self._idle_s:g} s")

    def _look_at_key(self) -> None:
        """A WebSocket may last for hours, and has no generations that would ask: one whose key was
        revoked, or held to other data zones, is ended here."""
        gate = self._services.gate
        if not gate.needs_keys:
            return
        caller = caller_of(self._scope)
        try:
            scopes = scopes_of(gate, caller.key_id)
            scopes.check_passthrough()
            scopes.check_zone(self._endpoint.provider, self._endpoint.data_zone)
        except (Unauthenticated, PermissionDenied) as error:
            what = Refused(
                self._request_id,
                "websocket",
                caller.tenant,
                caller.key_id,
                self._endpoint.provider,
            )
            self._services.ledger.refused(error, what)
            self._deadline.cancel(error)
            return
        except StoreDown:
            pass  # nobody says that it is revoked
        self._look = asyncio.get_running_loop().call_later(_LOOK_S, self._look_at_key)

    def _log(self, failure: RelayError | None, goodbyes: _Goodbyes | None) -> None:
        services, client, provider = self._services, self._client, self._provider
        caller = caller_of(self._scope)
        wall_us = round((services.clock() - self._began_s) * 1e6)
        if self.entry is not None:
            self.entry.settle(self._status, failure, wall_us)
        services.handed_through(
            HandedThrough(self._endpoint.provider, "websocket", self._status, failure, wall_us)
        )
        end = goodbyes or _Goodbyes("relay", _ABNORMAL, "", (_ABNORMAL, ""), (_ABNORMAL, ""))
        _log.info(
            "passthrough",
            id=self._request_id,
            tenant=caller.tenant or None,
            key=caller.key_id or None,
            provider=self._endpoint.provider,
            method="WEBSOCKET",
            path=self._scope["path"][:200],
            status=self._status or None,
            reason=failure.reason.name if failure is not None else None,
            ended_by=end.by if client else None,
            close_code=end.code if client else None,
            fault=(end.fault or None) if client else None,
            request_messages=client.received_messages if client else 0,
            request_bytes=client.received_bytes if client else 0,
            answer_messages=provider.received_messages if provider else 0,
            answer_bytes=provider.received_bytes if provider else 0,
            wall_us=wall_us,
        )
