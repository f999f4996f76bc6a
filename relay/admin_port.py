"""What a supervisor serves and connects to itself: the admin port over all workers, and the way to
other machines' hints."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import structlog

from relay.admin_office import AdminOffice, mounts_of
from relay.config import Config, ConfigError, load
from relay.frontends.admin_app import AdminApp, Asgi, Readiness
from relay.hints.hub import HintHub
from relay.http_server import HttpServer, StartError
from relay.observability.metrics import serve
from relay.observability.metrics.supervisor import SupervisorMetrics
from relay.observability.pages.app import Dashboard
from relay.reaper import Reaper
from relay.supervisor import Supervisor
from relay.tls.doors import Doors
from relay.tls.loaded import TlsError

_log = structlog.get_logger("relay.supervisor")


class AdminPort:
    """Made by `open` before the workers are, `aclose` it after them."""

    def __init__(
        self, path: Path | None, supervisor: Supervisor, hub: HintHub, doors: Doors
    ) -> None:
        self._path = path
        self._supervisor = supervisor
        self._hub = hub
        self._doors = doors
        self._reaper = Reaper()
        self._server: HttpServer | None = None
        self._office: AdminOffice | None = None
        self._metrics: SupervisorMetrics | None = None
        self._dashboard: Dashboard | None = None

    @classmethod
    async def open(
        cls,
        config: Config,
        path: Path | None,
        supervisor: Supervisor,
        mounts: Mapping[str, Asgi] | None = None,
    ) -> Self:
        """
        Args:
            path: of the configuration, to see at a reload where certificates are.
            mounts: see `AdminApp`.

        Raises:
            StartError: the port is taken, or its certificate is of no use.

        Cancelled: nothing is left open.
        """
        store = config.store
        redis = None if store is None or store.redis is None else store.redis.get_secret_value()
        try:
            doors = await asyncio.to_thread(Doors, config, ("admin",))
        except TlsError as error:
            raise StartError(str(error)) from error
        port = cls(path, supervisor, HintHub(supervisor, redis), doors)
        try:
            await port._start(config, mounts)
        except BaseException:
            await port.aclose()
            raise
        return port

    async def _start(self, config: Config, mounts: Mapping[str, Asgi] | None) -> None:
        if config.observability.metrics.enabled:
            self._metrics = SupervisorMetrics(config.observability.metrics, self._supervisor)
            self._metrics.start()
        routes, unguarded = serve.parts_of(self._metrics)
        self._office = AdminOffice.open(config, None, self._state, routes)
        self._dashboard = Dashboard(self._supervisor, self._office)
        app = AdminApp(
            lambda: Readiness(*self._supervisor.readiness()),
            self._state,
            {**mounts_of(self._office, unguarded), **self._dashboard.mounts, **(mounts or {})},
        )
        self._server = await HttpServer.start(
            config.server.admin,
            app,
            "admin",
            slow_consumer_s=config.server.slow_consumer_ms / 1000,
            door=self._doors["admin"],
        )
        self._doors.start()
        self._hub.start()
        self._supervisor.on_reload = self._reload
        _log.info("admin_serving", admin=self.number)

    @property
    def number(self) -> int:
        """Of the port."""
        return 0 if self._server is None else self._server.port

    async def aclose(self) -> None:
        """Idempotent, bounded in time."""
        self._supervisor.on_reload = None
        if self._dashboard is not None:
            await self._dashboard.aclose()
        server, self._server = self._server, None
        if server is not None:
            await server.aclose()
        if self._office is not None:
            await self._office.aclose()
        if self._metrics is not None:
            await self._metrics.aclose()
        await self._doors.aclose()
        await self._reaper.aclose()
        await self._hub.aclose()

    async def _state(self) -> dict[str, Any]:
        return {**await self._supervisor.state(), "machines": self._hub.describe()}

    def _reload(self) -> None:
        if self._path is not None:
            self._reaper.take(self._take_up(self._path))

    async def _take_up(self, path: Path) -> None:
        try:
            config = await asyncio.to_thread(load, path)
        except ConfigError:
            return  # each worker says what is wrong with it
        await self._doors.take(config)
