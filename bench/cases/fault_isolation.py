"""One of four upstreams is broken: what callers of the other three notice.

Four rows of one relay: three at an emulator of their own addresses, a fourth at an emulator of its
own that has one fault after the other. While the fourth is asked as fast as its answers come, by 16
at a time, each of the three is asked in open loop; the same with a fourth that is well is the clean
run, before and behind. `lost_%` are answers of the three that did not come whole,
`added_p99_over_clean` is their first token at p99, less what the provider takes, over that of the
clean runs.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from bench.processes import EmulatorProcess, LoadProcess, RelayProcess
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import Histogram, merged

_FAULTS = {
    "refused": "",
    "no_headers": "fault=hang",
    "reset_head": "fault=reset-head",
    "cut_head": "fault=cut-head",
    "cut_mid": "fault=cut@5",
    "stall_mid": "fault=stall@5",
    "dribble": "fault=dribble@5",
    "endless_line": "fault=endless-line",
    "html": "fault=html",
    "status_500": "fault=status:500",
    "rate_limited": "fault=rate",
    "gzip_bomb": "fault=gzip-bomb",
    "many_headers": "fault=many-headers",
}
_QUICK = ("refused", "no_headers", "cut_mid", "endless_line", "gzip_bomb")
_STREAMS, _TOKENS, _TTFT_MS, _ITL_MS = 16, 25, 20, 10
_GOOD = f"emu:ttft={_TTFT_MS},itl={_ITL_MS},tokens={_TOKENS},stamp=1"
_AT_ONCE = 16
_LOST_PERCENT, _OVER_CLEAN = 0.1, 2.0
_TIMEOUTS = {"connect_ms": 500, "first_token_ms": 1000, "inter_token_ms": 1000}


def run(rig: Rig) -> CaseResult:
    """Each fault between two clean runs."""
    names = _QUICK if rig.options.is_quick else tuple(_FAULTS)
    with _Four(rig) as four:
        clean = [four.measure(_GOOD)]
        found: dict[str, _Leg] = {}
        for name in names:
            rig.say(f"fault_isolation: {name}")
            found[name] = four.measure(
                f"emu:ttft=5,itl=5,tokens=25,{_FAULTS[name]}" if _FAULTS[name] else ""
            )
        clean.append(four.measure(_GOOD))
    whole = merged(leg.first for leg in clean)
    result = CaseResult(
        axes={"streams": _STREAMS, "rows": 4, "broken": 1, "at_once_at_the_broken": _AT_ONCE}
    )
    for name, leg in {"clean": clean[0], **found, "clean_again": clean[1]}.items():
        result.rows[name] = leg.row(whole)
        result.histograms[name] = leg.first
    for name in found:
        result.targets += [
            (name, "lost_%", _LOST_PERCENT),
            (name, "added_p99_over_clean", _OVER_CLEAN),
        ]
    return result


class _Leg:
    """What the callers of the three had."""

    def __init__(self, raws: list[dict[str, Any]], asked_beside: int) -> None:
        self._asked = sum(raw["requests"] for raw in raws)
        self._lost = sum(raw["error_count"] + raw["unanswered"] for raw in raws)
        self._beside = asked_beside
        self.first = merged(Histogram.from_dict(raw["histograms"]["ttft"]) for raw in raws)

    def row(self, clean: Histogram) -> dict[str, float]:
        added_ms = {
            label: (of.quantile(0.99) / 1e3 - _TTFT_MS)
            for label, of in (("own", self.first), ("clean", clean))
        }
        return {
            "asked": self._asked,
            "lost_%": 100 * self._lost / max(1, self._asked),
            "first_p50_ms": self.first.quantile(0.5) / 1e3,
            "first_p99_ms": self.first.quantile(0.99) / 1e3,
            "added_p99_over_clean": added_ms["own"] / added_ms["clean"],
            "asked_at_the_broken": self._beside,
        }


class _Four:
    """The relay with its four rows, two generators; ended on leaving."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._broken = EmulatorProcess(rig.directory, "emulator-broken")
        self._processes: list[Any] = [self._broken]
        row = {
            "base_url": f"{self._broken.base_url}/v1",
            "ca_file": self._broken.ca_file,
            "warm_connections": 2,
        }
        dead = {"base_url": "https://127.0.0.1:1/v1", "warm_connections": 0}
        plain = {"base_url": f"http://127.0.0.1:{rig.emulator.plain_port}/v1"}
        rows: Mapping[str, Mapping[str, Any]] = {
            "lab": {},
            "other": {},
            "third": plain,
            "broken": row,
            "dead": dead,
        }
        models = {
            name: {"candidates": [{"provider": name, "model": model}], "timeouts": _TIMEOUTS}
            for name, model in (("dead", "m"),)
        }
        self._relay = RelayProcess(
            rig.emulator, rig.directory, "relay-four", rows=rows, models=models
        )
        self._processes.append(self._relay)
        self._good = self._load("load-good")
        self._beside = self._load("load-beside")

    def _load(self, name: str) -> LoadProcess:
        load = LoadProcess(self._rig.directory, name)
        self._processes.append(load)
        load.ask(
            {
                "op": "setup",
                "emulator_url": self._rig.emulator.base_url,
                "ca_file": self._rig.emulator.ca_file,
                "relay_url": f"http://127.0.0.1:{self._relay.http_port}",
                "relay_grpc_port": self._relay.grpc_port,
            },
            60.0,
        )
        for row in ("lab", "other", "third", "broken"):
            self._path(load, row, f"{row}/", _GOOD)
        return load

    def _path(self, load: LoadProcess, path: str, prefix: str, model: str) -> None:
        load.ask(
            {
                "op": "keyed",
                "path": path,
                "relay_url": f"http://127.0.0.1:{self._relay.http_port}",
                "bearer": "",
                "model_prefix": prefix,
                "model": model,
            },
            60.0,
        )

    def measure(self, broken_model: str) -> _Leg:
        """Each of the three once, while the fourth is asked; an empty model is a dead address."""
        over = threading.Event()
        asked = [0]

        def beside() -> None:
            while not over.is_set():
                told = self._beside.ask(
                    {
                        "op": "many",
                        "path": "broken",
                        "model": broken_model or "dead",
                        "count": _AT_ONCE,
                        "rate": 1000,
                        "parallel": _AT_ONCE,
                    },
                    60.0,
                )
                asked[0] += _AT_ONCE
                del told  # that they fail is what they are for

        thread = threading.Thread(target=beside)
        thread.start()
        try:
            raws = [self._leg(row) for row in ("lab", "other", "third")]
        finally:
            over.set()
            thread.join()
        return _Leg(raws, asked[0])

    def _leg(self, row: str) -> dict[str, Any]:
        return self._good.ask(
            {
                "op": "leg",
                "path": row,
                "streams": _STREAMS,
                "tokens": _TOKENS,
                "ttft_ms": _TTFT_MS,
                "itl_ms": _ITL_MS,
                "model": _GOOD,
                "window_s": self._rig.options.window_s,
                "watch": {"relay": self._relay.watched_pids()},
            },
            90.0,
        )

    def __enter__(self) -> _Four:
        return self

    def __exit__(self, *_: object) -> None:
        while self._processes:
            self._processes.pop().stop()
