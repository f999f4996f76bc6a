"""The database as everybody but the hot path asks it: SQLAlchemy engines, the schema, migrations.

Blocking: called in a thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from relay.store.base import StoreUnavailable
from relay.store.postgres_address import for_sqlalchemy
from relay.store.revisions import HEAD, SchemaError, Standing, require_usable, standing
from relay.store.sqlite_file import (
    BUSY_S,
    DamagedFile,
    Durability,
    is_damage,
    look_into,
    make_private,
    prepare,
    require_in_place,
    require_sound,
)

CONNECT_S: Final = 5
MIGRATE_WAIT_S: Final = 60
"""How long a migration of another worker is waited for."""

_WRITES: Final = "relay_writes"
_DURABLE: Final = (
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') = 'off'"
)
_STOP_WRITERS: Final = "LOCK TABLE budget_periods, generations, attempts, instances"
"""In the order of `postgres_functions`: relays of the old version go on writing until here, and one
that held a row of the one table while it wants the other would be a deadlock."""
_MIGRATION_LOCK: Final = 0x7274_7265_6C61_79  # "rtrelay"; PostgreSQL's advisory locks are numbers


def engine_for(url: str, *, pool_size: int = 5, durability: Durability = "process") -> Engine:
    """An engine of `sqlite:///FILE` or `postgresql://...`; it connects when it is first asked.

    Every SQLite connection keeps the rules of `relay.store.sqlite_file`, foreign keys included.

    Args:
        durability: what a commit is safe against, on SQLite.

    Raises:
        ValueError: neither of them; the message does not quote it.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "postgresql":
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={"connect_timeout": CONNECT_S},
        )
        event.listen(engine, "connect", _made_durable)
        return engine
    engine = create_engine(
        parsed.set(drivername="sqlite+pysqlite"),
        pool_size=pool_size,
        hide_parameters=True,
        connect_args={"timeout": BUSY_S},
    )
    event.listen(engine, "do_connect", partial(_made, str(parsed.database)))
    event.listen(engine, "connect", partial(_opened, durability))
    event.listen(engine, "begin", _begun)
    return engine


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(for_sqlalchemy(url))
    except (ArgumentError, ValueError):
        raise ValueError("a sqlite:///FILE or postgresql://... address is expected") from None
    backend = parsed.get_backend_name()
    if backend != "postgresql" and not (backend == "sqlite" and parsed.database):
        raise ValueError("a sqlite:///FILE or postgresql://... address is expected")
    return parsed


def _made_durable(connection: Any, _: object) -> None:
    """What is acknowledged is on the disk, also where the server's default is otherwise."""
    connection.execute(_DURABLE)
    connection.commit()


def _made(database: str, *_: object) -> None:
    """Before it is opened, which would make it as the umask says.

    Raises:
        BrokenOff
    """
    if database != ":memory:":
        require_in_place(Path(database))
        make_private(Path(database))


def _opened(durability: Durability, connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # `_begun` says BEGIN, so that it can be the right one
    prepare(connection, durability)


def _begun(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes; what it reads is still so when it writes.

    SQLite gives the write lock at its beginning: a transaction that reads first and finds then that
    another has written could only fail. On PostgreSQL rows are locked by whoever reads them.

    Raises:
        StoreUnavailable: the database cannot be reached or written now; nothing was changed.
    """
    with told(), engine.connect() as connection:
        connection = connection.execution_options(**{_WRITES: True})
        with connection.begin():
            yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads one moment's state; raises StoreUnavailable."""
    with told(), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


@contextmanager
def told() -> Iterator[None]:
    """Tell what the database is to blame for as StoreUnavailable, without statements and values;
    what the statements are to blame for (constraints, programming) stays as it is."""
    try:
        yield
    except PoolTimeout:
        raise StoreUnavailable("every connection to the database is in use") from None
    except DBAPIError as error:
        if _is_outage(error):
            raise StoreUnavailable(_words(error)) from None
        raise


def _is_outage(error: DBAPIError) -> bool:
    original = error.orig
    if isinstance(original, sqlite3.Error):
        # Of an SQL text that is wrong SQLite says no more than "error".
        code = getattr(original, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        return code not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISUSE)
    # After a failover what was the first server may take no more writes.
    is_standby = type(original).__name__ == "ReadOnlySqlTransaction"
    return is_standby or isinstance(error, OperationalError | InterfaceError)


def _words(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__


# --- the schema -----------------------------------------------------------------------------


def revision_of(engine: Engine) -> str | None:
    """The revision that a database is at; None where it has none of our tables.

    Raises:
        StoreUnavailable
    """
    with told(), engine.connect() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def check_schema(engine: Engine) -> None:
    """See that this relay can serve over the database's tables.

    Raises:
        SchemaError: it cannot; the message says what to do.
        StoreUnavailable: it cannot be asked.
    """
    require_usable(revision_of(engine))


def migrate(engine: Engine) -> bool:
    """Bring the tables to `HEAD`, in one transaction that no other worker's can cross.

    Returns:
        Whether there was anything to do.

    Raises:
        SchemaError: the revision is none of ours.
        StoreUnavailable: the database cannot be reached or written, or another's migration took
            longer than `MIGRATE_WAIT_S`; nothing was changed.
    """
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = '{MIGRATE_WAIT_S}s'"))
            connection.execute(
                text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK}
            )
        match standing(revision := _revision(connection)):
            case Standing.CURRENT | Standing.AHEAD:
                return False
            case Standing.FOREIGN:
                require_usable(revision)
            case Standing.BEHIND if connection.dialect.name == "postgresql":
                connection.execute(text(_STOP_WRITERS))
        _upgrade(connection, HEAD)
    return True


def _upgrade(connection: Connection, to: str) -> None:
    # Here: most starts find tables that are as they should be, and need none of it.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    try:
        command.upgrade(config, to)
    except CommandError as error:
        raise SchemaError(f"the tables cannot be brought to revision {to}: {error}") from error


MIGRATIONS: Final = Path(__file__).with_name("migrations")


_BEFORE_REVISIONS: Final = {"learned"}
"""Of ours, in files that are older than our revisions."""


def require_ours(path: Path) -> None:
    """See that an SQLite file is ours or empty, before anything of it is changed, were it only its
    journal's mode.

    Raises:
        SchemaError: it is another program's, or of a later era.
        DamagedFile, StoreUnavailable: it cannot be read.
    """
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        with closing(look_into(path)) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = sorted({name for (name,) in rows if not name.startswith("sqlite_")})
            found = None
            if "alembic_version" in tables:
                found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        if is_damage(error):
            raise DamagedFile(path, str(error)) from None
        raise StoreUnavailable(f"{path.name}: {error}") from error
    if found is not None:
        if standing(found[0]) is Standing.FOREIGN:
            require_usable(found[0])
    elif others := [name for name in tables if name not in {*_BEFORE_REVISIONS, "alembic_version"}]:
        raise SchemaError(
            f"{path.name} has tables of another program ({', '.join(others[:3])}) and none of the"
            " relay's; name a file of its own in store.url"
        )


def make_ready(url: str, migrations: Literal["auto", "never"] = "auto") -> None:
    """What a worker does with its database before it serves: a damaged file is refused, and the
    tables are brought up where that may be done.

    Raises:
        SchemaError, DamagedFile: the relay must not start; the message says what to do.
        StoreUnavailable: the database cannot be reached or written.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(str(parsed.database))
        if not path.parent.is_dir():
            raise StoreUnavailable(f"store.url: there is no folder {path.parent} for {path.name}")
        require_sound(path)
        require_ours(path)
    engine = engine_for(url, pool_size=1)
    try:
        current = standing(revision_of(engine))
        if migrations == "auto" and current in (Standing.EMPTY, Standing.BEHIND):
            migrate(engine)
        else:
            check_schema(engine)
    except SQLAlchemyError as error:
        original: Any = getattr(error, "orig", None)
        if isinstance(original, sqlite3.Error) and is_damage(original):
            raise DamagedFile(Path(str(parsed.database)), str(original)) from None
        raise StoreUnavailable(f"the database cannot be used: {type(error).__name__}") from error
    finally:
        engine.dispose()
