"""Anchors: what the log's end was, written where the database's owner cannot write.

A file of JSON lines that is only ever added to. A line names the moment, how many entries there
were and the MAC of the last, and is signed itself:

    {"rtrelay_anchor":1,"time":"2026-11-27T08:30:00.000000Z","at_us":...,"seq":...,"mac":"...",
     "key":"...","proof":"..."}

Several processes may add to one file: each holds its lock (flock) from reading the last line to
having written the next, so that anchors never go back. Every line is on the disk (fsync) before its
writer is told so.

Blocking: called in a thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import orjson

from relay.governance.audit_chain import Anchor, AuditKey
from relay.governance.audit_verify import AnchorLine, AnchorSource

LOCK_WAIT_S: Final = 5.0
MAX_LINE_BYTES: Final = 4096
_TAIL_BYTES: Final = 1 << 16
"""How far back the last anchor is looked for."""
_MARK: Final = "rtrelay_anchor"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class AnchorError(Exception):
    """The file cannot be read or written; the message says why."""


def to_line(anchor: Anchor) -> bytes:
    """The anchor as it is written, without the line's end."""
    return orjson.dumps(
        {
            _MARK: 1,
            "time": moment(anchor.at_us),
            "at_us": anchor.at_us,
            "seq": anchor.seq,
            "mac": anchor.mac.hex(),
            "key": anchor.key_id,
            "proof": anchor.proof.hex(),
        }
    )


def from_line(line: bytes) -> Anchor | None:
    """The anchor of a line, None if it is none. What a syslog daemon writes before it is passed
    over."""
    begin = line.find(b'{"' + _MARK.encode())
    if begin < 0:
        return None
    try:
        fields = orjson.loads(line[begin:])
        anchor = Anchor(
            fields["at_us"],
            fields["seq"],
            bytes.fromhex(fields["mac"]),
            fields["key"],
            bytes.fromhex(fields["proof"]),
        )
        is_whole = fields[_MARK] == 1 and fields["time"] == moment(anchor.at_us)
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    is_typed = type(anchor.at_us) is int and type(anchor.seq) is int and type(anchor.key_id) is str
    if not (is_whole and is_typed and 0 < anchor.seq < 1 << 63):
        return None
    return anchor if len(anchor.mac) == len(anchor.proof) == 32 else None


def moment(at_us: int) -> str:
    """Microseconds since 1970 as ISO 8601 in UTC."""
    return (_EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read(path: Path) -> AnchorSource:
    """The file as it is now: lines added later are not read. They are read when asked for.

    Raises:
        AnchorError: it cannot be read.
    """
    try:
        size_bytes = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        raise AnchorError(f"{path}: {error.strerror}") from error
    return AnchorSource(path.name, _lines(path, size_bytes))


def _lines(path: Path, size_bytes: int) -> Iterator[AnchorLine]:
    with path.open("rb") as file:
        number = 0
        while file.tell() < size_bytes:
            line = file.readline(MAX_LINE_BYTES)
            number += 1
            is_cut = not line.endswith(b"\n")
            if is_cut and len(line) == MAX_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE_BYTES)
                yield AnchorLine(number, None)
            elif line.strip():
                anchor = from_line(line)
                yield AnchorLine(number, anchor, is_torn=is_cut and anchor is None)


class AnchorFile:
    """A file that anchors are added to.

    Args:
        path: made where it is not there, for its owner and group to read.
        keys: whose anchors count as ours, the present one first.
    """

    def __init__(self, path: Path, keys: Sequence[AuditKey]) -> None:
        self.path = path
        self._keys = tuple(keys)

    def add(self, decide: Callable[[Anchor | None], Anchor | None]) -> Anchor | None:
        """Add an anchor, on the disk when this returns.

        Args:
            decide: given the last anchor of the file, the one to add; None for none. Nobody else
                adds one meanwhile.

        Returns:
            What was added.

        Raises:
            AnchorError: it could not be; what `decide` raises.
        """
        with self._locked() as file:
            last, is_whole = self._last(file)
            anchor = decide(last)
            if anchor is not None:
                self._write(file, (b"" if is_whole else b"\n") + to_line(anchor) + b"\n")
        return anchor

    @contextmanager
    def _locked(self) -> Iterator[int]:
        try:
            is_new = not self.path.exists()
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            file = os.open(self.path, flags, 0o640)
        except OSError as error:
            raise AnchorError(f"{self.path}: {error.strerror}") from error
        try:
            if is_new:
                _sync_folder(self.path)
            self._lock(file)
            yield file
        finally:
            os.close(file)

    def _lock(self, file: int) -> None:
        until_s = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES) or time.monotonic() > until_s:
                    raise AnchorError(f"{self.path} cannot be locked: {error.strerror}") from error
                time.sleep(0.02)
            else:
                return

    def _last(self, file: int) -> tuple[Anchor | None, bool]:
        """The last anchor that is ours, or of a key that we do not have; and whether the file ends
        with a line's end. Lines that somebody else put there do not keep us from going on."""
        try:
            size_bytes = os.fstat(file).st_size
            tail = os.pread(file, _TAIL_BYTES, max(0, size_bytes - _TAIL_BYTES))
        except OSError as error:
            raise AnchorError(f"{self.path}: {error.strerror}") from error
        ours = {key.id: key for key in self._keys}
        for line in reversed(tail.split(b"\n")):
            anchor = from_line(line)
            if anchor is None:
                continue
            key = ours.get(anchor.key_id)
            if key is None or anchor.is_by(key):
                return anchor, tail.endswith(b"\n")
        return None, not tail or tail.endswith(b"\n")

    def _write(self, file: int, data: bytes) -> None:
        try:
            written = os.write(file, data)
            if written != len(data):  # a full disk; the torn line is seen by whoever reads
                raise AnchorError(f"{self.path}: only {written} of {len(data)} bytes were written")
            os.fsync(file)
        except OSError as error:
            raise AnchorError(f"{self.path}: {error.strerror}") from error


def _sync_folder(path: Path) -> None:
    folder = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
