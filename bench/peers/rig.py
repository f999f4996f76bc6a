"""One run's set-up: the emulator, the relay, every peer that starts, and the load generator.

All arms have the same provider, the same client and the same rounds. What cannot be installed,
started or warmed is left out with its reason; what fails at an axis later is told there.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from bench import emulated
from bench.peers import h2load, pinning
from bench.peers.all import PEERS
from bench.peers.h2load import Target
from bench.peers.peer import (
    CATALOGUED_MODEL,
    MODEL,
    Peer,
    PeerError,
    PeerProcess,
    Place,
)
from bench.processes import (
    BenchError,
    EmulatorProcess,
    LoadProcess,
    RelayProcess,
    children,
    pin,
    rss_kib,
)

WARM = "ttft=2,itl=1,tokens=5,stamp=1"
_WARM_TOKENS = 5
_SETTLE_S = 15.0
DIRECT = "direct"
_CHAT = "/v1/chat/completions"
_GENERATE = "/rtrelay.v1.RelayService/Generate"


class Options(NamedTuple):
    """How long a run takes, and with whom."""

    rounds: int
    window_s: float
    is_quick: bool
    idle_s: tuple[float, ...]
    peers: tuple[str, ...] = tuple(PEERS)
    is_pinned: bool = True
    """Each process tree on a core of its own, where there are enough; see `bench.peers.pinning`."""


FULL = Options(rounds=5, window_s=2.5, is_quick=False, idle_s=(120.0, 600.0))
QUICK = Options(rounds=1, window_s=1.5, is_quick=True, idle_s=(5.0,))


@dataclass(frozen=True, slots=True)
class Arm:
    """One way from the client to the provider."""

    name: str
    title: str
    down: str
    """What the client speaks."""
    upstream: str
    version: str = ""
    written_in: str = ""
    settings: str = ""
    process: PeerProcess | RelayProcess | None = None
    """None: there is no hop."""
    target: Target | None = None
    """None: h2load cannot ask it."""

    def pids(self) -> list[int]:
        """Of the hop's process tree."""
        if self.process is None:
            return []
        if isinstance(self.process, PeerProcess):
            return self.process.pids()
        return self.process.watched_pids()

    def rss_mib(self) -> float:
        """Resident memory of the hop's tree."""
        return sum(rss_kib(pid) for pid in self.pids()) / 1024

    def to_dict(self) -> dict[str, str]:
        """For the result."""
        return {
            "title": self.title,
            "down": self.down,
            "upstream": self.upstream,
            "version": self.version,
            "written_in": self.written_in,
            "settings": self.settings,
        }


class PeerRig:
    """`with PeerRig(options) as rig`; everything is ended on leaving."""

    def __init__(self, options: Options, say: Callable[[str], None] = lambda _: None) -> None:
        self.options = options
        self.say = say
        self.arms: dict[str, Arm] = {}
        self.skipped: dict[str, str] = {}
        """By peer: why it is not there."""
        self.out: dict[str, str] = {}
        """By arm: since when and why it is not loaded any more."""
        self.cores = pinning.here(is_pinned=options.is_pinned)
        self.sleep: Callable[[float], None] = time.sleep
        self._directory = tempfile.TemporaryDirectory(prefix="rtrelay-peers-")
        self._processes: list[Any] = []
        self._turn = 0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        directory = Path(self._directory.name)
        self.emulator = EmulatorProcess(directory)
        self._processes.append(self.emulator)
        pin_all(self.emulator.watched_pids(), self.cores.emulator)
        self.behave(WARM)
        self.load = LoadProcess(directory)
        self._processes.append(self.load)
        pin_all(self.load.watched_pids(), self.cores.load)
        self._open_direct()
        self._open_relay(directory)
        for name in self.options.peers:
            self._open_peer(PEERS[name], directory / name)
        if h2load.missing():
            self.skipped["h2load"] = h2load.missing()
            self.say(f"h2load is skipped: {h2load.missing()}")

    def _open_direct(self) -> None:
        spec = {
            "base_url": f"{self.emulator.base_url}/v1",
            "model": MODEL,
            "ca_file": self.emulator.ca_file,
            "connections": 2,
            "is_http2": True,
        }
        self._door(DIRECT, "http", spec)
        target = Target(f"{self.emulator.base_url}{_CHAT}", is_http2=True, model=MODEL)
        self.arms[DIRECT] = Arm(DIRECT, "direct", "SSE", "TLS, HTTP/2", target=target)

    def _open_relay(self, directory: Path) -> None:
        # The second row is what most peers have upstream: like for like.
        relay = RelayProcess(
            self.emulator,
            directory,
            rows={"lab": {}, "h1": {"http": "h1"}},
            # 64 as it comes; the peers have no such bound.
            sections={"transport": {"max_http1_connections": 1024}},
        )
        self._processes.append(relay)
        pin_all(relay.watched_pids(), self.cores.hop)
        url = f"http://127.0.0.1:{relay.http_port}/v1"
        ways = {
            "sse": ("http", "SSE", "lab", "TLS, HTTP/2"),
            "sse_h1": ("http", "SSE", "h1", "TLS, HTTP/1.1"),
            "generate": ("generate", "gRPC Generate", "lab", "TLS, HTTP/2"),
            "converse": ("converse", "gRPC Converse", "lab", "TLS, HTTP/2"),
        }
        for name, (kind, down, row, upstream) in ways.items():
            model = f"{row}/{MODEL}"
            where = {"base_url": url} if kind == "http" else {"port": relay.grpc_port}
            self._door(name, kind, {**where, "model": model})
            target = None
            if kind == "http":
                target = Target(f"http://127.0.0.1:{relay.http_port}{_CHAT}", model=model)
            elif kind == "generate":
                target = Target(
                    f"http://127.0.0.1:{relay.grpc_port}{_GENERATE}",
                    {"content-type": "application/grpc", "te": "trailers"},
                    is_http2=True,
                    model=model,
                    is_grpc=True,
                )
            self.arms[name] = Arm(
                name, "rtrelay", down, upstream, written_in="Python", process=relay, target=target
            )

    def _open_peer(self, peer: Peer, directory: Path) -> None:
        directory.mkdir()
        try:
            process, client = peer.start(Place(self.emulator, directory))
            self._processes.append(process)
            pin_all(process.pids(), self.cores.hop)
            spec = {
                "base_url": client.base_url,
                "model": client.model,
                "headers": dict(client.headers),
            }
            try:
                self._door(peer.name, "http", spec)
            except BenchError:
                self._processes.remove(process)
                process.stop()
                raise
        except (PeerError, BenchError) as error:
            self.skipped[peer.name] = str(error)
            self.say(f"{peer.name} is skipped: {error}")
            return
        self.arms[peer.name] = Arm(
            peer.name,
            peer.title,
            "SSE",
            peer.upstream,
            peer.version,
            peer.written_in,
            peer.settings,
            process,
            Target(f"{client.base_url}/chat/completions", dict(client.headers), model=client.model),
        )
        self.say(f"{peer.name} {peer.version} is there")

    def _door(self, name: str, kind: str, spec: dict[str, Any]) -> None:
        order = {"op": "door", "path": name, "kind": kind, "spec": spec, "tokens": _WARM_TOKENS}
        self.load.ask(order, 90.0)

    # --- during a run -----------------------------------------------------------------------

    def behave(self, behaviour: str) -> None:
        """From now on the provider behaves so, by whichever name it is asked."""
        for model in (MODEL, CATALOGUED_MODEL):
            order = f'{{"model": "{model}", "behaviour": "{behaviour}"}}'
            emulated.ask(self.emulator, "/emulator/script", order.encode())

    def order(self, names: Sequence[str]) -> Iterator[Arm]:
        """The arms of a round; each round begins with another."""
        turn = self._turn % max(1, len(names))
        self._turn += 1
        for name in (*names[turn:], *names[:turn]):
            yield self.arms[name]

    @property
    def directory(self) -> Path:
        """For files of a run; gone after it."""
        return Path(self._directory.name)

    def watch(self, arm: Arm) -> dict[str, list[int]]:
        """Whose CPU counts."""
        watched = {
            "emulator": [self.emulator.pid, *children(self.emulator.pid)],
            "load": self.load.watched_pids(),
        }
        if pids := arm.pids():
            watched["hop"] = pids
        return watched

    def settle(self) -> None:
        """Wait until the provider has no stream open any more, but not for ever."""
        deadline_s = time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline_s:
            if not emulated.ask(self.emulator, "/emulator/report")["streams"]["open"]:
                return
            self.sleep(0.2)

    # --- end --------------------------------------------------------------------------------

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process that was started, the last first. Idempotent."""
        while self._processes:
            self._processes.pop().stop()
        self._directory.cleanup()


def pin_all(pids: Sequence[int], cores: frozenset[int]) -> None:
    """Keep processes on cores; anywhere, if there are none."""
    if cores:
        pin(pids, cores)
