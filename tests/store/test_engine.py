"""The schema: made by migrations, equal to `schema.py`, and who may serve over which revision."""

from __future__ import annotations

import itertools
import multiprocessing
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.exc import OperationalError as SqlOperationalError

from relay.store import engine as engines
from relay.store import learned, schema
from relay.store.base import StoreUnavailable
from relay.store.engine import (
    MIGRATIONS,
    check_schema,
    engine_for,
    make_ready,
    migrate,
    reading,
    revision_of,
    writing,
)
from relay.store.revisions import HEAD, SchemaError, Standing, require_usable, standing
from relay.store.sqlite_file import DamagedFile, Durability
from tests.store.schema_match import assert_is_schema

ORGANISATION = {"id": "org_1", "name": "one", "created_at_us": 1, "changed": 1}


def url_of(file: Path) -> str:
    return f"sqlite:///{file}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@pytest.fixture
def engine(file: Path) -> Iterator[Engine]:
    made = engine_for(url_of(file))
    yield made
    made.dispose()


def statements(file: Path) -> set[str]:
    """What makes every table and index of a file, without the space between words."""
    with closing(sqlite3.connect(file)) as database:
        rows = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {" ".join(sql.split()) for name, sql in rows if name != "alembic_version"}


def set_revision(engine: Engine, revision: str) -> None:
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})


# --- equal to schema.py -------------------------------------------------------------------------


def test_a_migrated_file_is_what_the_schema_says(engine: Engine, tmp_path: Path) -> None:
    assert migrate(engine)
    assert_is_schema(engine)
    direct = engine_for(url_of(tmp_path / "direct.db"))
    schema.metadata.create_all(direct)
    direct.dispose()
    assert statements(tmp_path / "relay.db") == statements(tmp_path / "direct.db")


def test_the_newest_revision_is_the_one_that_the_relay_names() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [HEAD]
    for script in scripts.walk_revisions():
        assert standing(script.revision) in (Standing.CURRENT, Standing.BEHIND), script.revision
        assert script.down_revision is None or str(script.down_revision) < script.revision


def test_changes_are_counted_from_nought(engine: Engine) -> None:
    migrate(engine)
    with reading(engine) as connection:
        assert connection.execute(select(schema.revision)).all() == [(1, 0)]


def test_migrating_again_changes_nothing(engine: Engine, file: Path) -> None:
    migrate(engine)
    with writing(engine) as connection:
        connection.execute(insert(schema.organisations).values(**ORGANISATION))
    before = statements(file)
    assert not migrate(engine)
    assert statements(file) == before
    with reading(engine) as connection:
        assert len(connection.execute(select(schema.organisations)).all()) == 1


def test_what_was_learnt_before_stays(engine: Engine, file: Path) -> None:
    learned.save(file, 0, {"a/m": {"x": 1}}, 1.0)
    migrate(engine)
    learned.save(file, 1, {"a/m": {"x": 2}}, 2.0)
    assert [row.state for row in learned.load(file, 0)["a/m"]] == [{"x": 1}, {"x": 2}]
    assert_is_schema(engine)


def test_a_migration_that_fails_leaves_nothing(
    engine: Engine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE audit (not_ours TEXT)")  # late among the tables
    with pytest.raises(SqlOperationalError, match="already exists"):
        migrate(engine)
    assert statements(file) == {"CREATE TABLE audit (not_ours TEXT)"}


def _make_ready(url: str, ready: object, failures: object) -> None:
    ready.wait()  # type: ignore[attr-defined]
    try:
        make_ready(url)
    except StoreUnavailable as error:
        failures.put(str(error))  # type: ignore[attr-defined]


def test_workers_that_start_together_make_the_tables_once(file: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, failures = spawn.Barrier(3), spawn.Queue()
    workers = [
        spawn.Process(target=_make_ready, args=(url_of(file), ready, failures)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert failures.empty()
    make_ready(url_of(file), "never")


# --- who may serve over what --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("revision", "head", "stands"),
    [
        (None, "1_0002", Standing.EMPTY),
        ("1_0002", "1_0002", Standing.CURRENT),
        ("1_0001", "1_0002", Standing.BEHIND),
        ("1_0009", "2_0002", Standing.BEHIND),
        ("1_0003", "1_0002", Standing.AHEAD),
        ("1_0010", "1_0009", Standing.AHEAD),
        ("2_0001", "1_0002", Standing.FOREIGN),
        ("ae1027a6acf", "1_0002", Standing.FOREIGN),
        ("", "1_0002", Standing.FOREIGN),
    ],
)
def test_where_a_revision_stands(revision: str | None, head: str, stands: Standing) -> None:
    assert standing(revision, head) is stands
    if stands in (Standing.CURRENT, Standing.AHEAD):
        require_usable(revision, head)
    else:
        with pytest.raises(SchemaError, match=r"relay store (migrate|restore)"):
            require_usable(revision, head)


def test_an_old_worker_serves_over_the_tables_of_a_new_one(engine: Engine, file: Path) -> None:
    migrate(engine)
    with writing(engine) as connection:  # what a revision may do: add
        connection.execute(text("ALTER TABLE generations ADD COLUMN later TEXT DEFAULT ''"))
        connection.execute(text("CREATE TABLE later (id TEXT)"))
    set_revision(engine, "1_9999")
    check_schema(engine)
    assert not migrate(engine)
    assert revision_of(engine) == "1_9999"
    make_ready(url_of(file))


@pytest.mark.parametrize("revision", ["0_0007", "1_0000"])
def test_an_older_one_is_refused_with_what_to_do(engine: Engine, revision: str) -> None:
    migrate(engine)
    set_revision(engine, revision)
    with pytest.raises(SchemaError, match=f"{revision}.*relay store migrate"):
        check_schema(engine)


@pytest.mark.parametrize("revision", ["2_0001", "ae1027a6acf"])
def test_one_that_nobody_knows_is_never_touched(engine: Engine, file: Path, revision: str) -> None:
    migrate(engine)
    set_revision(engine, revision)
    for act in (check_schema, migrate, lambda _: make_ready(url_of(file))):
        with pytest.raises(SchemaError, match="does not know"):
            act(engine)
    assert revision_of(engine) == revision


def test_a_worker_that_may_not_migrate_says_what_to_do(file: Path) -> None:
    with pytest.raises(SchemaError, match=r"no tables of the relay yet.*relay store migrate"):
        make_ready(url_of(file), "never")
    make_ready(url_of(file))
    make_ready(url_of(file), "never")


def additions_alone(before: Engine, after: Engine) -> bool:
    """Whether a worker that knows the one can serve over the other."""
    old, new = inspect(before), inspect(after)
    for table in old.get_table_names():
        if not new.has_table(table):
            return False
        had = {one["name"]: one for one in old.get_columns(table)}
        has = {one["name"]: one for one in new.get_columns(table)}
        for name, column in has.items():
            if name not in had:
                if not column["nullable"] and column["default"] is None:
                    return False
                continue
            is_stricter = had[name]["nullable"] and not column["nullable"]
            if is_stricter or str(column["type"]) != str(had[name]["type"]):
                return False
        if had.keys() - has.keys():
            return False
    return True


@pytest.mark.parametrize(
    ("change", "is_addition"),
    [
        ("ALTER TABLE teams ADD COLUMN more TEXT", True),
        ("ALTER TABLE teams ADD COLUMN more TEXT NOT NULL DEFAULT ''", True),
        ("CREATE TABLE more (id TEXT NOT NULL)", True),
        ("DROP TABLE leases", False),
        ("ALTER TABLE leases DROP COLUMN held", False),
        ("ALTER TABLE leases RENAME COLUMN held TO kept", False),
    ],
)
def test_additions_are_told_from_other_changes(
    engine: Engine, tmp_path: Path, change: str, is_addition: bool
) -> None:
    migrate(engine)
    changed = engine_for(url_of(tmp_path / "changed.db"))
    migrate(changed)
    with writing(changed) as connection:
        connection.execute(text(change))
    assert additions_alone(engine, changed) is is_addition
    changed.dispose()


def test_within_an_era_revisions_only_add(tmp_path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    revisions = sorted(one.revision for one in ScriptDirectory.from_config(config).walk_revisions())
    found: list[tuple[str, Engine]] = []
    for revision in revisions:
        made = engine_for(url_of(tmp_path / f"{revision}.db"))
        with writing(made) as connection:
            engines._upgrade(connection, revision)
        found.append((revision, made))
    for (one, before), (other, after) in itertools.pairwise(found):
        if one.partition("_")[0] == other.partition("_")[0]:
            assert additions_alone(before, after), other
    for _, made in found:
        made.dispose()


# --- engines ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["sqlite://", "mysql://u:hunter2@h/d", "no address hunter2", "", "postgresql:/hunter2"]
)
def test_what_is_no_address_is_told_without_quoting_it(url: str) -> None:
    with pytest.raises(ValueError, match="is expected") as caught:
        engine_for(url)
    assert "hunter2" not in str(caught.value)


def test_a_password_is_in_no_text_of_an_engine() -> None:
    engine = engine_for("postgresql://someone:hunter2@127.0.0.1:1/relay")
    assert engine.dialect.driver == "psycopg"
    assert "hunter2" not in repr(engine)
    with pytest.raises(StoreUnavailable) as caught:
        check_schema(engine)
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert "someone" not in str(caught.value.__context__) or "hunter2" not in str(
        caught.value.__context__
    )
    engine.dispose()


def enter(engine: Engine) -> None:
    with writing(engine):
        pass


def test_what_is_read_before_it_is_written_is_still_so(
    file: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that read the count and write it one higher, at the same time."""
    migrate(engine)
    other = engine_for(url_of(file))
    monkeypatch.setattr(engines, "BUSY_S", 0.05)
    impatient = engine_for(url_of(file))
    with writing(engine) as connection:
        count = connection.scalar(select(schema.revision.c.changed))
        assert count is not None
        with pytest.raises(StoreUnavailable, match="locked"):
            enter(impatient)
        with reading(other) as beside:  # who reads does not wait
            assert beside.scalar(select(schema.revision.c.changed)) == count
        connection.execute(update(schema.revision).values(changed=count + 1))
    with reading(other) as connection:
        assert connection.scalar(select(schema.revision.c.changed)) == count + 1
    other.dispose()
    impatient.dispose()


ZERO = text("UPDATE revision SET changed = 7 RETURNING 0")


def test_a_transaction_that_raises_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    with pytest.raises(ZeroDivisionError), writing(engine) as connection:
        connection.execute(update(schema.revision).values(changed=1 // connection.scalar(ZERO)))
    with reading(engine) as connection:
        assert connection.scalar(select(schema.revision.c.changed)) == 0


def test_references_hold(engine: Engine) -> None:
    migrate(engine)
    team = {"id": "team_1", "organisation_id": "org_0", "name": "t"}
    with pytest.raises(IntegrityError), writing(engine) as connection:
        connection.execute(insert(schema.teams).values(created_at_us=1, changed=1, **team))


def test_what_a_statement_is_to_blame_for_is_no_outage(engine: Engine) -> None:
    with (
        pytest.raises((ProgrammingError, SqlOperationalError)),
        reading(engine) as connection,
    ):
        connection.execute(text("SELECT nothing FROM nowhere"))


# --- files --------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_left_as_it_is(file: Path) -> None:
    words = b"no database, and long enough to be read as one" * 100
    file.write_bytes(words)
    with pytest.raises(DamagedFile, match=r"relay\.db is damaged.*relay store restore"):
        make_ready(url_of(file))
    assert file.read_bytes() == words
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def fill(engine: Engine, rows: int = 400) -> None:
    with writing(engine) as connection:
        connection.execute(
            insert(schema.organisations),
            [{**ORGANISATION, "id": f"org_{n}", "name": f"{n:0100}"} for n in range(rows)],
        )


def test_a_damaged_page_is_found_at_the_start(engine: Engine, file: Path) -> None:
    make_ready(url_of(file))
    fill(engine)
    engine.dispose()  # with the last connection the WAL goes into the file
    content = bytearray(file.read_bytes())
    for page in range(3, len(content) // 4096):
        content[page * 4096 : page * 4096 + 512] = b"\xff" * 512
    file.write_bytes(content)
    with pytest.raises(DamagedFile, match="relay store restore"):
        make_ready(url_of(file))
    assert file.read_bytes() == content


@pytest.mark.parametrize("is_empty", [False, True])
def test_a_file_that_is_gone_while_its_wal_is_there_is_not_made_anew(
    engine: Engine, file: Path, is_empty: bool
) -> None:
    make_ready(url_of(file))
    fill(engine)
    with engine.connect():  # keeps the WAL
        wal = file.with_name("relay.db-wal").read_bytes()
    assert wal
    engine.dispose()
    file.unlink()
    if is_empty:
        file.touch()
    file.with_name("relay.db-wal").write_bytes(wal)
    with pytest.raises(DamagedFile, match="gone"):
        make_ready(url_of(file))
    assert file.with_name("relay.db-wal").read_bytes() == wal


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        StoreUnavailable, match=r"store\.url: there is no folder .*/none for relay.db"
    ):
        make_ready(url_of(tmp_path / "none" / "relay.db"))


def test_an_empty_file_is_a_new_one(file: Path) -> None:
    file.touch()
    make_ready(url_of(file))
    make_ready(url_of(file), "never")


def test_migrations_come_with_the_package() -> None:
    """Found as packages and as data of packages, which is what a wheel is made of."""
    script = (
        "import setuptools;"
        "print('\\n'.join(setuptools.find_packages('.', include=['relay', 'relay.*'])))"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root
    ).stdout.split()
    assert {"relay.store.migrations", "relay.store.migrations.versions"} <= set(found)


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2)])
def test_commits_are_as_safe_as_is_said(
    file: Path, durability: Durability, synchronous: int
) -> None:
    engine = engine_for(url_of(file), durability=durability)
    try:
        with writing(engine) as connection:
            assert connection.scalar(text("PRAGMA synchronous")) == synchronous
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["CREATE TABLE users (id INTEGER)"], "another program (users)"),
        (
            [
                "CREATE TABLE alembic_version (version_num TEXT)",
                "INSERT INTO alembic_version VALUES ('9f3c')",
            ],
            "'9f3c'",
        ),
    ],
)
def test_another_programs_file_stays_as_it_is(
    file: Path, statements: list[str], words: str
) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        for one in statements:
            database.execute(one)
    before = file.read_bytes()
    with pytest.raises(SchemaError) as refused:
        make_ready(url_of(file))
    assert words in str(refused.value)
    assert file.read_bytes() == before
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_a_file_of_what_was_learnt_is_ours(file: Path) -> None:
    learned.save(file, 0, {}, 1.0)
    make_ready(url_of(file))
