"""Worker processes: start, replace, drain, reload.

The supervisor does no work of its own: it spawns N `relay serve` processes that share the ports by
SO_REUSEPORT, starts a new one for one that died (not faster than one a second each), passes SIGHUP
on, and on SIGTERM lets all of them drain. What cannot be shared, the admin listener and the Unix
socket, is the first worker's. A place whose worker cannot start, time after time, stays empty; when
all of them do, there is nothing left to supervise. A worker does not outlive the supervisor: on
Linux the kernel sends SIGTERM when it is gone, however it went.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from relay.governance.tenant import SALT_VARIABLE, new_salt

_log = structlog.get_logger("relay.supervisor")

RESTART_DELAY_S = 1.0
MAX_FAILED_STARTS = 5
"""In a row, of one place: what is in the way (a port, a file) is there to stay."""
FAILED_START_STATUS = 78
"""Exit status of a worker that could not start (EX_CONFIG of sysexits.h)."""
WORKER_VARIABLE = "RTRELAY_WORKER"
"""Set in a worker's environment: its number, from 0."""


class Supervisor:
    """Runs until stopped."""

    def __init__(self, path: Path | None, workers: int) -> None:
        """
        Args:
            path: configuration file of every worker; None when each finds provider keys in the
                environment.
        """
        self._arguments = () if path is None else ("-c", str(path))
        self._count = workers
        self._salt = os.environ.get(SALT_VARIABLE) or new_salt()
        """A tenant has one name, whichever worker it comes to."""
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> bool:
        """Serve until SIGTERM or SIGINT and until every worker has ended, which is True; False when
        none of them can start any more. The signals stay ours.

        Cancelled: the workers are told to drain and are not waited for.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._forward, signal.SIGHUP)
        try:
            async with asyncio.TaskGroup() as tasks:
                for index in range(self._count):
                    tasks.create_task(self._keep(index))
        finally:
            self._forward(signal.SIGTERM)  # to those that are left if it ends in any other way
        return self._stopping.is_set()

    async def _keep(self, number: int) -> None:
        """One worker's place: a process in it for as long as we serve, and one can start."""
        failed_starts = 0
        while not self._stopping.is_set():
            try:
                process = await self._spawn(number)
            except OSError as error:  # the machine is short of something; the others go on
                _log.error("worker_not_started", worker=number, why=error.strerror)
                await self._pause()
                continue
            self._processes[number] = process
            _log.info("worker_started", worker=number, pid=process.pid)
            if self._stopping.is_set():  # while it was being made, when nobody could tell it
                _send(process, signal.SIGTERM)
            status = await process.wait()
            del self._processes[number]
            if not self._stopping.is_set():
                _log.error("worker_died", worker=number, pid=process.pid, status=status)
                failed_starts = failed_starts + 1 if status == FAILED_START_STATUS else 0
                if failed_starts == MAX_FAILED_STARTS:
                    _log.error("worker_given_up", worker=number, failed_starts=failed_starts)
                    return
                await self._pause()

    async def _spawn(self, number: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "relay.cli",
            "serve",
            *self._arguments,
            env={**os.environ, SALT_VARIABLE: self._salt, WORKER_VARIABLE: str(number)},
            preexec_fn=_as_worker_of(os.getpid()),
        )

    async def _pause(self) -> None:
        """Before the next try; a stop ends it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), RESTART_DELAY_S)

    def _stop(self) -> None:
        self._stopping.set()
        self._forward(signal.SIGTERM)

    def _forward(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            _send(process, number)


_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _as_worker_of(supervisor: int) -> Callable[[], None]:
    """What a worker does between fork and exec; both settings outlive the latter."""

    def prepare() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # forwarded at any time, see `relay.cli`
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != supervisor:  # it went before that, and nobody will tell
                os._exit(1)

    return prepare


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
