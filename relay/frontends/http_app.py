"""The HTTP shim: one ASGI application, a literal table of routes.

Handlers are found by exact path and method, so there is nothing to bypass; the paths that hold a
name, a model's, a response's or an Azure deployment's, look it up and nothing else. Where the relay
has keys, whoever calls is asked for one first: without it nothing is looked for, and so nothing
told, but whether the process lives and is ready, which are a table of their own (`/openapi.json`
names a model, so it is not in it). HEAD is GET whose body is not sent (RFC 9110 9.3.2; the
connection drops it). Every answer carries a request id; every error is the error object of the API
that its path belongs to, OpenAI's where there is none, so that the clients people have can read it.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import orjson
import structlog

from relay.dispatch import Services
from relay.errors import (
    ClientCancelled,
    InternalError,
    InvalidRequest,
    PermissionDenied,
    RelayError,
    Source,
    shown,
)
from relay.frontends import messages_errors
from relay.frontends.asgi import (
    ABORT,
    BEGUN,
    JSON_TYPE,
    HeadIsOut,
    RawHeaders,
    Receive,
    Scope,
    Send,
    header,
    send_answer,
)
from relay.frontends.caller import CALLER, caller_of, caller_of_scope
from relay.frontends.cors import check_request
from relay.frontends.http_errors import error_body, http_status, retry_headers
from relay.frontends.http_generation import (
    MODEL_OF_PATH,
    HttpSettings,
    request_id_headers,
    serve_generation,
)
from relay.frontends.kept_answers import KeptAnswers
from relay.frontends.model_rows import model_list, model_row
from relay.frontends.models_list import anthropic_list, anthropic_row, is_of_anthropic
from relay.frontends.openapi import openapi_json
from relay.frontends.passthrough import Passthrough
from relay.frontends.passthrough_rules import METHODS, is_handed_through
from relay.frontends.place import Place
from relay.frontends.response_store import ResponseStore
from relay.frontends.stored_responses import RESPONSES, StoredResponses
from relay.frontends.surface import Surface
from relay.frontends.surfaces.chat_completions import ChatCompletions
from relay.frontends.surfaces.completions import Completions
from relay.frontends.surfaces.count_tokens import count_tokens
from relay.frontends.surfaces.embeddings import EmbeddingsApi
from relay.frontends.surfaces.feedback import PATH as _FEEDBACK
from relay.frontends.surfaces.feedback import feedback
from relay.frontends.surfaces.messages import Messages
from relay.frontends.surfaces.responses import Responses
from relay.governance.grants import check_handed_through, route_of, routes_for, scopes_of
from relay.governance.ledger import Refused
from relay.governance.scopes import Scopes
from relay.resilience.overload import RequestClass
from relay.routing.route import Route

_log = structlog.get_logger("relay.http")

Handler = Callable[[Scope, Receive, Send, str], Awaitable[None]]
ErrorBody = Callable[[RelayError, str], bytes]

_MODELS = "/v1/models"
_MESSAGES = "/v1/messages"
_COUNT_TOKENS = "/v1/messages/count_tokens"
_READS = ("GET", "HEAD")
_AZURE = "/openai"
_AZURE_V1 = "/openai/v1/"
_DEPLOYMENTS = "/openai/deployments/"
_DEPLOYMENT = re.compile(rf"{_DEPLOYMENTS}([^/].*?)(/chat/completions|/completions|/embeddings)")
"""Paths of Azure's clients: `/openai/deployments/NAME/chat/completions`, where the name is the
model; and as OpenAI's own, under `/openai`. Their `api-version` says nothing to us."""


class HttpApp:
    """The shim's application; serves until its server stops."""

    def __init__(self, services: Services, settings: HttpSettings) -> None:
        self._services = services
        self._settings = settings
        self._started_at_s = int(time.time())
        self._routes: dict[str, dict[str, Handler]] = {
            _MODELS: {"GET": self._models},
            "/openapi.json": {"GET": self._openapi},
            _FEEDBACK: {"POST": self._feedback},
        }
        self._open: dict[str, Handler] = {"/healthz": self._healthz, "/readyz": self._readyz}
        """What is served to those without a key: reads alone."""
        self._routes |= {path: {"GET": handler} for path, handler in self._open.items()}
        self._answers = KeptAnswers(settings.kept_answers, services.clock)
        self._passthrough = Passthrough(services, settings.origins)
        self._surfaces = {_MODELS: "models", _COUNT_TOKENS: "count_tokens", _FEEDBACK: "feedback"}
        """What is at a path, in the words of metrics; what is at no path of ours is `http`."""
        self._surfaces_below = ((f"{_MODELS}/", "models"), (f"{RESPONSES}/", "responses"))
        self._error_bodies: dict[str, ErrorBody] = {}
        """Of paths whose clients read another shape than OpenAI's."""
        self._below: dict[str, dict[str, Handler]] = {f"{_MODELS}/": {"GET": self._model}}
        """By how they begin: paths that go on with a name, which is looked up."""
        self._add("/v1/chat/completions", ChatCompletions())
        self._add("/v1/completions", Completions())
        self._add("/v1/embeddings", EmbeddingsApi())
        self._add_made(_MESSAGES, "messages", Messages.of_scope, messages_errors.error_body)
        self._routes[_COUNT_TOKENS] = {"POST": self._count_tokens}
        self._error_bodies[_COUNT_TOKENS] = messages_errors.error_body
        self._add_responses()

    def _add(self, path: str, surface: Surface) -> None:
        """Serve generations of this API at a path."""

        async def handler(scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
            await self._generate(surface, scope, receive, send, request_id)

        self._routes[path] = {"POST": handler}
        self._surfaces[path] = surface.name
        self._error_bodies[path] = surface.error_body

    async def _generate(
        self, surface: Surface, scope: Scope, receive: Receive, send: Send, request_id: str
    ) -> None:
        services, settings, answers = self._services, self._settings, self._answers
        await serve_generation(
            surface, services, settings, answers, scope, receive, send, request_id
        )

    def _add_responses(self) -> None:
        limits, services = self._settings.responses_store, self._services
        store = None if limits is None else ResponseStore(limits)
        max_bytes = self._settings.max_request_bytes
        self._add(RESPONSES, Responses(store, services.clock, max_bytes))
        if store is not None:
            kept = StoredResponses(store, services.clock)
            self._below[f"{RESPONSES}/"] = {"GET": kept.get, "DELETE": kept.delete}

    def _add_made(
        self, path: str, name: str, make: Callable[[Scope], Surface], told: ErrorBody
    ) -> None:
        """The same of an API that says things in headers: a surface is made for each request."""

        async def handler(scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
            await self._generate(make(scope), scope, receive, send, request_id)

        self._routes[path] = {"POST": handler}
        self._surfaces[path] = name
        self._error_bodies[path] = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no lifespan, no websocket
        request_id = _new_request_id()
        try:
            check_request(scope, self._settings.origins)
            handler = self._open.get(scope["path"]) if scope["method"] in _READS else None
            if handler is not None:
                await handler(scope, receive, send, request_id)
            else:
                await self._serve(scope, receive, send, request_id)
        except ClientCancelled:
            pass  # nobody is there to read an answer
        except RelayError as error:
            # Handlers raise these before they send anything; later errors they tell themselves.
            self._turned_away(error, scope)
            await self._answer_error(error, scope, send, request_id)
        except Exception:  # noqa: BLE001 - a bug must still be answered
            _log.exception("http_bug", request_id=request_id, path=shown(scope["path"]))
            bug = InternalError("the relay failed; the request id is in its log")
            self._turned_away(bug, scope)
            try:
                await self._answer_error(bug, scope, send, request_id)
            except HeadIsOut:
                # Half an answer must not look like a whole one.
                await send({"type": ABORT})

    async def _serve(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """A request of somebody with a key, where there are keys. A worker that has too much to do
        refuses it before its body is read and before the key is looked at, and once more when the
        body is there; not what costs no more than to refuse it: lists, and words of feedback."""
        overload, is_light = self._services.overload, _is_light(scope)
        if not is_light:
            overload.check(RequestClass.NEW)
        scope[CALLER] = caller = caller_of_scope(self._services.gate, scope)
        if caller.is_batch and not is_light:
            overload.check(RequestClass.BATCH)
        handler = self._find(scope, request_id)
        if is_light:
            await handler(scope, receive, send, request_id)
            return
        kind = RequestClass.BATCH if caller.is_batch else RequestClass.NEW
        place = Place(self._services, kind, scope, receive)
        try:
            await handler(scope, place.receive, send, request_id)
        finally:
            place.leave()

    def early(self, scope: Scope) -> tuple[int, RawHeaders, bytes] | None:
        """What `_serve` would come to for a request that is refused by its head alone, without a
        task; None for all others. Pages get theirs the long way, with headers for browsers."""
        overload = self._services.overload
        if overload.has_room or _is_light(scope) or header(scope, b"origin"):
            return None
        error = overload.refusal(RequestClass.NEW)
        self._turned_away(error, scope)
        status, headers, body = self._told(error, scope, _new_request_id())
        return status, [JSON_TYPE, (b"content-length", b"%d" % len(body)), *headers], body

    def _turned_away(self, error: RelayError, scope: Scope) -> None:
        """Count it, unless somebody has it who tells of it himself."""
        if BEGUN in scope or error.source is Source.UPSTREAM:  # a provider was asked to count
            return
        path = scope["path"]
        surface = self._surfaces.get(path, "http")
        if surface == "http" and is_handed_through(path):
            surface = "passthrough"
        elif surface == "http":
            below = (name for begin, name in self._surfaces_below if path.startswith(begin))
            surface = next(below, "http")
        self._services.turned_away(error, surface)

    def _find(self, scope: Scope, request_id: str) -> Handler:
        path, method = scope["path"], scope["method"]
        if path.startswith(_DEPLOYMENTS):
            path = _of_deployment(scope)
        elif path.startswith(_AZURE_V1):
            path = scope["path"] = path.removeprefix(_AZURE)
        methods = self._routes.get(path)
        if methods is None:
            below = (begin for begin in self._below if path.startswith(begin) and path != begin)
            methods = self._below.get(next(below, ""))
        if methods is None and is_handed_through(path):
            # Before it is looked for: which rows there are is not everybody's to know.
            try:
                scopes = self._scopes(scope)
                scopes.check_passthrough()
            except RelayError as error:
                self._refused(error, scope, request_id, "passthrough", path)
                raise
            found = self._passthrough.find(path)
            if found is not None:
                try:
                    check_handed_through(scopes, found[0], found[2])
                except PermissionDenied as error:
                    self._refused(error, scope, request_id, "passthrough", path)
                    raise
                methods = dict.fromkeys(METHODS, self._passthrough)
                if handler := methods.get(method):
                    return handler
        if methods is None:
            raise _NoSuchPath(path)
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            raise _WrongMethod(method, methods)
        return handler

    async def _answer_error(
        self, error: RelayError, scope: Scope, send: Send, request_id: str
    ) -> None:
        status, headers, body = self._told(error, scope, request_id)
        await send_answer(send, status, body, headers)

    def _told(
        self, error: RelayError, scope: Scope, request_id: str
    ) -> tuple[int, RawHeaders, bytes]:
        """Status, headers and body of an error, in the words of the API that was asked."""
        status, headers = http_status(error), retry_headers(error)
        if isinstance(error, _NoSuchPath):
            status = 404
        elif isinstance(error, _WrongMethod):
            status = 405
            headers.append((b"allow", error.allowed.encode()))
        headers += request_id_headers(request_id)
        told = self._error_bodies.get(scope["path"], error_body)
        if is_of_anthropic(scope):
            told = messages_errors.error_body
        return status, headers, told(error, request_id)

    # --- routes -----------------------------------------------------------------------------

    async def _models(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        catalog, made_s = self._services.catalog, self._started_at_s
        routes = self._servable(scope)
        if is_of_anthropic(scope):
            rows = anthropic_list((route.alias for route in routes), made_s)
        else:
            rows = model_list(catalog, routes, made_s)
        await self._answer(send, rows, request_id)

    async def _model(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """One model; slashes in its name are its own.

        Raises:
            UnknownModel, PermissionDenied: a request for it would fail the same way.
        """
        name, catalog = scope["path"][len(_MODELS) + 1 :], self._services.catalog
        try:
            route = route_of(self._scopes(scope), catalog, name)
        except RelayError as error:
            self._refused(error, scope, request_id, "models", name)
            raise
        row = model_row(catalog, route, self._started_at_s)
        if is_of_anthropic(scope):
            row = anthropic_row(name, self._started_at_s)
        await self._answer(send, row, request_id)

    def _refused(
        self, error: RelayError, scope: Scope, request_id: str, surface: str, subject: str
    ) -> None:
        caller = caller_of(scope)
        what = Refused(request_id, surface, caller.tenant, caller.key_id, subject)
        self._services.ledger.refused(error, what)

    def _scopes(self, scope: Scope) -> Scopes:
        return scopes_of(self._services.gate, caller_of(scope).key_id)

    def _names(self, scope: Scope) -> list[str]:
        """Of all models that the caller may ask for."""
        return [route.alias for route in self._servable(scope)]

    def _servable(self, scope: Scope) -> list[Route]:
        return routes_for(self._scopes(scope), self._services.catalog)

    async def _answer(self, send: Send, value: dict[str, Any], request_id: str) -> None:
        headers: RawHeaders = request_id_headers(request_id)
        await send_answer(send, 200, orjson.dumps(value), headers)

    async def _count_tokens(
        self, scope: Scope, receive: Receive, send: Send, request_id: str
    ) -> None:
        await count_tokens(self._services, self._settings, scope, receive, send, request_id)

    async def _feedback(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        await feedback(self._services, self._settings, scope, receive, send, request_id)

    async def _healthz(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """The process lives and its loop turns."""
        await send_answer(send, 200, b'{"status":"ok"}')

    async def _openapi(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """What the shim serves, for tools."""
        model = next(iter(self._names(scope)), "fast")
        paths = {*self._routes, *(f"{begin}{{id}}" for begin in self._below)}
        needs_keys = self._services.gate.needs_keys
        await send_answer(send, 200, openapi_json(paths, model, needs_keys=needs_keys))

    async def _readyz(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Whether new work is welcome: no while draining, nor before keys could be read."""
        if self._services.is_draining:
            await send_answer(send, 503, b'{"status":"draining"}')
        elif not self._services.gate.is_ready:
            await send_answer(send, 503, b'{"status":"no keys yet"}')
        else:
            await send_answer(send, 200, b'{"status":"ready"}')


def _of_deployment(scope: Scope) -> str:
    """OpenAI's own path for one of a deployment, which names the request's model."""
    path: str = scope["path"]
    if found := _DEPLOYMENT.fullmatch(path):
        scope[MODEL_OF_PATH], tail = found.groups()
        path = scope["path"] = f"/v1{tail}"
    return path


def _new_request_id() -> str:
    """Of one request over HTTP."""
    return f"req_{secrets.token_hex(12)}"


def _is_light(scope: Scope) -> bool:
    """Whether a request costs no more than to refuse it: a read of ours, a word of feedback."""
    path: str = scope["path"]
    if path == _FEEDBACK:
        return True
    return scope["method"] in _READS and not is_handed_through(path)


class _NoSuchPath(InvalidRequest):
    def __init__(self, path: str) -> None:
        hint = ""
        if is_handed_through(path):
            hint = ": no provider's row that it could go to says `passthrough: true`"
        super().__init__(f"there is nothing at {shown(path)}{hint}")


class _WrongMethod(InvalidRequest):
    def __init__(self, method: str, methods: Iterable[str]) -> None:
        self.allowed = ", ".join([*methods, "HEAD"] if "GET" in methods else methods)
        super().__init__(f"{shown(method)} is not allowed here; use {self.allowed}")
