"""One worker: the one place that constructs and connects parts.

Start order: catalog, transport, warm connections and tokens, then the listeners, so that the first
request finds its provider connected and its credential there. Stop order is the reverse: stop being
ready, tell the sessions, let generations finish within the grace, end the rest and the sessions
with DRAINING, close listeners, then upstreams.

Everything runs in one event loop: the gRPC server, the HTTP shim, the admin listener of a worker
that is alone (the supervisor has that of several) and the upstream transport.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from relay import logs
from relay.accounts import Accounts
from relay.admin_office import AdminOffice, mounts_of
from relay.auditing import described, secrets_of
from relay.compositions import catalog_of
from relay.config import Config, ConfigError, HttpListener, Listener, secrets_in
from relay.credentials.base import Credential
from relay.credentials.desk import CredentialDesk
from relay.dispatch import Services
from relay.errors import MAX_SHOWN_CHARS, Draining
from relay.frontends.address_bound import AddressBound
from relay.frontends.admin_app import AdminApp, Readiness
from relay.frontends.asgi import Early
from relay.frontends.caller import MAX_METADATA_BYTES
from relay.frontends.cors import with_cors
from relay.frontends.grpc_gate import KeyCheck
from relay.frontends.grpc_health import BoundedHealth
from relay.frontends.grpc_noise import NoiseWatch
from relay.frontends.grpc_peer import PeerCheck
from relay.frontends.grpc_service import SERVICE, RelayService, StrangeMethods, hard_limit_bytes
from relay.frontends.http_app import HttpApp
from relay.frontends.http_generation import HttpSettings
from relay.frontends.kept_answers import AnswerLimits
from relay.frontends.protobuf_kind import BOUNDED, protobuf_kind
from relay.frontends.response_store import StoreLimits
from relay.generation_log import GenerationLog
from relay.governance import audit_actions as actions
from relay.governance.feedback import FeedbackDesk
from relay.governance.tenant import SALT_VARIABLE, Tenants
from relay.hints.desk import HintDesk
from relay.hints.hint import where
from relay.hints.pipe_bus import PipeBus
from relay.http_server import STOP_GRACE_S, HttpServer, StartError, refuse_taken
from relay.instance import instance_id, place
from relay.loop_watch import LoopWatch
from relay.observability.exports import Exports
from relay.observability.live.play import PlayDesk
from relay.observability.live.recorder import LIVE, Recorder
from relay.observability.live.workers import OwnWorker
from relay.observability.metrics import serve
from relay.observability.metrics.sampler import Sources
from relay.observability.metrics.worker import WorkerMetrics
from relay.observability.pages.app import Dashboard
from relay.overload import Overload, bounds_of
from relay.policies import Policies, Taken
from relay.policy.guard_rail import Stop
from relay.reaper import Reaper
from relay.resilience.overload import Bounds
from relay.routing.catalog import Catalog
from relay.routing.endpoint import Endpoint
from relay.stopped_arms import StoppedArms
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
from relay.workers.link import SupervisorLink

_log = structlog.get_logger("relay.server")

WARM_WAIT_S = 3.0
"""How long the listeners wait for the first warm connections; an unreachable provider must not
keep the others from being served."""
HANDSHAKE_TIMEOUT_MS = 10_000
"""For a client of gRPC without TLS to show that it speaks HTTP/2; with TLS the same of its own."""
WINDOW_BYTES = 1024 * 1024
"""What a client may send on one stream, and on one connection, before anybody has read of it."""
MAX_SENT_BYTES = 4 * 1024 * 1024
"""Of one gRPC message to a client."""
MORE_RPCS = 2048
"""Beside twice the sessions and generations that a worker takes: health checks and watches, and
those that are being refused with words. What is over all that, gRPC refuses by itself."""
MAX_OTHER_TARGETS = 100
"""Shown in `/admin/state` beside those of aliases; a hundred take a millisecond or two."""


def grpc_options(config: Config, *, reuse_port: bool = False) -> list[tuple[str, int]]:
    """Channel arguments of the gRPC server, each with its reason."""
    grpc_config, tls = config.server.grpc, config.tls_of("grpc")
    return [
        # Above the listener's own limit, so that it can answer in words what is between the two.
        ("grpc.max_receive_message_length", hard_limit_bytes(grpc_config)),
        # Otherwise a second process shares the port in silence.
        ("grpc.so_reuseport", int(reuse_port)),
        # Between a soft and a hard limit the core refuses a random sample: make them one.
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", grpc_config.max_streams),
        ("grpc.max_allowed_incoming_connections", grpc_config.max_connections),
        # Windows that do not grow: else each connection is lent four megabytes at once, whoever it
        # is. With 64 KiB a prompt that is larger would wait for one more round trip, so 1 MiB.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        # Clients take no more; what is larger than an event of a provider (1 MiB) is none of ours.
        ("grpc.max_send_message_length", MAX_SENT_BYTES),
        (
            "grpc.server_handshake_timeout_ms",
            HANDSHAKE_TIMEOUT_MS if tls is None else tls.handshake_timeout_ms,
        ),
        # Voice clients ping every 20-30 s also when idle; the default allows one in 5 minutes.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 3),
        # And we find clients that vanished without a word. The core waits for the answer to a ping
        # for as long as the last of these says (a minute by itself), not the one before it.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.ping_timeout_ms", 10_000),
        ("grpc.enable_http_proxy", 0),
    ]


def max_rpcs(bounds: Bounds) -> int | None:
    """How many RPCs may run at once in one worker; None for any number."""
    if not (bounds.max_generations and bounds.max_sessions):
        return None
    return 2 * (bounds.max_generations + bounds.max_sessions) + MORE_RPCS


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


def credentials_of(catalog: Catalog) -> dict[str, Credential]:
    """By provider."""
    return {name: endpoint.credential for name, endpoint in catalog.endpoints.items()}


def _store_limits(http: HttpListener) -> StoreLimits | None:
    store = http.responses_store
    if store is None:
        return None
    return StoreLimits(store.max_responses, store.max_bytes, float(store.ttl_s))


def _answer_limits(http: HttpListener) -> AnswerLimits:
    kept = http.idempotency
    return AnswerLimits(kept.max_answers, kept.max_bytes, float(kept.ttl_s))


class Worker:
    """Build with a configuration, `start`, `serve_until_stopped`, or `aclose` after a failure."""

    def __init__(
        self,
        config: Config,
        *,
        reload_config: Callable[[], Config] | None = None,
        worker: int | None = None,
        link: SupervisorLink | None = None,
        workers: int = 1,
    ) -> None:
        """
        Args:
            reload_config: read the configuration anew (SIGHUP); raises ConfigError.
            worker: number of one of several that share the ports; the first has what cannot be
                shared, the Unix socket. None for the only one, which has an admin listener.
            link: to the supervisor of several, which shows their states; its owner closes it.
            workers: how many share the memory.

        Raises:
            ConfigError: the configuration names what does not exist.
        """
        self._config = self._started_config = config
        self._secrets = secrets_of(config)
        logs.hide_with(self._secrets.hide)
        self._reload_config = reload_config
        self._reuse_port = worker is not None
        self._is_alone = worker is None
        self._is_first = not worker
        self._number = worker or 0
        self._overload = Overload(bounds_of(config.server.overload, workers))
        self._link = link
        self._credentials = CredentialDesk(self._secrets.learn_passing)
        self._catalog = catalog_of(config, self._credentials)
        self._exports = Exports(config, self._secrets.hide, instance_id())
        self._stop_requested = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._http_servers: list[HttpServer] = []
        self._grpc_server: grpc.aio.Server | None = None
        self._service: RelayService | None = None
        self._health: BoundedHealth | None = None
        self._noise = NoiseWatch()
        self._services: Services | None = None
        self._upkeep: Upkeep | None = None
        self._accounts: Accounts | None = None
        self._policies: Policies | None = None
        self._stopped_arms: StoppedArms | None = None
        self._log: GenerationLog | None = None
        self._office: AdminOffice | None = None
        self._plays: PlayDesk | None = None
        self._dashboard: Dashboard | None = None
        self._hints: HintDesk | None = None
        self._doors: Doors | None = None
        metrics = config.observability.metrics
        self._metrics = WorkerMetrics(config) if metrics.enabled else None
        self.on_stop: Callable[[], None] | None = None
        """Is called when it begins to drain."""
        self._reloads = 0
        self._started_s = time.monotonic()
        self.grpc_port = 0
        self.http_port = 0
        self.admin_port = 0

    # --- start ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open everything; returns when requests are served.

        Raises:
            StartError: a port is taken, a listener is not allowed, or what a policy needs is not
                there.
        """
        server = self._config.server
        if exposed := self._config.exposed:
            raise StartError("\n".join(exposed))
        if (kind := protobuf_kind()) not in BOUNDED:
            raise StartError(
                f"protobuf's implementation in {kind} reads messages here, which does not bound how"
                " deep they are; unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION, or install a wheel"
                " of protobuf for this platform"
            )
        try:
            names = ("grpc", "http", "admin") if self._is_alone else ("grpc", "http")
            self._doors = await asyncio.to_thread(Doors, self._config, names)
        except TlsError as error:
            raise StartError(str(error)) from error
        accounts = await self._open_accounts()
        transport = make_transport(self._config.transport.engine, transport_settings(self._config))
        self._services = services = Services(
            catalog=self._catalog,
            transport=transport,
            ledger=accounts.ledger,
            reaper=Reaper(),
            clock=time.monotonic,
            slow_consumer_s=server.slow_consumer_ms / 1000,
            lane_bytes=server.lane_bytes,
            gate=accounts.gate,
            feedback=FeedbackDesk(accounts.feedback),
            overload=self._overload,
        )
        transport.on_dial = services.dialled
        self._start_exports(services)
        self._policies = Policies(services, self._arm_stopped)
        try:
            self._catalog = self._policies.take(self._config, self._credentials).use()
            await self._policies.check()
        except ConfigError as error:
            raise StartError(str(error)) from error
        if (kept := accounts.stopped_arms) is not None:
            self._stopped_arms = StoppedArms(kept, lambda: self._require_policies().experiments)
            await self._stopped_arms.start()
        await asyncio.gather(
            self._credentials.start(transport, credentials_of(self._catalog)),
            self._warm(self._catalog),
        )
        store = self._config.store
        self._upkeep = Upkeep(
            services,
            None if store is None else sqlite_path(store.url.get_secret_value()),
            self._number,
        )
        await self._upkeep.start()
        self._start_hints(services)
        self._start_metrics(services)
        await self._start_grpc(services)
        shim = HttpApp(
            services,
            HttpSettings(
                max_request_bytes=server.http.max_request_bytes,
                commit_headers_after_s=server.http.commit_headers_after_ms / 1000,
                comment_interval_s=server.http.comment_interval_ms / 1000,
                origins=server.http.cors_origins,
                responses_store=_store_limits(server.http),
                kept_answers=_answer_limits(server.http),
            ),
        )
        origins = server.http.cors_origins
        self.http_port = await self._start_http(
            server.http, with_cors(shim, origins), "http", shim.early
        )
        recorder = Recorder(self._number, instance_id(), self._has_name, self._state, time.time)
        services.on_ended.append(recorder.ended)
        self._plays = PlayDesk(services)
        shown = {LIVE: recorder.answer, **self._plays.answers}
        if self._is_alone:
            routes, unguarded = serve.parts_of(self._metrics)
            self._office = AdminOffice.open(self._config, accounts.trail, self._shown, routes)
            own = OwnWorker(shown, lambda: str(self._readiness().told["status"]))
            self._dashboard = Dashboard(own, self._office)
            mounts = {**mounts_of(self._office, unguarded), **self._dashboard.mounts}
            admin = AdminApp(self._readiness, self._shown, mounts)
            self.admin_port = await self._start_http(server.admin, admin, "admin")
        self._doors.start()
        self._overload.start()
        if self._link is not None:
            self._link.answer("state", self._state)
            if self._metrics is not None:
                self._link.answer("metrics", self._metrics.answer)
            for question, answer in shown.items():
                self._link.answer(question, answer)
            self._link.on_lost = self.stop
            self._link.status("ready", {"grpc": self.grpc_port, "http": self.http_port})
        self._audit(actions.CONFIG_LOADED, described(self._config))
        _log.info(
            "serving",
            grpc=self.grpc_port,
            http=self.http_port,
            admin=self.admin_port,
            providers=sorted(self._catalog.endpoints),
            engine=self._config.transport.engine,
        )

    async def _open_accounts(self) -> Accounts:
        """
        Raises:
            StartError: the store has tables of another version, or is damaged.
        """
        accounts = Accounts(
            self._config,
            worker=None if self._is_alone else self._number,
            tenants=Tenants(os.environ.get(SALT_VARIABLE)),
            clock=time.monotonic,
            watch=self._metrics,
        )
        self._accounts = accounts
        try:
            await accounts.start()
        except (SchemaError, DamagedFile) as error:
            raise StartError(str(error)) from error
        return accounts

    def _start_exports(self, services: Services) -> None:
        """Log, traces and payloads, before there is a generation to tell of."""
        section = self._config.observability
        logs.limit(section.logs.max_waiting_bytes)
        self._log = GenerationLog(
            section.logs.share,
            section.logs.slow_ms * 1000,
            makes_traces=section.tracing is not None,
        )
        services.on_ended[:] = [self._log, services.feedback.heard]
        self._exports.start(services)

    def _start_hints(self, services: Services) -> None:
        """Tell other workers of providers that fail, and hear of it, if there are any."""
        store = self._config.store
        redis = None if store is None or store.redis is None else store.redis.get_secret_value()
        if self._link is None and redis is None:
            return
        states = services.planner.states
        for route in services.catalog.routes.values():  # hints of what nobody asked are not kept
            for target in (*route.candidates, *route.fallbacks):
                states.of(target, services.clock())
        desk = HintDesk(states, services.clock, instance_id(), self._where)
        if self._link is not None:  # and the supervisor passes them on
            desk.attach(PipeBus(self._link, desk.take))
        elif redis is not None:
            # Here: relays without Redis are spared its client's imports.
            from relay.hints.redis_bus import RedisBus

            bus = RedisBus(redis, instance_id(), desk.take)
            bus.start()
            desk.attach(bus)
        self._hints = desk

    def _start_metrics(self, services: Services) -> None:
        if self._metrics is not None:
            self._metrics.start(
                Sources(
                    services,
                    self._started_s,
                    sessions=lambda: 0 if self._service is None else self._service.sessions,
                    credentials=lambda: credentials_of(services.catalog),
                    accounts=self.accounts.describe,
                    hints=lambda: None if self._hints is None else self._hints.describe(),
                    untold=lambda: {"log": logs.dropped_lines(), **self._exports.dropped()},
                )
            )

    def _where(self, target: str) -> str | None:
        endpoint = self._catalog.endpoints.get(target.partition("/")[0])
        return None if endpoint is None else where(f"{endpoint.origin.url}{endpoint.base_path}")

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
            checks.append(PeerCheck(partial(refusal, door), self._certificate_denied))
        if services.gate.needs_keys:
            checks.append(KeyCheck(services.gate, (SERVICE, health.SERVICE_NAME)))
        server = grpc.aio.server(
            interceptors=checks,
            options=grpc_options(self._config, reuse_port=self._reuse_port),
            maximum_concurrent_rpcs=max_rpcs(self._overload.bounds),
        )
        self._service = RelayService(services, listener, self._noise)
        server.add_generic_rpc_handlers((self._service.handler(),))
        self._health = BoundedHealth()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if listener.reflection:
            reflection.enable_server_reflection(
                (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server
            )
        server.add_generic_rpc_handlers((StrangeMethods(self._noise),))
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
        self._noise.start(self.grpc_port)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def _set_health(self, status: int) -> None:
        if self._health is not None:
            await self._health.set("", status)
            await self._health.set(SERVICE, status)

    async def _start_http(
        self, listener: Listener, app: Any, name: str, early: Early | None = None
    ) -> int:
        server = await HttpServer.start(
            listener,
            app,
            name,
            slow_consumer_s=self._config.server.slow_consumer_ms / 1000,
            reuse_port=self._reuse_port,
            door=self._door(name),
            early=early,
            addresses=(
                AddressBound.of(listener, time.monotonic)
                if isinstance(listener, HttpListener)
                else None
            ),
        )
        self._http_servers.append(server)
        return server.port

    # --- run --------------------------------------------------------------------------------

    async def serve_until_stopped(self) -> None:
        """Serve until SIGTERM, SIGINT or `stop`; then drain and close. A second signal cuts the
        drain short. SIGHUP reloads."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        watch = LoopWatch()
        watch.start()
        try:
            await self._stop_requested.wait()
            await self.drain()
        finally:
            try:
                await self.aclose()
            finally:
                watch.close()
                # Last: without a handler one more SIGTERM would kill us while we close.
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Begin to drain; called again, end now."""
        if self.on_stop is not None and not self._stop_requested.is_set():
            self.on_stop()
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
        except ConfigError as error:
            self._refuse(error)
            return
        self._reloads += 1
        if self._require_policies().lacks(config):
            loading = self._take_when_loaded(config, self._reloads)
            self._require_services().reaper.take(loading)
        else:
            self._take(config)

    async def _take_when_loaded(self, config: Config, number: int) -> None:
        """Models are read in a thread; a reload that came meanwhile has overtaken this one."""
        await self._require_policies().load(config)
        if number == self._reloads:
            self._take(config)

    def _refuse(self, error: ConfigError) -> None:
        _log.error("reload_refused", fault=str(error))
        self._audit(actions.CONFIG_REFUSED, {"fault": str(error)}, actions.FAILED)

    def _take(self, config: Config) -> None:
        try:
            taken = self._require_policies().take(config, self._credentials)
        except ConfigError as error:
            self._refuse(error)
            return
        self._secrets.learn(secrets_in(config))
        self.accounts.trail.learn(secrets_in(config))
        if self._credentials.lacks(credentials_of(taken.catalog)):
            fetching = self._use_when_fetched(config, taken, self._reloads)
            self._require_services().reaper.take(fetching)
        else:
            self._use(config, taken)

    async def _use_when_fetched(self, config: Config, taken: Taken, number: int) -> None:
        """Until credentials that are new have been fetched, requests go on with those before. A
        reload that came meanwhile has overtaken this one."""
        await self._credentials.fetch(credentials_of(taken.catalog))
        if number == self._reloads:
            self._use(config, taken)

    def _use(self, config: Config, taken: Taken) -> None:
        services = self._require_services()
        if waiting := self._started_config.needing_restart(config):
            _log.warning("reload_partly", needs_restart=waiting)
        said = described(config, self._config) | {"needs_restart": waiting}
        self._audit(actions.CONFIG_LOADED, said)
        self._catalog = catalog = taken.use()
        if self._metrics is not None:
            self._metrics.configured(catalog)
        self._credentials.retain(credentials_of(catalog))
        self.accounts.reload(config)
        self._config = config
        services.reaper.take(self._take_over(catalog))
        if self._doors is not None:
            services.reaper.take(self._doors.take(config))
        _log.info("reloaded", providers=sorted(catalog.endpoints), models=sorted(catalog.routes))

    @property
    def accounts(self) -> Accounts:
        """Who may, who pays, and the proof of it; raises RuntimeError before `start`."""
        if self._accounts is None:
            raise RuntimeError("the worker has not started")
        return self._accounts

    def _audit(self, action: str, detail: dict[str, Any], outcome: str = actions.DONE) -> None:
        """Tell the audit log what this worker did with a configuration."""
        self.accounts.trail.note(
            action,
            at_us=time.time_ns() // 1000,
            actor=actions.RELAY,
            subject=place(self._number, self._config.server.grpc.address),
            outcome=outcome,
            detail=detail,
        )

    def _certificate_denied(self, address: str, why: str) -> None:
        self.accounts.trail.note(
            actions.CERTIFICATE_DENIED,
            at_us=time.time_ns() // 1000,
            actor=actions.address_actor(address),
            outcome=actions.DENIED,
            detail={"why": why},
        )

    async def drain(self) -> None:
        """Stop being ready, let generations finish, for no longer than the grace, and end the
        sessions, telling each why."""
        services = self._require_services()
        services.is_draining = True
        self._overload.drain()
        if self._policies is not None:
            self._policies.stop()
        if self._link is not None:
            self._link.status("draining")
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
        await self._overload.aclose()
        if self._doors is not None:
            await self._doors.aclose()
        if self._dashboard is not None:
            await self._dashboard.aclose()
        if self._plays is not None:
            await self._plays.aclose()
        if self._grpc_server is not None:
            await self._grpc_server.stop(STOP_GRACE_S)
            self._grpc_server = None
        await self._noise.aclose()
        for server in self._http_servers:
            server.close()
        await asyncio.gather(*(server.aclose() for server in self._http_servers))
        self._http_servers.clear()
        if self._office is not None:
            await self._office.aclose()
        if self._metrics is not None:
            self._metrics.aclose()
        if self._hints is not None:
            await self._hints.aclose()
        if self._upkeep is not None:
            await self._upkeep.aclose()
        if self._stopped_arms is not None:
            await self._stopped_arms.aclose()
        if self._policies is not None:
            await self._policies.aclose()
        await self._credentials.aclose()
        if self._services is not None:
            await self._services.reaper.aclose()
            await self._services.transport.aclose()
        await self._exports.aclose()
        if self._accounts is not None:
            await self._accounts.aclose()

    # --- state ------------------------------------------------------------------------------

    def _require_policies(self) -> Policies:
        if self._policies is None:
            raise RuntimeError("the worker was not started")
        return self._policies

    def _arm_stopped(self, experiment: str, stop: Stop) -> None:
        said = {"experiment": experiment, **stop.as_dict()}
        _log.warning("arm_stopped", **said)
        self._audit(actions.ARM_STOPPED, said)
        if self._stopped_arms is not None:
            self._stopped_arms.hurry()

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

    def _readiness(self) -> Readiness:
        if self._require_services().is_draining:
            return Readiness(False, {"status": "draining"})
        return Readiness(True, {"status": "ready"})

    async def _shown(self) -> dict[str, Any]:
        return self._state()

    def _has_name(self, model: str) -> bool:
        return self._catalog.has_name(model)

    def _state(self) -> dict[str, Any]:
        """For `/admin/state`: no secrets, no addresses of callers."""
        services = self._require_services()
        return {
            "uptime_s": round(time.monotonic() - self._started_s, 3),
            "draining": services.is_draining,
            "generations": len(services.live),
            "sessions": 0 if self._service is None else self._service.sessions,
            "overload": self._overload.describe(),
            "prewarms": services.prewarms,
            "background": len(services.reaper),
            "accounts": self.accounts.describe(),
            "log": {
                "left_out": 0 if self._log is None else self._log.left_out,
                "dropped_lines": logs.dropped_lines(),
            },
            "exports": self._exports.describe(),
            "policies": self._require_policies().describe(),
            "tasks": len(asyncio.all_tasks()),
            "hedging": services.planner.describe(services.catalog.routes),
            "hints": None if self._hints is None else self._hints.describe(),
            "credentials": self._shown_credentials(services),
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
    def _shown_credentials(services: Services) -> dict[str, Any]:
        """Of every provider: no secrets, and of errors what may be shown."""
        now_s = services.clock()
        shown = {}
        for name, credential in credentials_of(services.catalog).items():
            state = credential.describe(now_s)
            ends_s = state.expires_in_s
            shown[name] = state._asdict() | {
                "expires_in_s": None if ends_s is None else round(ends_s, 3),
                "wait_s": round(credential.wait_s(now_s), 3),
            }
        return shown

    @staticmethod
    def _targets(services: Services) -> dict[str, Any]:
        """Of those that aliases name, and of others that were asked lately: callers may name any
        model of a provider, and have put a key in its place."""
        now_s, states = services.clock(), dict(services.planner.states.items())
        routes = services.catalog.routes.values()
        named = dict.fromkeys(
            t.name for route in routes for t in (*route.candidates, *route.fallbacks)
        )
        lately = islice(reversed(states), MAX_OTHER_TARGETS)
        return {
            name if name in named else logs.hidden(name)[:MAX_SHOWN_CHARS]: states[name].describe(
                now_s
            )
            for name in dict.fromkeys((*named, *lately))
            if name in states
        }
