"""What a worker's accounts are put together from, kept, told of, and taken from a new file."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
from sqlalchemy import Engine

from relay.accounts import SWEEP_ROWS, SWEEP_S, Accounts, _settings, _teller
from relay.auditing import trail_of as real_trail_of
from relay.config import Config, parse
from relay.errors import RelayError
from relay.governance import audit_actions as actions
from relay.governance.admission import Admission, AdmissionSettings
from relay.governance.audit_trail import AuditTrail, NoTrail
from relay.governance.ledger import Refused
from relay.governance.tenant import Tenants
from relay.store.base import StoreUnavailable
from tests.fakes.directory_rows import PEPPER
from tests.fakes.virtual_time import on_virtual_time, since_start_s

WHAT = Refused("gen", "chat", "team", "key", "fast")
ALERTS = {"url": "http://127.0.0.1:9/hook", "secret": "${HOOK_SECRET}"}


class Counting:
    """A watch that counts."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def refused(self, error: RelayError, what: Refused) -> None:
        self.told.append(("refused", what))

    def denied(self, *, is_by_certificate: bool) -> None:
        self.told.append(("denied", is_by_certificate))

    def settled(self, team: str, cost_micro: int) -> None:
        self.told.append(("settled", team))


def document(folder: Path, **more: Any) -> dict[str, Any]:
    return {"store": {"url": f"sqlite:///{folder / 'relay.db'}"}, **more}


KEYS = {"auth": {"pepper": "${THE_PEPPER}"}, "audit": {"anchor": None}}


def accounts_of(
    config: Config, *, worker: int | None = None, watch: Counting | None = None
) -> Accounts:
    return Accounts(
        config, worker=worker, tenants=Tenants("salt"), clock=time.monotonic, watch=watch
    )


def read(given: dict[str, Any]) -> Config:
    return parse(given, {"THE_PEPPER": PEPPER, "HOOK_SECRET": "x" * 40})


def budgets_of(**budgets: Any) -> Config:
    """A file that is read and not used."""
    return read({"store": {"url": "sqlite:///relay.db"}, **KEYS, "budgets": budgets})


# --- together ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("worker", "deletes"), [(None, True), (0, True), (1, False)])
async def test_all_parts_are_there_and_one_worker_deletes_and_anchors(
    tmp_path: Path, worker: int | None, deletes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchored: list[bool] = []

    def trail_of(config: Config, engine: Engine, *, anchors: bool) -> AuditTrail:
        anchored.append(anchors)
        return real_trail_of(config, engine, anchors=anchors)

    monkeypatch.setattr("relay.accounts.trail_of", trail_of)
    given = document(tmp_path, **KEYS, budgets={"alerts": ALERTS, "lease_s": 7})
    given["store"]["retention_days"] = 40
    accounts = accounts_of(read(given), worker=worker)
    assert (accounts.feedback, accounts.stopped_arms) == (None, None)
    assert type(accounts.trail) is NoTrail
    await accounts.start()
    try:
        assert anchored == [deletes]
        assert accounts._lease_s == 7.0
        assert accounts.feedback is not None
        assert accounts.stopped_arms is not None
        assert accounts._trail is not None
        assert cast(object, accounts.trail) is accounts._trail
        assert accounts.gate.needs_keys
        assert accounts.access is not None
        assert accounts._admission is accounts.ledger
        assert accounts._admission._tag_budgets == accounts.access.directory.tag_budgets
        assert accounts._alerts is not None
        assert (accounts._retention is not None) is deletes
        running = {task.get_name() for task in asyncio.all_tasks()}
        assert {"accounts", "alerts"} <= running
        assert ("retention" in running) is deletes
        refusals = accounts._refusals()
        assert refusals is not None
        assert refusals._organisation_of == accounts.access.directory.organisation_of
        told = accounts.describe()
        assert (told["needs_keys"], told["books"]) == (True, {"open": True, "lost": 0})
        assert told["audit"] is not None
    finally:
        await accounts.aclose()
    assert accounts._task is None
    await accounts.aclose()


async def test_without_keys_and_audit_log_there_are_books_and_nothing_else(tmp_path: Path) -> None:
    accounts = accounts_of(read(document(tmp_path)), watch=Counting())
    await accounts.start()
    try:
        assert accounts.access is None
        assert accounts._alerts is None
        assert accounts._retention is None
        assert isinstance(accounts.trail, NoTrail)
        assert accounts._admission is not None
        assert accounts._admission._tag_budgets is None
        assert accounts._admission._on_changed is None
        assert accounts.describe() == {
            "needs_keys": False,
            "audit": None,
            "books": {"open": True, "lost": 0},
        }
    finally:
        await accounts.aclose()


async def test_without_books_there_are_keys_and_no_admission(tmp_path: Path) -> None:
    given = document(tmp_path, **KEYS)
    given["store"]["ledger"] = False
    accounts = accounts_of(read(given))
    await accounts.start()
    try:
        assert accounts.gate.needs_keys
        assert accounts._admission is None
        assert accounts.describe()["books"] is None
        assert accounts.feedback is not None
    finally:
        await accounts.aclose()


def test_the_lease_is_half_a_minute_where_nothing_is_said() -> None:
    assert accounts_of(Config())._lease_s == 30.0


# --- who is told ------------------------------------------------------------------------------


@pytest.mark.parametrize(("counts", "audits"), [(True, True), (True, False), (False, True)])
async def test_refusals_are_told_to_whoever_is_there(counts: bool, audits: bool) -> None:
    watch = Counting() if counts else None
    noted: list[Refused] = []

    class Refusals:
        def tell(self, error: RelayError, what: Refused) -> None:
            noted.append(what)

    accounts = accounts_of(Config(), watch=watch)
    tell = accounts._teller_of(cast(Any, Refusals()) if audits else None)
    assert tell is not None
    tell(RelayError("no"), WHAT)
    assert noted == ([WHAT] if audits else [])
    assert watch is None or watch.told == [("refused", WHAT)]


def test_with_nobody_there_nobody_is_told() -> None:
    assert accounts_of(Config())._teller_of(None) is None


@pytest.mark.parametrize(
    ("is_certificate", "action"),
    [(True, actions.CERTIFICATE_DENIED), (False, actions.KEY_DENIED)],
)
@pytest.mark.parametrize("counts", [True, False])
def test_who_is_nobody_is_counted_and_audited(
    is_certificate: bool, action: str, counts: bool
) -> None:
    watch = Counting() if counts else None
    accounts = accounts_of(Config(), watch=watch)
    noted: list[tuple[str, dict[str, Any]]] = []

    class Trail:
        def note(self, action: str, **more: Any) -> None:
            noted.append((action, more))

    accounts._trail = cast(Any, Trail())
    accounts._denied("192.0.2.1", is_certificate)
    ((noted_action, more),) = noted
    assert (noted_action, more["outcome"]) == (action, actions.DENIED)
    assert "192.0.2.1" in more["actor"]
    assert watch is None or watch.told == [("denied", is_certificate)]


# --- another configuration --------------------------------------------------------------------


def test_budgets_rules_and_where_alerts_go_are_as_the_file_says() -> None:
    assert _settings(Config()) == AdmissionSettings()
    refuses = budgets_of(unset_max_tokens="refuse", default_max_tokens=77)
    assert _settings(refuses) == AdmissionSettings(sets_max_tokens=False, default_max_tokens=77)
    sets = budgets_of(unset_max_tokens="set")
    assert _settings(sets).sets_max_tokens
    webhook, settings = _teller(Config())
    assert webhook is None
    alerts = {**ALERTS, "timeout_ms": 2500, "give_up_h": 3}
    webhook, settings = _teller(budgets_of(alerts=alerts))
    assert webhook is not None
    assert webhook._timeout_s == 2.5
    assert settings.give_up_s == 3 * 3600


async def test_a_reload_takes_prices_rules_and_limits_and_alerts_only_if_they_are_others(
    tmp_path: Path,
) -> None:
    row = {"wire": "openai_chat", "base_url": "https://p.test/v1", "auth": "none"}
    before = document(tmp_path, **KEYS, budgets={"alerts": ALERTS})
    accounts = accounts_of(read(before))
    await accounts.start()
    taken: list[Any] = []
    try:
        alerts, desk, admission = accounts._alerts, accounts._desk, accounts._admission
        assert alerts is not None
        assert desk is not None
        assert admission is not None
        cast(Any, alerts).take = lambda *given: taken.append(given)
        prices = {"m": {"input": 1.0, "output": 2.0}}
        after = {
            **before,
            "providers": {"p": {**row, "prices": prices}, "unpriced": row},
            "limits": {"key": {"rpm": 5}, "providers": {"p": {"rpm": 6}}},
            "budgets": {"alerts": ALERTS, "default_max_tokens": 9},
        }
        assert admission.prices.price_of("p", "m", "") is None
        book = desk.book
        accounts.reload(read(after))
        assert taken == []
        price = admission.prices.price_of("p", "m", "")
        assert price is not None
        assert price.bound_micro(10, 10, frozenset()) == 30
        assert admission.settings.default_max_tokens == 9
        assert desk.book is not book
        charges = desk.book.of_attempt("p", 0, 0)
        assert charges is not None
        assert [charge.limit for charge in charges.all] == [6]
        accounts.reload(read({**after, "budgets": {"alerts": {**ALERTS, "timeout_ms": 999}}}))
        ((webhook, _),) = taken
        assert webhook._timeout_s == 0.999
        accounts.reload(read({**after, "budgets": None}))
        assert taken[1][0] is None
    finally:
        del cast(Any, alerts).take
        await accounts.aclose()


def test_before_it_has_started_a_reload_only_changes_what_it_will_start_with() -> None:
    accounts = accounts_of(Config())
    other = budgets_of(default_max_tokens=5)
    accounts.reload(other)
    assert accounts._config is other


# --- the lease --------------------------------------------------------------------------------


class Keeping:
    """A store whose renewals are noted; each may fail, each sweep finds so many."""

    def __init__(self, *, renewals: list[Exception | None], swept: list[int]) -> None:
        self.at_s: list[float] = []
        self.leases: set[float] = set()
        self.limits: list[int] = []
        self._renewals = renewals
        self._swept = swept
        self.done = asyncio.Event()

    async def renew(self, now_us: int, lease_s: float) -> None:
        self.at_s.append(since_start_s())
        self.leases.add(lease_s)
        error = self._renewals.pop(0)
        if not self._renewals:
            self.done.set()
        if error is not None:
            raise error

    async def sweep(self, now_us: int, limit: int) -> int:
        self.limits.append(limit)
        return self._swept.pop(0) if self._swept else 0


class IsOpen:
    is_open = True


@pytest.mark.parametrize(
    ("lease_s", "pause_s"), [(6, 2.0), (15, SWEEP_S), (30, SWEEP_S), (3600, SWEEP_S)]
)
def test_the_lease_is_renewed_three_times_in_its_length_whatever_happens(
    lease_s: int, pause_s: float
) -> None:
    @on_virtual_time
    async def check() -> None:
        config = budgets_of(lease_s=lease_s)
        accounts = accounts_of(config)
        store = Keeping(
            renewals=[None, StoreUnavailable("away"), RuntimeError("a bug"), None, None],
            swept=[3, 1],
        )
        with structlog.testing.capture_logs() as lines:
            keeping = asyncio.create_task(
                accounts._keep(cast(Any, store), cast(Admission, IsOpen()))
            )
            await store.done.wait()
            keeping.cancel()
            await asyncio.wait([keeping])
        assert store.at_s == pytest.approx([pause_s * turn for turn in range(5)])
        assert store.leases == {float(lease_s)}
        assert set(store.limits) == {SWEEP_ROWS}
        told = [(line["event"], line.get("generations")) for line in lines]
        assert told == [
            ("swept", 3),
            ("swept", 1),
            ("accounts_behind", None),
            ("accounts_bug", None),
        ]

    check()
