"""A relay whose aliases have two candidates, for the cases about hedging, and its own load."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from bench.processes import LoadProcess, RelayProcess
from bench.rig import Rig

ROWS = ("lab", "other")
"""Two names of the same emulator, each with connections of its own."""


def alias(first: str, second: str, **hedge: Any) -> dict[str, Any]:
    """Two candidates, by the emulator's model of each, and the rule of their race."""
    models = dict(zip(ROWS, (first, second), strict=True))
    return {
        "candidates": [{"provider": row, "model": model} for row, model in models.items()],
        "hedge": hedge,
    }


class HedgedRelay:
    """`with HedgedRelay(rig, "name", aliases) as hedged`; ended on leaving."""

    def __init__(self, rig: Rig, name: str, aliases: Mapping[str, Any]) -> None:
        self.relay = RelayProcess(rig.emulator, rig.directory, name, rows=ROWS, models=aliases)
        try:
            self.load = LoadProcess(rig.directory)
            try:
                self._set_up(rig)
            except BaseException:
                self.load.stop()
                raise
        except BaseException:
            self.relay.stop()
            raise

    def _set_up(self, rig: Rig) -> None:
        self.load.ask(
            {
                "op": "setup",
                "emulator_url": rig.emulator.base_url,
                "ca_file": rig.emulator.ca_file,
                "relay_url": f"http://127.0.0.1:{self.relay.http_port}",
                "relay_grpc_port": self.relay.grpc_port,
            },
            60.0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.load.stop()
        self.relay.stop()
