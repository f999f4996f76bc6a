"""Resident memory of a thousand idle Converse sessions, by the number of connections they share.

A fresh relay each time, warmed by some sessions that were opened and closed, so that what the first
session loads is not booked to the thousand. A thousand sessions are as many as one connection takes
(`grpc.max_concurrent_streams`); a thousand links are a connection each, as agents have that are
processes of their own. The connection's buffers are inside, on the relay's side. `talked` sessions
have had a turn each before they are idle, with a prompt of 16 kB, as between two turns of a call.
"""

from __future__ import annotations

import time

from bench.processes import RelayProcess, cpu_ns, open_files, rss_kib
from bench.result import CaseResult
from bench.rig import Rig

_SESSIONS = 1000
_CONNECTIONS = (1, 10, 1000)
_LIMIT_MIB = 60.0
"""What a thousand sessions over one connection may add."""
_LIMIT_KIB = 150.0
"""A session's share where 100 sessions have a connection: 10,000 of them in 1.5 GiB."""
_SETTLE_S = 0.5
_TALKED = f"{_SESSIONS}_over_1_talked"


def run(rig: Rig) -> CaseResult:
    """Open, look, close; once for each number of connections."""
    result = CaseResult(axes={"sessions": _SESSIONS, "connections": _CONNECTIONS})
    for connections in _CONNECTIONS:
        rig.say(f"idle_sessions: {_SESSIONS} over {connections}")
        result.rows[_key(connections)] = _measure(rig, connections)
    rig.say("idle_sessions: after a turn each")
    result.rows[_TALKED] = _measure(rig, 1, model="lab/emu:ttft=1,itl=1,tokens=20")
    result.targets = [
        (_key(1), "grown_mib", _LIMIT_MIB),
        (_TALKED, "grown_mib", _LIMIT_MIB),
        (_key(10), "kib_per_session", _LIMIT_KIB),
    ]
    return result


def _key(connections: int) -> str:
    return f"{_SESSIONS}_over_{connections}"


def _measure(rig: Rig, connections: int, model: str = "") -> dict[str, float]:
    relay = RelayProcess(rig.emulator, rig.directory, "relay-idle")
    try:

        def sessions(count: int, over: int = 1) -> None:
            request = {"op": "sessions", "port": relay.grpc_port}
            more = {"count": count, "connections": over, "model": model}
            rig.load.ask({**request, **more}, 120.0)
            time.sleep(_SETTLE_S if count else 2 * _SETTLE_S)

        sessions(100, min(10, connections))
        sessions(0)
        before_kib, files = rss_kib(relay.pid), open_files(relay.pid)
        sessions(_SESSIONS, connections)
        open_kib, files_open = rss_kib(relay.pid), open_files(relay.pid)
        idle_s = 1.0
        began_ns = cpu_ns([relay.pid])
        time.sleep(idle_s)
        idle_core_share = (cpu_ns([relay.pid]) - began_ns) / 1e9 / idle_s
        sessions(0)
        after_kib = rss_kib(relay.pid)
    finally:
        relay.stop()
    return {
        "grown_mib": (open_kib - before_kib) / 1024,
        "kib_per_session": (open_kib - before_kib) / _SESSIONS,
        "descriptors": files_open - files,
        "relay_before_kib": before_kib,
        "relay_open_kib": open_kib,
        "relay_closed_kib": after_kib,
        "idle_core_%": 100 * idle_core_share,
    }
