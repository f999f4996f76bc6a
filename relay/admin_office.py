"""Administration on the admin listener, put together: of a worker that is alone, and of the
supervisor of several.

    office = AdminOffice.open(config, trail, state)    # None where there are no keys
    AdminApp(readiness, state, mounts_of(office))
    ...
    await office.aclose()
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Final, Self

from sqlalchemy import Engine

from relay.administering import desk_of
from relay.administration.desk import Desk
from relay.auditing import trail_of
from relay.config import Config
from relay.frontends.admin.api import OPENAPI, AdminApi
from relay.frontends.admin.route import BASE, Route
from relay.frontends.admin.routes import ROUTES
from relay.frontends.admin_app import Asgi, State
from relay.governance.access import peppers_of
from relay.governance.audit_trail import AuditTrail, Trail
from relay.store.engine import engine_for

STATE: Final = "/admin/state"


class AdminOffice:
    """The API with its own connections to the store; made by `open`."""

    def __init__(
        self,
        api: AdminApi,
        desk: Desk,
        trail: Trail,
        engine: Engine,
        own_trail: AuditTrail | None,
        further: Iterable[str] = (),
    ) -> None:
        self.api = api
        self.desk = desk
        self.trail = trail
        self.further = tuple(further)
        """Paths that are served beside those of administration."""
        self._engine = engine
        self._own_trail = own_trail

    @classmethod
    def open(
        cls,
        config: Config,
        trail: Trail | None,
        state: State,
        further: Iterable[Route] = (),
    ) -> Self | None:
        """None where there is no `auth`: nobody could be told from anybody.

        Args:
            trail: where denials are told; None for one of its own.
            state: what `/admin/state` shows to those that may see it.
            further: routes beside those of administration, each with its permission.
        """
        if config.auth is None or config.store is None:
            return None
        store = config.store
        engine = engine_for(store.url.get_secret_value(), durability=store.durability)
        own = None
        if trail is None:
            trail = own = trail_of(config, engine, anchors=False)
            own.start()
        words = "What the process, or each worker, holds now"
        shown = Route("GET", STATE, "state.read", words, None, {"type": "object"}, come=state)
        more = tuple(further)
        routes = (*ROUTES, shown, *more)
        peppers = peppers_of(config.auth)
        desk = desk_of(config, engine)
        api = AdminApi(desk, peppers, routes, trail, time.monotonic)
        return cls(api, desk, trail, engine, own, [route.path for route in more])

    async def aclose(self) -> None:
        """Idempotent, bounded in time; acts that have begun go on to their ends."""
        await self.api.aclose()
        if self._own_trail is not None:
            await self._own_trail.aclose()
        self._engine.dispose()


def mounts_of(
    office: AdminOffice | None, unguarded: Mapping[str, Asgi] | None = None
) -> Mapping[str, Asgi]:
    """For `AdminApp`; without an office `/admin/state` is open, as it is without keys, and so is
    what is `unguarded` then."""
    if office is None:
        return unguarded or {}
    return dict.fromkeys((BASE, OPENAPI, STATE, *office.further), office.api)
