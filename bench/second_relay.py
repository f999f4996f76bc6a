"""A fresh relay, and a generator that knows it alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from bench.peers.goaway_provider import GoawayProvider
from bench.processes import EmulatorProcess, LoadProcess, RelayProcess
from bench.rig import Rig


class SecondRelay(NamedTuple):
    """Both, and whom to watch."""

    relay: RelayProcess
    load: LoadProcess
    watch: dict[str, list[int]]

    def leg(self, **request: Any) -> dict[str, Any]:
        """One path under a steady load; what failed is in the answer."""
        order = {"op": "leg", "watch": self.watch, "jitter": True, **request}
        raw = self.load.ask(order, 120.0)
        raw["failed"] = raw["error_count"] + raw["unanswered"]
        return raw


@contextmanager
def second_relay(
    rig: Rig,
    name: str,
    *,
    provider: EmulatorProcess | GoawayProvider | None = None,
    workers: int = 1,
    channels: int = 4,
) -> Iterator[SecondRelay]:
    """With a provider, else the rig's emulator; both are ended on leaving."""
    provider = provider or rig.emulator
    relay = RelayProcess(provider, rig.directory, f"relay-{name}", workers=workers)
    try:
        load = LoadProcess(rig.directory, f"load-{name}")
        try:
            request: Mapping[str, Any] = {
                "op": "setup",
                "emulator_url": provider.base_url,
                "ca_file": provider.ca_file,
                "relay_url": f"http://127.0.0.1:{relay.http_port}",
                "relay_grpc_port": relay.grpc_port,
                "channels": channels,
            }
            load.ask(request, 60.0)
            watch = {
                "relay": relay.watched_pids(),
                "emulator": provider.watched_pids(),
                "load": load.watched_pids(),
            }
            yield SecondRelay(relay, load, watch)
        finally:
            load.stop()
    finally:
        relay.stop()
