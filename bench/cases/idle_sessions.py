"""Resident memory of idle Converse sessions, by the number of connections they share, and what
10,000 of them take from the calls among them.

A fresh relay each time, warmed by some sessions that were opened and closed, so that what the first
session loads is not booked to them. A thousand sessions are as many as one connection takes
(`grpc.max_concurrent_streams`); as many links are a connection each, as agents have that are
processes of their own. The connection's buffers are inside, on the relay's side. `talked` sessions
have had a turn each before they are idle, with a prompt of 16 kB, as between two turns of a call.

Of 10,000, on 100 links and on a link each, plain and over TLS: `tree_mib` is all that the relay's
processes hold, `first_p50_ms` and `first_p99_ms` are from the start frame to the first token of
short turns on sessions drawn at random (minus what the provider was told to wait), `few_...` the
same while only 100 sessions were open. A session a link needs a descriptor a link at both ends:
`sessions` is how many the limit on descriptors let be.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

from bench.certificates import issue
from bench.processes import (
    RelayProcess,
    cpu_ns,
    most_files,
    open_files,
    rss_kib,
    tree,
    tree_rss_kib,
)
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import FINE, Histogram

_LIMIT_MIB = 60.0
"""What a thousand sessions over one connection may add."""
_LIMIT_KIB = 150.0
"""A session's share where 100 sessions have a connection: 10,000 of them in 1.5 GiB."""
_LIMIT_TREE_MIB = 600.0
"""All that the relay holds with 10,000 sessions on 100 links."""
_LIMIT_SLOWER_MS = 1.0
_SETTLE_S = 0.5
_OPEN_TIMEOUT_S = 300.0
_FEW = 100
_SPARE_FILES = 500
"""Descriptors that relay and generator need beside the links: files, providers, other clients."""
_TURNS = 200
_TTFT_MS, _TOKENS = 10, 5
_MODEL = f"lab/emu:ttft={_TTFT_MS},itl=1,tokens={_TOKENS},stamp=1"


class _Arm(NamedTuple):
    """One relay and the sessions it has."""

    sessions: int
    connections: int
    is_tls: bool = False
    is_talked: bool = False

    @property
    def key(self) -> str:
        name = f"{self.sessions}_over_{self.connections}"
        return name + "_tls" * self.is_tls + "_talked" * self.is_talked


_THOUSAND = (_Arm(1000, 1), _Arm(1000, 10), _Arm(1000, 1000), _Arm(1000, 1, is_talked=True))
_ON_LINKS = _Arm(10_000, 100)
_QUICK = (*_THOUSAND, _ON_LINKS)
_FULL = (
    *_QUICK,
    _Arm(10_000, 100, is_tls=True),
    _Arm(10_000, 10_000),
    _Arm(10_000, 10_000, is_tls=True),
)


def run(rig: Rig) -> CaseResult:
    """Open, look, close; once for each arm."""
    arms = _QUICK if rig.options.is_quick else _FULL
    result = CaseResult(axes={"arms": [arm.key for arm in arms]})
    tls, ca_file = issue(rig.directory, "idle")
    for arm in arms:
        rig.say(f"idle_sessions: {arm.key}")
        found = _measure(rig, arm, tls if arm.is_tls else None, ca_file)
        result.rows[arm.key] = found.figures
        for name, histogram in found.turns.items():
            result.histograms[f"{arm.key}/{name}"] = histogram
    many = [arm.key for arm in arms if arm.sessions > 1000]
    result.targets = [
        (_THOUSAND[0].key, "grown_mib", _LIMIT_MIB),
        (_THOUSAND[3].key, "grown_mib", _LIMIT_MIB),
        (_THOUSAND[1].key, "kib_per_session", _LIMIT_KIB),
        (_ON_LINKS.key, "tree_mib", _LIMIT_TREE_MIB),
        *((key, "slower_p50_ms", _LIMIT_SLOWER_MS) for key in many),
    ]
    return result


class _Found(NamedTuple):
    figures: dict[str, float]
    turns: dict[str, Histogram]


def _measure(rig: Rig, arm: _Arm, tls: dict[str, str] | None, ca_file: Path) -> _Found:
    relay = RelayProcess(rig.emulator, rig.directory, "relay-idle", tls=tls)
    try:

        def sessions(count: int, over: int = 1) -> dict[str, Any]:
            request = {"op": "sessions", "port": relay.grpc_port, "count": count}
            more: dict[str, Any] = {"connections": over}
            if arm.is_talked:
                more["model"] = "lab/emu:ttft=1,itl=1,tokens=20"
            if arm.is_tls:
                more["ca_file"] = str(ca_file)
            told = rig.load.ask({**request, **more}, _OPEN_TIMEOUT_S)
            time.sleep(_SETTLE_S if count else 2 * _SETTLE_S)
            return told

        def turns(count: int) -> Histogram:
            order = {"op": "among", "turns": count, "tokens": _TOKENS, "ttft_ms": _TTFT_MS}
            told = rig.load.ask({**order, "model": _MODEL}, 60.0)
            found = Histogram(FINE)
            for first_us in told["first_us"]:
                found.add(first_us)
            return found

        most = min(most_files(relay.pid), most_files(rig.load.pid))
        links = min(arm.connections, most - _SPARE_FILES)
        count = links if arm.connections == arm.sessions else arm.sessions
        is_many = arm.sessions > 1000
        found: dict[str, Histogram] = {}
        sessions(_FEW, min(10, links))
        if is_many:
            turns(_FEW)  # to warm up
            found["few"] = turns(_FEW)
        sessions(0)
        before_kib, files = rss_kib(relay.pid), open_files(relay.pid)
        took_s = sessions(count, links)["took_s"]
        open_kib, files_open = rss_kib(relay.pid), open_files(relay.pid)
        all_kib = tree_rss_kib(relay.pid)
        # Long enough for the keep-alive pings, one each 20 s on a link, to be inside.
        idle_s = 1.0 if not is_many else 5.0 if rig.options.is_quick else 20.0
        pids = tree(relay.pid)
        began_ns = cpu_ns(pids)
        time.sleep(idle_s)
        idle_core_share = (cpu_ns(pids) - began_ns) / 1e9 / idle_s
        if is_many:
            found["many"] = turns(_TURNS)
        sessions(0)
        after_kib = rss_kib(relay.pid)
    finally:
        relay.stop()
    figures = {
        "sessions": count,
        "grown_mib": (open_kib - before_kib) / 1024,
        "kib_per_session": (open_kib - before_kib) / count,
        "tree_mib": all_kib / 1024,
        "descriptors": files_open - files,
        "most_descriptors": most,
        "relay_before_kib": before_kib,
        "relay_open_kib": open_kib,
        "relay_closed_kib": after_kib,
        "open_s": took_s,
        "open_us_per_session": took_s * 1e6 / count,
        "idle_core_%": 100 * idle_core_share,
    }
    if is_many:
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            few, many = (found[name].quantile(share) / 1e3 for name in ("few", "many"))
            figures |= {f"few_first_{label}_ms": few, f"first_{label}_ms": many}
            figures[f"slower_{label}_ms"] = many - few
    return _Found(figures, found)
