"""The SQLite file: somebody else has its lock, its WAL grows, its pages are not what they were."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relay.config import parse
from relay.http_server import StartError
from relay.server import Worker
from relay.store import open_store, sqlite_file, sqlite_ledger, sqlite_writer
from relay.store.sqlite_ledger import SqliteLedger
from relay.store.sqlite_writer import Settings, Writer
from tests.fakes.h2_server import in_turn, stream_chunks
from tests.matrix.process.disks import rows_are_not_needed, until_taken
from tests.matrix.process.place import Gated, ask, asking, ended, place, soon
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, FACES, whole_answer, world

BUSY_S = 0.2
"""Instead of 5 s."""


def _impatient(patch: pytest.MonkeyPatch) -> None:
    def ledger(path: Path, durability: Any, **how: Any) -> SqliteLedger:
        settings = replace(Settings(path), busy_s=BUSY_S, retry_s=0.05)
        return SqliteLedger(path, durability, settings=settings, **how)

    patch.setattr(open_store, "SqliteLedger", ledger)


@contextmanager
def _locked(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


async def locked_for_long(stage: Stage) -> None:
    """Longer than anybody waits: calls are refused, what runs is kept, and then all goes on."""
    _impatient(stage.patch)
    lab = Gated()
    async with world(stage) as here:
        here.lab.routes[CHAT] = in_turn(lab.script, stream_chunks(whole_answer("again")))
        running = asking(here.relay, [here.face()])
        await soon(lambda: lab.begun == 1)
        with _locked(stage.tmp_path / "relay.db"):
            faces = stage.draw.choices(FACES, k=6)
            for reply in await ended(asking(here.relay, faces), 5):
                assert reply.reason == "LEDGER_UNAVAILABLE", reply
            lab.gate.set()
            (reply,) = await ended(running, 5)
            assert reply.is_clean
            assert len(here.lab.requests(CHAT)) == 1, "sent without a row"
        await until_taken(here.relay, here.face())
        assert [one.state for one in await here.booked(2)] == ["settled"] * 2


async def locked_for_a_moment(stage: Stage) -> None:
    """As by a backup or another worker: it is waited for, and nobody is refused."""
    async with world(stage) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("lab"))
        with _locked(stage.tmp_path / "relay.db") as other:
            running = asking(here.relay, stage.draw.choices(FACES, k=3))
            await asyncio.sleep(stage.draw.uniform(0.05, 0.3))  # so long it is locked
            other.execute("ROLLBACK")
        for reply in await ended(running, 5):
            assert reply.is_clean, reply
        assert [one.state for one in await here.booked(3)] == ["settled"] * 3


def no_lock_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    """The wait for a lock."""
    patch.setattr(sqlite_writer, "Settings", partial(Settings, busy_s=0.0))
    patch.setattr(sqlite_ledger, "Settings", partial(Settings, busy_s=0.0))


async def wal_is_large(stage: Stage) -> None:
    """A reader keeps the WAL from being moved while much is written; then it shrinks again."""
    limit_bytes = 1 << 20
    stage.patch.setattr(sqlite_file, "WAL_LIMIT_BYTES", limit_bytes)
    stage.patch.setattr(sqlite_writer, "IDLE_S", 0.05)
    async with world(stage) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("lab"))
        path = stage.tmp_path / "relay.db"
        wal = path.with_name("relay.db-wal")
        assert (await ask(here.relay, "json")).is_clean
        with closing(sqlite_file.connect(path)) as other:
            with closing(sqlite3.connect(path, isolation_level=None)) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM generations").fetchone()
                pages = stage.draw.randint(8, 16) * 256
                await asyncio.to_thread(_fill, other, pages)
                assert wal.stat().st_size > 6 * limit_bytes
                reply = await ask(here.relay, here.face())
                assert reply.is_clean, "a large WAL refuses nobody"
            for _ in range(100):
                assert (await ask(here.relay, "json")).is_clean
                if wal.stat().st_size <= limit_bytes + (1 << 18):
                    break
                await asyncio.sleep(0.05)
            assert wal.stat().st_size <= limit_bytes + (1 << 18), "it is never given back"


def _fill(connection: sqlite3.Connection, pages: int) -> None:
    connection.execute("CREATE TABLE filler (page BLOB)")
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO filler VALUES (zeroblob(4000))", [()] * pages)
    connection.execute("COMMIT")
    connection.execute("DROP TABLE filler")


def nothing_is_moved(patch: pytest.MonkeyPatch) -> None:
    """Who moves the WAL into the file."""
    patch.setattr(Writer, "_move", lambda _: None)


async def damaged(stage: Stage) -> None:
    """Bytes of a page, drawn, are others: it does not start, says what to do, changes nothing."""
    async with place(stage) as here:
        path = stage.tmp_path / "relay.db"
        here.books.close()
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.execute("PRAGMA journal_mode = DELETE")
            roots = database.execute(
                "SELECT rootpage FROM sqlite_master WHERE rootpage > 1 AND type = 'table'"
            ).fetchall()
        page = stage.draw.choice([1, stage.draw.choice(roots)[0]])
        with path.open("r+b") as file:
            file.seek((page - 1) * 4096)
            file.write(stage.draw.randbytes(200))
        before = _digest(path)
        ports = {name: {"address": "127.0.0.1:0"} for name in ("grpc", "http", "admin")}
        worker = Worker(parse({**here.document, "server": ports}))
        said = ""
        try:
            await worker.start()
        except StartError as error:
            said = str(error)
        finally:
            await worker.aclose()
        assert "relay store restore" in said, said or "it serves over a damaged file"
        assert _digest(path) == before, "a damaged file was changed"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def nobody_looks(patch: pytest.MonkeyPatch) -> None:
    """The look at the file before it is served over."""
    from relay.store import engine

    for module in (sqlite_file, sqlite_ledger, engine):
        if hasattr(module, "require_sound"):
            patch.setattr(module, "require_sound", lambda *_: None)


ROWS = (
    Row(
        "P4",
        inject="SQLite busy, locked by a backup or for long, a WAL that cannot be moved, a damaged"
        " page",
        client="a lock is waited for, then 503 `LEDGER_UNAVAILABLE`; over a damaged file the relay"
        " does not start and says how to restore it",
        accounting="what ends meanwhile is kept and written later",
        retry="the file is never made anew",
        parts=(
            Part("locked_for_long", locked_for_long, rows_are_not_needed),
            Part("locked_for_a_moment", locked_for_a_moment, no_lock_is_waited_for),
            Part("large_wal", wal_is_large, nothing_is_moved),
            Part("damaged", damaged, nobody_looks),
        ),
        also=(
            "tests/store/test_sqlite_faults.py",
            "tests/store/test_backup.py",
            "tests/store/test_sqlite_ledger.py",
        ),
    ),
)
