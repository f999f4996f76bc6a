"""`/dashboard` and all below it, as an ASGI application.

    dashboard = Dashboard(workers, office)        # opens nothing
    AdminApp(readiness, state, {**mounts_of(office), **dashboard.mounts})
    ...
    await dashboard.aclose()

Pages and their files are for everybody who reaches the listener: they hold nothing. What they show
comes by routes below `/dashboard/api`, each of which asks the guard.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Protocol

import structlog

from relay.administration.desk import Desk
from relay.administration.faults import Fault
from relay.errors import ClientCancelled
from relay.frontends.admin.problems import Problem
from relay.frontends.admin_app import Asgi
from relay.frontends.asgi import ABORT, Receive, Scope, Send
from relay.governance.audit_trail import Trail
from relay.observability.live.feed import Feed
from relay.observability.live.joined import Joined
from relay.observability.live.spend import Spend
from relay.observability.live.workers import Workers
from relay.observability.pages import answers
from relay.observability.pages.assets import assets
from relay.observability.pages.feed_route import serve_feed
from relay.observability.pages.guard import LOOK, SPEND, Admission, Guard, check_own_page
from relay.observability.pages.play_route import PlayRoutes
from relay.store.base import StoreUnavailable

_log = structlog.get_logger("relay.pages")

BASE: Final = "/dashboard"
_PAGES: Final = {"": "dashboard.html", "/": "dashboard.html", "/playground": "playground.html"}
_STATIC: Final = "/static/"
_METHODS: Final = {
    "/api/access": "GET",
    "/api/picture": "GET",
    "/api/feed": "GET",
    "/api/models": "GET",
    "/api/play": "POST",
}


class Office(Protocol):
    """What is needed of `relay.admin_office.AdminOffice`."""

    @property
    def api(self) -> Admission: ...

    @property
    def desk(self) -> Desk: ...

    @property
    def trail(self) -> Trail: ...


class Dashboard:
    """See the module.

    Args:
        office: who knows administrators, keys and budgets; None where there are none. Its owner
            closes it, after this.
    """

    def __init__(self, workers: Workers, office: Office | None) -> None:
        self._guard = Guard(None if office is None else office.api)
        self._spend = None if office is None else Spend(office.desk)
        self.feed: Final = Feed(Joined(workers), self._spend)
        self._play = PlayRoutes(
            workers,
            None if office is None else office.desk,
            None if office is None else office.trail,
        )

    @property
    def mounts(self) -> Mapping[str, Asgi]:
        """For `AdminApp`."""
        return {BASE: self}

    async def aclose(self) -> None:
        """Let viewers go. Idempotent, bounded in time."""
        await self.feed.aclose()
        if self._spend is not None:
            await self._spend.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        has_begun = False

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal has_begun
            has_begun = has_begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._serve(scope, receive, sending)
        except ClientCancelled:
            return
        except Problem as problem:
            fault = problem
        except Fault as error:
            fault = Problem.of(error)
        except StoreUnavailable:
            fault = Problem("unavailable", retry_s=1.0)
        except Exception:  # noqa: BLE001 - a bug must still be answered
            _log.exception("pages_bug", path=scope["path"][:100])
            fault = Problem("internal", "the relay failed; its log says how")
        else:
            return
        if has_begun:
            await send({"type": ABORT})
        else:
            await answers.problem(send, fault)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(BASE)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        allowed = _METHODS.get(path, "GET")
        if method != allowed:
            raise Problem(
                "method_not_allowed", allowed=allowed if allowed != "GET" else "GET, HEAD"
            )
        if path in _METHODS:
            await self._api(path, scope, receive, send)
            return
        self._guard.check_site(scope)
        name = _PAGES.get(path) or (path.removeprefix(_STATIC) if path.startswith(_STATIC) else "")
        asset = assets().get(name)
        if asset is None:
            raise Problem("not_found")
        await answers.file(scope, send, asset)

    async def _api(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        guard = self._guard
        if path == "/api/access":
            await answers.document(send, (await guard.access(scope))._asdict())
        elif path == "/api/picture":
            await guard.require(scope, LOOK)
            await answers.document(send, await self.feed.picture())
        elif path == "/api/feed":
            await guard.require(scope, LOOK)
            if scope["method"] == "HEAD":
                raise Problem("method_not_allowed", allowed="GET")
            await serve_feed(self.feed, receive, send, lambda: guard.require(scope, LOOK))
        elif path == "/api/models":
            await answers.document(send, await self._play.models(await guard.require(scope, SPEND)))
        else:
            check_own_page(scope)
            await self._play.serve(scope, receive, send, await guard.require(scope, SPEND))
