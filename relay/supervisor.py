"""Worker processes: start, replace, drain, reload.

The supervisor serves no requests: it spawns N `relay serve` processes that share the ports by
SO_REUSEPORT, starts a new one for one that died (at once, and not faster than one a second each),
passes SIGHUP on, and on SIGTERM lets all of them drain. What cannot be shared is the first
worker's, the Unix socket, or its own, the admin listener: it knows each worker's state by asking it
over a private socket (`relay.workers`), and so hears too when one is stuck, which it then replaces,
saying what that worker was at. A place whose worker cannot start, time after time, stays empty;
when all of them do, there is nothing left to supervise. A worker does not outlive the supervisor:
on Linux the kernel sends SIGTERM when it is gone, however it went; elsewhere the worker sees the
end of its socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from relay.governance.tenant import SALT_VARIABLE, new_salt
from relay.workers.aggregate import aggregate
from relay.workers.link import PIPE_VARIABLE, STACKS_VARIABLE
from relay.workers.post import NoAnswer, Post
from relay.workers.watch import LOOK_S, Watch

_log = structlog.get_logger("relay.supervisor")

RESTART_DELAY_S = 1.0
"""From one start at a place to the next: who has served for longer is replaced at once."""
MAX_FAILED_STARTS = 5
"""In a row, of one place: what is in the way (a port, a file) is there to stay."""
FAILED_START_STATUS = 78
"""Exit status of a worker that could not start (EX_CONFIG of sysexits.h)."""
WORKER_VARIABLE = "RTRELAY_WORKER"
"""Set in a worker's environment: its number, from 0."""
WORKERS_VARIABLE = "RTRELAY_WORKERS"
"""Likewise: how many there are."""
ASK_TIMEOUT_S = 1.0
"""For a worker's state; the page is shown without those that are later."""
STACKS_WAIT_S = 0.2
"""For a stuck worker to write what it is at."""


class Supervisor:
    """Runs until stopped."""

    def __init__(self, path: Path | None, workers: int, *, hang_limit_s: float = 10.0) -> None:
        """
        Args:
            path: configuration file of every worker; None when each finds provider keys in the
                environment.
            hang_limit_s: a worker that is silent for so long is replaced; 0: never.
        """
        self._arguments = () if path is None else ("-c", str(path))
        self._count = workers
        self._hang_limit_s = hang_limit_s
        self._salt = os.environ.get(SALT_VARIABLE) or new_salt()
        """A tenant has one name, whichever worker it comes to."""
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._posts: dict[int, Post] = {}
        self._starts = dict.fromkeys(range(workers), 0)
        self._stopping = asyncio.Event()
        self._began_s = time.monotonic()
        self.on_hint: Callable[[int, dict[str, Any]], None] | None = None
        """Is given each worker's hints, with its number."""
        self.on_reload: Callable[[], None] | None = None
        """Is called on SIGHUP, beside the workers."""
        self.on_ready: Callable[[], None] | None = None
        """Is called once, when the first worker serves."""
        self.on_stop: Callable[[], None] | None = None
        """Is called when the workers are told to drain."""

    async def run(self) -> bool:
        """Serve until SIGTERM or SIGINT and until every worker has ended, which is True; False when
        none of them can start any more. The signals stay ours.

        Cancelled: the workers are told to drain and are not waited for.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        try:
            async with asyncio.TaskGroup() as tasks:
                for index in range(self._count):
                    tasks.create_task(self._keep(index))
        finally:
            self._forward(signal.SIGTERM)  # to those that are left if it ends in any other way
        return self._stopping.is_set()

    # --- one worker's place -----------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        """A process in it for as long as we serve, and one can start."""
        failed_starts = 0
        while not self._stopping.is_set():
            started_s = time.monotonic()
            try:
                post = await Post.open(number, Watch(started_s, self._hang_limit_s), time.monotonic)
            except OSError as error:  # the machine is short of something; the others go on
                _log.error("worker_not_started", worker=number, why=error.strerror)
                await self._pause(RESTART_DELAY_S)
                continue
            try:
                try:
                    process = await self._spawn(number, post)
                except OSError as error:
                    _log.error("worker_not_started", worker=number, why=error.strerror)
                    await self._pause(RESTART_DELAY_S)
                    continue
                status = await self._served(number, process, post)
            finally:
                self._posts.pop(number, None)
                await post.aclose()
            if self._stopping.is_set():
                return
            _log.error("worker_died", worker=number, pid=process.pid, status=status)
            failed_starts = failed_starts + 1 if status == FAILED_START_STATUS else 0
            if failed_starts == MAX_FAILED_STARTS:
                _log.error("worker_given_up", worker=number, failed_starts=failed_starts)
                return
            await self._pause(started_s + RESTART_DELAY_S - time.monotonic())

    async def _served(self, number: int, process: asyncio.subprocess.Process, post: Post) -> int:
        """Watch over a process to its end; its exit status."""
        post.given(process.pid)
        post.on_hint = lambda hint: self._hinted(number, hint)
        post.on_status = self._changed
        self._processes[number] = process
        self._posts[number] = post
        self._starts[number] += 1
        _log.info("worker_started", worker=number, pid=process.pid)
        if self._stopping.is_set():  # while it was being made, when nobody could tell it
            _send(process, signal.SIGTERM)
        ended = asyncio.create_task(process.wait())
        try:
            while True:
                await asyncio.wait({ended}, timeout=LOOK_S)
                if ended.done():
                    return ended.result()
                if post.watch.is_stuck(time.monotonic()):
                    await self._end_stuck(number, process, post)
        finally:
            del self._processes[number]
            ended.cancel()

    @staticmethod
    async def _end_stuck(number: int, process: asyncio.subprocess.Process, post: Post) -> None:
        silent_s = round(post.watch.silent_s(time.monotonic()), 3)
        if post.watch.has_beaten:  # else it may not know the signal yet, and would die of it
            _send(process, signal.SIGUSR1)
            await asyncio.sleep(STACKS_WAIT_S)
        _log.error(
            "worker_stuck",
            worker=number,
            pid=process.pid,
            silent_s=silent_s,
            stacks=post.stacks().splitlines(),
        )
        _send(process, signal.SIGKILL)

    async def _spawn(self, number: int, post: Post) -> asyncio.subprocess.Process:
        pipe, stacks = post.descriptors
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "relay.cli",
            "serve",
            *self._arguments,
            env={
                **os.environ,
                SALT_VARIABLE: self._salt,
                WORKER_VARIABLE: str(number),
                WORKERS_VARIABLE: str(self._count),
                PIPE_VARIABLE: str(pipe),
                STACKS_VARIABLE: str(stacks),
            },
            pass_fds=(pipe, stacks),
            preexec_fn=_as_worker_of(os.getpid()),
        )

    async def _pause(self, delay_s: float) -> None:
        """Before the next try; a stop ends it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), max(0.0, delay_s))

    # --- for the admin listener -------------------------------------------------------------

    @property
    def _ready(self) -> int:
        return sum(post.status == "ready" for post in self._posts.values())

    def readiness(self) -> tuple[bool, Mapping[str, Any]]:
        """Whether new requests may be sent here, and how many workers take them. One that serves is
        enough: those that do not serve yet have no listener that anybody is connected to."""
        status = "ready" if self._ready else "starting"
        if self._stopping.is_set():
            status = "draining"
        return status == "ready", {"status": status, "workers": self._count, "ready": self._ready}

    @property
    def count(self) -> int:
        """Workers that there should be."""
        return self._count

    @property
    def restarts(self) -> int:
        """Workers that were started in another's place."""
        return sum(max(0, starts - 1) for starts in self._starts.values())

    async def ask(
        self, what: str, *given: Any, of: Callable[[int], bool] = lambda _: True
    ) -> dict[int, Any]:
        """Every worker's answer to a question, by number; a `NoAnswer` from those that are stuck,
        gone or just starting. Returns within `ASK_TIMEOUT_S`.

        Args:
            given: JSON data that goes along.
            of: the numbers of those that are asked.
        """
        posts = {number: post for number, post in self._posts.items() if of(number)}
        answers = await asyncio.gather(
            *(post.ask(what, ASK_TIMEOUT_S, *given) for post in posts.values()),
            return_exceptions=True,
        )
        return dict(zip(posts, answers, strict=True))

    def places(self) -> dict[int, dict[str, Any]]:
        """What is known of each worker without asking it, by number."""
        now_s = time.monotonic()
        rows: dict[int, dict[str, Any]] = {}
        for number in range(self._count):
            post = self._posts.get(number)
            rows[number] = row = {
                "status": "gone" if post is None else post.status,
                "restarts": max(0, self._starts[number] - 1),
            }
            if post is not None:
                row["pid"] = post.pid
                row["silent_s"] = round(post.watch.silent_s(now_s), 3)
        return rows

    async def state(self) -> dict[str, Any]:
        """What `/admin/state` shows: sums over the workers, and each one's own by its number."""
        answers = await self.ask("state")
        now_s = time.monotonic()
        workers: dict[str, Any] = {}
        for number, row in self.places().items():
            answer = answers.get(number)
            if isinstance(answer, dict):
                row["state"] = answer
            elif isinstance(answer, NoAnswer):
                row["why"] = str(answer)
            workers[str(number)] = row
        return {
            "uptime_s": round(now_s - self._began_s, 3),
            "draining": self._stopping.is_set(),
            **aggregate(row for row in answers.values() if isinstance(row, dict)),
            "workers": workers,
        }

    def _changed(self) -> None:
        on_ready = self.on_ready
        if on_ready is not None and self._ready:
            self.on_ready = None
            on_ready()

    # --- hints ------------------------------------------------------------------------------

    def hint(self, hint: dict[str, Any], *, but: int | None = None) -> None:
        """Pass a hint to every worker but one; never waits."""
        for number, post in self._posts.items():
            if number != but:
                post.hint(hint)

    def _hinted(self, number: int, hint: dict[str, Any]) -> None:
        self.hint(hint, but=number)
        if self.on_hint is not None:
            self.on_hint(number, hint)

    # --- signals ----------------------------------------------------------------------------

    def _stop(self) -> None:
        if self.on_stop is not None and not self._stopping.is_set():
            self.on_stop()
        self._stopping.set()
        self._forward(signal.SIGTERM)

    def _reload(self) -> None:
        self._forward(signal.SIGHUP)
        if self.on_reload is not None:
            self.on_reload()

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
