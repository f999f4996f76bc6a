"""Gateways with HTTP/2 upstream, in processes of their own before a provider that says GOAWAY.

All of them keep their connections to that one provider, so that one GOAWAY meets all, and one wait
before it is a wait of all.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from bench.peers.all import PEERS
from bench.peers.cases.asking import Asked, ask
from bench.peers.goaway_provider import TOKENS, GoawayProvider
from bench.peers.peer import MODEL, PeerError, Place
from bench.peers.rig import DIRECT, PeerRig, pin_all
from bench.processes import BenchError, RelayProcess
from bench.stats import median

WAIT_S = 0.5
"""From the GOAWAY to the first question; the provider closes 50 ms after it."""
WARM = 5


class GoawayArms:
    """`with GoawayArms(rig) as arms`; its processes are ended on leaving."""

    def __init__(self, rig: PeerRig) -> None:
        self._rig = rig
        self.names: list[str] = []
        self.notes: list[str] = []
        """Who is not there, and why; who did not answer well."""
        self._directory = TemporaryDirectory(prefix="rtrelay-goaway-")
        self._processes: list[Any] = []
        self._turn = 0

    def __enter__(self) -> Self:
        try:
            self._open(Path(self._directory.name))
        except BaseException:
            self.close()
            raise
        return self

    def _open(self, directory: Path) -> None:
        rig = self._rig
        self._provider = GoawayProvider(directory / "provider")
        self._processes.append(self._provider)
        pin_all(self._provider.watched_pids(), rig.cores.emulator)
        self._door(
            DIRECT,
            {
                "base_url": f"{self._provider.base_url}/v1",
                "model": MODEL,
                "ca_file": self._provider.ca_file,
                "is_http2": True,
            },
        )
        relay = RelayProcess(self._provider, directory, "goaway-relay")
        self._processes.append(relay)
        pin_all(relay.watched_pids(), rig.cores.hop)
        url = f"http://127.0.0.1:{relay.http_port}/v1"
        self._door("sse", {"base_url": url, "model": f"lab/{MODEL}"})
        for name in rig.options.peers:
            if name not in rig.arms or "HTTP/2" not in PEERS[name].upstream:
                continue
            (directory / name).mkdir()
            try:
                process, client = PEERS[name].start(Place(self._provider, directory / name))
                self._processes.append(process)
                pin_all(process.pids(), rig.cores.hop)
                spec = {"base_url": client.base_url, "model": client.model}
                self._door(name, {**spec, "headers": dict(client.headers)})
            except (PeerError, BenchError) as error:
                self.notes.append(f"{name} is not there: {error}")

    def _door(self, name: str, spec: dict[str, Any]) -> None:
        order = {"op": "door", "path": f"{name}@goaway", "kind": "http", "spec": spec}
        self._rig.load.ask({**order, "tokens": TOKENS}, 90.0)
        self.names.append(name)

    def warm(self) -> None:
        """A few questions of each, after which its connections are idle."""
        for name in self.names:
            self._ask(name, WARM)

    def first_over_warm_ms(self) -> dict[str, float | None]:
        """One GOAWAY to all, and then the first question of each over warm ones; None for who did
        not answer that well. Each round begins with another."""
        turn = self._turn % len(self.names)
        self._turn += 1
        self._provider.go_away()
        self._rig.sleep(WAIT_S)
        found: dict[str, float | None] = {}
        for name in (*self.names[turn:], *self.names[:turn]):
            first, *warm = self._ask(name, 1 + WARM)
            if first.ending != "complete":
                self.notes.append(f"{name}: {first.ending} {first.detail}"[:300])
                found[name] = None
            else:
                found[name] = first.first_ms - median([each.first_ms for each in warm])
        return found

    def _ask(self, name: str, count: int) -> list[Asked]:
        return ask(self._rig, f"{name}@goaway", count)

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
