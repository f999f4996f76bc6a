"""`relay store`: tables, soundness, copies while workers write, and putting one back."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url
from typer.testing import CliRunner, Result

from relay.cli import app
from relay.commands.store import dump_command, restore_command
from relay.store import backup as backups
from relay.store.engine import make_ready
from relay.store.revisions import HEAD
from relay.store.sqlite_ledger import SqliteLedger
from tests.store.accounts import NOW_US, assert_sums, hold, opened, rows, settled

SECRET = "hunter2-and-more"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@pytest.fixture
def config(tmp_path: Path, file: Path) -> Path:
    made = tmp_path / "relay.yaml"
    made.write_text(f"store: {{url: 'sqlite:///{file}'}}\n")
    return made


def asked(*words: str | Path, config: Path) -> Result:
    return CliRunner().invoke(app, ["store", *map(str, words), "-c", str(config)])


async def _accounts(file: Path, names: list[str], lease_us: int = 0) -> SqliteLedger:
    ledger = SqliteLedger(file)
    await ledger.start("inst_1", "host 0", lease_us or NOW_US, 60.0)
    for name in names:
        await ledger.reserve(opened(name, hold(10**9)), (500,))
        await ledger.committed(ledger.settle(settled(name, 70), ()))
    return ledger


async def _write(file: Path, names: list[str]) -> None:
    await (await _accounts(file, names)).aclose()


def filled(file: Path, *names: str) -> None:
    asyncio.run(_write(file, list(names)))


# --- migrate ------------------------------------------------------------------------------------


def test_tables_are_made_once(config: Path, file: Path) -> None:
    first = asked("migrate", config=config)
    assert (first.exit_code, first.stdout) == (
        0,
        f"the tables are at revision {HEAD} (before: none)\n",
    )
    again = asked("migrate", config=config)
    assert again.stdout == f"the tables are at revision {HEAD}; there is nothing to do\n"
    assert rows(file, "SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_tables_that_nobody_knows_are_left(config: Path, file: Path) -> None:
    make_ready(f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ae1027a6acf'")
    for command in ("migrate", "check"):
        done = asked(command, config=config)
        assert done.exit_code == 1
        assert "does not know" in done.stderr


def test_a_configuration_without_a_store_is_told(tmp_path: Path) -> None:
    config = tmp_path / "none.yaml"
    config.write_text("models: {}\n")
    done = asked("check", config=config)
    assert (done.exit_code, "has no `store`" in done.stderr) == (1, True)
    done = asked("check", config=tmp_path / "not there.yaml")
    assert done.exit_code == 1


# --- check --------------------------------------------------------------------------------------


def test_what_is_sound_is_said(config: Path, file: Path) -> None:
    filled(file, "1", "2")
    done = asked("check", config=config)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [
        "relay.db: pages, indices and references are sound",
        f"tables: revision {HEAD}",
        "generations: 2 settled",
        "budgets: every counter is the sum of its accounts",
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE budget_periods SET settled_micro = 141", "settled is 141, and the sum of its"),
        ("UPDATE budget_periods SET reserved_micro = 1", "reserved is 1, and the sum"),
        ("DELETE FROM budget_periods", "settled is 0, and the sum of its accounts 140"),
        ("DELETE FROM generations WHERE id = 'gen_1'", "settled is 140, and the sum"),
        ("UPDATE generations SET settled_micro = 510", "overrun is 0, and the sum of its acc"),
    ],
)
def test_a_counter_that_is_not_its_sum_is_told(
    config: Path, file: Path, change: str, told: str
) -> None:
    filled(file, "1", "2")
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(change)
    done = asked("check", config=config)
    assert done.exit_code == 1
    assert told in done.stderr


def test_repair_sets_counters_to_their_sums(config: Path, file: Path) -> None:
    filled(file, "1", "2")
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE budget_periods SET settled_micro = 141, reserved_micro = 1")
    done = asked("check", "--repair", config=config)
    assert done.exit_code == 0, done.stderr
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()].count("mended") == 2
    assert asked("check", config=config).exit_code == 0


def test_a_reference_to_nobody_is_told(config: Path, file: Path) -> None:
    make_ready(f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(
            "INSERT INTO teams (id, organisation_id, name, created_at_us, changed)"
            " VALUES ('team_1', 'org_1', 't', 1, 1)"
        )
    done = asked("check", config=config)
    assert done.exit_code == 1
    assert "row 1 of teams names no row of organisations" in done.stderr


def test_a_damaged_file_is_told_and_left(config: Path, file: Path) -> None:
    filled(file, *map(str, range(100)))
    content = bytearray(file.read_bytes())
    for page in range(4, len(content) // 4096, 3):
        content[page * 4096 : page * 4096 + 600] = os.urandom(600)
    file.write_bytes(content)
    for command in ("check", "migrate"):
        done = asked(command, config=config)
        assert done.exit_code == 1
        assert "damaged" in done.stderr
        assert "relay store restore" in done.stderr
    assert file.read_bytes() == content


def test_a_file_that_is_not_there_is_not_made(config: Path, file: Path) -> None:
    for words in (("check",), ("backup", file.with_name("copy.db"))):
        done = asked(*words, config=config)
        assert (done.exit_code, "there is no file" in done.stderr) == (1, True)
    assert not file.exists()


# --- backup -------------------------------------------------------------------------------------


class Load:
    """A worker that writes until it is told to stop."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stop = threading.Event()
        self.written = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Load:
        self._thread.start()
        while self.written < 20:
            assert self._thread.is_alive()
            time.sleep(0.001)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        ledger = await _accounts(self._file, [], time.time_ns() // 1000)
        while not self._stop.is_set():
            name = f"load_{self.written}"
            await ledger.reserve(opened(name, hold(10**9)), (500,))
            await ledger.committed(ledger.settle(settled(name, 70), ()))
            self.written += 1
        await ledger.aclose()


def test_a_copy_is_taken_while_a_worker_writes(config: Path, file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with Load(file) as load:
        done = asked("backup", copy, config=config)
        after = load.written
        while load.written < after + 20:  # it goes on
            time.sleep(0.001)
    assert done.exit_code == 0, done.stderr
    assert "and it is sound" in done.stdout
    assert_sums(copy)
    assert 20 <= rows(copy, "SELECT count(*) FROM generations")[0][0] <= after + 1
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    names = {one.name for one in tmp_path.iterdir()}
    assert names == {"relay.yaml", "relay.db", "copy.db"}
    with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_no_file_is_written_over(config: Path, file: Path) -> None:
    filled(file, "1")
    before = file.read_bytes()
    done = asked("backup", file, config=config)
    assert (done.exit_code, "is there already" in done.stderr) == (1, True)
    assert file.read_bytes() == before


def test_a_copy_that_cannot_be_written_leaves_nothing(
    config: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(file, "1")
    done = asked("backup", tmp_path / "none" / "copy.db", config=config)
    assert done.exit_code == 1

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backups, "_sync", full)
    done = asked("backup", tmp_path / "copy.db", config=config)
    assert (done.exit_code, "No space left" in done.stderr) == (1, True)
    assert {one.name for one in tmp_path.iterdir()} == {"relay.yaml", "relay.db"}


# --- restore ------------------------------------------------------------------------------------


@pytest.fixture
def copy(config: Path, file: Path, tmp_path: Path) -> Path:
    """Of a file with one account; the file has two by now."""
    filled(file, "1")
    made = tmp_path / "copy.db"
    assert asked("backup", made, config=config).exit_code == 0
    filled(file, "2")
    return made


def test_a_copy_takes_the_place_of_the_file_which_is_kept(
    config: Path, file: Path, copy: Path
) -> None:
    done = asked("restore", copy, config=config)
    assert done.exit_code == 0, done.stderr
    assert rows(file, "SELECT id FROM generations") == [("gen_1",)]
    (kept,) = file.parent.glob("relay.db.before-*")
    assert {row[0] for row in rows(kept, "SELECT id FROM generations")} == {"gen_1", "gen_2"}
    assert f"kept: {kept}" in done.stdout
    assert copy.exists()
    filled(file, "3")  # and the relay starts over it
    assert asked("check", config=config).exit_code == 0


def test_nothing_is_taken_from_under_a_worker(config: Path, file: Path, copy: Path) -> None:
    with Load(file):
        done = asked("restore", copy, config=config)
        assert done.exit_code == 1
        assert "in use (host 0): stop the relay first" in done.stderr
    assert len(rows(file, "SELECT id FROM generations")) > 2
    with closing(sqlite3.connect(file)) as database, database:  # one that was killed just now
        database.execute("INSERT INTO instances VALUES ('inst_9', 'host 9', 1, ?)", (2**62,))
    assert asked("restore", copy, config=config).exit_code == 1
    assert asked("restore", copy, "--force", config=config).exit_code == 0
    assert rows(file, "SELECT id FROM generations") == [("gen_1",)]


def test_a_damaged_file_is_replaced_with_its_wal(config: Path, file: Path, copy: Path) -> None:
    file.write_bytes(b"\xff" * 8192)
    file.with_name("relay.db-wal").write_bytes(b"old")
    assert asked("restore", copy, config=config).exit_code == 0
    assert rows(file, "SELECT id FROM generations") == [("gen_1",)]
    (kept,) = file.parent.glob("relay.db.before-*-wal")
    assert kept.read_bytes() == b"old"
    assert kept.with_name(kept.name.removesuffix("-wal")).read_bytes() == b"\xff" * 8192


def test_what_is_no_copy_changes_nothing(
    config: Path, file: Path, copy: Path, tmp_path: Path
) -> None:
    before = file.read_bytes()
    words = tmp_path / "words.db"
    words.write_bytes(b"these are words and no database" * 200)
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as database, database:
        database.execute("CREATE TABLE notes (text TEXT)")
    cut = tmp_path / "cut.db"
    cut.write_bytes(copy.read_bytes()[:-8192])
    for wrong in (words, other, cut, tmp_path / "none.db"):
        done = asked("restore", wrong, config=config)
        assert done.exit_code == 1, wrong
        assert file.read_bytes() == before
    assert not list(file.parent.glob("*.before-*"))


# --- PostgreSQL ---------------------------------------------------------------------------------


@pytest.fixture
def postgres(tmp_path: Path) -> Path:
    made = tmp_path / "postgres.yaml"
    made.write_text(f"store: {{url: 'postgresql://relay:{SECRET}@db.test:5433/accounts'}}\n")
    return made


def test_pg_dump_is_run_without_the_password_among_its_words(
    postgres: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    fake = tools / "pg_dump"
    fake.write_text(
        '#!/bin/sh\nfor word in "$@"; do case "$word" in --file=*) out="${word#--file=}";; esac;'
        ' done\necho "$@ [$PGPASSWORD]" > "$out"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    target = tmp_path / "copy.dump"
    done = asked("backup", target, config=postgres)
    assert done.exit_code == 0, done.stderr
    words, _, password = target.read_text().strip().rpartition(" ")
    assert password == f"[{SECRET}]"
    assert SECRET not in words
    assert "--dbname=postgresql://relay@db.test:5433/accounts" in words
    assert SECRET not in done.output
    fake.write_text("#!/bin/sh\necho connection refused >&2\nexit 1\n")
    done = asked("backup", tmp_path / "other.dump", config=postgres)
    assert (done.exit_code, "pg_dump: connection refused" in done.stderr) == (1, True)
    assert not list(tmp_path.glob("*other*"))


def test_where_there_is_no_pg_dump_it_is_told(
    postgres: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = asked("backup", tmp_path / "copy.dump", config=postgres)
    assert done.exit_code == 1
    assert "pg_dump --format=custom" in done.stdout
    assert SECRET not in done.output


def test_how_a_dump_is_put_back_is_told(postgres: Path) -> None:
    done = asked("restore", "copy.dump", config=postgres)
    assert done.exit_code == 0
    assert "pg_restore --clean" in done.stdout
    assert SECRET not in done.output


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://relay:{SECRET}@db.test/accounts?sslmode=require",
        f"postgresql://db.test/accounts?user=relay&password={SECRET}",
    ],
)
def test_no_command_has_a_password(url: str) -> None:
    for command in (dump_command(make_url(url), Path("x")), restore_command(make_url(url), Path())):
        assert SECRET not in " ".join(command)
        assert any("db.test/accounts" in word for word in command)


# --- the audit log --------------------------------------------------------------------------------


def test_what_is_done_to_the_store_is_audited(config: Path, file: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("0123456789abcdefghijklmnopqrstuvwxyz")
    with config.open("a") as opened_:
        opened_.write("audit: {key: '${file:key}', anchor: null}\n")
    assert asked("migrate", config=config).exit_code == 0
    filled(file, "one")
    assert asked("backup", tmp_path / "copy", config=config).exit_code == 0
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE budget_periods SET settled_micro = 1")
    assert asked("check", "--repair", config=config).exit_code == 0
    told = "SELECT action, actor LIKE 'cli:%', detail LIKE '%copy%' FROM audit ORDER BY seq"
    before = [("store.migrated", 1, 0), ("store.copied", 1, 1)]
    assert rows(file, told) == [*before, ("store.repaired", 1, 0)]
    assert asked("restore", tmp_path / "copy", "--force", config=config).exit_code == 0
    assert rows(file, told) == [*before, ("store.restored", 1, 1)]


def test_a_store_whose_log_cannot_be_written_is_saved_all_the_same(
    config: Path, file: Path, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("0123456789abcdefghijklmnopqrstuvwxyz")
    with config.open("a") as opened_:
        opened_.write("audit: {key: '${file:key}', anchor: null}\n")
    filled(file, "one")
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("DROP TABLE audit_head")
    saved = asked("backup", tmp_path / "copy", config=config)
    assert saved.exit_code == 0
    assert "not in the audit log" in saved.stderr
    assert (tmp_path / "copy").exists()
