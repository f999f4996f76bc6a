"""A database server as a process of ours: started, stopped, killed, paused, and gone with us.

The kernel kills it when the thread that started it ends (PR_SET_PDEATHSIG), so a test run that is
killed leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class ServerProcess:
    """One server on a loopback port that stays its own over restarts.

    Args:
        command: the program and its arguments.
        is_ready: whether it answers; asked until it does.
        user: whose process it is; None for ours.
        stop_signal: ends it in good order.
        death_signal: ends it when we are gone.
        log: takes standard output and error.
    """

    def __init__(
        self,
        command: Sequence[str],
        is_ready: Callable[[], bool],
        *,
        log: Path,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self._command = list(command)
        self._is_ready = is_ready
        self._log = log
        self._user = user
        self._stop_signal = stop_signal
        self._death_signal = death_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether there is a process; it may be paused."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it did not; the end of its log is in the message.
        """
        death_signal = self._death_signal

        def end_with_parent() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, death_signal)

        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        until_s = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > until_s:
                told = self._log.read_text(errors="replace")[-2000:]
                self.kill()
                raise RuntimeError(f"{Path(self._command[0]).name} did not start: {told}")
            time.sleep(0.01)  # another process: there is nothing to await

    def stop(self) -> None:
        """End it in good order, and kill it if it does not go. Idempotent."""
        if self._process is None:
            return
        self.resume()
        self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """SIGKILL to it and its children, as if the machine had gone. Idempotent."""
        if self._process is None:
            return
        for pid in self._pids():
            _signal(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop and start on the same data and port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP to it and its children: connections stay open, nobody answers."""
        for pid in self._pids():
            _signal(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        for pid in self._pids():
            _signal(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        """Its own first: whoever is stopped first starts no more children."""
        if self._process is None or self._process.poll() is not None:
            return []
        found = [self._process.pid]
        for pid in found:
            try:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            except OSError:  # gone in between
                continue
            found += [int(child) for child in children.split()]
        return found

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def own_folder(kind: str) -> Path:
    """A new folder of this process; those of processes that were killed are removed first.

    Not one of pytest's, which another user may not enter.
    """
    prefix = f"rtrelay-{kind}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}pid*-*"):
        pid = left.name.removeprefix(prefix).partition("-")[0].removeprefix("pid")
        if not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}pid{os.getpid()}-"))


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
