"""Three times what a relay carries: how much of its best it still does, and how it says no.

`peak` is the most whole answers a second that closed loops of more and more clients get of a relay
without bounds. `three_times` is an open loop of three times that at a relay as it is by default
(`server.overload`): whole answers whose first content came no more than 250 ms after what the
provider takes, how long a refusal takes, how late the relay's loop was (its own histogram), and
what asking `/healthz` of both its HTTP listeners took meanwhile. Eight sessions talk beside the
flood; their generations are the last to be refused. `unbounded` is the same with every bound off.

All threads of the relay are on the first core, everything else is on the others. Where generator
and emulator have no core to spare, `others_core_%` is near 100, and what is late may be theirs. Not
to be run at real-time priority: there threads of one rank take turns of 100 ms, the relay's too.
"""

from __future__ import annotations

import http.client
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.pinned import too_few_cores
from bench.processes import LoadProcess, Process, RelayProcess, cpu_ns, pin
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import Histogram

_TTFT_MS, _ITL_MS, _TOKENS = 300, 40, 5
_MODEL = f"lab/emu:ttft={_TTFT_MS},itl={_ITL_MS},tokens={_TOKENS}"
_GOOD_WITHIN_MS = _TTFT_MS + 250.0
_TIMES = 3.0
_CLIENTS = (200, 300, 400, 500, 600, 800)
_ENOUGH = 1.03
"""More clients that bring less than this are not followed by more."""
_SESSIONS = 8
_OFF = {"max_generations": 0, "max_sessions": 0, "max_loop_lag_ms": 0, "max_rss_mib": 0}


class FloodProcess(LoadProcess):
    """`bench.flood`."""

    def __init__(self, rig: Rig) -> None:
        command = [sys.executable, "-m", "bench.flood"]
        Process.__init__(self, "flood", command, rig.directory, with_stdin=True)


class Health(threading.Thread):
    """Asks whether a relay lives, forty times a second, on both its HTTP listeners."""

    def __init__(self, relay: RelayProcess) -> None:
        super().__init__(daemon=True)
        self._ports = (relay.http_port, relay.admin_port)
        self._over = threading.Event()
        self.times = Histogram()
        self.failed = 0

    def run(self) -> None:
        """Until it is told to stop."""
        links = [http.client.HTTPConnection("127.0.0.1", port, timeout=5) for port in self._ports]
        while not self._over.wait(0.025):
            for link in links:
                began_s = time.monotonic()
                try:
                    link.request("GET", "/healthz")
                    answer = link.getresponse()
                    answer.read()
                    self.failed += answer.status != 200
                except OSError:
                    self.failed += 1
                    link.close()
                self.times.add(1e6 * (time.monotonic() - began_s))
        for link in links:
            link.close()

    def stop(self) -> None:
        """Returns when it has ended."""
        self._over.set()
        self.join()


def run(rig: Rig) -> CaseResult:
    """Peak, flood, and flood without bounds."""
    if too_few_cores():
        return CaseResult(axes={}, notes=["skipped: it needs two cores, one for the relay"])
    result = CaseResult(
        axes={"times": _TIMES, "ttft_ms": _TTFT_MS, "itl_ms": _ITL_MS, "tokens": _TOKENS}
    )
    flood = FloodProcess(rig)
    rig.watch["flood"] = [flood.pid]
    unbounded = RelayProcess(
        rig.emulator,
        rig.directory,
        "relay-unbounded",
        sections={"server": _listeners() | {"overload": _OFF}},
    )
    try:
        with _pinned(rig, flood, unbounded):
            peak = _peak(rig, flood, unbounded, result)
            rate = _TIMES * peak
            _flood(rig, flood, rig.relay, rate, peak, "three_times", result, with_sessions=True)
            _flood(rig, flood, unbounded, rate, peak, "unbounded", result, with_sessions=False)
    finally:
        unbounded.stop()
        flood.stop()
        del rig.watch["flood"]
    result.targets += [
        ("three_times", "goodput_lost_%", 20.0),
        ("three_times", "shed_p99_ms", 20.0),
        ("three_times", "lag_p99_ms", 50.0),
        ("three_times", "health_p99_ms", 100.0),
        ("three_times", "sessions_failed", 0.0),
    ]
    row = result.rows["three_times"]
    result.ratios["overload/goodput_of_peak"] = row["good_a_s"] / peak
    return result


def _listeners() -> dict[str, Any]:
    return {name: {"address": "127.0.0.1:0"} for name in ("grpc", "http", "admin")}


@contextmanager
def _pinned(rig: Rig, flood: FloodProcess, unbounded: RelayProcess) -> Iterator[None]:
    """Relays on the first core, all else on the others."""
    every = os.sched_getaffinity(0)
    first, *others = sorted(every)
    relays = [*rig.watch["relay"], *unbounded.watched_pids()]
    rest = [pid for name, pids in rig.watch.items() if name != "relay" for pid in pids]
    rest.append(os.getpid())
    try:
        pin(relays, {first})
        pin(rest, others)
        yield
    finally:
        pin([*relays, *rest], every)


def _peak(rig: Rig, flood: FloodProcess, relay: RelayProcess, result: CaseResult) -> float:
    """The most good answers a second that closed loops get."""
    best = 0.0
    window_s = 2.0 if rig.options.is_quick else 5.0
    for clients in _CLIENTS:
        rig.say(f"overload: {clients} clients that wait for their answers")
        before = _cpu(rig, relay)
        told = flood.ask(
            {
                "op": "closed",
                "port": relay.http_port,
                "model": _MODEL,
                "connections": clients,
                "clients": clients,
                "ramp_s": 2.0,
                "window_s": window_s,
                "good_within_ms": _GOOD_WITHIN_MS,
            },
            90.0,
        )
        row = _row(told) | _cpu_percent(rig, relay, before)
        result.rows[f"closed/{clients}"] = row
        if row["good_a_s"] < _ENOUGH * best:
            best = max(best, row["good_a_s"])
            break
        best = row["good_a_s"]
    result.rows["peak"] = {"good_a_s": best}
    return best


def _flood(
    rig: Rig,
    flood: FloodProcess,
    relay: RelayProcess,
    rate: float,
    peak: float,
    name: str,
    result: CaseResult,
    *,
    with_sessions: bool,
) -> None:
    rig.say(f"overload: {rate:.0f} a second, {name}")
    ramp_s, window_s = (10.0, 10.0) if rig.options.is_quick else (10.0, 30.0)
    told: dict[str, Any] = {}

    def pour() -> None:
        told.update(
            flood.ask(
                {
                    "op": "open",
                    "port": relay.http_port,
                    "model": _MODEL,
                    "connections": 1000,
                    "rate": rate,
                    "ramp_s": ramp_s,
                    "window_s": window_s,
                    "good_within_ms": _GOOD_WITHIN_MS,
                },
                180.0,
            )
        )

    health = Health(relay)
    pouring = threading.Thread(target=pour)
    pouring.start()
    time.sleep(ramp_s)
    lag_before = _lag(relay)
    before = _cpu(rig, relay)
    health.start()
    talk = _sessions(rig, window_s - 2.0) if with_sessions else {}
    if not with_sessions:
        time.sleep(window_s - 2.0)
    cpu = _cpu_percent(rig, relay, before)
    health.stop()
    lag_p99_ms, lag_over = _lag_since(lag_before, _lag(relay))
    pouring.join()
    row = _row(told)
    row["goodput_lost_%"] = 100 * max(0.0, 1.0 - row["good_a_s"] / peak)
    row |= {"lag_p99_ms": lag_p99_ms, "looks_over_50_ms_%": 100 * lag_over}
    row["health_p99_ms"] = health.times.quantile(0.99) / 1e3
    row["health_max_ms"] = health.times.max_us / 1e3
    row["health_failed"] = float(health.failed)
    row |= talk | cpu
    result.rows[name] = row
    result.histograms[f"{name}/shed"] = Histogram.from_dict(told["shed"])
    result.histograms[f"{name}/health"] = health.times
    state = relay.state()["overload"]
    result.notes.append(f"{name}: limit at the end {state['limit']}, shed {state['shed']}")


def _sessions(rig: Rig, window_s: float) -> dict[str, float]:
    """Eight sessions that talk beside it."""
    raw = rig.load.ask(
        {
            "op": "leg",
            "path": "converse",
            "streams": _SESSIONS,
            "tokens": 20,
            "ttft_ms": 50,
            "itl_ms": 20,
            "model": "emu:ttft=50,itl=20,tokens=20,stamp=1",
            "window_s": window_s,
            "watch": rig.watch,
        },
        120.0,
    )
    first = Histogram.from_dict(raw["histograms"]["ttft"])
    return {
        "sessions_failed": float(raw["error_count"] + raw["unanswered"]),
        "sessions_first_p99_ms": first.quantile(0.99) / 1e3,
    }


def _row(told: dict[str, Any]) -> dict[str, float]:
    counts, seconds = told["counts"], told["seconds"]
    first, shed = Histogram.from_dict(told["first"]), Histogram.from_dict(told["shed"])
    late = Histogram.from_dict(told["generator_late"])
    return {
        "asked_a_s": counts.get("asked", 0) / seconds,
        "good_a_s": counts.get("good_ended", 0) / seconds,
        "shed_a_s": counts.get("shed", 0) / seconds,
        "lost": float(counts.get("lost", 0)),
        "first_p50_ms": first.quantile(0.5) / 1e3,
        "first_p99_ms": first.quantile(0.99) / 1e3,
        "shed_p50_ms": shed.quantile(0.5) / 1e3,
        "shed_p99_ms": shed.quantile(0.99) / 1e3,
        "generator_late_p99_ms": late.quantile(0.99) / 1e3,
    }


def _cpu(rig: Rig, relay: RelayProcess) -> tuple[int, int, int]:
    others = [pid for name in ("emulator", "load", "flood") for pid in rig.watch[name]]
    return time.monotonic_ns(), cpu_ns(relay.watched_pids()), cpu_ns(others)


def _cpu_percent(rig: Rig, relay: RelayProcess, before: tuple[int, int, int]) -> dict[str, float]:
    now_ns, ours_ns, others_ns = (
        after - was for after, was in zip(_cpu(rig, relay), before, strict=True)
    )
    return {"relay_core_%": 100 * ours_ns / now_ns, "others_core_%": 100 * others_ns / now_ns}


def _lag(relay: RelayProcess) -> dict[float, float]:
    """The relay's own histogram of how late its loop was: counts below each bound, seconds."""
    link = http.client.HTTPConnection("127.0.0.1", relay.admin_port, timeout=20)
    try:
        link.request("GET", "/metrics")
        text = link.getresponse().read().decode()
    finally:
        link.close()
    begin = 'rtrelay_loop_lag_seconds_bucket{le="'
    found = {}
    for line in text.splitlines():
        if line.startswith(begin):
            bound, _, count = line.removeprefix(begin).partition('"} ')
            found[float(bound)] = float(count)
    return found


def _lag_since(before: dict[float, float], after: dict[float, float]) -> tuple[float, float]:
    """The bound that 99 of 100 looks were below, ms, and the share of looks over 50 ms."""
    counts = {bound: count - before.get(bound, 0.0) for bound, count in sorted(after.items())}
    whole = max(counts.values(), default=0.0)
    if not whole:
        return float("nan"), float("nan")
    below, under = 0.0, 0.0
    p99_ms = float("inf")
    for bound, count in counts.items():
        if count >= 0.99 * whole:
            inside = (0.99 * whole - under) / max(1e-9, count - under)
            p99_ms = 1000 * (below + inside * (bound - below))
            break
        below, under = bound, count
    return p99_ms, 1.0 - counts.get(0.05, whole) / whole
