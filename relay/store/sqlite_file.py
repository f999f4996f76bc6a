"""Opening the relay's SQLite file, by rules that hold for everybody who does.

- The file is in WAL mode. A commit survives the death of the process, and with `power` (FULL, one
  fsync a commit) a loss of power (https://sqlite.org/wal.html).
- Nobody checkpoints by himself: `checkpoint` is called with the write lock held. SQLite before
  3.51.3 can corrupt a file when a commit begins the WAL anew while a checkpoint runs
  (https://sqlite.org/wal.html#walresetbug); under the lock no commit can come in between.
- What is damaged is told, and never made anew: an empty file in its place would be worse.

Blocking: called in a thread. No memory map: an error of the disk would be a SIGBUS.
"""

from __future__ import annotations

import glob
import os
import sqlite3
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from relay.store.base import StoreUnavailable

Durability = Literal["process", "power"]

BUSY_S: Final = 5.0
"""How long a lock is waited for."""
CHECK_S: Final = 0.3
"""What the look at a file at the start may take; `relay store check` looks at all of it."""
WAL_LIMIT_BYTES: Final = 64 << 20
"""What is left of the WAL on the disk once it begins anew."""

_SYNCHRONOUS: Final = {"process": "NORMAL", "power": "FULL"}
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_OWNER_ONLY: Final = stat.S_IRUSR | stat.S_IWUSR
_PROGRESS_STEPS: Final = 20_000


class DamagedFile(StoreUnavailable):
    """The file is no database, or one whose pages contradict each other."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path.name} is damaged ({why}); nothing was changed. Keep the file and those beside"
            " it (-wal, -shm), and put a backup in its place: `relay store restore BACKUP`"
        )


class BrokenOff(DamagedFile):
    """A restore has begun to put a copy in the place of the file, and was killed."""

    def __init__(self, path: Path) -> None:
        StoreUnavailable.__init__(
            self,
            f"a restore of {path.name} was broken off: say `relay store restore BACKUP` again. What"
            f" was there is kept as {path.name}.before-SECONDS, or is in its place yet",
        )


RESTORING: Final = ".restoring-"
"""Between a file's name and a second: the copy that is about to take its place."""


def restoring(path: Path) -> list[Path]:
    """What a restore that was broken off has left, where there is any."""
    return sorted(path.parent.glob(f"{glob.escape(path.name)}{RESTORING}*"))


def require_in_place(path: Path) -> None:
    """
    Raises:
        BrokenOff: the file may be without its WAL.
    """
    if restoring(path):
        raise BrokenOff(path)


def make_private(path: Path) -> None:
    """Make the file where there is none, for its owner alone whatever the umask says; SQLite gives
    those beside it the same rights. One that is there is left as it is, and what stands in the way
    is told by whoever opens it."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _OWNER_ONLY)
        try:
            os.fchmod(descriptor, _OWNER_ONLY)
        finally:
            os.close(descriptor)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether it says that the file is damaged."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def connect(
    path: Path, *, durability: Durability = "process", busy_s: float = BUSY_S, create: bool = False
) -> sqlite3.Connection:
    """A connection without transactions of its own making, for any one thread at a time.

    Args:
        create: make the file where there is none, for its owner alone.

    Raises:
        BrokenOff
        sqlite3.Error
    """
    require_in_place(path)
    if create:
        make_private(path)
    mode = "rwc" if create else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_s,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        prepare(connection, durability)
    except BaseException:
        connection.close()
        raise
    return connection


def look_into(path: Path) -> sqlite3.Connection:
    """A connection to read by, which leaves everything as it is: the last one that could write
    would move the WAL into the file when it is closed, and delete it. Raises sqlite3.Error."""
    mode = "ro" if has_wal(path) else "rw"  # by `ro` files of the WAL are made, and stay
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_S, isolation_level=None
    )


def has_wal(path: Path) -> bool:
    """Whether there is a WAL with anything in it."""
    wal = path.with_name(f"{path.name}-wal")
    return wal.exists() and wal.stat().st_size > 0


def prepare(connection: sqlite3.Connection, durability: Durability = "process") -> None:
    """Put a connection under the rules above; raises sqlite3.Error."""
    run = connection.execute
    _use_wal(connection)
    run(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
    run("PRAGMA wal_autocheckpoint = 0")
    run(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    run("PRAGMA foreign_keys = ON")
    run("PRAGMA trusted_schema = OFF")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Of a new file this takes locks for which SQLite itself does not wait."""
    until_s = time.monotonic() + BUSY_S
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until_s:
                raise
            time.sleep(0.005)
        else:
            if mode != "wal":
                raise sqlite3.OperationalError(f"the file cannot be put in WAL mode, but in {mode}")
            return


def require_sound(path: Path, check_s: float = CHECK_S) -> None:
    """See that the file can be served over: bounded in time, changes nothing.

    A file that is not there is sound, unless its WAL is: what that holds would be lost with the
    first write.

    Raises:
        BrokenOff, DamagedFile
        StoreUnavailable: it cannot be read now.
    """
    require_in_place(path)
    size_bytes = path.stat().st_size if path.exists() else 0
    if size_bytes == 0:
        if has_wal(path):
            raise DamagedFile(path, f"it is empty or gone, and {path.name}-wal is not")
        return
    try:
        connection = look_into(path)
        try:
            _look(connection, path, check_s)
        finally:
            connection.close()
    except sqlite3.Error as error:
        if is_damage(error):
            raise DamagedFile(path, str(error)) from None
        raise StoreUnavailable(f"{path.name}: {error}") from error


def _look(connection: sqlite3.Connection, path: Path, check_s: float) -> None:
    until_s = time.monotonic() + check_s
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    connection.set_progress_handler(lambda: time.monotonic() > until_s, _PROGRESS_STEPS)
    try:
        (word,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
    else:
        if word != "ok":
            raise DamagedFile(path, str(word))


def checkpoint(connection: sqlite3.Connection) -> tuple[int, int]:
    """Move what is in the WAL into the file; the caller holds the write lock by another connection.

    Returns:
        Pages in the WAL, and how many of them are in the file: fewer where a reader still needs
        the rest.

    Raises:
        sqlite3.Error
    """
    _, pages, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return pages, moved
