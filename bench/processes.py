"""The processes of a run: emulator, relay, nginx, load; and what `/proc` says of them.

Every process is started by us, in a session of its own, and ended by its id. CPU is user plus
system time of all threads of a process, read as nanoseconds from `schedstat` (`stat` counts in
ticks of 10 ms, too coarse for short legs); threads that end inside a window are lost, which the
processes measured here do not do.
"""

from __future__ import annotations

import ctypes
import http.client
import itertools
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import yaml

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


class BenchError(Exception):
    """The bench cannot go on; the message says why."""


# --- /proc ----------------------------------------------------------------------------------


def cpu_by_thread_ns(pid: int) -> dict[str, int]:
    """CPU time so far of the threads of a process, by thread name (threads of one name added)."""
    found: dict[str, int] = {}
    directory = f"/proc/{pid}/task"
    for thread in os.listdir(directory):
        try:
            with open(f"{directory}/{thread}/comm") as file:
                name = re.sub(r"[-/_]?\d+$", "", file.read().strip())
            with open(f"{directory}/{thread}/schedstat") as file:
                found[name] = found.get(name, 0) + int(file.read().split()[0])
        except OSError:
            continue  # it has just ended
    return found


def cpu_ns(pids: Sequence[int]) -> int:
    """CPU time so far of all threads of some processes."""
    total = 0
    for pid in pids:
        directory = f"/proc/{pid}/task"
        for thread in os.listdir(directory):
            try:
                with open(f"{directory}/{thread}/schedstat") as file:
                    total += int(file.read().split()[0])
            except OSError:
                continue
    return total


def waited_ns(pids: Sequence[int]) -> int:
    """How long all threads of some processes were ready to run so far and had no core: what other
    work on the machine, or of each other, took from them."""
    total = 0
    for pid in pids:
        directory = f"/proc/{pid}/task"
        for thread in os.listdir(directory):
            try:
                with open(f"{directory}/{thread}/schedstat") as file:
                    total += int(file.read().split()[1])
            except OSError:
                continue
    return total


def rss_kib(pid: int) -> int:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    raise BenchError(f"/proc/{pid}/status has no VmRSS")


def tree(pid: int) -> list[int]:
    """A process and all that it started, and they."""
    return [pid, *(below for child in children(pid) for below in tree(child))]


def tree_rss_kib(pid: int) -> int:
    """Resident memory of a process and all below it; pages that several share count for each."""
    return sum(rss_kib(each) for each in tree(pid))


def most_files(pid: int) -> int:
    """How many descriptors a process may have now."""
    soft, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    return soft


def open_files(pid: int) -> int:
    """File descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def context_switches(pid: int) -> tuple[int, int]:
    """Voluntary and involuntary switches of all threads of a process so far."""
    voluntary = involuntary = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/status") as file:
                for line in file:
                    if line.startswith("voluntary_ctxt_switches:"):
                        voluntary += int(line.split()[1])
                    elif line.startswith("nonvoluntary_ctxt_switches:"):
                        involuntary += int(line.split()[1])
        except OSError:
            continue
    return voluntary, involuntary


def pin(pids: Sequence[int], cores: Collection[int]) -> None:
    """Keep all threads of some processes, and those that they start later, on these cores."""
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            try:
                os.sched_setaffinity(int(thread), cores)
            except ProcessLookupError:
                continue


def children(pid: int) -> list[int]:
    """Process ids of the direct children."""
    found: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += [int(child) for child in file.read().split()]
        except OSError:
            continue
    return found


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- processes ------------------------------------------------------------------------------


_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """In the child: be terminated when the bench dies, however it dies."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Process:
    """A child with a line-wise standard output; its standard error goes to a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        *,
        with_stdin: bool = False,
        within: Sequence[str] = (),
    ) -> None:
        """
        Args:
            within: a command that becomes `command` by exec, such as `ip netns exec NAME`.
        """
        self.name = name
        self.error_file = directory / f"{name}.err"
        with self.error_file.open("wb") as errors:
            self._popen = subprocess.Popen(
                [*within, *command],
                stdin=subprocess.PIPE if with_stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=Path(__file__).resolve().parent.parent,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._buffer = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def read_line(self, timeout_s: float) -> str:
        """The next line of its output.

        Raises:
            BenchError: the process ended, or said nothing in time.
        """
        output = self._pipe(self._popen.stdout)
        deadline_s = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([output], [], [], max(0.0, deadline_s - time.monotonic()))
            if not ready:
                raise BenchError(f"{self.name} said nothing for {timeout_s:g} s; {self._last()}")
            data = os.read(output.fileno(), 1 << 20)
            if not data:
                raise BenchError(f"{self.name} ended; {self._last()}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def write_line(self, line: str) -> None:
        """Send a line to its standard input."""
        pipe = self._pipe(self._popen.stdin)
        pipe.write(line.encode() + b"\n")
        pipe.flush()

    def _pipe(self, pipe: IO[bytes] | None) -> IO[bytes]:
        if pipe is None:
            raise BenchError(f"{self.name} has no such pipe")
        return pipe

    def _last(self) -> str:
        text = self.error_file.read_text(errors="replace").strip()
        return f"its last words: {text[-600:]}" if text else "it left no message"

    def stop(self) -> None:
        """End it and wait. Idempotent."""
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()

    def watched_pids(self) -> list[int]:
        """The processes whose CPU counts: this one and its direct children."""
        return [self.pid, *children(self.pid)]


class Provider(Protocol):
    """What others are told of a provider: TLS on loopback."""

    tls_port: int
    ca_file: str

    @property
    def base_url(self) -> str:
        """`https://127.0.0.1:port`."""
        ...


class EmulatorProcess(Process):
    """The scripted provider; always TLS and HTTP/2 towards relay and direct clients."""

    def __init__(
        self, directory: Path, name: str = "emulator", *, within: Sequence[str] = ()
    ) -> None:
        certificates = directory / f"{name}-certificates"
        command = [sys.executable, "-m", "relay.emulator", "--exit-with-parent", "--port", "0"]
        command += ["--plain-port", "0"]
        super().__init__(
            name,
            [*command, "--cert-dir", str(certificates)],
            directory,
            with_stdin=True,
            within=within,
        )
        ready = json.loads(self.read_line(START_TIMEOUT_S))
        self.tls_port = int(ready["tls_port"])
        self.plain_port = int(ready["plain_port"])
        self.ca_file = str(ready["ca_file"])

    @property
    def base_url(self) -> str:
        """`https://127.0.0.1:port`."""
        return f"https://127.0.0.1:{self.tls_port}"


class RelayProcess(Process):
    """`relay serve` with the emulator as its providers.

    Args:
        rows: names of providers, all of them the emulator, or what each has beside the usual keys.
        models: aliases.
        sections: further ones of the configuration.
        server: more of the section of this name.
        workers: with several, it is up when all of them are.
    """

    def __init__(
        self,
        emulator: Provider,
        directory: Path,
        name: str = "relay",
        *,
        rows: Mapping[str, Mapping[str, Any]] | Sequence[str] = ("lab",),
        models: Mapping[str, Any] | None = None,
        tls: Mapping[str, Any] | None = None,
        sections: Mapping[str, Any] | None = None,
        server: Mapping[str, Any] | None = None,
        within: Sequence[str] = (),
        workers: int = 1,
    ) -> None:
        more = rows if isinstance(rows, Mapping) else {row: {} for row in rows}
        provider = {
            "wire": "openai_chat",
            "ca_file": emulator.ca_file,
            "auth": "none",
            "warm_connections": 2,
            "probe_path": "/v1/models",
        }
        document: dict[str, Any] = {
            "models": dict(models or {}),
            "server": {
                # Workers need ports that they can share.
                name: {"address": f"127.0.0.1:{free_port() if workers > 1 else 0}"}
                for name in ("grpc", "http", "admin")
            },
            "providers": {
                row: {
                    **provider,
                    # Two rows each by a name of its own, so that they have their own connections.
                    "base_url": f"https://{host}:{emulator.tls_port}/v1",
                    **more[row],
                }
                for row, host in zip(more, itertools.cycle(("127.0.0.1", "localhost")))
            },
        }
        if tls is not None:
            document["tls"] = dict(tls)
        document["server"] |= server or {}
        document |= sections or {}
        config = directory / f"{name}.yaml"
        config.write_text(yaml.safe_dump(document))
        command = [sys.executable, "-m", "relay.cli", "serve", "-c", str(config)]
        super().__init__(
            name,
            [*command, *(("--workers", str(workers)) if workers > 1 else ())],
            directory,
            within=within,
        )
        self.grpc_port = self.http_port = self.admin_port = 0
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not (self.grpc_port and self.http_port and self.admin_port):
            line = self.read_line(max(0.1, deadline_s - time.monotonic()))
            if found := re.search(r"gRPC\s+\S+:(\d+)", line):
                self.grpc_port = int(found[1])
            elif found := re.search(r"HTTP\s+https?://[^:/]+:(\d+)", line):
                self.http_port = int(found[1])
            elif found := re.search(r"admin\s+https?://[^:/]+:(\d+)", line):
                self.admin_port = int(found[1])
        while workers > 1 and not self.is_ready():
            if time.monotonic() > deadline_s:
                self.stop()
                raise BenchError(f"{name} did not get ready; {self._last()}")
            time.sleep(0.02)

    def is_ready(self) -> bool:
        """Whether `/readyz` says so."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=5.0)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        finally:
            connection.close()

    def state(self) -> dict[str, Any]:
        """Its `/admin/state`."""
        url = f"http://127.0.0.1:{self.admin_port}/admin/state"
        with urllib.request.urlopen(url, timeout=10.0) as answer:
            value: dict[str, Any] = json.load(answer)
            return value


_NGINX_CONF = """\
daemon off;
pid {directory}/nginx.pid;
worker_processes 1;
{user}
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {directory}/nginx-body;
  proxy_temp_path {directory}/nginx-proxy;
  fastcgi_temp_path {directory}/nginx-fastcgi;
  uwsgi_temp_path {directory}/nginx-uwsgi;
  scgi_temp_path {directory}/nginx-scgi;
  keepalive_requests 1000000;
  tcp_nodelay on;
  upstream emulator {{
    server 127.0.0.1:{upstream_port};
    keepalive 256;
    keepalive_requests 1000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass https://emulator;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 300s;
      proxy_ssl_protocols TLSv1.3;
      proxy_ssl_name localhost;
      proxy_ssl_trusted_certificate {ca_file};
      proxy_ssl_verify on;
    }}
  }}
}}
"""


def nginx_missing() -> str:
    """Why nginx cannot be measured; empty if it can."""
    return "" if shutil.which("nginx") or Path("/usr/sbin/nginx").exists() else "no nginx here"


def nginx_version() -> str:
    """Such as `1.22.1`; empty without nginx."""
    if nginx_missing():
        return ""
    done = subprocess.run([_nginx(), "-v"], capture_output=True, text=True, check=False)
    return done.stderr.strip().rpartition("/")[2]


def _nginx() -> str:
    return shutil.which("nginx") or "/usr/sbin/nginx"


def nginx_config(directory: Path, port: int, emulator: Provider) -> str:
    """A plain hop: HTTP/1.1 to TLS with kept connections, no buffering, no features."""
    return _NGINX_CONF.format(
        directory=directory,
        user="user root;" if os.geteuid() == 0 else "",
        port=port,
        upstream_port=emulator.tls_port,
        ca_file=emulator.ca_file,
    )


def nginx_command(directory: Path, config: Path) -> list[str]:
    """Runs it in the foreground."""
    return [_nginx(), "-e", "stderr", "-p", str(directory), "-c", str(config)]


class NginxProcess(Process):
    """nginx as a plain hop, see `nginx_config`."""

    def __init__(self, emulator: EmulatorProcess, directory: Path) -> None:
        self.port = free_port()
        config = directory / "nginx.conf"
        config.write_text(nginx_config(directory, self.port, emulator))
        super().__init__("nginx", nginx_command(directory, config), directory)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                break
            except OSError:
                if time.monotonic() > deadline_s or self._popen.poll() is not None:
                    self.stop()
                    raise BenchError(f"nginx did not start; {self._last()}") from None
                time.sleep(0.02)


class LoadProcess(Process):
    """The load generator (`bench.load`): one JSON request a line, one JSON answer a line."""

    def __init__(self, directory: Path, name: str = "load") -> None:
        super().__init__(name, [sys.executable, "-m", "bench.load"], directory, with_stdin=True)

    def ask(self, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Have it do something.

        Raises:
            BenchError: it failed, or gave no answer in time.
        """
        self.write_line(json.dumps(request))
        answer: dict[str, Any] = json.loads(self.read_line(timeout_s))
        if "failure" in answer:
            raise BenchError(f"load: {answer['failure']}; {self._last()}")
        return answer
