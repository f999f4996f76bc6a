"""Who may, who pays, what was used: everything of it that one worker has, put together.

    accounts = Accounts(config, worker=None, clock=time.monotonic)
    await accounts.start()
    services = Services(ledger=accounts.ledger, gate=accounts.gate, ...)
    ...
    await accounts.aclose()

Without a `store` nobody needs a key and nothing is booked. With one every generation is written
down; with `auth` callers need keys, which have limits and budgets.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from sqlalchemy import Engine

from relay.config import Config, LimitsConfig, StoreConfig
from relay.config.limits import RateLimits
from relay.deadline import Clock
from relay.governance.access import Access, wall_us
from relay.governance.admission import Admission, AdmissionSettings
from relay.governance.charges import ChargeBook
from relay.governance.gate import Gate, OpenGate
from relay.governance.ledger import Ledger, NullLedger
from relay.governance.limit_desk import LimitDesk
from relay.governance.limits import KeyLimits, Limits
from relay.governance.price_sheet import PriceSheet
from relay.governance.tenant import Tenants
from relay.instance import instance_id, place
from relay.store.base import LedgerStore, StoreUnavailable
from relay.store.engine import engine_for, make_ready
from relay.store.limit_store import LimitStore
from relay.store.open_store import open_ledger, open_limits

_log = structlog.get_logger("relay.accounts")

SWEEP_S: Final = 5.0
"""Between looks for what dead workers left open."""
SWEEP_ROWS: Final = 500


class Accounts:
    """One worker's. Started before anything is served, closed after the last generation.

    Args:
        worker: number of one of several; None for the only one.
        tenants: gives names to bearers where no keys are wanted.
        clock: monotonic, seconds.
    """

    def __init__(
        self, config: Config, *, worker: int | None, tenants: Tenants, clock: Clock
    ) -> None:
        self._config = config
        self._worker = worker
        self._clock = clock
        self._engine: Engine | None = None
        self._access: Access | None = None
        self._store: LedgerStore | None = None
        self._limits: LimitStore | None = None
        self._desk: LimitDesk | None = None
        self._admission: Admission | None = None
        self._task: asyncio.Task[None] | None = None
        self._lease_s = float(config.budgets.lease_s if config.budgets else DEFAULT_LEASE_S)
        self.gate: Gate = OpenGate(tenants)
        self.ledger: Ledger = NullLedger(self.gate)

    async def start(self) -> None:
        """Bring the tables up, read who may call, and take this worker's lease.

        Raises:
            SchemaError, DamagedFile: the relay must not start; the message says what to do.
        """
        config = self._config
        if config.store is None:
            return
        url = config.store.url.get_secret_value()
        try:
            await asyncio.to_thread(make_ready, url, config.store.migrate)
        except StoreUnavailable as error:  # it may come while we serve: nothing is admitted until
            _log.error("store_unavailable", why=str(error))
        self._engine = engine_for(url)
        if config.auth is not None:
            self._access = Access(config.auth, self._engine, self._clock)
            await self._access.start()
            self.gate = self._access.gate
            self.ledger = NullLedger(self.gate)
        if not config.store.ledger:
            return
        await self._start_books(config, config.store)

    async def _start_books(self, config: Config, where: StoreConfig) -> None:
        book = _book(config)
        self._limits = open_limits(
            where,
            config.limits or LimitsConfig(),
            instance_id(),
            is_shared=self._worker is not None,
        )
        await self._limits.start()
        self._desk = LimitDesk(self._limits, book, wall_us)
        self._store = store = open_ledger(where)
        await store.start(instance_id(), place(self._worker), wall_us(), self._lease_s)
        self._admission = Admission(
            store=store,
            instance_id=instance_id(),
            prices=_prices(config),
            settings=_settings(config),
            gate=self.gate,
            now_us=wall_us,
            tag_budgets=None if self._access is None else self._access.directory.tag_budgets,
            limits=self._desk,
        )
        self.ledger = self._admission
        self._task = asyncio.create_task(self._keep(store), name="accounts")

    def reload(self, config: Config) -> None:
        """Prices, limits and budgets' rules of another configuration hold from now on; where the
        store is, and whether keys are needed, takes a restart."""
        if self._desk is not None:
            self._desk.book = _book(config)
        if self._admission is not None:
            self._admission.prices = _prices(config)
            self._admission.settings = _settings(config)

    async def _keep(self, store: LedgerStore) -> None:
        """Renew the lease, and settle what dead workers left open."""
        renew_s = self._lease_s / 3
        renewed_s = self._clock()
        while True:
            try:
                if self._clock() - renewed_s >= renew_s:
                    renewed_s = self._clock()
                    await store.renew(wall_us(), self._lease_s)
                while swept := await store.sweep(wall_us(), SWEEP_ROWS):
                    _log.warning("swept", generations=swept)
            except StoreUnavailable as error:
                _log.warning("accounts_behind", why=str(error))
            except Exception as error:  # noqa: BLE001 - the lease must go on
                _log.error("accounts_bug", error=type(error).__name__, exc_info=error)
            await asyncio.sleep(min(SWEEP_S, renew_s))

    async def aclose(self) -> None:
        """Write what is waiting and let go of everything. Idempotent, bounded in time."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if self._store is not None:
            await self._store.aclose()
        if self._limits is not None:
            await self._limits.aclose()
        if self._access is not None:
            await self._access.aclose()
        if self._engine is not None:
            self._engine.dispose()


DEFAULT_LEASE_S: Final = 30


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
    return PriceSheet({name: row.prices for name, row in config.providers.items() if row.prices})


def _settings(config: Config) -> AdmissionSettings:
    if config.budgets is None:
        return AdmissionSettings()
    return AdmissionSettings(
        sets_max_tokens=config.budgets.unset_max_tokens == "set",
        default_max_tokens=config.budgets.default_max_tokens,
    )
