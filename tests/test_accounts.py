"""Accounts whose database is away, or not ours, when the worker starts."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
import yaml
from sqlalchemy import text

from relay.accounts import BEGIN_AGAIN_S, Accounts
from relay.admin_office import AdminOffice
from relay.commands.administer import _office
from relay.config import Config, parse
from relay.governance.admission import Admission
from relay.governance.ledger import NullLedger
from relay.governance.tenant import Tenants
from relay.store.base import StoreUnavailable
from relay.store.engine import writing
from relay.store.revisions import SchemaError
from tests.fakes.directory_rows import PEPPER
from tests.fakes.virtual_time import on_virtual_time, since_start_s


class FakeStore:
    """Begins when it has failed so often."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.begun_s: float | None = None
        self.renewed = asyncio.Event()

    async def start(self, *_: Any) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.begun_s = since_start_s()

    async def renew(self, *_: Any) -> None:
        self.renewed.set()

    async def sweep(self, *_: Any) -> int:
        return 0


class FakeAdmission:
    is_open = True


@pytest.mark.parametrize(
    "failures",
    [
        pytest.param([], id="there at once"),
        pytest.param([StoreUnavailable("away")] * 3, id="away for three seconds"),
        pytest.param(
            [StoreUnavailable("away"), SchemaError("another version"), StoreUnavailable("away")],
            id="of another version when it comes",
        ),
    ],
)
def test_it_begins_when_it_can(failures: list[Exception]) -> None:
    @on_virtual_time
    async def check() -> None:
        loop = asyncio.get_running_loop()
        accounts = Accounts(Config(), worker=None, tenants=Tenants("salt"), clock=loop.time)
        store, admission = FakeStore(*failures), FakeAdmission()
        with structlog.testing.capture_logs() as lines:
            await accounts._begin(cast(Any, store), cast(Admission, admission))
            assert admission.is_open is not bool(failures)
            keeping = asyncio.create_task(
                accounts._keep(cast(Any, store), cast(Admission, admission))
            )
            await store.renewed.wait()
            keeping.cancel()
            await asyncio.wait([keeping])
        assert admission.is_open
        assert store.begun_s == len(failures) * BEGIN_AGAIN_S
        told = [line["event"] for line in lines]
        assert told.count("accounts_unavailable") == bool(failures)
        assert told.count("accounts_unusable") == sum(
            isinstance(one, SchemaError) for one in failures
        )

    check()


def test_without_a_store_anybody_may_and_nothing_is_booked() -> None:
    @on_virtual_time
    async def check() -> None:
        loop = asyncio.get_running_loop()
        accounts = Accounts(Config(), worker=None, tenants=Tenants("salt"), clock=loop.time)
        await accounts.start()
        assert isinstance(accounts.ledger, NullLedger)
        assert not accounts.gate.needs_keys
        await accounts.aclose()

    check()


async def test_acts_and_the_audit_log_are_as_durable_as_the_accounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the accounts alone: with `power` all that is acknowledged survives a loss of power."""
    document = {
        "store": {"url": f"sqlite:///{tmp_path / 'relay.db'}", "durability": "power"},
        "auth": {"pepper": "${THE_PEPPER}"},
        "audit": {"anchor": None},
    }
    monkeypatch.setenv("THE_PEPPER", PEPPER)
    (tmp_path / "relay.yaml").write_text(yaml.safe_dump(document))
    config = parse(document)
    accounts = Accounts(config, worker=None, tenants=Tenants("salt"), clock=time.monotonic)
    await accounts.start()

    async def state() -> dict[str, Any]:
        return {}

    office = AdminOffice.open(config, accounts.trail, state)
    assert office is not None
    with _office(tmp_path / "relay.yaml") as (desk, _):
        for engine in (accounts._engine, office._engine, desk.engine):
            assert engine is not None
            with writing(engine) as connection:
                assert connection.scalar(text("PRAGMA synchronous")) == 2
    await office.aclose()
    await accounts.aclose()
