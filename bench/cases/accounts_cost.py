"""What keys, limits, budgets and the ledger cost a request, a token and the first token.

A second relay is the same but for a store (SQLite), keys, limits of requests, tokens and what runs
at once, and a hard budget each of the key, its team and its organisation. Legs alternate between
the two; the figures are paired differences. What a request and what a token costs come from the
two lengths of answer; a request is weighed where little is going on, and where a core is busy.
Beside it: a bare insert into a WAL on the same disk, committed.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
from pathlib import Path
from typing import Any

from bench.keyed import PEPPER, VARIABLE, make_key
from bench.processes import RelayProcess
from bench.result import CaseResult
from bench.rig import Rig
from bench.side_by_side import ITL_MS, TTFT_MS, Asked, Legs, Load, measure, us_a_request
from bench.stats import Histogram, median, merged, spread
from relay.store.engine import make_ready

_SHORT, _LONG = 5, 50
_STREAMS = {_SHORT: 4, _LONG: 12}
_BUSIER = (16, 32)
"""Streams of short answers at which a request is weighed again: some 500 and 1,000 a second."""
_AT_REST_TOKENS = 6
_LIMIT_US, _LIMITTTFT_MS = 150.0, 0.3


def run(rig: Rig) -> CaseResult:
    """Over the SSE shim, at two lengths of answer and at rest."""
    rounds = 3 if rig.options.is_quick else 10
    os.environ[VARIABLE] = PEPPER
    url = f"sqlite:///{rig.directory / 'accounts.db'}"
    make_ready(url)
    key = make_key(url)
    models = {
        f"m{tokens}-{length}": f"emu:ttft={TTFT_MS},itl={ITL_MS},tokens={tokens},stamp=1"
        for length, tokens in ((_SHORT, _SHORT), (_LONG, _LONG), (0, _AT_REST_TOKENS))
    }
    aliases = {
        name: {"candidates": [{"provider": "lab", "model": model}]}
        for name, model in models.items()
    }
    prices = {model: {"input": 1.0, "output": 2.0} for model in models.values()}
    plain = RelayProcess(rig.emulator, rig.directory, "relay-plain", models=aliases)
    try:
        booked = RelayProcess(
            rig.emulator,
            rig.directory,
            "relay-booked",
            rows={"lab": {"prices": prices}},
            models=aliases,
            sections={
                "store": {"url": url},
                "auth": {"pepper": f"${{{VARIABLE}}}"},
                "limits": {
                    "key": {"rpm": 10**6, "input_tpm": 10**8, "generations": 10**4},
                    "team": {"rpm": 10**6, "output_tpm": 10**8},
                },
            },
        )
        try:
            asked = {"sse": Asked(plain), "sse_keyed": Asked(booked, key)}
            legs = measure(rig, asked, _LOADS, rounds)
        finally:
            booked.stop()
    finally:
        plain.stop()
    return _result(legs, rounds, rig, _bare_insert_us(rig.directory))


_LOADS = tuple(
    Load(length or _AT_REST_TOKENS, streams, f"m{length or _AT_REST_TOKENS}-{length}")
    for length, streams in (
        *_STREAMS.items(),
        *((_SHORT, streams) for streams in _BUSIER),
        (0, 1),
    )
)
_AT_REST = _LOADS[-1]


def _bare_insert_us(directory: Path) -> float:
    """CPU of one committed insert, WAL and synchronous NORMAL as the ledger's."""
    connection = sqlite3.connect(directory / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)")
    samples: list[float] = []
    for number in range(20):
        began_ns = time.process_time_ns()
        for row in range(200):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO t VALUES (?, ?)", (f"{number}-{row}", "x" * 200))
            connection.execute("COMMIT")
        samples.append((time.process_time_ns() - began_ns) / 1e3 / 200)
    connection.close()
    return statistics.median(samples)


def _result(legs: Legs, rounds: int, rig: Rig, bare_us: float) -> CaseResult:
    result = CaseResult(
        axes={
            "tokens": list(_STREAMS),
            "streams": [*_STREAMS.values(), *_BUSIER],
            "rounds": rounds,
        },
        notes=[
            "more_*: median over rounds of (with accounts minus without, of the same round)",
            f"a bare WAL insert, committed: {bare_us:.1f} us of CPU",
        ],
    )
    more: dict[int, list[float]] = {}
    for load in _LOADS:
        if load is _AT_REST:
            continue
        tokens, streams, _ = load
        plain, booked = (
            [us_a_request(raw, tokens) for raw in legs[load, path]] for path in ("sse", "sse_keyed")
        )
        added_us = [b - p for b, p in zip(booked, plain, strict=True)]
        if streams == _STREAMS[tokens]:
            more[tokens] = added_us
        low, high = spread(added_us)
        result.rows[f"{tokens}_tokens_{streams}_streams"] = {
            "requests_per_s": median(
                [
                    raw["tokens_in_window"] / tokens / rig.options.window_s
                    for raw in legs[load, "sse_keyed"]
                ]
            ),
            "plain_us": median(plain),
            "booked_us": median(booked),
            "more_a_request_us": median(added_us),
            "more_low_us": low,
            "more_high_us": high,
        }
    a_token = [
        (long_us - short_us) / (_LONG - _SHORT)
        for long_us, short_us in zip(more[_LONG], more[_SHORT], strict=True)
    ]
    ttft = {path: [_ttft(raw) for raw in legs[_AT_REST, path]] for path in ("sse", "sse_keyed")}
    added = [
        (b.quantile(0.5) - p.quantile(0.5)) / 1e3
        for b, p in zip(ttft["sse_keyed"], ttft["sse"], strict=True)
    ]
    result.rows["a_token"] = {"more_a_token_us": median(a_token)}
    result.rows["ttft"] = {
        "added_p50_ms": median(added),
        "plain_p50_ms": merged(ttft["sse"]).quantile(0.5) / 1e3 - TTFT_MS,
        "booked_p50_ms": merged(ttft["sse_keyed"]).quantile(0.5) / 1e3 - TTFT_MS,
        "plain_p99_ms": merged(ttft["sse"]).quantile(0.99) / 1e3 - TTFT_MS,
        "booked_p99_ms": merged(ttft["sse_keyed"]).quantile(0.99) / 1e3 - TTFT_MS,
    }
    result.rows["bare_insert"] = {"cpu_us": bare_us}
    return result


def _ttft(raw: dict[str, Any]) -> Histogram:
    return Histogram.from_dict(raw["histograms"]["ttft"])
