"""A thousand clients that ask over the shim and never read: what each holds, when it is let go.

Each has a socket of its own with a small receive buffer, asks for an answer far longer than any
buffer, and reads nothing. `kib_a_reader` is what the relay grew by, `kernel_kib_a_reader` what
waits in the kernel at the relay's end of their connections. Once all is full the provider is not
read either: `core_while_they_wait_%`. `gone_s` is when the relay had closed the last of their
connections, which is between once and twice `server.slow_consumer_ms` (30 s when left alone; 5 s
in a quick run). Others are asked while they wait: their first token at p99, less what the provider
takes, over that of the same relay before.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

from bench import emulated
from bench.paths import chat_body
from bench.processes import RelayProcess, cpu_ns, open_files, rss_kib
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import Histogram

_READERS, _QUICK_READERS = 1000, 200
_SLOW_CONSUMER_S, _QUICK_S = 30.0, 5.0
_ENDLESS = "emu:ttft=1,itl=1,tokens=200000"
_TTFT_MS, _ITL_MS, _TOKENS, _STREAMS = 20, 10, 25, 16
_GOOD = f"emu:ttft={_TTFT_MS},itl={_ITL_MS},tokens={_TOKENS},stamp=1"
_KIB, _OVER = 384.0, 1.1
_KERNEL_KIB = 384.0
_SPARE_FILES = 64
"""Connections of others that come and go."""
_FULL_KIB = 32.0
_IDLE = 0.05
"""Of a core."""
_BUFFER_BYTES = 4096


def run(rig: Rig) -> CaseResult:
    """Open, look, wait until they are gone, look again."""
    count = _QUICK_READERS if rig.options.is_quick else _READERS
    limit_s = _QUICK_S if rig.options.is_quick else _SLOW_CONSUMER_S
    relay = RelayProcess(
        rig.emulator,
        rig.directory,
        "relay-slow",
        server={"slow_consumer_ms": round(limit_s * 1000)},
    )
    try:
        return _measure(rig, relay, count, limit_s)
    finally:
        relay.stop()


def _measure(rig: Rig, relay: RelayProcess, count: int, limit_s: float) -> CaseResult:
    rig.load.ask(
        {
            "op": "keyed",
            "path": "beside_slow",
            "relay_url": f"http://127.0.0.1:{relay.http_port}",
            "bearer": "",
            "model_prefix": "lab/",
            "model": _GOOD,
        },
        60.0,
    )
    before = _leg(rig, relay)
    before_kib, files = rss_kib(relay.pid), open_files(relay.pid)
    since = emulated.last_id(rig.emulator)
    began_s = time.monotonic()
    readers = [_reader(relay.http_port) for _ in range(count)]
    try:
        idle_core = _settled(relay, count, limit_s)
        full_s = time.monotonic() - began_s
        held_kib, kernel_kib = rss_kib(relay.pid), _kernel_kib(relay.http_port)
        beside = _leg(rig, relay)
        gone_s = _until_gone(relay, files, began_s, full_s + 3 * limit_s + 10)
    finally:
        for one in readers:
            one.close()
    time.sleep(1.0)
    left = [
        stream
        for stream in emulated.ask(rig.emulator, f"/emulator/streams?since={since}")["streams"]
        if stream["model"] == _ENDLESS and stream["outcome"] == "open"
    ]
    over = (beside.quantile(0.99) / 1e3 - _TTFT_MS) / (before.quantile(0.99) / 1e3 - _TTFT_MS)
    result = CaseResult(axes={"readers": count, "slow_consumer_s": limit_s})
    result.rows["readers"] = {
        "full_s": full_s,
        "kib_a_reader": (held_kib - before_kib) / count,
        "kernel_kib_a_reader": kernel_kib / count,
        "core_while_they_wait_%": 100 * idle_core,
        "gone_s": gone_s,
        "left_at_the_provider": len(left),
        "relay_before_kib": before_kib,
        "relay_after_kib": rss_kib(relay.pid),
    }
    result.rows["others"] = {
        "first_p99_before_ms": before.quantile(0.99) / 1e3,
        "first_p99_beside_ms": beside.quantile(0.99) / 1e3,
        "added_p99_over_before": over,
    }
    result.histograms = {"before": before, "beside": beside}
    result.targets = [
        ("readers", "kib_a_reader", _KIB),
        ("readers", "kernel_kib_a_reader", _KERNEL_KIB),
        ("readers", "gone_s", full_s + 2 * limit_s + 1),
        ("readers", "left_at_the_provider", 0.0),
        ("others", "added_p99_over_before", _OVER),
    ]
    return result


def _kernel_kib(port: int) -> float:
    """What waits to be sent or taken, of all connections that came to a port of this machine."""
    waiting = 0
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port:
            waiting += int(fields[4].partition(":")[0], 16)
    return waiting / 1024


def _settled(relay: RelayProcess, count: int, most_s: float) -> float:
    """Wait until something waits for each reader and the relay does next to nothing, so that all
    buffers are full, for no longer than readers are given; what it does then, in cores."""
    pids, until_s = relay.watched_pids(), time.monotonic() + most_s
    while True:
        used_ns, seen_s = cpu_ns(pids), time.monotonic()
        time.sleep(0.5)
        share = (cpu_ns(pids) - used_ns) / 1e9 / (time.monotonic() - seen_s)
        is_full = share < _IDLE and _kernel_kib(relay.http_port) > count * _FULL_KIB
        if is_full or time.monotonic() > until_s:
            return share


def _reader(port: int) -> socket.socket:
    """Has asked, and reads nothing."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    made.connect(("127.0.0.1", port))
    body = chat_body(f"lab/{_ENDLESS}")
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: relay\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    made.sendall(head.encode() + body)
    return made


def _until_gone(relay: RelayProcess, files: int, began_s: float, most_s: float) -> float:
    """When the relay had no more descriptors than before; NaN: not in time."""
    while time.monotonic() - began_s < most_s:
        if open_files(relay.pid) <= files + _SPARE_FILES:
            return time.monotonic() - began_s
        time.sleep(0.1)
    return float("nan")


def _leg(rig: Rig, relay: RelayProcess) -> Histogram:
    raw: dict[str, Any] = rig.load.ask(
        {
            "op": "leg",
            "path": "beside_slow",
            "streams": _STREAMS,
            "tokens": _TOKENS,
            "ttft_ms": _TTFT_MS,
            "itl_ms": _ITL_MS,
            "model": _GOOD,
            "window_s": rig.options.window_s,
            "watch": {"relay": relay.watched_pids()},
        },
        90.0,
    )
    return Histogram.from_dict(raw["histograms"]["ttft"])
