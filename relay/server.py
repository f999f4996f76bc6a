"""One worker: the one place that constructs and connects parts.

Start order: catalog, transport, warm connections, then the listeners, so that the first request
finds its provider connected. Stop order is the reverse: stop being ready, tell the sessions, let
generations finish within the grace, end the rest and the sessions with DRAINING, close listeners,
then upstreams.

Everything runs in one event loop: the gRPC server, the HTTP shim and the admin listener (uvicorn's
`Server.serve` without signals and loop of its own) and the upstream transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, cast

import grpc
import structlog
import uvicorn
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from sqlalchemy import Engine

from relay.auditing import described, trail_of
from relay.config import Config, ConfigError, HttpListener, Listener, secrets_in
from relay.dispatch import Services
from relay.errors import Draining
from relay.frontends.admin_app import AdminApp
from relay.frontends.cors import with_cors
from relay.frontends.grpc_gate import KeyCheck
from relay.frontends.grpc_peer import PeerCheck
from relay.frontends.grpc_service import SERVICE, RelayService, hard_limit_bytes
from relay.frontends.http_app import HttpApp
from relay.frontends.http_generation import HttpSettings
from relay.frontends.http_protocol import BoundedHttpProtocol
from relay.frontends.kept_answers import AnswerLimits
from relay.frontends.response_store import StoreLimits
from relay.governance import audit_actions as actions
from relay.governance.access import Access
from relay.governance.audit_trail import AuditTrail, NoTrail, Trail
from relay.governance.gate import Gate, OpenGate
from relay.governance.ledger import NullLedger
from relay.governance.tenant import SALT_VARIABLE, Tenants
from relay.reaper import Reaper
from relay.routing.catalog import Catalog, Endpoint
from relay.store.base import StoreUnavailable
from relay.store.engine import engine_for, make_ready
from relay.store.learned import sqlite_path
from relay.store.revisions import SchemaError
from relay.store.sqlite_file import DamagedFile
from relay.tls.door import Door
from relay.tls.doors import Doors
from relay.tls.grpc_door import credentials, looks_at_calls, refusal
from relay.tls.loaded import TlsError
from relay.transport import TransportSettings, make_transport
from relay.transport.base import Origin
from relay.upkeep import Upkeep

_log = structlog.get_logger("relay.server")

WARM_WAIT_S = 3.0
"""How long the listeners wait for the first warm connections; an unreachable provider must not
keep the others from being served."""
MAX_OTHER_TARGETS = 100
"""Shown in `/admin/state` beside those of aliases; a hundred take a millisecond or two."""
STOP_GRACE_S = 1.0
"""For the last bytes of a listener's connections once no generation runs."""


class StartError(Exception):
    """The worker cannot start; the message says what is in the way."""


def grpc_options(config: Config, *, reuse_port: bool = False) -> list[tuple[str, int]]:
    """Channel arguments of the gRPC server, each with its reason."""
    grpc_config, tls = config.server.grpc, config.tls_of("grpc")
    return [
        # Above the listener's own limit, so that it can answer in words what is between the two.
        ("grpc.max_receive_message_length", hard_limit_bytes(grpc_config)),
        # Otherwise a second process shares the port in silence.
        ("grpc.so_reuseport", int(reuse_port)),
        # Between a soft and a hard limit the core refuses a random sample: make them one.
        ("grpc.max_metadata_size", 8192),
        ("grpc.absolute_max_metadata_size", 8192),
        ("grpc.max_concurrent_streams", 1000),
        ("grpc.server_handshake_timeout_ms", 10_000 if tls is None else tls.handshake_timeout_ms),
        # Voice clients ping every 20-30 s also when idle; the default allows one in 5 minutes.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 3),
        # And we find clients that vanished without a word.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.enable_http_proxy", 0),
    ]


def transport_settings(config: Config) -> TransportSettings:
    """How connections to providers are made and kept: by a worker, and by what tries the way."""
    transport = config.transport
    return TransportSettings(
        probe_interval_s=transport.probe_interval_ms / 1000,
        max_age_s=transport.max_connection_age_ms / 1000,
        max_connections=transport.max_connections,
        max_http1_connections=transport.max_http1_connections,
        dial_timeout_s=transport.dial_timeout_ms / 1000,
    )


def _store_limits(http: HttpListener) -> StoreLimits | None:
    store = http.responses_store
    if store is None:
        return None
    return StoreLimits(store.max_responses, store.max_bytes, float(store.ttl_s))


def _answer_limits(http: HttpListener) -> AnswerLimits:
    kept = http.idempotency
    return AnswerLimits(kept.max_answers, kept.max_bytes, float(kept.ttl_s))


class _Uvicorn(uvicorn.Server):
    """uvicorn without signal handlers, which the worker has, without its ten looks a second at
    whether to end (`close` tells it), and with limits of time for TLS."""

    def __init__(self, config: uvicorn.Config, door: Door | None, slow_consumer_s: float) -> None:
        super().__init__(config)
        self._door = door
        self._slow_consumer_s = slow_consumer_s
        self._closing = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._door is None:
            await super().startup(sockets)
            return
        loop, door = asyncio.get_running_loop(), self._door
        protocol = partial(
            cast(Any, self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        self.servers = [
            await loop.create_server(
                protocol,
                sock=each,
                ssl=door.context,
                backlog=self.config.backlog,
                ssl_handshake_timeout=door.settings.handshake_timeout_ms / 1000,
                # For what a slow client has not taken yet, and its own goodbye.
                ssl_shutdown_timeout=self._slow_consumer_s,
            )
            for each in sockets or ()
        ]
        self.started = True

    def close(self) -> None:
        """Stop serving; `serve` then returns."""
        self.should_exit = True
        self._closing.set()

    async def main_loop(self) -> None:
        await self._closing.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Worker:
    """Build with a configuration, `start`, `serve_until_stopped`, or `aclose` after a failure."""

    def __init__(
        self,
        config: Config,
        *,
        reload_config: Callable[[], Config] | None = None,
        worker: int | None = None,
        trail: Trail | None = None,
    ) -> None:
        """
        Args:
            trail: where the audit log is told, started before the worker and closed after it by
                the caller; None for one of the worker's own, if the configuration has `audit`.
            reload_config: read the configuration anew (SIGHUP); raises ConfigError.
            worker: number of one of several that share the ports; the first has what cannot be
                shared, the admin listener and the Unix socket. None for the only one.

        Raises:
            ConfigError: the configuration names what does not exist.
        """
        self._config = self._started_config = config
        self._reload_config = reload_config
        self._reuse_port = worker is not None
        self._is_first = not worker
        self._number = worker or 0
        self._trail: Trail = trail or NoTrail()
        self._own_trail: AuditTrail | None = None
        self._catalog = Catalog(config)
        self._stop_requested = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._uvicorns: list[_Uvicorn] = []
        self._grpc_server: grpc.aio.Server | None = None
        self._service: RelayService | None = None
        self._health: health.aio.HealthServicer | None = None
        self._services: Services | None = None
        self._upkeep: Upkeep | None = None
        self._access: Access | None = None
        self._engine: Engine | None = None
        self._doors: Doors | None = None
        self._started_s = time.monotonic()
        self.grpc_port = 0
        self.http_port = 0
        self.admin_port = 0

    # --- start ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open everything; returns when requests are served.

        Raises:
            StartError: a port is taken, or a listener is not allowed.
        """
        server = self._config.server
        if exposed := self._config.exposed:
            raise StartError("\n".join(exposed))
        try:
            self._doors = await asyncio.to_thread(Doors, self._config)
        except TlsError as error:
            raise StartError(str(error)) from error
        await self._open_store()
        gate = await self._let_in()
        transport = make_transport(self._config.transport.engine, transport_settings(self._config))
        self._services = services = Services(
            catalog=self._catalog,
            transport=transport,
            ledger=NullLedger(gate),
            reaper=Reaper(),
            clock=time.monotonic,
            slow_consumer_s=server.slow_consumer_ms / 1000,
            lane_bytes=server.lane_bytes,
            gate=gate,
        )
        transport.on_dial = services.dialled
        await self._warm(self._catalog)
        store = self._config.store
        self._upkeep = Upkeep(
            services,
            None if store is None else sqlite_path(store.url.get_secret_value()),
            self._number,
        )
        await self._upkeep.start()
        await self._start_grpc(services)
        self.http_port = await self._start_http(
            server.http,
            with_cors(
                HttpApp(
                    services,
                    HttpSettings(
                        max_request_bytes=server.http.max_request_bytes,
                        commit_headers_after_s=server.http.commit_headers_after_ms / 1000,
                        comment_interval_s=server.http.comment_interval_ms / 1000,
                        origins=server.http.cors_origins,
                        responses_store=_store_limits(server.http),
                        kept_answers=_answer_limits(server.http),
                    ),
                ),
                server.http.cors_origins,
            ),
            "http",
        )
        if self._is_first:
            admin = AdminApp(lambda: not services.is_draining, self._state)
            self.admin_port = await self._start_http(server.admin, admin, "admin")
        self._doors.start()
        self._audit(actions.CONFIG_LOADED, described(self._config))
        _log.info(
            "serving",
            grpc=self.grpc_port,
            http=self.http_port,
            admin=self.admin_port,
            providers=sorted(self._catalog.endpoints),
            engine=self._config.transport.engine,
        )

    async def _open_store(self) -> None:
        """What keys and the audit log are kept in; the log's trail begins with it.

        Raises:
            StartError: the store has tables of another version, or is damaged.
        """
        config, store = self._config, self._config.store
        if store is None or (config.auth is None and config.audit is None):
            return
        url = store.url.get_secret_value()
        try:
            await asyncio.to_thread(make_ready, url, store.migrate)
        except (SchemaError, DamagedFile) as error:
            raise StartError(str(error)) from error
        except StoreUnavailable as error:
            _log.warning("store_unavailable", why=str(error))
        self._engine = engine_for(url)
        if config.audit is not None and isinstance(self._trail, NoTrail):
            self._trail = self._own_trail = trail_of(config, self._engine, anchors=self._is_first)
            self._own_trail.start()

    async def _let_in(self) -> Gate:
        """Who may call: whoever has a key where the configuration says `auth`."""
        auth = self._config.auth
        if auth is None or self._engine is None:
            return OpenGate(Tenants(os.environ.get(SALT_VARIABLE)))
        self._access = Access(auth, self._engine, time.monotonic)
        self._access.gate.on_denied = self._key_denied
        await self._access.start()
        return self._access.gate

    async def _take_over(self, catalog: Catalog) -> None:
        """Connect to the providers of a new configuration, then let those go that it does not
        name."""
        await self._warm(catalog)
        # Of the newest one: another reload may have come meanwhile.
        endpoints = self._catalog.endpoints.values()
        self._require_services().transport.retain({endpoint.origin for endpoint in endpoints})

    async def _warm(self, catalog: Catalog) -> None:
        """Connect to every provider; wait for it, but not for ever."""
        services = self._require_services()
        wanted: dict[Origin, Endpoint] = {}
        fewest_streams: dict[Origin, int] = {}
        for endpoint in catalog.endpoints.values():
            origin = endpoint.origin
            held = wanted.get(origin)
            if held is None or endpoint.warm_connections > held.warm_connections:
                wanted[origin] = endpoint
            # Rows that share a server share its limit: the lower word counts.
            fewest = fewest_streams.get(origin, endpoint.max_streams)
            fewest_streams[origin] = min(fewest, endpoint.max_streams)
        warming = [
            asyncio.create_task(
                services.transport.warm(
                    origin,
                    endpoint.warm_connections,
                    probe_path=endpoint.probe_path,
                    max_streams=fewest_streams[origin],
                )
            )
            for origin, endpoint in wanted.items()
        ]
        if warming:
            _, late = await asyncio.wait(warming, timeout=WARM_WAIT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*warming, return_exceptions=True)

    async def _start_grpc(self, services: Services) -> None:
        listener, door = self._config.server.grpc, self._door("grpc")
        checks: list[grpc.aio.ServerInterceptor] = []
        if door is not None and looks_at_calls(door):
            checks.append(PeerCheck(partial(refusal, door)))
        if services.gate.needs_keys:
            checks.append(KeyCheck(services.gate, (SERVICE, health.SERVICE_NAME)))
        server = grpc.aio.server(
            interceptors=checks,
            options=grpc_options(self._config, reuse_port=self._reuse_port),
        )
        self._service = RelayService(services, listener)
        server.add_generic_rpc_handlers((self._service.handler(),))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if listener.reflection:
            reflection.enable_server_reflection(
                (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server
            )
        if not self._reuse_port:
            refuse_taken(listener, "grpc")  # gRPC would write lines of its own first
        try:
            if door is None:
                self.grpc_port = server.add_insecure_port(listener.address)
            else:
                self.grpc_port = server.add_secure_port(listener.address, credentials(door))
        except RuntimeError as error:
            raise StartError(f"cannot listen on {listener.address} (server.grpc)") from error
        if listener.unix_socket and self._is_first:
            try:
                server.add_insecure_port(f"unix:{listener.unix_socket}")
            except RuntimeError as error:
                raise StartError(
                    f"cannot listen on {listener.unix_socket} (server.grpc.unix_socket)"
                ) from error
        await server.start()
        self._grpc_server = server
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def _set_health(self, status: int) -> None:
        if self._health is not None:
            await self._health.set("", status)
            await self._health.set(SERVICE, status)

    async def _start_http(self, listener: Listener, app: Any, name: str) -> int:
        listening = _listen(listener, name, reuse_port=self._reuse_port)
        slow_consumer_s = self._config.server.slow_consumer_ms / 1000
        protocol = partial(BoundedHttpProtocol, slow_consumer_s=slow_consumer_s)
        server = _Uvicorn(
            uvicorn.Config(
                app,
                http=cast(Any, protocol),
                ws="none",
                loop="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=round(STOP_GRACE_S),
            ),
            self._door(name),
            slow_consumer_s,
        )
        task = asyncio.create_task(server.serve(sockets=[listening]), name=f"{name} listener")
        self._uvicorns.append(server)
        self._tasks.append(task)
        while not server.started:
            if task.done():
                await task
                raise StartError(f"the {name} listener stopped at once")
            await asyncio.sleep(0.005)
        port: int = listening.getsockname()[1]
        return port

    # --- run --------------------------------------------------------------------------------

    async def serve_until_stopped(self) -> None:
        """Serve until SIGTERM, SIGINT or `stop`; then drain and close. A second signal cuts the
        drain short. SIGHUP reloads."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        try:
            await self._stop_requested.wait()
            await self.drain()
        finally:
            try:
                await self.aclose()
            finally:
                # Last: without a handler one more SIGTERM would kill us while we close.
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Begin to drain; called again, end now."""
        if self._stop_requested.is_set():
            self._stop_now.set()
        self._stop_requested.set()

    def _reload(self) -> None:
        """Take a new configuration for requests to come; those that run keep theirs. Connections
        that it has no use for close with their last stream."""
        if self._reload_config is None:
            _log.warning("reload_ignored", why="there is no configuration file")
            return
        try:
            config = self._reload_config()
            catalog = Catalog(config)
        except ConfigError as error:
            _log.error("reload_refused", fault=str(error))
            self._audit(actions.CONFIG_REFUSED, {"fault": str(error)}, actions.FAILED)
            return
        services = self._require_services()
        if waiting := self._started_config.needing_restart(config):
            _log.warning("reload_partly", needs_restart=waiting)
        self._trail.learn(secrets_in(config))
        said = described(config, self._config) | {"needs_restart": waiting}
        self._audit(actions.CONFIG_LOADED, said)
        self._catalog = services.catalog = catalog
        self._config = config
        services.reaper.take(self._take_over(catalog))
        if self._doors is not None:
            services.reaper.take(self._doors.take(config))
        _log.info("reloaded", providers=sorted(catalog.endpoints), models=sorted(catalog.routes))

    def _key_denied(self, address: str) -> None:
        self._trail.note(
            actions.KEY_DENIED,
            at_us=time.time_ns() // 1000,
            actor=actions.address_actor(address),
            outcome=actions.DENIED,
        )

    def _audit(self, action: str, detail: dict[str, Any], outcome: str = actions.DONE) -> None:
        """Tell the audit log what this worker did with a configuration."""
        self._trail.note(
            action,
            at_us=time.time_ns() // 1000,
            actor=actions.RELAY,
            subject=f"{socket.gethostname()}/{self._number}",
            outcome=outcome,
            detail=detail,
        )

    async def drain(self) -> None:
        """Stop being ready, let generations finish, for no longer than the grace, and end the
        sessions, telling each why."""
        services = self._require_services()
        services.is_draining = True
        grace_s = self._config.server.drain_grace_ms / 1000
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        if self._service is not None:
            self._service.notify_drain(grace_s)
        _log.info("draining", running=len(services.live), grace_s=grace_s)
        idle = asyncio.create_task(services.live.idle())
        hurry = asyncio.create_task(self._stop_now.wait())
        try:
            await asyncio.wait({idle, hurry}, timeout=grace_s, return_when="FIRST_COMPLETED")
            services.live.cancel_all(Draining("this relay is shutting down"))
            await asyncio.wait({idle}, timeout=STOP_GRACE_S)
            if self._service is not None:
                # Before the server's stop, which would cancel them without a word.
                cause = Draining("this relay is shutting down; connect again")
                await self._service.end_sessions(cause, STOP_GRACE_S)
        finally:
            idle.cancel()
            hurry.cancel()
            await asyncio.gather(idle, hurry, return_exceptions=True)

    async def aclose(self) -> None:
        """Close listeners, then upstreams. Idempotent; bounded in time."""
        if self._doors is not None:
            await self._doors.aclose()
        if self._grpc_server is not None:
            await self._grpc_server.stop(STOP_GRACE_S)
            self._grpc_server = None
        for server in self._uvicorns:
            server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * STOP_GRACE_S + 1)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tasks.clear()
        if self._upkeep is not None:
            await self._upkeep.aclose()
        if self._services is not None:
            await self._services.reaper.aclose()
            await self._services.transport.aclose()
        if self._access is not None:
            await self._access.aclose()
        if self._own_trail is not None:
            await self._own_trail.aclose()
        if self._engine is not None:
            self._engine.dispose()

    # --- state ------------------------------------------------------------------------------

    def _require_services(self) -> Services:
        if self._services is None:
            raise RuntimeError("the worker was not started")
        return self._services

    def _door(self, name: str) -> Door | None:
        return None if self._doors is None else self._doors[name]

    @property
    def services(self) -> Services:
        """What this worker's generations use (after `start`)."""
        return self._require_services()

    def _state(self) -> dict[str, Any]:
        """For `/admin/state`: no secrets, no addresses of callers."""
        services = self._require_services()
        return {
            "uptime_s": round(time.monotonic() - self._started_s, 3),
            "draining": services.is_draining,
            "generations": len(services.live),
            "prewarms": services.prewarms,
            "background": len(services.reaper),
            "audit": self._trail.describe() if isinstance(self._trail, AuditTrail) else None,
            "tasks": len(asyncio.all_tasks()),
            "hedging": services.planner.describe(services.catalog.routes),
            "targets": self._targets(services),
            "origins": [
                {
                    "origin": row.origin.url,
                    "connections": row.connections,
                    "open_streams": row.open_streams,
                    "waiting": row.waiting,
                    "streams_opened": row.streams_opened,
                    "streams_aborted": row.streams_aborted,
                    "last_error": row.last_error,
                    "calmed": row.calmed,
                    "max_reset_share": round(row.max_reset_share, 3),
                }
                for row in services.transport.describe()
            ],
        }

    @staticmethod
    def _targets(services: Services) -> dict[str, Any]:
        """Of those that aliases name, and of others that were asked lately: callers may name any
        model of a provider."""
        now_s, states = services.clock(), dict(services.planner.states.items())
        routes = services.catalog.routes.values()
        named = [t.name for route in routes for t in (*route.candidates, *route.fallbacks)]
        lately = islice(reversed(states), MAX_OTHER_TARGETS)
        return {
            name: states[name].describe(now_s)
            for name in dict.fromkeys((*named, *lately))
            if name in states
        }


def refuse_taken(listener: Listener, name: str) -> None:
    """Try whether a listener's address can be had, by ourselves alone.

    Raises:
        StartError: it is taken or is not ours.
    """
    _bind(listener, name, reuse_port=False).close()


def _listen(listener: Listener, name: str, *, reuse_port: bool) -> socket.socket:
    """
    Raises:
        StartError: the address is taken or is not ours.
    """
    listening = _bind(listener, name, reuse_port=reuse_port)
    try:
        listening.listen(2048)
    except OSError as error:  # another was faster between bind and here
        listening.close()
        raise _cannot_listen(listener, name, error) from error
    listening.setblocking(False)
    return listening


def _bind(listener: Listener, name: str, *, reuse_port: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    # With the protocol named: asyncio sets TCP_NODELAY only on such sockets, and without it the
    # last frame of an answer waits 40 ms for a delayed ACK.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((listener.host, listener.port))
    except OSError as error:
        bound.close()
        raise _cannot_listen(listener, name, error) from error
    return bound


def _cannot_listen(listener: Listener, name: str, error: OSError) -> StartError:
    return StartError(f"cannot listen on {listener.address} (server.{name}): {error.strerror}")
