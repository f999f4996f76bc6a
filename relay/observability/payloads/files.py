"""The files that payloads are written to: new ones by size and age, old ones deleted.

Names say when a file was begun and by whom: `payloads-20261127T113000Z-0001-INSTANCE.jsonl`. A file
never changes its name, and nothing is written to it once there is a newer one of the same instance,
so that whoever carries files elsewhere needs to know nothing more. Several workers, and relays on
several machines, may share a folder: each writes files of its own, and each deletes whatever is too
old, so that those of a worker which is gone go too.

Used by one thread.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"payloads-(\d{8}T\d{6}Z)-\d{4,}-[A-Za-z0-9_.-]{1,128}\.jsonl")
_STAMP: Final = "%Y%m%dT%H%M%SZ"
SWEEP_S: Final = 60.0
"""Between looks at what is too old."""


class PayloadFiles:
    """See the module.

    Args:
        now_s: seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        instance: str,
        *,
        max_file_bytes: int,
        max_file_s: float,
        retention_s: float,
        max_total_bytes: int,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._instance = re.sub(r"[^A-Za-z0-9_.-]", "-", instance)[:128]
        self._max_file_bytes = max_file_bytes
        self._max_file_s = max_file_s
        self._retention_s = retention_s
        self._max_total_bytes = max_total_bytes
        self._now_s = now_s
        self._descriptor = -1
        self._path = Path()
        self._begun_s = 0.0
        self._size_bytes = 0
        self._number = 0
        self._swept_s = float("-inf")
        self.deleted_files = 0

    def write(self, lines: bytes) -> None:
        """Whole lines, into one file.

        Raises:
            OSError: they were not written, or not all of them; what was is taken back.
        """
        now_s = self._now_s()
        if self._descriptor >= 0 and self._is_over(now_s, len(lines)):
            self.close()
        if self._descriptor < 0:
            self._open(now_s)
        self._append(lines)

    def _append(self, lines: bytes) -> None:
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os.ftruncate(self._descriptor, self._size_bytes)  # no half of a line stays
            raise
        self._size_bytes += len(lines)

    def _is_over(self, now_s: float, more_bytes: int) -> bool:
        is_full = self._size_bytes > 0 and self._size_bytes + more_bytes > self._max_file_bytes
        is_old = now_s - self._begun_s >= self._max_file_s
        return is_full or is_old or os.fstat(self._descriptor).st_nlink == 0

    def _open(self, now_s: float) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        stamp = time.strftime(_STAMP, time.gmtime(now_s))
        self._number += 1
        path = self._folder / f"payloads-{stamp}-{self._number:04}-{self._instance}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o600)
        self._path, self._begun_s, self._size_bytes = path, now_s, 0

    def sweep(self) -> None:
        """Close a file that is too old, and delete files that are, or that are too many bytes; once
        a while, however often it is asked for.

        Raises:
            OSError: the folder cannot be read, or some file not be deleted; the others are.
        """
        now_s = self._now_s()
        if now_s - self._swept_s < min(SWEEP_S, self._max_file_s):
            return
        self._swept_s = now_s
        if self._descriptor >= 0 and self._is_over(now_s, 0):
            self.close()
        found = []
        for entry in os.scandir(self._folder):
            named = _NAME.fullmatch(entry.name)
            if named is None or (entry.path == os.fspath(self._path) and self._descriptor >= 0):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # another worker has deleted it
                continue
            if stat.S_ISREG(status.st_mode):
                found.append((status.st_mtime, status.st_size, entry.path))
        failure: OSError | None = None
        left_bytes = self._size_bytes + sum(size for _, size, _ in found)
        for written_s, size, path in sorted(found):
            if now_s - written_s > self._retention_s or left_bytes > self._max_total_bytes:
                try:
                    Path(path).unlink(missing_ok=True)
                except OSError as error:  # somebody else's: the others must go all the same
                    failure = error
                    continue
                self.deleted_files += 1
                left_bytes -= size
        if failure is not None:
            raise failure

    def close(self) -> None:
        """The next line begins a new file. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        self._size_bytes = 0
