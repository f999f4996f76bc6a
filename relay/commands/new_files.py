"""Files that a command writes: each whole or not at all, and none before all can be."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path


class FileFault(Exception):
    """A file cannot be written; the message names it."""


def check_new_files(paths: Sequence[Path], read: Path, *, may_replace: bool) -> None:
    """
    Args:
        paths: to be written.
        read: what the command has read, which is never written over.

    Raises:
        FileFault: two of them are the same file, or one is there and may not be replaced.
    """
    seen: list[Path] = []
    for path in paths:
        if _is_same(path, read):
            raise FileFault(f"{path} is the file that is read; write to another")
        if os.path.lexists(path) and not may_replace:
            raise FileFault(f"{path} is there already; --force writes over it")
        if path.is_dir():
            raise FileFault(f"cannot write {path}: it is a directory")
        for other in seen:
            if _is_same(path, other):
                raise FileFault(f"{path} and {other} are the same file; name two")
        seen.append(path)


def write_new_files(texts: Mapping[Path, str]) -> None:
    """Write all beside their places first, and then put them there.

    Raises:
        FileFault: nothing was put in place, unless the file system failed between two of them.
    """
    waiting: list[tuple[str, Path, Path]] = []
    try:
        for path, text in texts.items():
            place = path.resolve()
            try:
                if _is_special(place):
                    place.write_text(text, encoding="utf-8")
                else:
                    waiting.append((_beside(place, text), place, path))
            except OSError as error:
                raise FileFault(f"cannot write {path}: {error.strerror}") from None
        while waiting:
            name, place, path = waiting[0]
            try:
                os.replace(name, place)
            except OSError as error:
                raise FileFault(f"cannot write {path}: {error.strerror}") from None
            del waiting[0]
    finally:
        for name, _, _ in waiting:
            with contextlib.suppress(OSError):
                os.unlink(name)


def _beside(place: Path, text: str) -> str:
    descriptor, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if place.exists():
            mode = stat.S_IMODE(place.stat().st_mode)
        else:
            mask = os.umask(0)
            os.umask(mask)
            mode = 0o666 & ~mask
        os.chmod(name, mode)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    return name


def _is_special(path: Path) -> bool:
    """A device or a pipe, which is written to and never replaced."""
    return path.exists() and not path.is_file()


def _is_same(one: Path, other: Path) -> bool:
    try:
        same = one.resolve() == other.resolve() or one.samefile(other)
    except (OSError, RuntimeError):  # one is not there, or is a ring of links
        return False
    return same and not _is_special(one)
