"""Restores that are killed at every step: no data is lost, and nobody starts over half of them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from relay.store import learned
from relay.store.backup import back_up, put_back
from relay.store.engine import engine_for, make_ready, reading
from relay.store.sqlite_file import BrokenOff, connect, require_sound, restoring

NOW_US = 1_800_000_000_000_000
STEPS = ("fsync", "link", "rename", "replace", "unlink", "open")
KILLED = 77


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def named(path: Path) -> set[str]:
    """Organisations of a file, whose last may be in its WAL."""
    with closing(sqlite3.connect(path)) as database:
        return {row[0] for row in database.execute("SELECT id FROM organisations")}


def add(path: Path, name: str) -> sqlite3.Connection:
    """One organisation more; in the WAL as long as the connection is open."""
    connection = connect(path)
    connection.execute(
        "INSERT INTO organisations (id, name, created_at_us, changed) VALUES (?, ?, 1, 1)",
        (name, name),
    )
    return connection


def dies_at(step: int, act: Callable[[], Any]) -> bool:
    """Do it in a process that is gone before the step of the file system whose turn it is.

    Returns:
        Whether it was; False: it had fewer steps.
    """
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, KILLED)
        return code == KILLED
    code = 1
    try:
        left = [step]
        for name in STEPS:
            setattr(os, name, _counted(getattr(os, name), left))
        act()
        code = 0
    finally:
        os._exit(code)


def _counted(call: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    def counted(*given: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            os._exit(KILLED)  # as a SIGKILL: nothing is cleaned up
        return call(*given, **more)

    return counted


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file, its WAL as a kill has left it, and an older copy."""
    folder = tmp_path_factory.mktemp("left")
    file = folder / "relay.db"
    make_ready(url(file))
    add(file, "old").close()
    back_up(file, folder / "copy.db")
    wal = file.with_name("relay.db-wal")
    with closing(add(file, "new")):
        as_left = {one: one.read_bytes() for one in (file, wal)}
    for one, data in as_left.items():
        one.write_bytes(data)
    file.with_name("relay.db-shm").unlink(missing_ok=True)
    return folder


class World:
    """A copy of that folder."""

    def __init__(self, left: Path, folder: Path) -> None:
        shutil.copytree(left, folder)
        self.file, self.copy = folder / "relay.db", folder / "copy.db"

    def restore(self) -> list[Path]:
        return put_back(self.copy, self.file, NOW_US)


def test_killed_at_every_step(left: Path, tmp_path: Path) -> None:
    step = refused = 0
    while True:
        world = World(left, tmp_path / str(step))
        is_killed = dies_at(step, world.restore)
        if restoring(world.file):
            refused += 1
            require_refused(world.file)
        else:
            require_sound(world.file)
            assert named(world.file) in ({"old", "new"}, {"old"}), "as it was, or as it is to be"
        if not is_killed:
            break
        world.restore()
        assert named(world.file) == {"old"}
        assert {"old", "new"} in kept_beside(world.file)
        step += 1
    assert step > 8
    assert refused > 3


def require_refused(file: Path) -> None:
    """Whoever would open the file, or make an empty one, is told what to do."""
    with pytest.raises(BrokenOff, match="relay store restore"):
        make_ready(url(file))
    with pytest.raises(BrokenOff):
        connect(file, create=True)
    engine = engine_for(url(file))
    with pytest.raises(BrokenOff), reading(engine):
        pass
    engine.dispose()
    with pytest.raises(learned.StoreError, match="broken off"):
        learned.save(file, 0, {}, 1.0)


def kept_beside(file: Path) -> list[set[str]]:
    """What those hold that are kept."""
    found = file.parent.glob(f"{file.name}.before-*")
    return [named(one) for one in found if one.name.rpartition("-")[2].isdigit()]


def test_killed_again_and_again(left: Path, tmp_path: Path) -> None:
    world = World(left, tmp_path / "one")
    for step in range(60):
        if not dies_at(step, world.restore):
            break
    assert named(world.file) == {"old"}
    assert {"old", "new"} in kept_beside(world.file)


def test_where_there_are_no_links_it_is_copied(
    left: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    world = World(left, tmp_path / "one")
    monkeypatch.setattr(os, "link", refuse)
    kept = world.restore()
    assert named(world.file) == {"old"}
    assert named(kept[0]) == {"old", "new"}


def test_two_restores_within_a_second_keep_both(left: Path, tmp_path: Path) -> None:
    world = World(left, tmp_path / "one")
    first = world.restore()[0]
    add(world.file, "newer").close()
    second = world.restore()[0]
    assert first != second
    assert (named(first), named(second)) == ({"old", "new"}, {"old", "newer"})


@pytest.mark.parametrize("umask", [0o000, 0o277])
def test_new_files_are_their_owners_whatever_the_umask_says(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        by_engine, by_writer, by_learned = (tmp_path / name for name in ("a.db", "b.db", "c.db"))
        make_ready(url(by_engine))
        with closing(connect(by_writer, create=True)) as connection:
            connection.execute("CREATE TABLE t (a)")
            modes = {one.name: one.stat().st_mode & 0o777 for one in tmp_path.iterdir()}
        learned.save(by_learned, 0, {}, 1.0)
    finally:
        os.umask(before)
    assert {"a.db", "b.db", "b.db-wal"} <= set(modes)
    assert set(modes.values()) == {0o600}
    assert by_learned.stat().st_mode & 0o777 == 0o600


def test_rights_that_were_given_stay(tmp_path: Path) -> None:
    file = tmp_path / "relay.db"
    file.touch(mode=0o640)
    file.chmod(0o640)
    make_ready(url(file))
    assert file.stat().st_mode & 0o777 == 0o640
