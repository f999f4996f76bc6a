"""Who may, who pays, what was used, and the proof of it: all of that in one worker, put together.

    accounts = Accounts(config, worker=None, tenants=..., clock=time.monotonic)
    await accounts.start()
    services = Services(ledger=accounts.ledger, gate=accounts.gate, ...)
    ...
    await accounts.aclose()

Without a `store` nobody needs a key and nothing is booked. With one every generation is written
down; with `auth` callers need keys, which have scopes, limits and budgets.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

import structlog
from sqlalchemy import Engine

from relay.auditing import trail_of
from relay.config import Config, LimitsConfig, StoreConfig
from relay.config.budgets import AlertsConfig
from relay.config.limits import RateLimits
from relay.deadline import Clock
from relay.errors import RelayError
from relay.governance import audit_actions as actions
from relay.governance.access import Access, wall_us
from relay.governance.admission import Admission, AdmissionSettings
from relay.governance.alert_task import AlertSettings, AlertTask
from relay.governance.audit_trail import AuditTrail, NoTrail, Trail
from relay.governance.charges import ChargeBook
from relay.governance.clock_steps import ClockSteps
from relay.governance.gate import Gate, OpenGate
from relay.governance.ledger import Ledger, NullLedger, OnRefused, Refused
from relay.governance.limit_desk import LimitDesk
from relay.governance.limits import KeyLimits, Limits
from relay.governance.price_sheet import Listed, PriceSheet
from relay.governance.refusals import Refusals
from relay.governance.retention_task import RetentionTask
from relay.governance.tenant import Tenants
from relay.governance.visits import Visits
from relay.governance.webhook import Webhook
from relay.instance import instance_id, place
from relay.store.arm_store import ArmStore
from relay.store.base import LedgerStore, StoreUnavailable
from relay.store.engine import engine_for, make_ready
from relay.store.feedback_store import FeedbackStore
from relay.store.limit_store import LimitStore
from relay.store.open_store import open_ledger, open_limits
from relay.store.outbox_store import OutboxStore
from relay.store.retention import Retention
from relay.store.revisions import SchemaError
from relay.store.sqlite_file import DamagedFile

_log = structlog.get_logger("relay.accounts")

DEFAULT_LEASE_S: Final = 30
"""As `budgets.lease_s`, where nothing is said of budgets."""
SWEEP_S: Final = 5.0
"""Between looks for what dead workers left open."""
SWEEP_ROWS: Final = 500
BEGIN_AGAIN_S: Final = 1.0
"""Between tries to reach a database that was away at the start."""


class Watch(Protocol):
    """Is told what the accounts decide and book; never waits, never raises."""

    def refused(self, error: RelayError, what: Refused) -> None:
        """Something may not be."""
        ...

    def denied(self, *, is_by_certificate: bool) -> None:
        """Somebody called who is nobody."""
        ...

    def settled(self, team: str, cost_micro: int) -> None:
        """A generation was booked; without keys `team` is a name of the bearer."""
        ...


class Accounts:
    """One worker's. Started before anything is served, closed after the last generation.

    Args:
        worker: number of one of several; None for the only one.
        tenants: gives names to bearers where no keys are wanted.
        clock: monotonic, seconds.
        watch: for what is counted; None for nobody.
    """

    def __init__(
        self,
        config: Config,
        *,
        worker: int | None,
        tenants: Tenants,
        clock: Clock,
        watch: Watch | None = None,
    ) -> None:
        self._config = config
        self._worker = worker
        self._clock = clock
        self._watch = watch
        self._engine: Engine | None = None
        self.access: Access | None = None
        """Who keeps the directory of keys; None where none are needed."""
        self._trail: AuditTrail | None = None
        self._alerts: AlertTask | None = None
        self._retention: RetentionTask | None = None
        self._store: LedgerStore | None = None
        self._limits: LimitStore | None = None
        self._desk: LimitDesk | None = None
        self._admission: Admission | None = None
        self._task: asyncio.Task[None] | None = None
        self._lease_s = float(config.budgets.lease_s if config.budgets else DEFAULT_LEASE_S)
        self._clock_steps = ClockSteps(self._lease_s)
        self.gate: Gate = OpenGate(tenants)
        self.ledger: Ledger = NullLedger(self.gate)

    @property
    def feedback(self) -> FeedbackStore | None:
        """Where it is kept what users think of answers; None without a store."""
        return None if self._engine is None else FeedbackStore(self._engine)

    @property
    def stopped_arms(self) -> ArmStore | None:
        """Where it is kept which arms of experiments do not run; None without a store."""
        return None if self._engine is None else ArmStore(self._engine)

    @property
    def trail(self) -> Trail:
        """Where the parts of the worker tell what is to be audited."""
        return self._trail or NoTrail()

    async def start(self) -> None:
        """Bring the tables up, read who may call, and take this worker's lease. A database that
        cannot be reached keeps nobody from starting: nothing is admitted until it can.

        Raises:
            SchemaError, DamagedFile: the relay must not start; the message says what to do.
        """
        config = self._config
        if config.store is None:
            self.ledger = NullLedger(self.gate, self._teller_of(None))
            return
        url = config.store.url.get_secret_value()
        try:
            await asyncio.to_thread(make_ready, url, config.store.migrate)
        except (SchemaError, DamagedFile):  # of StoreUnavailable too, and nothing to wait for
            raise
        except StoreUnavailable as error:
            _log.error("store_unavailable", why=str(error))
        self._engine = engine = engine_for(url, durability=config.store.durability)
        if config.audit is not None:
            self._trail = trail_of(config, engine, anchors=not self._worker)
            self._trail.start()
        if config.auth is not None:
            self.access = Access(config.auth, engine, self._clock)
            await self.access.start()
            self.gate = gate = self.access.gate
            gate.on_denied = self._denied
        refusals = self._refusals()
        self.ledger = NullLedger(
            self.gate,
            self._teller_of(refusals),
            None if refusals is None else refusals.tell_changed,
            None if self.access is None else self.access.directory.tag_budgets,
        )
        if config.store.ledger:
            await self._start_books(config, config.store, engine, refusals)

    def _refusals(self) -> Refusals | None:
        """None where nothing is audited."""
        if self._trail is None:
            return None
        access = self.access
        organisation_of = _nobodys if access is None else access.directory.organisation_of
        return Refusals(self._trail, wall_us, organisation_of)

    def _teller_of(self, refusals: Refusals | None) -> OnRefused | None:
        """Who is told of refusals: the audit log, whoever counts, both or nobody."""
        watch = self._watch
        if watch is None or refusals is None:
            if watch is not None:
                return watch.refused
            return None if refusals is None else refusals.tell

        def tell(error: RelayError, what: Refused) -> None:
            refusals.tell(error, what)
            watch.refused(error, what)

        return tell

    async def _start_books(
        self, config: Config, where: StoreConfig, engine: Engine, refusals: Refusals | None
    ) -> None:
        limits = config.limits or LimitsConfig()
        is_shared = self._worker is not None
        self._limits = open_limits(where, limits, instance_id(), is_shared=is_shared)
        await self._limits.start()
        self._desk = LimitDesk(self._limits, _book(config), wall_us)
        self._store = store = open_ledger(where)
        tag_budgets = None if self.access is None else self.access.directory.tag_budgets
        self.ledger = self._admission = Admission(
            store=store,
            instance_id=instance_id(),
            prices=_prices(config),
            settings=_settings(config),
            gate=self.gate,
            now_us=wall_us,
            tag_budgets=tag_budgets,
            limits=self._desk,
            visits=Visits(
                store=store,
                instance_id=instance_id(),
                gate=self.gate,
                desk=self._desk,
                now_us=wall_us,
                tag_budgets=tag_budgets,
            ),
            on_refused=self._teller_of(refusals),
            on_changed=None if refusals is None else refusals.tell_changed,
            on_settled=None if self._watch is None else self._watch.settled,
        )
        await self._begin(store, self._admission)
        self._task = asyncio.create_task(self._keep(store, self._admission), name="accounts")
        if self.access is not None:
            self._alerts = AlertTask(OutboxStore(engine), *_teller(config))
            self._alerts.start()
        if (days := where.retention_days) is not None and not self._worker:
            self._retention = RetentionTask(
                lambda pause: Retention(engine, days, pause), self.trail, wall_us
            )
            self._retention.start()

    def reload(self, config: Config) -> None:
        """Prices, limits, budgets' rules and where alerts go hold from now on as another
        configuration says; where the store is, and whether keys are needed, takes a restart."""
        if self._desk is not None:
            self._desk.book = _book(config)
        if self._admission is not None:
            self._admission.prices = _prices(config)
            self._admission.settings = _settings(config)
        if self._alerts is not None and _alerts_of(config) != _alerts_of(self._config):
            self._alerts.take(*_teller(config))
        self._config = config

    def _denied(self, address: str, is_by_certificate: bool) -> None:
        if self._watch is not None:
            self._watch.denied(is_by_certificate=is_by_certificate)
        self.trail.note(
            actions.CERTIFICATE_DENIED if is_by_certificate else actions.KEY_DENIED,
            at_us=wall_us(),
            actor=actions.address_actor(address),
            outcome=actions.DENIED,
        )

    async def _begin(self, store: LedgerStore, admission: Admission) -> None:
        """Take the lease; what cannot be reached now is tried again later, and nothing is admitted
        until then.

        Raises:
            SchemaError, DamagedFile
        """
        where = place(self._worker, self._config.server.grpc.address)
        try:
            await store.start(instance_id(), where, wall_us(), self._lease_s)
        except (SchemaError, DamagedFile):
            raise
        except StoreUnavailable as error:
            if admission.is_open:
                _log.error("accounts_unavailable", why=str(error))
            admission.is_open = False
        else:
            admission.is_open = True

    async def _keep(self, store: LedgerStore, admission: Admission) -> None:
        """Renew the lease, and settle what dead workers left open."""
        pause_s = min(SWEEP_S, self._lease_s / 3)
        while True:
            if not admission.is_open:
                await asyncio.sleep(BEGIN_AGAIN_S)
                try:
                    await self._begin(store, admission)
                except (SchemaError, DamagedFile) as error:
                    # It came while we serve, and is not ours: somebody may yet put that right.
                    _log.error("accounts_unusable", why=str(error))
                continue
            try:
                await self.look_after(store)
            except StoreUnavailable as error:
                _log.warning("accounts_behind", why=str(error))
            except Exception as error:  # noqa: BLE001 - the lease must go on
                _log.error("accounts_bug", error=type(error).__name__, exc_info=error)
            await asyncio.sleep(pause_s)

    async def look_after(self, store: LedgerStore) -> None:
        """Renew the lease; settle what dead workers left open, unless the clock has just been put
        forward: then the living look dead.

        Raises:
            StoreUnavailable
        """
        # First: one whose own lease has run out would sweep itself.
        await store.renew(wall_us(), self._lease_s)
        if not self._clock_steps.is_calm(wall_us(), self._clock()):
            return
        while swept := await store.sweep(wall_us(), SWEEP_ROWS):
            _log.warning("swept", generations=swept)

    def describe(self) -> dict[str, Any]:
        """For `/admin/state`."""
        return {
            "needs_keys": self.gate.needs_keys,
            "audit": None if self._trail is None else self._trail.describe(),
            "books": None
            if self._admission is None or self._store is None
            else {"open": self._admission.is_open, "lost": self._store.operations_lost},
        }

    async def aclose(self) -> None:
        """Write what is waiting and let go of everything. Idempotent, bounded in time."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        background = (self._retention, self._alerts)
        for part in (*background, self._store, self._limits, self.access, self._trail):
            if part is not None:
                await part.aclose()
        if self._engine is not None:
            self._engine.dispose()


def _nobodys(key_id: str) -> str:
    """Whose a key is, where there are none."""
    return ""


def _book(config: Config) -> ChargeBook:
    limits = config.limits
    if limits is None:
        return ChargeBook()
    return ChargeBook(
        KeyLimits(_limits(limits.key), _limits(limits.team), _limits(limits.organisation)),
        {name: _limits(given) for name, given in limits.models.items()},
        {name: _limits(given) for name, given in limits.providers.items()},
    )


def _limits(given: RateLimits) -> Limits:
    return Limits(**given.model_dump())


def _prices(config: Config) -> PriceSheet:
    rows = config.providers
    return PriceSheet(
        {name: row.prices for name, row in rows.items() if row.prices},
        {name: Listed(row.door or name, row.same_as) for name, row in rows.items()},
    )


def _settings(config: Config) -> AdmissionSettings:
    if config.budgets is None:
        return AdmissionSettings()
    return AdmissionSettings(
        sets_max_tokens=config.budgets.unset_max_tokens == "set",
        default_max_tokens=config.budgets.default_max_tokens,
    )


def _alerts_of(config: Config) -> AlertsConfig | None:
    return None if config.budgets is None else config.budgets.alerts


def _teller(config: Config) -> tuple[Webhook | None, AlertSettings]:
    """Thresholds are logged in any case; they are told outside where the file says where."""
    alerts = _alerts_of(config)
    if alerts is None:
        return None, AlertSettings()
    webhook = Webhook(
        alerts.url.get_secret_value(),
        alerts.secret.get_secret_value(),
        timeout_s=alerts.timeout_ms / 1000,
        private=alerts.allow_private,
    )
    return webhook, AlertSettings(give_up_s=alerts.give_up_h * 3600)
