"""What it costs to be told of: metrics, log and dashboard as they are by default, and traces.

Four relays that are the same but for `observability`: `silent` counts nothing and logs failures
alone, `told` is the default, `traced` sends spans of every generation to a collector in this
process, `traced_10` those of a tenth. Answers of 50 tokens, and of 5; legs alternate, the figures
are differences of the same round. The dashboard's ring is in all four, it cannot be switched off.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bench.processes import RelayProcess
from bench.result import CaseResult
from bench.rig import Rig
from bench.side_by_side import ITL_MS, TTFT_MS, Asked, Legs, Load, measure, us_a_request
from bench.stats import median, spread

_LOADS = (Load(50, 12, "m50"), Load(5, 4, "m5"), Load(5, 16, "m5"))
_LIMIT_SHARE, _LIMIT_TRACES_US = 1.05, 25.0


def run(rig: Rig) -> CaseResult:
    """Over the SSE shim."""
    rounds = 4 if rig.options.is_quick else 12
    aliases = {
        f"m{tokens}": {
            "candidates": [
                {
                    "provider": "lab",
                    "model": f"emu:ttft={TTFT_MS},itl={ITL_MS},tokens={tokens},stamp=1",
                }
            ]
        }
        for tokens in (50, 5)
    }
    with ExitStack() as stack:
        port = stack.enter_context(_collector())
        traces = {"endpoint": f"http://127.0.0.1:{port}/v1/traces"}
        sections: dict[str, dict[str, Any]] = {
            "silent": {"metrics": {"enabled": False}, "logs": {"share": 0.0}},
            "told": {},
            "traced": {"tracing": {**traces, "share": 1.0}},
            "traced_10": {"tracing": {**traces, "share": 0.1}},
        }
        asked: dict[str, Asked] = {}
        for name, section in sections.items():
            relay = RelayProcess(
                rig.emulator,
                rig.directory,
                f"relay-{name}",
                models=aliases,
                sections={"observability": section} if section else {},
            )
            stack.callback(relay.stop)
            asked[name] = Asked(relay)
        return _result(measure(rig, asked, _LOADS, rounds), rounds, rig)


@contextmanager
def _collector() -> Iterator[int]:
    """Takes whatever comes; its port."""

    class Taking(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5.0)


def _result(legs: Legs, rounds: int, rig: Rig) -> CaseResult:
    result = CaseResult(
        axes={"loads": [f"{one.tokens} tokens, {one.streams} streams" for one in _LOADS]},
        notes=[
            f"{rounds} rounds; more_*: median of differences within a round, told over silent and"
            " traced over told"
        ],
        targets=[
            ("50_tokens_12_streams", "told_over_silent", _LIMIT_SHARE),
            ("5_tokens_16_streams", "traced_more_us", _LIMIT_TRACES_US),
            ("5_tokens_16_streams", "traced_10_more_us", _LIMIT_TRACES_US),
        ],
    )
    for load in _LOADS:
        us = {
            name: [us_a_request(raw, load.tokens) for raw in legs[load, name]]
            for name in ("silent", "told", "traced", "traced_10")
        }
        shares = [told / silent for told, silent in zip(us["told"], us["silent"], strict=True)]
        row = {f"{name}_us": median(found) for name, found in us.items()}
        row["requests_per_s"] = median(
            [
                raw["tokens_in_window"] / load.tokens / rig.options.window_s
                for raw in legs[load, "told"]
            ]
        )
        row["told_over_silent"] = median(shares)
        row["told_over_silent_low"], row["told_over_silent_high"] = spread(shares)
        for name in ("traced", "traced_10"):
            added = [one - told for one, told in zip(us[name], us["told"], strict=True)]
            row[f"{name}_more_us"] = median(added)
            row[f"{name}_more_low_us"], row[f"{name}_more_high_us"] = spread(added)
        result.rows[f"{load.tokens}_tokens_{load.streams}_streams"] = row
    return result
