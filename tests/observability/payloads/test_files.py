"""Files of payloads: begun anew by size and age, deleted, nobody else's to read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from relay.observability.payloads.files import PayloadFiles

LINE = b"x" * 99 + b"\n"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now_s


def files_in(folder: Path, clock: Clock, instance: str = "i_1", **more: Any) -> PayloadFiles:
    bounds: dict[str, Any] = {
        "max_file_bytes": 250,
        "max_file_s": 3600.0,
        "retention_s": 86_400.0,
        "max_total_bytes": 1_000_000,
        **more,
    }
    return PayloadFiles(folder, instance, now_s=clock, **bounds)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def set_age(folder: Path, clock: Clock) -> None:
    """Files of the real clock are of the test's."""
    for path in folder.iterdir():
        os.utime(path, (clock.now_s, clock.now_s))


def test_new_files_by_size(tmp_path: Path) -> None:
    folder = tmp_path / "payloads"
    files = files_in(folder, Clock())
    for _ in range(5):
        files.write(LINE)
    files.close()
    files.close()
    assert names(folder) == [
        f"payloads-20260921T141320Z-000{number}-i_1.jsonl" for number in (1, 2, 3)
    ]
    assert [path.stat().st_size for path in sorted(folder.iterdir())] == [200, 200, 100]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_new_files_by_age_also_where_nothing_comes(tmp_path: Path) -> None:
    clock = Clock()
    files = files_in(tmp_path, clock)
    files.write(LINE)
    clock.now_s += 3600
    files.sweep()
    assert files._descriptor < 0
    files.write(LINE)
    assert len(names(tmp_path)) == 2
    files.close()


def test_old_files_are_deleted_whoever_wrote_them(tmp_path: Path) -> None:
    clock = Clock()
    for instance in ("i_1", "i_2"):
        gone = files_in(tmp_path, clock, instance)
        gone.write(LINE)
        gone.close()
    (tmp_path / "payloads-notes.txt").write_text("mine")
    (tmp_path / "other.jsonl").write_text("mine")
    set_age(tmp_path, clock)
    clock.now_s += 86_401
    files = files_in(tmp_path, clock, "i_3")
    files.write(LINE)
    files.sweep()
    left = names(tmp_path)
    assert files.deleted_files == 2
    assert len(left) == 3
    assert {"payloads-notes.txt", "other.jsonl"} < set(left)
    files.close()


def test_what_cannot_be_deleted_keeps_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    for instance in ("i_1", "i_2", "i_3"):
        gone = files_in(tmp_path, clock, instance)
        gone.write(LINE)
        gone.close()
    (tmp_path / "payloads-20200101T000000Z-0001-i_9.jsonl").mkdir()
    set_age(tmp_path, clock)
    clock.now_s += 86_401
    unlink = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path.name.endswith("i_1.jsonl"):
            raise PermissionError(1, "somebody else's")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    files = files_in(tmp_path, clock, "i_4")
    files.write(LINE)  # what is written does not fail for it
    with pytest.raises(PermissionError):
        files.sweep()
    assert files.deleted_files == 2
    assert len(names(tmp_path)) == 3  # the new one, the folder, the one that stays
    files.close()


def test_the_oldest_go_before_there_are_too_many_bytes(tmp_path: Path) -> None:
    clock = Clock()
    files = files_in(tmp_path, clock, max_file_bytes=150, max_total_bytes=300, max_file_s=1.0)
    for _ in range(6):
        files.write(LINE)
        set_age(tmp_path, clock)
        clock.now_s += 1
    files.sweep()
    assert len(names(tmp_path)) == 3
    assert names(tmp_path)[-1].endswith("-0006-i_1.jsonl")
    files.close()


def test_a_file_that_was_taken_away_is_followed_by_another(tmp_path: Path) -> None:
    files = files_in(tmp_path, Clock())
    files.write(LINE)
    (first,) = tmp_path.iterdir()
    first.unlink()
    files.write(LINE)
    (second,) = tmp_path.iterdir()
    assert second.read_bytes() == LINE
    files.close()


def test_no_half_of_a_line_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_in(tmp_path, Clock(), max_file_bytes=10_000)
    files.write(LINE)
    write = os.write
    room = [50]

    def full(descriptor: int, data: Any) -> int:
        if not room:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[: room.pop()])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        files.write(LINE)
    monkeypatch.undo()
    files.write(LINE)
    (only,) = tmp_path.iterdir()
    assert only.read_bytes() == LINE * 2
    files.close()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    clock = Clock()
    target = tmp_path / "elsewhere"
    folder = tmp_path / "payloads"
    folder.mkdir()
    (folder / "payloads-20260921T141320Z-0001-i_1.jsonl").symlink_to(target)
    files = files_in(folder, clock)
    with pytest.raises(FileExistsError):
        files.write(LINE)
    assert not target.exists()
    files.write(LINE)
    files.close()
