"""What a run needs, started and ended: emulator, relay with its workers, accounts, keys."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.admin_tokens import owner_of
from tests.fakes.books import Books
from tests.fakes.directory_rows import PEPPER, Rows
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.relay_fleet import all_ready, shared
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import Document, provider
from tests.soak.plan import CALM, FAULTS, GOOD, LAB, SPARE, Plan, faulty

DRAIN_GRACE_MS = 10_000
PRICE = {"input": 1.0, "output": 10.0}


@dataclass
class Scene:
    """A running relay and what is around it."""

    plan: Plan
    relay: RelayProcess
    emulator: EmulatorProcess
    books: Books
    key: str
    admin: dict[str, str]
    """Headers of an owner."""
    document: Document

    def workers(self) -> list[int]:
        """Process ids of the workers that are there now."""
        return children(self.relay.pid)


def children(pid: int) -> list[int]:
    """Process ids of the direct children; none of one that is gone."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        for thread in threads:
            text = Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="ascii")
            found += map(int, text.split())
    except OSError:
        return []
    return found


def document(folder: Path, emulator: EmulatorProcess) -> Document:
    """The configuration."""
    pepper = folder / "pepper"
    pepper.write_text(PEPPER, encoding="utf-8")
    names = [LAB, SPARE, *(f"emu-{faulty(fault)}" for fault in FAULTS)]
    row = provider(
        emulator.base_url_tls, ca_file=emulator.ca_file, prices=dict.fromkeys(names, PRICE)
    )
    timeouts = {"first_token_ms": 10_000, "inter_token_ms": 10_000}
    spare = [{"provider": "spare", "model": SPARE}]
    models: dict[str, Any] = {
        CALM: {
            "candidates": [{"provider": "lab", "model": LAB}, *spare],
            "timeouts": timeouts,
            "hedge": {"mode": "active"},
        }
    }
    for fault in FAULTS:
        candidates = [{"provider": "broken", "model": f"emu-{faulty(fault)}"}]
        short = {"first_token_ms": 1000, "inter_token_ms": 1000}
        models[faulty(fault)] = {"candidates": candidates, "fallbacks": spare, "timeouts": short}
    # The same emulator at three addresses, so that each row has connections of its own: a fault
    # that cuts one would cut good answers too.
    local = emulator.base_url_tls.replace("127.0.0.1", "localhost")
    broken = {key: value for key, value in row.items() if key != "ca_file"}
    return {
        "server": {"drain_grace_ms": DRAIN_GRACE_MS},
        "store": {"url": f"sqlite:///{folder}/relay.db"},
        "auth": {"pepper": f"${{file:{pepper}}}"},
        "audit": {"anchor": str(folder / "audit.anchor")},
        "budgets": {"default_max_tokens": 100},
        "providers": {
            "lab": row,
            "spare": {**row, "base_url": f"{local}/v1"},
            "broken": {**broken, "base_url": f"{emulator.base_url_plain}/v1"},
        },
        "models": models,
    }


@asynccontextmanager
async def scene(plan: Plan, folder: Path) -> AsyncIterator[Scene]:
    """Start it; leaving the block ends every process."""
    with EmulatorProcess(cert_dir=folder) as emulator:
        emulator.script(LAB, GOOD)
        emulator.script(SPARE, GOOD)
        for fault in FAULTS:
            emulator.script(f"emu-{faulty(fault)}", f"{GOOD},fault={fault}")
        base = document(folder, emulator)
        admin = {"authorization": f"Bearer {owner_of(base)}"}
        books = Books(base["store"]["url"])
        rows = Rows(books.engine)
        team_id = rows.team(rows.organisation())
        rows.budget("team", team_id, 10**12)
        _, key = rows.key(team_id)
        try:
            with shared(base) as whole:
                relay = RelayProcess(folder, whole, "--workers", str(plan.workers))
                async with relay:
                    await all_ready(relay, plan.workers)
                    yield Scene(plan, relay, emulator, books, key, admin, whole)
        finally:
            books.close()
