"""Worker processes: start, replace, drain, reload.

The supervisor does no work of its own: it spawns N `relay serve` processes that share the ports by
SO_REUSEPORT, starts a new one for one that died (not faster than one a second each), passes SIGHUP
on, and on SIGTERM lets all of them drain. A worker does not outlive it: on Linux the kernel sends
SIGTERM when the supervisor is gone, however it went.
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

from relay.config import ConfigError, load

_log = structlog.get_logger("relay.supervisor")

RESTART_DELAY_S = 1.0
WORKER_VARIABLE = "RTRELAY_WORKER"
"""Set in a worker's environment: its number, from 0."""


class Supervisor:
    """Runs until stopped."""

    def __init__(self, path: Path, workers: int) -> None:
        self._path = path
        self._count = workers
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT and until every worker has ended; returns the exit status.

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
        return 0

    async def _keep(self, number: int) -> None:
        """One worker's place: a process in it for as long as we serve."""
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
                await self._pause()

    async def _spawn(self, number: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "relay.cli",
            "serve",
            "-c",
            str(self._path),
            env={**os.environ, WORKER_VARIABLE: str(number)},
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


def run_supervised(path: Path | None, workers: int) -> int:
    """Several workers on one configuration file; returns the exit status.

    Raises:
        ConfigError: no file, a wrong one, or a port of 0 (workers could not share it).
    """
    if path is None:
        raise ConfigError("--workers needs a configuration file (-c)")
    server = load(path).server
    if 0 in (server.grpc.port, server.http.port):
        raise ConfigError("--workers needs fixed ports")
    return asyncio.run(Supervisor(path, workers).run())
