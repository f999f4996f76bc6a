"""Copies of the SQLite file: taken while workers write, and put back while none does.

A copy is one file, complete in itself. It is written beside its place and moved there when it is
whole and sound, so that there never is half a copy of that name. What a restore takes the place of
is kept. Blocking.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from relay.store.base import StoreUnavailable
from relay.store.revisions import SchemaError, Standing, standing
from relay.store.sqlite_file import (
    RESTORING,
    DamagedFile,
    is_damage,
    look_into,
    require_sound,
    restoring,
)

_BESIDE: Final = ("", "-wal", "-shm")
_MAX_PROBLEMS: Final = 20


class InUse(StoreUnavailable):
    """Workers hold leases in the file; it must not be taken from under them."""


def back_up(source: Path, target: Path) -> int:
    """Copy the state of one moment, while others go on writing.

    It is read in one step: SQLite begins a copy in several steps anew with each write of another
    process, and over a busy file it would never end (https://sqlite.org/backup.html).

    Returns:
        Bytes.

    Raises:
        FileExistsError: there is a file already.
        DamagedFile: the file, or what was copied of it, is not sound.
        StoreUnavailable: it cannot be read, or the copy not be written.
    """
    if target.exists():
        raise FileExistsError(target)
    if not source.exists():
        raise StoreUnavailable(f"there is no file {source}")
    partial = target.with_name(f".{target.name}.partial")
    try:
        _make_private(partial)
        with closing(look_into(source)) as origin, closing(sqlite3.connect(partial)) as copy:
            origin.backup(copy)
            # One file, which also a reader of a read-only disk can open.
            copy.execute("PRAGMA journal_mode = DELETE").fetchone()
        require_whole(partial)
        _sync(partial)
        partial.rename(target)
        _sync(target.parent)
    except sqlite3.Error as error:
        if is_damage(error):
            raise DamagedFile(source, str(error)) from None
        raise StoreUnavailable(f"{source.name}: {error}") from error
    except OSError as error:
        raise StoreUnavailable(f"{target.name}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return target.stat().st_size


def put_back(copy: Path, target: Path, now_us: int, *, is_forced: bool = False) -> list[Path]:
    """Put a copy in the place of the file.

    Args:
        now_us: leases that end later are held.
        is_forced: do so although workers hold leases, since they are known to be dead.

    Returns:
        Where what was there is now.

    Raises:
        DamagedFile: the copy is not sound; nothing was changed.
        SchemaError: the copy is none of a relay's, or of a newer one that is not known.
        InUse: workers run; nothing was changed.
        StoreUnavailable: it cannot be read, or the file not be written.
    """
    if not copy.exists():
        raise StoreUnavailable(f"there is no file {copy}")
    require_whole(copy)
    revision = revision_in(copy)
    if standing(revision) in (Standing.EMPTY, Standing.FOREIGN):
        raise SchemaError(f"{copy.name} has no tables that this relay knows (revision {revision})")
    if not is_forced:
        _require_unused(target, now_us)
    fresh = target.with_name(f".{target.name}.partial")
    try:
        _make_private(fresh)
        shutil.copyfile(copy, fresh)
        _sync(fresh)
        return _replace(target, fresh, now_us)
    except OSError as error:
        raise StoreUnavailable(f"{target.name}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def _replace(target: Path, fresh: Path, now_us: int) -> list[Path]:
    """Put a file in the place of another, which has a WAL that must not be taken for its own.

    Killed anywhere, what was there is whole, in its place or where it is kept; and while the file
    and the WAL may not belong together, the one that is to come stands beside them, at the sight of
    which nobody opens the file. Said again, it goes on.

    Returns:
        Where what was there is now.

    Raises:
        OSError
    """
    begun = restoring(target)
    second = begun[0].name.rpartition("-")[2] if begun else _free_second(target, now_us)
    coming = target.with_name(f"{target.name}{RESTORING}{second}")
    fresh.replace(coming)
    _sync(target.parent)
    kept = _keep(target, second)
    _sync(target.parent)
    for ending in _BESIDE[1:]:
        target.with_name(target.name + ending).unlink(missing_ok=True)
    _sync(target.parent)
    coming.replace(target)
    _sync(target.parent)
    return kept


def require_whole(path: Path) -> None:
    """Look at all of a file, however long that takes.

    Raises:
        DamagedFile
        StoreUnavailable: it cannot be read.
    """
    if problems := problems_of(path):
        raise DamagedFile(path, problems[0])


def problems_of(path: Path) -> list[str]:
    """What SQLite finds wrong with a file, the first of it: pages, indices, references.

    Raises:
        StoreUnavailable: it cannot be read.
    """
    try:
        require_sound(path)
        with closing(look_into(path)) as database:
            found = [
                str(row[0])
                for row in database.execute(f"PRAGMA integrity_check({_MAX_PROBLEMS})")
                if row[0] != "ok"
            ]
            for table, row_id, parent, _ in database.execute("PRAGMA foreign_key_check"):
                found.append(f"row {row_id} of {table} names no row of {parent}")
                if len(found) >= _MAX_PROBLEMS:
                    break
    except DamagedFile as error:
        return [str(error)]
    except sqlite3.Error as error:
        if is_damage(error):
            return [str(error)]
        raise StoreUnavailable(f"{path.name}: {error}") from error
    return found


def revision_in(path: Path) -> str | None:
    """The revision of a file's tables; None where it has none of ours."""
    with closing(look_into(path)) as database, suppress(sqlite3.OperationalError):
        row = database.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None
    return None


def _require_unused(path: Path, now_us: int) -> None:
    if not path.exists():
        return
    try:
        with closing(look_into(path)) as database:
            held = database.execute(
                "SELECT place FROM instances WHERE lease_until_us > ?", (now_us,)
            ).fetchall()
    except sqlite3.Error:
        return  # damaged, or none of a relay: nobody can serve over it
    if held:
        places = ", ".join(str(row[0]) for row in held[:4])
        raise InUse(
            f"{path.name} is in use ({places}): stop the relay first. One that was killed holds its"
            " lease for a while; if you know that it is dead, say --force"
        )


def _free_second(path: Path, now_us: int) -> str:
    """By which nothing is kept yet."""
    second = now_us // 1_000_000
    while any(path.with_name(f"{path.name}.before-{second}{end}").exists() for end in _BESIDE):
        second += 1
    return str(second)


def _keep(path: Path, second: str) -> list[Path]:
    """A second name for the file and those beside it: the WAL keeps belonging to its file."""
    kept = []
    for ending in _BESIDE:
        old = path.with_name(path.name + ending)
        new = path.with_name(f"{path.name}.before-{second}{ending}")
        if old.exists() and not new.exists():
            try:
                os.link(old, new)
            except OSError:  # not on every file system
                partial = path.with_name(f".{new.name}.partial")
                shutil.copy2(old, partial)
                _sync(partial)
                partial.rename(new)
        if new.exists():
            kept.append(new)
    return kept


def _make_private(path: Path) -> None:
    """It has everybody's usage, and what stands for keys."""
    path.unlink(missing_ok=True)
    path.touch(mode=stat.S_IRUSR | stat.S_IWUSR)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
