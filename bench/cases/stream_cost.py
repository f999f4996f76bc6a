"""What a stream costs as streams grow: CPU of the relay, and its memory, for SSE and gRPC sessions.

A fresh relay for each way, and more and more streams of 25 tokens a second, open loop. `core_ms_s`
is the relay's CPU in each second; `peak_mib` the most that its processes held. The line is fitted
to those by least squares: the slope is what a stream costs, R^2 how well a straight line tells it.
`us_per_delta` falls as streams grow, since what comes together is read and written together.

python -m bench plot RESULT.json PICTURE.svg draws it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from bench.fit import straight
from bench.line_plot import plot
from bench.processes import BenchError, tree_rss_kib
from bench.result import CaseResult
from bench.rig import Rig
from bench.second_relay import SecondRelay, second_relay
from bench.stats import median

WAYS = ("sse", "converse")
_QUICK = (1, 4, 16, 64, 128, 256)
_FULL = (*_QUICK, 384, 512)
_TTFT_MS, _ITL_MS, _TOKENS = 40, 40, 50
_LOOK_S = 0.05
_UNEXPLAINED = 0.02
"""1 - R^2 at most."""


def run(rig: Rig) -> CaseResult:
    """All numbers of streams, up; once for each way."""
    numbers = _QUICK if rig.options.is_quick else _FULL
    rounds = 1 if rig.options.is_quick else 3
    result = CaseResult(
        axes={"streams": numbers, "itl_ms": _ITL_MS, "tokens": _TOKENS, "rounds": rounds}
    )
    for way in WAYS:
        with second_relay(rig, f"cost-{way}") as second:
            for streams in numbers:
                rows = []
                for _ in range(rounds):
                    rig.say(f"stream_cost: {way}, {streams} streams")
                    rows.append(_leg(rig, second, way, streams))
                result.rows[f"{way}/{streams}"] = {
                    name: median([row[name] for row in rows]) for name in rows[0]
                }
        for figure in ("core_ms_s", "peak_mib"):
            points = [(n, result.rows[f"{way}/{n}"][figure]) for n in numbers]
            line = straight(points)
            result.rows[f"{way}/{figure}"] = {
                "a_stream": line.slope,
                "at_none": line.intercept,
                "r_squared": line.r_squared,
                "unexplained": 1 - line.r_squared,
            }
            result.notes.append(
                f"{way}: {figure} = {line.slope:.4g} a stream + {line.intercept:.4g},"
                f" R^2 {line.r_squared:.4f}"
            )
        result.targets.append((f"{way}/core_ms_s", "unexplained", _UNEXPLAINED))
    return result


def picture(case: Mapping[str, Any]) -> str:
    """The CPU of a result of this case, as SVG."""
    rows = {
        way: [(n, case["rows"][f"{way}/{n}"]["core_ms_s"]) for n in case["axes"]["streams"]]
        for way in WAYS
    }
    return plot(
        f"The relay's CPU as streams of {1000 / _ITL_MS:g} tokens a second grow",
        "streams",
        "milliseconds of a core a second",
        rows,
    )


def _leg(rig: Rig, second: SecondRelay, way: str, streams: int) -> dict[str, float]:
    """
    Raises:
        BenchError: a request failed.
    """
    with _Peak(second.relay.pid) as peak:
        raw = second.leg(
            path=way,
            own_sessions=way == "converse",
            streams=streams,
            tokens=_TOKENS,
            ttft_ms=_TTFT_MS,
            itl_ms=_ITL_MS,
            model=f"emu:ttft={_TTFT_MS},itl={_ITL_MS},tokens={_TOKENS},stamp=1",
            # Few tokens need a longer look.
            window_s=rig.options.window_s * (2 if streams < 16 else 1),
        )
    if raw["failed"]:
        raise BenchError(f"{way} at {streams} streams: {raw['failed']} failed, {raw['errors']}")
    used_ns, window_s = raw["cpu_ns"], raw["window_s"]
    return {
        "tokens_s": raw["tokens_in_window"] / window_s,
        "core_ms_s": used_ns["relay"] / 1e6 / window_s,
        "us_per_delta": used_ns["relay"] / 1e3 / raw["tokens_in_window"],
        "peak_mib": peak.kib / 1024,
        "load_core_%": 100 * used_ns["load"] / 1e9 / window_s,
        "emulator_core_%": 100 * used_ns["emulator"] / 1e9 / window_s,
    }


class _Peak:
    """The most that a process and those below it hold, looked at now and then by a thread."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.kib = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._done.wait(_LOOK_S):
            self.kib = max(self.kib, tree_rss_kib(self._pid))

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
