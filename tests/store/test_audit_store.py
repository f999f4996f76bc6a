"""The audit log on real databases: one chain whoever writes, and nothing that is half there."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, event, insert, select, text, update

from relay.governance.audit_anchor import AnchorFile, read
from relay.governance.audit_chain import EMPTY, GENESIS, Head, entry
from relay.governance.audit_checkpoint import Checkpoint
from relay.governance.audit_verify import Report, Verifier
from relay.store.audit_reader import reader_for, sqlite_uri
from relay.store.audit_store import (
    AuditStore,
    ChainBroken,
    NotWritten,
    Selection,
    read_head,
    read_rows,
)
from relay.store.base import StoreUnavailable
from relay.store.engine import engine_for, migrate, reading, writing
from relay.store.schema import audit, audit_head, organisations
from tests.fakes.audit_logs import KEY, START_US, entries
from tests.fakes.postgres_server import PostgresServer
from tests.fakes.properties import IS_FULL

ORGANISATION = {"id": "org_1", "name": "one", "created_at_us": 1, "changed": 1}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@pytest.fixture
def sqlite_engine(file: Path) -> Iterator[Engine]:
    made = engine_for(f"sqlite:///{file}")
    migrate(made)
    yield made
    made.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_engine")
        return
    made = engine_for(request.getfixturevalue("postgres_url"))
    yield made
    made.dispose()


@pytest.fixture
def store(engine: Engine) -> AuditStore:
    return AuditStore(engine, KEY)


def verify(engine: Engine) -> Report:
    verifier = Verifier((KEY,))
    with reading(engine) as connection:
        for row in read_rows(connection):
            verifier.take(row)
        return verifier.report(read_head(connection))


def plain_url(engine: Engine) -> str:
    """As a configuration has it, without the driver."""
    url = engine.url.set(drivername=engine.url.get_backend_name())
    return url.render_as_string(hide_password=False)


def subjects(engine: Engine, selection: Selection | None = None) -> list[str]:
    with reading(engine) as connection:
        return [row.entry.subject for row in read_rows(connection, selection or Selection())]


# --- adding -----------------------------------------------------------------------------------


def test_entries_are_kept_as_they_are(engine: Engine, store: AuditStore) -> None:
    assert store.head() == EMPTY
    assert store.write([]) == EMPTY
    some = entries(3)
    head = store.write(some)
    assert head == store.head()
    assert head.seq == 3
    assert store.mac_of(3) == head.mac
    assert store.mac_of(4) is None
    with reading(engine) as connection:
        assert [row.entry for row in read_rows(connection)] == some
    assert verify(engine).status == 0


def test_texts_of_callers_are_taken(engine: Engine, store: AuditStore) -> None:
    """What PostgreSQL would refuse, or SQLite keep and choke on later."""
    odd = "a\x00b\ud800\n" + "\U0001f4de" * 400
    store.write(
        [
            entry(
                "key.denied",
                at_us=1,
                actor=odd,
                subject=odd,
                organisation_id=odd,
                detail={odd: odd},
            )
        ]
    )
    assert verify(engine).status == 0


def test_entry_comes_and_goes_with_its_transaction(engine: Engine, store: AuditStore) -> None:
    store.write(entries(1))
    with contextlib.suppress(RuntimeError), writing(engine) as connection:
        connection.execute(insert(organisations).values(**ORGANISATION))
        store.append(connection, entries(2, first=2))
        raise RuntimeError
    assert store.head().seq == 1
    with writing(engine) as connection:
        connection.execute(insert(organisations).values(**ORGANISATION))
        assert store.append(connection, entries(1, first=2)).seq == 2
        assert store.append(connection, entries(1, first=3)).seq == 3
    assert subjects(engine) == ["fast-1", "fast-2", "fast-3"]
    assert verify(engine).status == 0


def test_workers_write_one_chain_without_gaps(engine: Engine) -> None:
    """A3: threads with connections of their own; some transactions are taken back."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        store = AuditStore(engine, KEY)
        try:
            for turn in range(10):
                if turn % 3 == 2:
                    with contextlib.suppress(RuntimeError), writing(engine) as connection:
                        store.append(connection, entries(2, word=f"gone{number}"))
                        raise RuntimeError
                else:
                    store.write(entries(1 + turn % 2, word=f"w{number}"))
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    report = verify(engine)
    assert (report.status, report.last_seq) == (0, report.entries)
    assert report.entries == 4 * 11
    assert not [subject for subject in subjects(engine) if subject.startswith("gone")]


def test_try_that_was_written_after_all_is_found(engine: Engine, store: AuditStore) -> None:
    some = entries(2)
    head = store.write(some)
    store.write(entries(1, word="another's"))
    assert store.write(some, unless=head) == head
    assert store.head().seq == 3
    never = Head(4, b"x" * 32)
    assert store.write(some, unless=never).seq == 5
    assert verify(engine).status == 0


def test_head_that_another_makes_meanwhile_is_taken(postgres_url: str) -> None:
    """Between our look, which finds none, and our making one, another does both, and writes."""
    ours, theirs = engine_for(postgres_url), engine_for(postgres_url)
    others: list[Head] = []

    @event.listens_for(ours, "after_cursor_execute")
    def _(*arguments: object) -> None:
        if not others and str(arguments[2]).startswith("UPDATE audit_head"):
            others.append(AuditStore(theirs, KEY).write(entries(2)))

    assert AuditStore(ours, KEY).write(entries(1, first=3)).seq == 3
    assert [head.seq for head in others] == [2]
    assert verify(theirs).status == 0
    ours.dispose()
    theirs.dispose()


def test_try_that_is_being_written_is_waited_for(postgres_url: str) -> None:
    """The connection was lost and the server still commits: looked at too early it is not there."""
    made = engine_for(postgres_url)
    store, some = AuditStore(made, KEY), entries(2)
    found: list[Head] = []
    with writing(made) as connection:
        head = store.append(connection, some)
        again = threading.Thread(target=lambda: found.append(store.write(some, unless=head)))
        again.start()
        waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        with made.connect() as watching:
            while not watching.scalar(waits):
                time.sleep(0.005)
    again.join()
    assert found == [head]
    assert store.head() == head
    made.dispose()


# --- chains that are broken: nothing is added, what would have been done is not -------------------


def test_head_that_was_set_back_closes_the_log(engine: Engine, store: AuditStore) -> None:
    old = store.write(entries(2))
    store.write(entries(3, first=3))
    with writing(engine) as connection:
        connection.execute(update(audit_head).values(seq=old.seq, mac=old.mac))
    with pytest.raises(ChainBroken, match="beyond its head, which counts 2"):
        store.write(entries(1))

    def create() -> None:
        with writing(engine) as connection:
            connection.execute(insert(organisations).values(**ORGANISATION))
            store.append(connection, entries(1))

    with pytest.raises(ChainBroken):
        create()
    with reading(engine) as connection:
        assert connection.execute(select(organisations)).first() is None
    assert {finding.kind for finding in verify(engine).findings} == {"head"}


def test_head_that_was_taken_away_closes_the_log(engine: Engine, store: AuditStore) -> None:
    store.write(entries(2))
    with writing(engine) as connection:
        connection.execute(delete(audit_head))
    with pytest.raises(ChainBroken, match="no head"):
        store.write(entries(1))
    assert {finding.kind for finding in verify(engine).findings} == {"head"}


def test_tampering_in_the_database_is_found(engine: Engine, store: AuditStore) -> None:
    store.write(entries(9))
    with writing(engine) as connection:
        connection.execute(update(audit).where(audit.c.seq == 3).values(actor="nobody"))
        connection.execute(delete(audit).where(audit.c.seq.in_([5, 6])))
        connection.execute(delete(audit).where(audit.c.seq == 9))
    found = [(one.kind, one.seq, one.last) for one in verify(engine).findings]
    assert found == [("edit", 3, 3), ("gap", 5, 6), ("truncation", 9, 9)]


# --- reading ------------------------------------------------------------------------------------


def test_entries_are_selected(sqlite_engine: Engine) -> None:
    AuditStore(sqlite_engine, KEY).write(entries(4))
    for selection, numbers in (
        (Selection(), [1, 2, 3, 4]),
        (Selection(since_us=START_US + 2000), [2, 3, 4]),
        (Selection(until_us=START_US + 2000), [1]),
        (Selection(actor="key:key_1"), [1, 4]),
        (Selection(action="model.denied"), [1, 2, 3, 4]),
        (Selection(action="model.*"), [1, 2, 3, 4]),
        (Selection(action="m%.*"), []),
        (Selection(action="key.*"), []),
        (Selection(organisation_id="org_a", outcome="denied"), [1, 2, 3, 4]),
        (Selection(outcome="done"), []),
        (Selection(actor="' OR 1=1 --"), []),
    ):
        found = subjects(sqlite_engine, selection)
        assert found == [f"fast-{number}" for number in numbers], selection
        assert selection.is_all is (selection == Selection())


def test_selection_is_the_same_on_both(engine: Engine, store: AuditStore) -> None:
    store.write(entries(4))
    selection = Selection(START_US, START_US + 4000, "key:key_1", "model.*", "org_a", "denied")
    assert subjects(engine, selection) == ["fast-1"]


def test_newest_come_first_where_asked(engine: Engine, store: AuditStore) -> None:
    store.write(entries(4))
    with reading(engine) as connection:
        rows = list(read_rows(connection, newest_first=True, limit=2))
    assert [row.seq for row in rows] == [4, 3]


HOSTILE = (
    "actor = x'ff00'",
    "actor = CAST(x'ff41' AS TEXT)",
    "mac = 'text'",
    "mac = 5",
    "previous = zeroblob(3)",
    "at_us = 'soon'",
    "at_us = 1.5",
    "detail = zeroblob(100000)",
)


def test_values_of_any_kind_are_an_edit(file: Path, sqlite_engine: Engine) -> None:
    AuditStore(sqlite_engine, KEY).write(entries(5))
    reader = reader_for(f"sqlite:///{file}")
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("CREATE TABLE kept AS SELECT * FROM audit WHERE seq = 3")
        for change in HOSTILE:
            database.execute(f"UPDATE audit SET {change} WHERE seq = 3")
            found = [(one.kind, one.seq, one.last) for one in verify(reader).findings]
            assert found == [("edit", 3, 3)], change
            database.execute("DELETE FROM audit WHERE seq = 3")
            database.execute("INSERT INTO audit SELECT * FROM kept")
    assert verify(reader).status == 0
    reader.dispose()


def test_reader_changes_nothing(engine: Engine, store: AuditStore) -> None:
    store.write(entries(2))
    reader = reader_for(plain_url(engine))
    assert verify(reader).entries == 2
    with pytest.raises(Exception, match=r"(?i)read.?only"), reader.begin() as connection:
        connection.execute(delete(audit))
    reader.dispose()


def test_copy_is_read_and_stays_as_it_is(file: Path, sqlite_engine: Engine, tmp_path: Path) -> None:
    AuditStore(sqlite_engine, KEY).write(entries(50))
    copy = tmp_path / "elsewhere" / "copy.db"
    copy.parent.mkdir()
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    before = copy.read_bytes()
    reader = reader_for(f"sqlite:///{copy}")
    assert verify(reader).entries == 50
    reader.dispose()
    assert copy.read_bytes() == before


def test_copy_in_a_folder_that_cannot_be_written_is_read(
    file: Path, sqlite_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AuditStore(sqlite_engine, KEY).write(entries(5))
    sqlite_engine.dispose()
    copy = tmp_path / "copy.db"
    shutil.copy(file, copy)
    monkeypatch.setattr(os, "access", lambda *_: False)  # we may be root
    assert sqlite_uri(copy).endswith("?mode=ro&immutable=1")
    copy.with_name("copy.db-wal").touch()
    assert sqlite_uri(copy).endswith("?mode=ro")


def test_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    reader = reader_for(f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(StoreUnavailable, match="unable to open"):
        verify(reader)
    reader.dispose()
    assert not list(tmp_path.iterdir())


def test_log_that_is_being_written_raises_no_alarm(
    engine: Engine, store: AuditStore, tmp_path: Path
) -> None:
    """Anchors are read before the rows, and rows as of one moment."""
    anchors = Checkpoint(store, AnchorFile(tmp_path / "audit.anchor", [KEY]), KEY)
    store.write(entries(1))
    anchors.run(START_US)
    is_over = threading.Event()

    def work() -> None:
        number = 1
        while not is_over.is_set():
            store.write(entries(3, first=number))
            anchors.run(START_US)
            number += 3

    writer = threading.Thread(target=work)
    writer.start()
    try:
        lengths = []
        for _ in range(15):
            verifier = Verifier((KEY,), [read(tmp_path / "audit.anchor")])
            with reading(engine) as connection:
                for row in read_rows(connection):
                    verifier.take(row)
                report = verifier.report(read_head(connection))
            assert report.status == 0, report
            lengths.append(report.entries)
    finally:
        is_over.set()
        writer.join()
    assert lengths[0] < lengths[-1]


@pytest.mark.parametrize("url", ["", "mysql://x/y", "sqlite://", "nonsense://secret-word"])
def test_other_addresses_are_refused_unquoted(url: str) -> None:
    with pytest.raises(ValueError, match="is expected") as raised:
        reader_for(url)
    assert "secret-word" not in str(raised.value)


# --- failures -----------------------------------------------------------------------------------


def test_server_that_is_gone_is_told(own_postgres: PostgresServer, own_postgres_url: str) -> None:
    made = engine_for(own_postgres_url)
    store = AuditStore(made, KEY)
    store.write(entries(2))
    own_postgres.stop()
    with pytest.raises(NotWritten) as raised:
        store.write(entries(1, first=3))
    assert raised.value.head is None
    own_postgres.start()
    assert store.write(entries(1, first=3)).seq == 3
    assert verify(made).status == 0
    made.dispose()


def test_locked_file_is_told(
    file: Path, sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = engine_for(f"sqlite:///{file}")
    with quick.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 10")
    with writing(sqlite_engine), pytest.raises(NotWritten, match="locked"):
        AuditStore(quick, KEY).write(entries(1))
    quick.dispose()
    assert AuditStore(sqlite_engine, KEY).write(entries(1)).seq == 1


def test_table_that_is_not_there_is_waited_for(file: Path, sqlite_engine: Engine) -> None:
    """Somebody can mend it, so nobody throws entries away."""
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("DROP TABLE audit_head")
    with pytest.raises(NotWritten, match="no such table"):
        AuditStore(sqlite_engine, KEY).write(entries(1))


_WRITER = """
import sys
from relay.governance.audit_chain import AuditKey, entry
from relay.store.audit_store import AuditStore
from relay.store.engine import engine_for
store = AuditStore(engine_for(sys.argv[1]), AuditKey(bytes(range(32))))
while True:
    head = store.write([entry("config.loaded", at_us=1, actor="relay", subject=sys.argv[2])] * 3)
    print(head.seq, head.mac.hex(), flush=True)
"""


def test_what_was_acknowledged_is_there_after_a_kill(file: Path, sqlite_engine: Engine) -> None:
    """A1 to A3: two processes write, each is killed at a moment of its own, others go on."""
    acknowledged: list[Head] = []
    for turn in range(40 if IS_FULL else 2):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", _WRITER, f"sqlite:///{file}", f"{turn}-{number}"],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ},
            )
            for number in range(2)
        ]
        for number, writer in enumerate(writers):
            assert writer.stdout is not None
            for _ in range(5 + 7 * number + turn):
                seq, mac = writer.stdout.readline().split()
                acknowledged.append(Head(int(seq), bytes.fromhex(mac)))
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().splitlines()
            acknowledged += [
                Head(int(one.split()[0]), bytes.fromhex(one.split()[1]))
                for one in rest
                if len(one.split()) == 2 and len(one.split()[1]) == 64
            ]
            writer.stdout.close()
            writer.wait()
    store = AuditStore(sqlite_engine, KEY)
    assert len(acknowledged) >= 30
    assert all(store.mac_of(head.seq) == head.mac for head in acknowledged)
    report = verify(sqlite_engine)
    assert (report.status, report.entries) == (0, report.last_seq)
    assert report.entries % 3 == 0  # a transaction is there whole
    assert store.head().mac != GENESIS
