"""Resident memory of one idle Converse session, over a thousand of them on a few connections.

A fresh relay of its own is measured, warmed by some sessions that were opened and closed, so that
what the first session loads is not booked to the thousand.
"""

from __future__ import annotations

import time

from bench.processes import RelayProcess, cpu_ns, rss_kib
from bench.result import CaseResult
from bench.rig import Rig

_SESSIONS = 1000
_CONNECTIONS = 10
_LIMIT_KIB = 150.0
"""10,000 idle streams over 100 connections in 1.5 GiB (the design's reliability page)."""


def run(rig: Rig) -> CaseResult:
    """Open, look, close."""
    relay = RelayProcess(rig.emulator, rig.directory, "relay-memory")
    try:

        def sessions(count: int, connections: int = _CONNECTIONS) -> None:
            request = {"op": "sessions", "port": relay.grpc_port}
            rig.load.ask({**request, "count": count, "connections": connections}, 120.0)

        sessions(100)
        sessions(0)
        time.sleep(0.5)
        before_kib = rss_kib(relay.pid)
        sessions(_SESSIONS)
        time.sleep(0.5)
        open_kib = rss_kib(relay.pid)
        idle_s = 1.0
        began_ns = cpu_ns([relay.pid])
        time.sleep(idle_s)
        idle_core_share = (cpu_ns([relay.pid]) - began_ns) / 1e9 / idle_s
        sessions(0)
        time.sleep(0.5)
        after_kib = rss_kib(relay.pid)
    finally:
        relay.stop()
    key = f"sessions/{_SESSIONS}"
    return CaseResult(
        axes={"sessions": _SESSIONS, "connections": _CONNECTIONS},
        rows={
            key: {
                "kib_per_session": (open_kib - before_kib) / _SESSIONS,
                "relay_before_kib": before_kib,
                "relay_open_kib": open_kib,
                "relay_closed_kib": after_kib,
                "idle_core_%": 100 * idle_core_share,
            }
        },
        targets=[(key, "kib_per_session", _LIMIT_KIB)],
    )
