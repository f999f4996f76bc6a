"""What TLS between clients and the relay costs: CPU of the relay for a request and for a token, and
time to the first one, on connections that are open.

A second relay is the same but for its `tls`; legs alternate between the two, by way and by length
of answer, and the figures are paired differences. What a request costs and what a token costs come
from the two lengths. The certificate is P-256, the cipher what both ends choose.
"""

from __future__ import annotations

from typing import Any

from bench.certificates import issue
from bench.processes import BenchError, RelayProcess
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import Histogram, median, merged, spread

WAYS = ("sse", "generate", "converse")
_SHORT, _LONG = 5, 50
_STREAMS = {_SHORT: 4, _LONG: 12}
_TTFT_MS, _ITL_MS = 10, 5
_AT_REST_TOKENS = 6
"""For time to first token: one stream, so that nobody waits for anybody."""


def run(rig: Rig) -> CaseResult:
    """All three ways to the relay, at two lengths of answer and at rest."""
    rounds = 3 if rig.options.is_quick else 10
    tls, ca_file = issue(rig.directory, "tls-cost")
    relay = RelayProcess(rig.emulator, rig.directory, "relay-tls", tls=tls)
    try:
        rig.load.ask(
            {
                "op": "tls",
                "relay_url": f"https://localhost:{relay.http_port}",
                "relay_grpc_port": relay.grpc_port,
                "ca_file": str(ca_file),
            },
            60.0,
        )
        legs = _measure(rig, relay, rounds)
    finally:
        relay.stop()
    return _result(legs, rounds, rig.options.window_s)


_Legs = dict[tuple[str, int, bool], list[dict[str, Any]]]
"""By way, tokens and whether over TLS; 0 tokens: at rest."""


def _measure(rig: Rig, relay: RelayProcess, rounds: int) -> _Legs:
    watch = {False: rig.relay.watched_pids(), True: relay.watched_pids()}
    legs: _Legs = {}
    for number in range(rounds):
        rig.say(f"tls_cost, round {number + 1} of {rounds}")
        for way in WAYS:
            for length in (*_STREAMS, 0):
                tokens = length or _AT_REST_TOKENS
                for is_tls in (False, True) if number % 2 else (True, False):
                    raw = rig.load.ask(
                        {
                            "op": "leg",
                            "path": f"{way}_tls" if is_tls else way,
                            "streams": _STREAMS.get(length, 1),
                            "tokens": tokens,
                            "ttft_ms": _TTFT_MS,
                            "itl_ms": _ITL_MS,
                            "model": f"emu:ttft={_TTFT_MS},itl={_ITL_MS},tokens={tokens},stamp=1",
                            "window_s": rig.options.window_s,
                            "watch": {"relay": watch[is_tls]},
                        },
                        90.0,
                    )
                    if raw["error_count"] or raw["unanswered"]:
                        raise BenchError(f"{way}: {raw['error_count']} failed: {raw['errors']}")
                    legs.setdefault((way, length, is_tls), []).append(raw)
    return legs


def _result(legs: _Legs, rounds: int, window_s: float) -> CaseResult:
    result = CaseResult(
        axes={
            "ways": WAYS,
            "tokens": list(_STREAMS),
            "streams": list(_STREAMS.values()),
            "rounds": rounds,
            "window_s": window_s,
        },
        notes=[
            "more_*: median over rounds of (TLS minus plain of the same round); _low and _high are"
            " the extreme rounds; *_least_us: the round in which others took least"
        ],
    )
    for way in WAYS:
        more: dict[int, list[float]] = {}
        for tokens in _STREAMS:
            plain, tls = (
                [_us_a_request(raw, tokens) for raw in legs[way, tokens, is_tls]]
                for is_tls in (False, True)
            )
            more[tokens] = [t - p for t, p in zip(tls, plain, strict=True)]
            low, high = spread(more[tokens])
            result.rows[f"{way}/{tokens}_tokens"] = {
                "plain_us": median(plain),
                "tls_us": median(tls),
                "plain_least_us": min(plain),
                "tls_least_us": min(tls),
                "tls_over_plain": median([t / p for t, p in zip(tls, plain, strict=True)]),
                "more_a_request_us": median(more[tokens]),
                "more_low_us": low,
                "more_high_us": high,
            }
            result.ratios[f"tls_over_plain/{way}/{tokens}"] = median(
                [t / p for t, p in zip(tls, plain, strict=True)]
            )
        least = [
            result.rows[f"{way}/{tokens}_tokens"]["tls_least_us"]
            - result.rows[f"{way}/{tokens}_tokens"]["plain_least_us"]
            for tokens in (_SHORT, _LONG)
        ]
        a_token = [
            (long_us - short_us) / (_LONG - _SHORT)
            for long_us, short_us in zip(more[_LONG], more[_SHORT], strict=True)
        ]
        low, high = spread(a_token)
        ttft = {is_tls: [_ttft(raw) for raw in legs[way, 0, is_tls]] for is_tls in (False, True)}
        added = [
            (t.quantile(0.5) - p.quantile(0.5)) / 1e3
            for t, p in zip(ttft[True], ttft[False], strict=True)
        ]
        result.rows[f"{way}/a_token"] = {
            "more_a_token_us": median(a_token),
            "more_by_least_us": (least[1] - least[0]) / (_LONG - _SHORT),
            "more_low_us": low,
            "more_high_us": high,
        }
        low, high = spread(added)
        result.rows[f"{way}/ttft"] = {
            "added_p50_ms": median(added),
            "added_p50_low_ms": low,
            "added_p50_high_ms": high,
            "plain_p50_ms": merged(ttft[False]).quantile(0.5) / 1e3 - _TTFT_MS,
            "tls_p50_ms": merged(ttft[True]).quantile(0.5) / 1e3 - _TTFT_MS,
            "plain_p99_ms": merged(ttft[False]).quantile(0.99) / 1e3 - _TTFT_MS,
            "tls_p99_ms": merged(ttft[True]).quantile(0.99) / 1e3 - _TTFT_MS,
        }
    return result


def _us_a_request(raw: dict[str, Any], tokens: int) -> float:
    used_us: float = raw["cpu_ns"]["relay"] / 1e3
    return used_us * tokens / float(raw["tokens_in_window"])


def _ttft(raw: dict[str, Any]) -> Histogram:
    return Histogram.from_dict(raw["histograms"]["ttft"])
