"""One run's set-up: emulator, relay, nginx where there is one, and the load generator.

The open-loop legs are shared: one load gives time to first token, token latency, gaps and CPU, so
several cases read the same legs. Paths alternate inside every round and the order turns from round
to round, so that what else the machine does hits all of them alike.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from bench.processes import (
    BenchError,
    EmulatorProcess,
    LoadProcess,
    NginxProcess,
    RelayProcess,
    nginx_missing,
)
from bench.stats import Histogram, merged

PATHS = ("direct", "nginx", "sse", "generate", "converse")
TTFT_MS = 20
ITL_MS = 10


class Options(NamedTuple):
    """How long a run takes."""

    rounds: int
    window_s: float
    is_quick: bool
    sockets: bool = False
    """Of `hedge_tail`: check the simulation against relay and emulator."""
    idle_s: float = 0.0
    """Of `after_idle`: how long; 0: what the case does."""


FULL = Options(rounds=5, window_s=2.5, is_quick=False)
QUICK = Options(rounds=2, window_s=1.5, is_quick=True)

TOKENS_BY_STREAMS = {1: 6, 16: 25, 64: 50}
"""Few streams get short answers, so that a window holds enough of them for a p99."""


@dataclass(slots=True)
class Leg:
    """One path under one load, once."""

    path: str
    streams: int
    tokens: int
    raw: dict[str, Any]
    histograms: dict[str, Histogram]

    @property
    def delivered(self) -> int:
        """Tokens received in the window."""
        return int(self.raw["tokens_in_window"])

    def us_per_event(self, process: str) -> float:
        """CPU of a watched process for one token."""
        used_ns = self.raw["cpu_ns"].get(process)
        return used_ns / 1e3 / self.delivered if used_ns is not None else float("nan")


class Rig:
    """`with Rig(options) as rig`; everything is ended on leaving."""

    def __init__(self, options: Options, say: Callable[[str], None] = lambda _: None) -> None:
        self.options = options
        self.say = say
        self._directory = tempfile.TemporaryDirectory(prefix="rtrelay-bench-")
        self.directory = Path(self._directory.name)
        self._processes: list[Any] = []
        self._sweeps: dict[int, list[dict[str, Leg]]] = {}
        self.paths: tuple[str, ...] = PATHS
        self.skipped: dict[str, str] = {}
        self.watch: dict[str, list[int]] = {}
        self.nginx: NginxProcess | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        self.emulator = EmulatorProcess(self.directory)
        self._processes.append(self.emulator)
        self.relay = RelayProcess(self.emulator, self.directory)
        self._processes.append(self.relay)
        why = nginx_missing()
        if not why:
            try:
                self.nginx = NginxProcess(self.emulator, self.directory)
                self._processes.append(self.nginx)
            except BenchError as error:
                why = str(error)
        if why:
            self.skipped["nginx"] = why
            self.paths = tuple(path for path in PATHS if path != "nginx")
            self.say(f"nginx is skipped: {why}")
        self.load = LoadProcess(self.directory)
        self._processes.append(self.load)
        self.load.ask(
            {
                "op": "setup",
                "emulator_url": self.emulator.base_url,
                "ca_file": self.emulator.ca_file,
                "relay_url": f"http://127.0.0.1:{self.relay.http_port}",
                "relay_grpc_port": self.relay.grpc_port,
                "nginx_url": f"http://127.0.0.1:{self.nginx.port}" if self.nginx else "",
            },
            60.0,
        )
        self.watch = {
            "relay": self.relay.watched_pids(),
            "emulator": self.emulator.watched_pids(),
            "load": self.load.watched_pids(),
        }
        if self.nginx is not None:
            self.watch["nginx"] = self.nginx.watched_pids()

    # --- the shared legs --------------------------------------------------------------------

    def sweep(self, streams: int) -> list[dict[str, Leg]]:
        """Rounds of legs, one a path; measured once in a run."""
        if streams not in self._sweeps:
            rounds = []
            for number in range(self.options.rounds):
                self.say(f"{streams} streams, round {number + 1} of {self.options.rounds}")
                turn = number % len(self.paths)
                order = self.paths[turn:] + self.paths[:turn]
                rounds.append({path: self.leg(path, streams) for path in order})
            self._sweeps[streams] = rounds
        return self._sweeps[streams]

    def leg(
        self, path: str, streams: int, tokens: int | None = None, window_s: float | None = None
    ) -> Leg:
        """One path under a steady load.

        Raises:
            BenchError: a request failed.
        """
        tokens = tokens or TOKENS_BY_STREAMS[streams]
        raw = self.load.ask(
            {
                "op": "leg",
                "path": path,
                "streams": streams,
                "tokens": tokens,
                "ttft_ms": TTFT_MS,
                "itl_ms": ITL_MS,
                "model": f"emu:ttft={TTFT_MS},itl={ITL_MS},tokens={tokens},stamp=1",
                "window_s": window_s or self.options.window_s,
                "watch": self.watch,
            },
            90.0,
        )
        if raw["error_count"] or raw["unanswered"]:
            raise BenchError(
                f"{path} at {streams} streams: {raw['error_count']} requests failed,"
                f" {raw['unanswered']} unanswered: {raw['errors']}"
            )
        histograms = {
            name: Histogram.from_dict(value) for name, value in raw.pop("histograms").items()
        }
        return Leg(path, streams, tokens, raw, histograms)

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


def of_path(rounds: Sequence[dict[str, Leg]], path: str, name: str) -> Histogram:
    """One histogram of all rounds of a path."""
    return merged(legs[path].histograms[name] for legs in rounds)
