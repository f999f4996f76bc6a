"""A provider that is far away: a round trip of so many milliseconds to its port, and to no other.

Where it is allowed (root, Linux with `netem`, iproute2) that is the kernel's work: a network
namespace of our own in which everything runs, and on its loopback device a queue that holds packets
from and to the provider's port for half a round trip. Elsewhere a proxy in user space delays bytes
(`delaying_proxy` says what it leaves out). A namespace is removed on leaving, and by the next run
where a bench was killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.processes import START_TIMEOUT_S, EmulatorProcess, Process

_PREFIX = "rtrelay-bench-"
"""Of a namespace's name; the bench's process id follows."""
_MTU_BYTES = 1500
"""Loopback's own 64 KiB would let a first flight hold what no real one does."""


def why_no_netem() -> str:
    """Why namespaces with a delay cannot be made here; empty where they can."""
    if os.geteuid() != 0:
        return "not root"
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            return f"no {tool} here (apt install iproute2)"
    name = f"{_PREFIX}{os.getpid()}"
    try:
        _run("ip", "netns", "add", name)
    except OSError as error:
        return f"no network namespaces: {error}"
    try:
        _run("tc", "-n", name, "qdisc", "add", "dev", "lo", "root", *_delay(1))
    except OSError as error:
        return f"no netem: {error}"
    finally:
        _run("ip", "netns", "del", name)
    return ""


def _remove_left() -> None:
    """Namespaces of benches that are gone."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        name = line.split()[0]
        owner = name.removeprefix(_PREFIX)
        if name != owner and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            _run("ip", "netns", "del", name)


def _delay(delay_ms: float) -> Sequence[str]:
    """The queue that holds packets so long, whatever their number."""
    return ("netem", "delay", f"{delay_ms:g}ms", "limit", "10000")


def _run(*command: str) -> None:
    """
    Raises:
        OSError: it failed; its own words are the message.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10.0)
    if done.returncode:
        raise OSError(done.stderr.strip().replace("\n", " ") or f"status {done.returncode}")


class FarProvider:
    """`with FarProvider(directory, rtt_ms) as far`; everything is ended on leaving."""

    def __init__(self, directory: Path, rtt_ms: float, *, without_netem: str | None = None) -> None:
        """
        Args:
            without_netem: use the proxy, and why; None to find out.
        """
        self._directory = directory
        self._rtt_ms = rtt_ms
        self.why_proxy = why_no_netem() if without_netem is None else without_netem
        """Why bytes are delayed in user space; empty where packets are, by the kernel."""
        self._namespace = "" if self.why_proxy else f"{_PREFIX}{os.getpid()}"
        self.within: Sequence[str] = ()
        """What a process has to be started with to see the provider as far away."""
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        try:
            if self._namespace:
                _remove_left()
                _run("ip", "netns", "add", self._namespace)
                device = ("ip", "-n", self._namespace, "link", "set", "dev", "lo")
                _run(*device, "mtu", str(_MTU_BYTES))
                _run(*device, "up")
                self.within = ("ip", "netns", "exec", self._namespace)
            self.emulator = EmulatorProcess(self._directory, "emulator-far", within=self.within)
            self._processes.append(self.emulator)
            self.port = self.emulator.tls_port
            if self._namespace:
                self._delay_packets()
            else:
                self._start_proxy()
        except BaseException:
            self.close()
            raise
        return self

    def _delay_packets(self) -> None:
        """What belongs to the port goes to a class of its own, whose queue holds it."""

        def tc(what: str, *rest: str) -> None:
            _run("tc", "-n", self._namespace, what, "add", "dev", "lo", *rest)

        tc("qdisc", "root", "handle", "1:", "htb", "default", "1")
        for number in ("1", "3"):
            tc("class", "parent", "1:", "classid", f"1:{number}", "htb", "rate", "20gbit")
        tc("qdisc", "parent", "1:3", "handle", "30:", *_delay(self._rtt_ms / 2))
        for side in ("sport", "dport"):
            port = (side, str(self.port), "0xffff")
            tc(
                "filter",
                *["parent", "1:", "protocol", "ip", "u32", "match", "ip"],
                *port,
                "flowid",
                "1:3",
            )

    def _start_proxy(self) -> None:
        command = [sys.executable, "-m", "bench.delaying_proxy"]
        arguments = [str(self.emulator.tls_port), f"{self._rtt_ms:g}"]
        proxy = Process("delaying-proxy", [*command, *arguments], self._directory)
        self._processes.append(proxy)
        self.port = int(proxy.read_line(START_TIMEOUT_S))

    @property
    def base_url(self) -> str:
        """Where the far provider is asked, without `/v1`."""
        return f"https://127.0.0.1:{self.port}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all that was started, and remove the namespace. Idempotent."""
        while self._processes:
            self._processes.pop().stop()
        if self._namespace:
            subprocess.run(
                ["ip", "netns", "del", self._namespace], capture_output=True, check=False
            )
            self._namespace = ""
