"""Some processes at a time, each ended when its time is over, and what they said."""

from __future__ import annotations

import os
import resource
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

_MAX_MEMORY_BYTES: Final = 6 << 30
"""A mutant's number may want all the memory there is."""
OVERDUE: Final = "timeout"
BROKEN: Final = "broken"
"""It was not the mutant's fault: this code is wrong."""


@dataclass(slots=True)
class Work:
    """`start` begins it and returns the process and where it writes; it has `limit_s` in all."""

    key: Any
    start: Callable[[], tuple[int, int]]
    limit_s: float


@dataclass(slots=True)
class _Running:
    work: Work
    pid: int
    due: float
    said: bytes = b""


def all_of(works: Iterable[Work], at_once: int) -> Iterator[tuple[Any, str]]:
    """Keys, and what each said until it ended (`OVERDUE` if it did not end by itself)."""
    waiting = iter(works)
    running: dict[int, _Running] = {}
    with selectors.DefaultSelector() as readable:
        while True:
            while len(running) < at_once and (work := next(waiting, None)) is not None:
                pid, fd = work.start()
                running[fd] = _Running(work, pid, time.monotonic() + work.limit_s)
                readable.register(fd, selectors.EVENT_READ)
            if not running:
                return
            soonest = min(one.due for one in running.values())
            for ready, _ in readable.select(max(0.0, soonest - time.monotonic())):
                if read := os.read(ready.fd, 65536):
                    running[ready.fd].said += read
                    continue
                readable.unregister(ready.fd)
                ended = running.pop(ready.fd)
                os.close(ready.fd)
                _kill(ended.pid)
                yield ended.work.key, ended.said.decode()
            for fd in [fd for fd, one in running.items() if one.due <= time.monotonic()]:
                readable.unregister(fd)
                late = running.pop(fd)
                _kill(late.pid)
                os.close(fd)
                yield late.work.key, OVERDUE


def _kill(pid: int) -> None:
    """The process and all that it started (it leads a group of its own)."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.waitpid(pid, 0)


def forked(act: Callable[[], str], cpu_s: float) -> Callable[[], tuple[int, int]]:
    """What begins a copy of this process that does `act` and says what it returns.

    Nothing is said where it dies, which more than `cpu_s` of computing makes it do.
    """

    def start() -> tuple[int, int]:
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            os.close(writing)
            _lead(pid)
            return pid, reading
        try:
            _lead(0)
            os.close(reading)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(nowhere, fd)
            resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_s) + 1, int(cpu_s) + 2))
            os.write(writing, _said(act).encode())
        finally:
            os._exit(0)

    return start


def _said(act: Callable[[], str]) -> str:
    try:
        return act()
    except Exception as error:  # noqa: BLE001 - it must not look as if the mutant had done it
        return f"{BROKEN} {error!r}"


def _lead(pid: int) -> None:
    """Both sides do it: whoever comes first."""
    try:
        os.setpgid(pid, 0 if pid == 0 else pid)
    except (PermissionError, ProcessLookupError):
        pass
