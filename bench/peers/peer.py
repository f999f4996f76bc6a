"""What every peer has in common: an environment, a process tree, and a way to be asked."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import (
    START_TIMEOUT_S,
    STOP_TIMEOUT_S,
    Provider,
    children,
    die_with_parent,
    free_port,
    rss_kib,
)

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("BENCH_PEERS_DIR") or ROOT / ".peers").resolve()
"""Environments of all peers, one folder each; not in git. The variable lets several checkouts share
them; they cannot be moved."""
FILES = Path(__file__).resolve().parent

MODEL = "emu:bench"
"""The one model asked for; the emulator is told before each load how it behaves."""
CATALOGUED_MODEL = "gpt-4o"
"""The same for peers that only pass on names which they know."""


class PeerError(Exception):
    """A peer cannot be installed or started; the message says why."""


@dataclass(frozen=True, slots=True)
class Client:
    """How a client asks a peer: OpenAI's chat over SSE, HTTP/1.1 without TLS."""

    base_url: str
    """Without `/chat/completions`."""
    model: str = MODEL
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer is started."""

    emulator: Provider
    directory: Path
    """Its own, empty, gone after the run."""
    port: int = field(default_factory=free_port)


class Peer(ABC):
    """One gateway. A subclass sets the fields and says how it is started."""

    name: str
    """In keys and on the command line."""
    title: str
    """In tables."""
    version: str
    written_in: str
    upstream: str
    """How it speaks to the provider: `TLS, HTTP/2` or `TLS, HTTP/1.1`."""
    settings: str
    """What is not as it comes, in one line."""

    @property
    def home(self) -> Path:
        """Its environment."""
        return HOME / self.name

    @abstractmethod
    def install(self) -> None:
        """Install what the locks name; nothing to do where that was done.

        Raises:
            PeerError: it cannot be had here.
        """

    @abstractmethod
    def start(self, place: Place) -> tuple[PeerProcess, Client]:
        """Start it and wait until its port is open.

        Raises:
            PeerError: it is not installed or does not start.
        """


class PeerProcess:
    """A peer's process tree; what it prints goes to a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        place: Place,
        *,
        environment: Mapping[str, str],
        timeout_s: float = START_TIMEOUT_S,
        ready_file: Path | None = None,
    ) -> None:
        """Start it, and wait until something listens on the place's port, or until there is
        `ready_file`.

        Args:
            environment: beside what any process needs; nothing else is inherited, so that no proxy,
                key or certificate of the machine changes what is measured.

        Raises:
            PeerError: it ended, or did not listen in time; it has been stopped then.
        """
        self.name = name
        self._log = place.directory / "output.txt"
        inherited = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        with self._log.open("wb") as output:
            try:
                self._popen = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=place.directory,
                    env={**inherited, "HOME": str(place.directory), **environment},
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
            except OSError as error:
                raise PeerError(f"{command[0]}: {error.strerror}") from error
        try:
            self._await_ready(place.port, ready_file, timeout_s)
        except BaseException:
            self.stop()
            raise

    def _await_ready(self, port: int, ready_file: Path | None, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not (_listens(port) if ready_file is None else ready_file.exists()):
            if self._popen.poll() is not None:
                raise PeerError(f"ended with {self._popen.returncode}; {self.last_words()}")
            if time.monotonic() > deadline_s:
                raise PeerError(f"was not ready within {timeout_s:g} s; {self.last_words()}")
            time.sleep(0.05)

    def pids(self) -> list[int]:
        """The process and all its descendants."""
        found = [self._popen.pid]
        for pid in found:
            try:
                found += children(pid)
            except OSError:
                continue
        return found

    def rss_kib(self) -> int:
        """Resident memory of the tree; pages that two processes share count twice."""
        return sum(rss_kib(pid) for pid in self.pids())

    def last_words(self) -> str:
        """The end of what it printed."""
        text = self._log.read_text(errors="replace").strip()
        return f"its last words: {text[-400:]}" if text else "it left no message"

    def stop(self) -> None:
        """End the tree and wait. Idempotent."""
        if self._popen.poll() is not None:
            return
        self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # The group is ours alone: the process was started in a session of its own.
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def install_python(name: str) -> None:
    """A venv of a peer's own with what `requirements/NAME.lock` pins.

    Raises:
        PeerError: pip failed.
    """
    home, lock = HOME / name, FILES / "requirements" / f"{name}.lock"
    if is_installed(home, lock):
        return
    run([sys.executable, "-m", "venv", "--clear", str(home)])
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q"]
    run([*pip, "--disable-pip-version-check", "--require-hashes", "-r", str(lock)])
    mark_installed(home, lock)


def is_installed(home: Path, lock: Path) -> bool:
    """Whether this very lock was installed there."""
    mark = home / ".installed"
    return mark.is_file() and mark.read_bytes() == lock.read_bytes()


def mark_installed(home: Path, lock: Path) -> None:
    """Remember that this lock is installed there."""
    shutil.copyfile(lock, home / ".installed")


def run(command: Sequence[str], *, cwd: Path | None = None) -> None:
    """Run an installer.

    Raises:
        PeerError: it failed.
    """
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PeerError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        text = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise PeerError(f"{Path(command[0]).name} failed: {(text or ['no message'])[-1][:300]}")


def installed(home: Path, path: str) -> str:
    """A program of an environment.

    Raises:
        PeerError: it is not there.
    """
    program = home / path
    if not program.exists():
        raise PeerError("not installed here (python -m bench.peers install)")
    return str(program)
