"""A thousand bad keys a second: what a caller with a good key notices.

One address tries keys as fast as it may: of the right form and of none, unknown and with a wrong
checksum, in turns, over connections that stay. Beside it a good key is asked in open loop, from
another address. `over_quiet` is its first token at p99 over that of the same relay without the
attack, before and behind. Who tries too many from one address is answered 429 without being looked
up; `looked_at` are those that were answered 401.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections import Counter
from typing import Any

from bench.keyed import PEPPER, VARIABLE, make_key
from bench.processes import RelayProcess, cpu_ns
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import Histogram, merged
from relay.governance import token_text
from relay.store.engine import make_ready

_RATE_PER_S = 1000
_TTFT_MS, _ITL_MS, _TOKENS, _STREAMS = 20, 10, 25, 16
_MODEL = f"emu:ttft={_TTFT_MS},itl={_ITL_MS},tokens={_TOKENS},stamp=1"
_OVER = 1.2
_ATTACKER = "127.0.0.9"


def run(rig: Rig) -> CaseResult:
    """Quiet, under attack, quiet; so many rounds."""
    os.environ[VARIABLE] = PEPPER
    url = f"sqlite:///{rig.directory / 'brute.db'}"
    make_ready(url)
    key = make_key(url)
    relay = RelayProcess(
        rig.emulator,
        rig.directory,
        "relay-brute",
        rows={"lab": {"prices": {_MODEL: {"input": 1.0, "output": 2.0}}}},
        models={"good": {"candidates": [{"provider": "lab", "model": _MODEL}]}},
        sections={"store": {"url": url}, "auth": {"pepper": f"${{{VARIABLE}}}"}},
    )
    try:
        return _measure(rig, relay, key)
    finally:
        relay.stop()


def _measure(rig: Rig, relay: RelayProcess, key: str) -> CaseResult:
    rig.load.ask(
        {
            "op": "keyed",
            "path": "good_key",
            "relay_url": f"http://127.0.0.1:{relay.http_port}",
            "bearer": key,
            "model": "good",
        },
        60.0,
    )
    quiet, attacked = [_leg(rig, relay)], []
    statuses: Counter[int] = Counter()
    attacked_s = used_s = 0.0
    for _ in range(rig.options.rounds):
        attacker = _Attacker(relay.http_port)
        pids, began_s = relay.watched_pids(), time.monotonic()
        before_ns = cpu_ns(pids)
        attacker.start()
        try:
            attacked.append(_leg(rig, relay))
        finally:
            attacker.stop()
        used_s += (cpu_ns(pids) - before_ns) / 1e9
        attacked_s += time.monotonic() - began_s
        statuses += attacker.statuses
        quiet.append(_leg(rig, relay))
    own, clean = merged(attacked), merged(quiet)
    tried = statuses.total()
    result = CaseResult(axes={"rate_per_s": _RATE_PER_S, "streams": _STREAMS})
    result.rows["good_key"] = {
        "quiet_first_p50_ms": clean.quantile(0.5) / 1e3,
        "first_p50_ms": own.quantile(0.5) / 1e3,
        "quiet_first_p99_ms": clean.quantile(0.99) / 1e3,
        "first_p99_ms": own.quantile(0.99) / 1e3,
        "p99_over_quiet": own.quantile(0.99) / clean.quantile(0.99),
    }
    result.rows["attack"] = {
        "tried": tried,
        "tried_per_s": tried / attacked_s,
        "looked_at": statuses[401],
        "turned_away": statuses[429],
        "let_in": sum(count for status, count in statuses.items() if status not in (401, 429)),
        "core_%": 100 * used_s / attacked_s,
    }
    result.histograms = {"quiet": clean, "attacked": own}
    result.targets = [("good_key", "p99_over_quiet", _OVER), ("attack", "let_in", 0.0)]
    return result


class _Attacker:
    """Tries keys from an address of its own, in a thread, until it is stopped."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.statuses: Counter[int] = Counter()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends within a request."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        due_s, number = time.monotonic(), 0
        connection = self._connect()
        try:
            while not self._over.is_set():
                request = (
                    "GET /v1/models HTTP/1.1\r\nhost: relay\r\n"
                    f"authorization: Bearer {_bad_key(number)}\r\n\r\n"
                )
                connection.sendall(request.encode())
                answer = connection.recv(65536)
                if not answer:
                    connection.close()
                    connection = self._connect()
                    continue
                self.statuses[int(answer.split(b" ", 2)[1])] += 1
                number += 1
                due_s = max(due_s + 1 / _RATE_PER_S, time.monotonic() - 0.05)
                time.sleep(max(0.0, due_s - time.monotonic()))
        finally:
            connection.close()

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), 5.0, (_ATTACKER, 0))


def _bad_key(number: int) -> str:
    """One of the right form that nobody was given, one with a wrong checksum, one of no form."""
    minted = token_text.mint("virtual key").text
    match number % 3:
        case 0:
            return minted
        case 1:
            return minted[:-1] + ("A" if minted[-1] != "A" else "B")
        case _:
            return secrets.token_urlsafe(32)


def _leg(rig: Rig, relay: RelayProcess) -> Histogram:
    raw: dict[str, Any] = rig.load.ask(
        {
            "op": "leg",
            "path": "good_key",
            "streams": _STREAMS,
            "tokens": _TOKENS,
            "ttft_ms": _TTFT_MS,
            "itl_ms": _ITL_MS,
            "model": "good",
            "window_s": rig.options.window_s,
            "watch": {"relay": relay.watched_pids()},
        },
        90.0,
    )
    return Histogram.from_dict(raw["histograms"]["ttft"])
