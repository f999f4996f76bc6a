"""The audit log of a relay that has stopped, changed by somebody who can write its database."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from relay.auditing import keys_of
from relay.cli import app
from relay.config import parse
from relay.governance.audit_chain import AuditKey, Entry, Head, seal
from relay.governance.audit_verify import Verifier
from tests.fakes.h2_server import stream_chunks
from tests.fakes.relay_under_test import Document
from tests.matrix.process.disks import owner
from tests.matrix.process.place import holds
from tests.matrix.row import Part, Row, Stage, Without
from tests.matrix.world import CHAT, World, whole_answer, world


@dataclass
class Log:
    """What was written, with a copy of the database from halfway."""

    database: Path
    halfway: Path
    config: Path
    entries: int
    half: int
    """Entries of the copy."""
    keys: tuple[AuditKey, ...]

    def change(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.database)) as database, database:
            for statement in statements:
                database.execute(statement)

    def verify(self) -> tuple[int, dict[str, Any]]:
        """Exit status of `relay audit verify`, and what it says."""
        whole = ["audit", "verify", "-c", str(self.config), "--json"]
        ran = CliRunner().invoke(app, whole, env={"COLUMNS": "200"})
        return ran.exit_code, json.loads(ran.output)


async def _written(stage: Stage) -> Log:
    """Acts of an administrator and answers, through a relay that then stops in good order."""
    database = stage.tmp_path / "relay.db"
    halfway = stage.tmp_path / "halfway.db"
    names = iter([f"org-{number}" for number in range(20)])
    async with world(stage, {"audit": {"checkpoint_s": 1}}) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("lab"))
        headers = {"authorization": f"Bearer {owner(here)}"}
        assert (await here.ask(here.face(), "alone")).is_clean
        await _act(here, headers, names, stage.draw.randint(3, 5))
        trail: Any = here.relay.worker.accounts.trail
        await holds(lambda: trail.describe()["anchored"], "it is not anchored")
        with closing(sqlite3.connect(database)) as one, closing(sqlite3.connect(halfway)) as copy:
            one.backup(copy)
        await _act(here, headers, names, stage.draw.randint(3, 5))
        document: Document = here.document
    config = stage.tmp_path / "relay.yaml"
    config.write_text(yaml.safe_dump(document))
    keys = keys_of(parse({**document, "server": {}}))
    return Log(database, halfway, config, _count(database), _count(halfway), keys)


async def _act(here: World, headers: dict[str, str], names: Iterator[str], count: int) -> None:
    async with here.relay.admin() as admin:
        for _ in range(count):
            told = await admin.post(
                "/admin/v1/organisations", json={"name": next(names)}, headers=headers
            )
            assert told.status_code < 300, told.text


def _count(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT max(seq) FROM audit").fetchone()[0])


Act = Callable[[Log, random.Random], int]
"""Changes the log; the number of the first entry that is wrong then."""


def edit(log: Log, draw: random.Random) -> int:
    seq = draw.randint(2, log.entries)
    column = draw.choice(["actor", "action", "subject", "outcome", "detail"])
    log.change(f"UPDATE audit SET {column} = {column} || ' ' WHERE seq = {seq}")
    return seq


def delete(log: Log, draw: random.Random) -> int:
    seq = draw.randint(2, log.entries - 1)
    log.change(f"DELETE FROM audit WHERE seq = {seq}")
    return seq


def cut(log: Log, draw: random.Random) -> int:
    """With the head beside it, so that it looks whole."""
    last = draw.randint(2, log.entries - 1)
    log.change(
        f"DELETE FROM audit WHERE seq > {last}",
        f"UPDATE audit_head SET seq = {last}, mac = (SELECT mac FROM audit WHERE seq = {last})",
    )
    return last + 1


def swap(log: Log, draw: random.Random) -> int:
    low, high = sorted(draw.sample(range(2, log.entries + 1), k=2))
    log.change(
        f"UPDATE audit SET seq = -1 WHERE seq = {low}",
        f"UPDATE audit SET seq = {low} WHERE seq = {high}",
        f"UPDATE audit SET seq = {high} WHERE seq = -1",
    )
    return low


def restamp(log: Log, draw: random.Random) -> int:
    """By somebody with the key: every entry from there on is signed anew, and so is the head."""
    first = draw.randint(2, log.entries)
    with closing(sqlite3.connect(log.database)) as database, database:
        columns = "at_us, actor, action, subject, organisation_id, outcome, detail"
        rows = database.execute(f"SELECT {columns} FROM audit WHERE seq >= {first} ORDER BY seq")
        forged = [Entry(*row)._replace(outcome="forged") for row in rows.fetchall()]
        find = "SELECT mac FROM audit WHERE seq = ?"
        (mac,) = database.execute(find, (first - 1,)).fetchone()
        database.execute("DELETE FROM audit WHERE seq >= ?", (first,))
        for row in seal(Head(first - 1, mac), forged, log.keys[0]):
            values = (row.seq, *row.entry, row.previous, row.mac)
            database.execute(f"INSERT INTO audit VALUES ({','.join('?' * 10)})", values)
        last = (row.seq, row.mac)
        database.execute("UPDATE audit_head SET seq = ?, mac = ?", last)
    return first


def replay(log: Log, _: random.Random) -> int:
    """The database is put back to what it was."""
    for path in log.database.parent.glob("relay.db*"):
        path.unlink()
    shutil.copy(log.halfway, log.database)
    return log.half + 1


async def tampered(stage: Stage, act: Act, kind: str) -> None:
    log = await _written(stage)
    status, found = await asyncio.to_thread(log.verify)
    assert (status, found["findings"]) == (0, []), found
    first = act(log, stage.draw)
    status, found = await asyncio.to_thread(log.verify)
    assert status == 1, found
    assert found["findings"][0]["kind"] == kind, found
    if kind == "fork":  # as near as anchors are to each other
        assert found["first_bad"] <= first, found
    else:
        assert found["first_bad"] == first, found


def macs_are_believed(patch: pytest.MonkeyPatch) -> None:
    """That an entry's MAC is worked out again."""
    patch.setattr("relay.governance.audit_verify.hmac.compare_digest", lambda *_: True)


def numbers_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    """That no number may be missing."""
    found = Verifier._found

    def but_gaps(verifier: Verifier, kind: Any, *more: Any) -> None:
        if kind != "gap":
            found(verifier, kind, *more)

    patch.setattr(Verifier, "_found", but_gaps)


def there_are_no_anchors(patch: pytest.MonkeyPatch) -> None:
    """The anchors, which are elsewhere."""
    init = Verifier.__init__

    def without(verifier: Verifier, keys: Any, sources: Any = (), **how: Any) -> None:
        init(verifier, keys, (), **how)

    patch.setattr(Verifier, "__init__", without)


_WITHOUT: dict[Act, tuple[str, Without]] = {
    edit: ("edit", macs_are_believed),
    delete: ("gap", numbers_are_not_counted),
    cut: ("truncation", there_are_no_anchors),
    swap: ("edit", macs_are_believed),
    restamp: ("fork", there_are_no_anchors),
    replay: ("truncation", there_are_no_anchors),
}

ROWS = (
    Row(
        "P11",
        inject="the audit log changed in its database: an entry edited, one deleted, the end cut"
        " off, two swapped, entries signed anew with the key, an old database put back",
        client="`relay audit verify` names the kind and the first number that is wrong; exit"
        " status 1",
        accounting="none",
        retry="none; looking changes nothing",
        parts=tuple(
            Part(act.__name__, partial(tampered, act=act, kind=kind), without)
            for act, (kind, without) in _WITHOUT.items()
        ),
        also=(
            "tests/governance/test_audit_verify.py",
            "tests/commands/test_audit.py::test_what_was_done_is_named",
            "tests/integration/test_audit.py",
        ),
    ),
)
