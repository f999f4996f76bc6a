"""What one worker puts together: old accounts are deleted by the first of a machine alone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from relay.accounts import Accounts
from relay.config import parse
from relay.governance.tenant import Tenants


@pytest.mark.parametrize(
    ("worker", "days", "deletes"), [(None, 9, True), (0, 9, True), (1, 9, False), (0, None, False)]
)
async def test_the_first_worker_deletes(
    tmp_path: Path, worker: int | None, days: int | None, deletes: bool
) -> None:
    store = {"url": f"sqlite:///{tmp_path / 'relay.db'}", "retention_days": days}
    accounts = Accounts(
        parse({"store": store}, {}), worker=worker, tenants=Tenants(), clock=time.monotonic
    )
    try:
        await accounts.start()
        assert (accounts._retention is not None) == deletes
    finally:
        await accounts.aclose()
