"""A worker and its audit log: what it loads and refuses is there, and no secret is, anywhere."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
from sqlalchemy import Engine

from relay.auditing import keys_of
from relay.config import Config, ConfigError, parse
from relay.governance.audit_actions import key_actor
from relay.governance.audit_anchor import from_line, read
from relay.governance.audit_chain import AuditKey
from relay.governance.audit_trail import AuditTrail
from relay.governance.audit_verify import Verifier
from relay.governance.pepper import Pepper
from relay.server import Worker
from relay.store.audit_store import read_head, read_rows
from relay.store.engine import engine_for, migrate, reading

CANARIES = {
    "AUDIT_KEY": "canary-audit-0123456789-abcdefghij",
    "API_KEY": "canary-api-key-0123456789",
    "NEW_KEY": "canary-new-key-0123456789",
    "PEPPER": "canary-pepper-0123456789-abcdefghij",
    "PASSWORD": "canary-password-0123456789",
}


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "relay.db"
        self.engine: Engine = engine_for(f"sqlite:///{self.database}")
        migrate(self.engine)

    def config(self, key: str = "API_KEY", **more: Any) -> Config:
        free = {"address": "127.0.0.1:0"}
        row = {
            "wire": "openai_chat",
            "base_url": "http://127.0.0.1:9/v1",
            "api_key": f"${{{key}}}",
            "egress_proxy": "http://me:${PASSWORD}@127.0.0.1:9",
            "warm_connections": 0,
        }
        document = {
            "server": {"grpc": free, "http": free, "admin": free},
            "store": {"url": f"sqlite:///{self.database}"},
            "audit": {"key": "${AUDIT_KEY}"},
            "providers": {"p": row},
            **more,
        }
        return parse(document, CANARIES, folder=self.folder)

    def told(self) -> list[tuple[str, str, dict[str, Any]]]:
        with reading(self.engine) as connection:
            entries = [row.entry for row in read_rows(connection)]
        return [(one.action, one.outcome, json.loads(one.detail)) for one in entries]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.engine.dispose()


async def test_configurations_are_told_and_no_secret_is(place: Place) -> None:
    configs: list[Config | ConfigError] = [
        ConfigError(f"providers.p.api_key: {CANARIES['API_KEY']!r} is not right"),
        place.config("NEW_KEY", models={"fast": {"candidates": [{"provider": "p", "model": "m"}]}}),
    ]

    def reload() -> Config:
        found = configs.pop(0)
        if isinstance(found, ConfigError):
            raise found
        return found

    config = place.config()
    worker = Worker(config, reload_config=reload)
    with structlog.testing.capture_logs() as logs:
        try:
            await worker.start()
            trail = worker.accounts.trail
            worker._reload()
            worker._reload()
            trail.note(
                "model.denied",
                at_us=1,
                actor=key_actor("key_a"),
                subject=f"gpt {CANARIES['NEW_KEY']} rtk_0123456789abcdef.canary0123456789",
                outcome="denied",
            )
        finally:
            await worker.aclose()
    loaded, refused, again, denied = place.told()
    assert loaded[:2] == ("config.loaded", "done")
    assert loaded[2]["providers"] == ["p"]
    assert refused == (
        "config.refused",
        "failed",
        {"fault": "providers.p.api_key: '***' is not right"},
    )
    assert again[2]["changed"] == ["providers.p.api_key", "models.fast"]
    assert again[2]["needs_restart"] == []
    assert denied[0] == "model.denied"

    # The anchor at the end speaks of all of it.
    anchor = Path(config.audit.anchor) if config.audit and config.audit.anchor else Path()
    verifier = Verifier(keys_of(config), [read(anchor)])
    with reading(place.engine) as connection:
        head = read_head(connection)
        for row in read_rows(connection):
            verifier.take(row)
    report = verifier.report(head)
    assert (report.status, report.last_anchor, report.warnings) == (0, 4, ())

    with closing(sqlite3.connect(place.database)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for path in place.folder.iterdir():
        assert b"canary" not in path.read_bytes(), path.name
    audited = [line for line in logs if line["event"] != "reload_refused"]
    assert "canary" not in repr(audited)
    assert "canary" not in repr(worker.accounts.describe())


async def test_worker_serves_while_the_log_cannot_be_written(place: Place) -> None:
    with closing(sqlite3.connect(place.database)) as database, database:
        database.execute("DROP TABLE audit_head")
    config = place.config()
    worker = Worker(config)
    try:
        await worker.start()
        assert worker.http_port
        trail = worker.accounts.trail
    finally:
        await worker.aclose()
    assert isinstance(trail, AuditTrail)
    assert trail.describe()["waiting"] == 1
    assert "no such table" in trail.describe()["down"]


async def test_bad_keys_are_told_by_their_address(place: Place) -> None:
    """By the worker's own trail, signed by a key made of the pepper, anchored at the end."""
    config = place.config(auth={"pepper": "${PEPPER}"}, audit=None)
    worker = Worker(config)
    try:
        await worker.start()
        url = f"http://127.0.0.1:{worker.http_port}/v1/models"
        async with httpx2.AsyncClient(trust_env=False) as http:
            for _ in range(5):
                headers = {"authorization": f"Bearer {CANARIES['API_KEY']}"}
                assert (await http.get(url, headers=headers)).status_code in (401, 429)
        state = worker._state()["accounts"]["audit"]
        assert state["down"] is None
    finally:
        await worker.aclose()
    told = place.told()
    assert told[0][0] == "config.loaded"
    assert {one[:2] for one in told[1:]} == {("key.denied", "denied")}
    assert sum(one[2].get("repeats", 1) for one in told[1:]) == 5
    with reading(place.engine) as connection:
        assert [row.entry.actor for row in read_rows(connection)][1] == "address:127.0.0.1"
    pepper = AuditKey(Pepper(CANARIES["PEPPER"]).key("audit"))
    lines = (place.folder / "audit.anchor").read_bytes().splitlines()
    assert from_line(lines[-1]) is not None
    verifier = Verifier([pepper], [read(place.folder / "audit.anchor")])
    with reading(place.engine) as connection:
        for row in read_rows(connection):
            verifier.take(row)
        assert verifier.report(read_head(connection)).status == 0
    assert b"canary" not in place.database.read_bytes()


async def test_worker_without_audit_audits_nothing(place: Place) -> None:
    worker = Worker(place.config(audit=None))
    try:
        await worker.start()
        assert worker._state()["accounts"]["audit"] is None
    finally:
        await worker.aclose()
    assert place.told() == []
