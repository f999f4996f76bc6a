"""The administration as an ASGI application: who asks, may he, and then the act, in a thread.

The order is the same for every request: the token, the path and method, the role's permission, the
query and body, the act, which looks whose things it is about. Without a token nothing is told of
what paths there are. A virtual key is never a token here: its MAC is made for another purpose.

Tokens are looked up in the store each time, so that a revocation holds at once; a store that cannot
be asked is 503, never 401. Texts that cannot be a token are refused without asking it: that their
checksum is wrong everybody can tell himself.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import orjson
import structlog

from relay.administration.administrators import identify
from relay.administration.desk import Desk
from relay.administration.faults import Denied, Fault
from relay.administration.roles import PERMISSIONS, Actor
from relay.deadline import Clock
from relay.errors import ClientCancelled, InvalidRequest, RequestTooLarge
from relay.frontends.admin.checked import checked, checked_query
from relay.frontends.admin.openapi import document
from relay.frontends.admin.problems import Problem
from relay.frontends.admin.route import Asked, Raw, Route
from relay.frontends.asgi import ABORT, Receive, Scope, Send, header, read_body
from relay.governance import audit_actions as actions
from relay.governance import token_text
from relay.governance.audit_trail import Trail
from relay.governance.failure_throttle import FailureThrottle, address_of
from relay.governance.pepper import Peppers
from relay.store.base import StoreUnavailable

_log = structlog.get_logger("relay.admin")

THREADS: Final = 4
MOST_WAITING: Final = 64
"""Requests in threads and before them; more are told that it is busy."""
MAX_BODY_BYTES: Final = 64 * 1024
BUSY_S: Final = 1.0
OPENAPI: Final = "/admin/openapi.json"
_THIS: Final = Route("GET", OPENAPI, "self.read", "This document", None, {"type": "object"})
_Result = TypeVar("_Result")


class AdminApi:
    """See the module.

    Args:
        desk: where acts are done.
        peppers: that tokens were made with.
        routes: all that is served, beside the OpenAPI document. Each names its permission; one
            that nobody has is refused here already.
        trail: is told of what is denied.
        clock: monotonic, seconds.

    Raises:
        ValueError: a route's permission is none of the table, or two are at one place.
    """

    def __init__(
        self, desk: Desk, peppers: Peppers, routes: Iterable[Route], trail: Trail, clock: Clock
    ) -> None:
        self._desk = desk
        self._peppers = peppers
        self._trail = trail
        self._clock = clock
        self.routes: Final = (*routes, _THIS)
        for route in self.routes:
            if route.permission not in PERMISSIONS:
                raise ValueError(f"{route.path}: {route.permission!r} is no permission")
        places = [(route.method, route.path) for route in self.routes]
        if len(set(places)) != len(places):
            raise ValueError("two routes are at one place")
        self._patterns = [(route.pattern, route) for route in self.routes]
        self._document = document(self.routes)
        self._throttle = FailureThrottle()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="admin")
        self._waiting = 0

    async def aclose(self) -> None:
        """Idempotent; acts that have begun go on to their ends."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request_id = f"req_{secrets.token_hex(12)}"
        answer = _Answer(send, request_id)
        try:
            await self._serve(scope, receive, answer)
        except ClientCancelled:
            pass
        except Problem as problem:
            await answer.problem(problem)
        except Fault as fault:
            await answer.problem(Problem.of(fault))
        except StoreUnavailable as error:
            _log.warning("admin_unavailable", request_id=request_id, why=str(error))
            await answer.problem(Problem("unavailable", retry_s=BUSY_S))
        except Exception:  # noqa: BLE001 - a bug must still be answered
            _log.exception("admin_bug", request_id=request_id)
            await answer.problem(Problem("internal"))

    async def admitted(self, scope: Scope, permission: str) -> Actor:
        """Who asks, if he may: for what is served beside the routes, with the same tokens.

        Raises:
            Problem: nobody, or nobody who may; told to the audit log.
            StoreUnavailable: that cannot be told now.
        """
        actor = await self._identify(scope)
        self._require(actor, Route(scope["method"], scope["path"], permission, "", None))
        return actor

    def _require(self, actor: Actor, route: Route) -> None:
        """
        Raises:
            Problem: he may not.
        """
        if not actor.may(route.permission):
            self._denied(actor.name, route, actor.organisation_id)
            words = f"the role {actor.role}, bound as it is, may not do this ({route.permission})"
            raise Problem("permission_denied", words)

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        actor = await self._identify(scope)
        route, names = self._find(scope)
        self._require(actor, route)
        if route.path == OPENAPI:
            await answer.done(200, self._document)
            return
        asked = Asked(names, _query(scope, route), await _body(scope, receive, route))
        if route.come is not None:
            told = await route.come()
            if isinstance(told, Raw):
                await self._pieces(told, route.status, answer)
            else:
                await answer.done(route.status, orjson.dumps(told))
            return
        assert route.act is not None  # noqa: S101 - one of the two
        try:
            found = await self._in_thread(route.act, self._desk, actor, asked)
        except Denied:
            self._denied(actor.name, route, actor.organisation_id)
            raise
        if isinstance(found, Raw):
            await self._pieces(found, route.status, answer)
        elif found is None:
            await answer.done(204, b"")
        else:
            await answer.done(route.status, orjson.dumps(found))

    async def _in_thread(self, act: Callable[..., _Result], *args: Any) -> _Result:
        """
        Raises:
            Problem: too much waits already; nothing was done.

        Cancelled: what has begun goes on to its end.
        """
        if self._waiting >= MOST_WAITING:
            raise Problem("busy", retry_s=BUSY_S)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, act, *args)
        finally:
            self._waiting -= 1

    async def _pieces(self, found: Raw, status: int, answer: _Answer) -> None:
        pieces = iter(found.pieces)
        try:
            piece = await self._in_thread(_next, pieces)  # before the head: it may fail
            await answer.begin(status, found)
            while piece is not None:
                await answer.piece(piece)
                piece = await self._in_thread(_next, pieces)
            await answer.end()
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                self._threads.submit(close)

    # --- who asks ---------------------------------------------------------------------------

    async def _identify(self, scope: Scope) -> Actor:
        """
        Raises:
            Problem: nobody who may; StoreUnavailable: it cannot be told now.
        """
        scheme, _, bearer = header(scope, b"authorization").strip().partition(" ")
        if scheme.lower() != "bearer" or not bearer.strip():
            words = "a token is needed: `authorization: Bearer rta_...`"
            raise Problem("unauthenticated", words)
        token = token_text.read(bearer := bearer.strip())
        actor = None
        if token is not None and token.kind == "administrator":
            actor = await self._in_thread(identify, self._desk, self._peppers, bearer)
        if actor is None:
            raise self._refused(scope, token)
        return actor

    def _refused(self, scope: Scope, token: token_text.TokenText | None) -> Problem:
        client = scope.get("client")
        address, now_s = address_of(client[0] if client else ""), self._clock()
        self._denied(actions.address_actor(address))
        wait_s = self._throttle.failed(f"address {address}", now_s)
        if token is not None:
            wait_s = max(wait_s, self._throttle.failed(f"id {token.id}", now_s))
        if wait_s:
            return Problem("too_many_failures", retry_s=wait_s)
        return Problem("unauthenticated")

    def _denied(self, actor: str, route: Route | None = None, organisation_id: str = "") -> None:
        self._trail.note(
            actions.ADMIN_DENIED,
            at_us=self._desk.now_us(),
            actor=actor,
            subject="" if route is None else f"{route.method} {route.path}",
            organisation_id=organisation_id,
            outcome=actions.DENIED,
            detail={} if route is None else {"permission": route.permission},
        )

    def _find(self, scope: Scope) -> tuple[Route, dict[str, str]]:
        """
        Raises:
            Problem: no such path, or not with this method.
        """
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        allowed: set[str] = set()
        for pattern, route in self._patterns:
            fits = pattern.fullmatch(scope["path"])
            if fits is None:
                continue
            if route.method == method:
                return route, dict(zip(route.names, fits.groups(), strict=True))
            allowed.add(route.method)
        if allowed:
            raise Problem("method_not_allowed", allowed=", ".join(sorted(allowed)))
        raise Problem("not_found")


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


def _query(scope: Scope, route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        pairs = parse_qsl(
            scope.get("query_string", b"").decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=32,
        )
    except ValueError:
        raise Problem("invalid", "the query cannot be read") from None
    for name, text in pairs:
        if name in found:
            raise Problem("invalid", f"{name} is there twice", field=name)
        found[name] = checked_query(route.query, name, text)
    return found


async def _body(scope: Scope, receive: Receive, route: Route) -> dict[str, Any]:
    try:
        data = await read_body(scope, receive, MAX_BODY_BYTES)
    except RequestTooLarge:
        raise Problem("too_large", f"the body is larger than {MAX_BODY_BYTES} bytes") from None
    except InvalidRequest as error:
        raise Problem("invalid", error.public_message, field="content-encoding") from None
    if route.body is None:
        if data not in (b"", b"{}"):
            raise Problem("invalid", "nothing is expected in the body")
        return {}
    if not data:
        data = b"{}"
    elif header(scope, b"content-type").partition(";")[0].strip().lower() != "application/json":
        raise Problem("invalid", "content-type must be application/json", field="content-type")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise Problem("invalid", "the body is no JSON") from None
    body: dict[str, Any] = checked(route.body, value)
    return body


class _Answer:
    """What goes back."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self._has_begun = False

    async def problem(self, problem: Problem) -> None:
        """Instead of an answer; of one that has begun the connection is broken."""
        if self._has_begun:
            await self._send({"type": ABORT})
            return
        headers: list[tuple[bytes, bytes]] = []
        if problem.status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="rtrelay administration"'))
        if problem.retry_s is not None:
            headers.append((b"retry-after", b"%d" % max(1, math.ceil(problem.retry_s))))
        if problem.allowed:
            headers.append((b"allow", problem.allowed.encode()))
        await self.done(problem.status, problem.body(self._request_id), headers)

    async def done(
        self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        if status != 204:
            length = (b"content-length", b"%d" % len(body))
            headers = [(b"content-type", b"application/json"), length, *headers]
        await self._head(status, headers)
        await self._send({"type": "http.response.body", "body": body})

    async def begin(self, status: int, raw: Raw) -> None:
        headers = [(b"content-type", raw.content_type.encode())]
        if raw.file_name:
            words = f'attachment; filename="{raw.file_name}"'
            headers.append((b"content-disposition", words.encode()))
        await self._head(status, headers)

    async def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._has_begun = True
        always = [
            (b"cache-control", b"no-store"),  # secrets are shown once
            (b"x-request-id", self._request_id.encode()),
        ]
        chained = list(itertools.chain(headers, always))
        await self._send({"type": "http.response.start", "status": status, "headers": chained})

    async def piece(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})
