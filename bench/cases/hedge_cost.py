"""What a hedge that is never due costs a request and a token: the same load, armed and disabled.

Two aliases have the same two candidates and the same answers; one has hedging disabled, the other a
delay that no answer reaches. Legs alternate; the figures are paired differences of the relay's CPU.
"""

from __future__ import annotations

from typing import Any

from bench.hedged import HedgedRelay, alias
from bench.processes import BenchError
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import median, spread

_SHORT, _LONG = 5, 50
_RATES = {_SHORT: 125, _LONG: 60}
_TTFT_MS, _ITL_MS = 10, 5
_LIMIT_US = 100.0
_MODES: dict[str, dict[str, Any]] = {
    "disabled": {"mode": "disabled"},
    "armed": {"mode": "active", "delay": 5000},
}


def run(rig: Rig) -> CaseResult:
    """Both lengths of answer, over the SSE shim."""
    rounds = 4 if rig.options.is_quick else 12
    window_s = rig.options.window_s
    aliases = {}
    for tokens in _RATES:
        model = f"emu:ttft={_TTFT_MS},itl={_ITL_MS},tokens={tokens},stamp=1"
        for mode, hedge in _MODES.items():
            aliases[f"{mode}-{tokens}"] = alias(model, model, **hedge)
    used_us: dict[str, list[float]] = {name: [] for name in aliases}
    with HedgedRelay(rig, "relay-hedge-cost", aliases) as hedged:
        watch = {"relay": hedged.relay.watched_pids()}
        for number in range(rounds):
            rig.say(f"hedge_cost, round {number + 1} of {rounds}")
            for tokens, rate in _RATES.items():
                modes = list(_MODES)[:: 1 if number % 2 else -1]
                for mode in modes:
                    raw = hedged.load.ask(
                        {
                            "op": "leg",
                            "path": "sse",
                            "streams": rate * (_TTFT_MS + (tokens - 1) * _ITL_MS) / 1e3,
                            "tokens": tokens,
                            "ttft_ms": _TTFT_MS,
                            "itl_ms": _ITL_MS,
                            "model": f"{mode}-{tokens}",
                            "window_s": window_s,
                            "watch": watch,
                        },
                        90.0,
                    )
                    if raw["error_count"] or raw["unanswered"]:
                        raise BenchError(f"{mode}: {raw['error_count']} failed: {raw['errors']}")
                    requests = raw["tokens_in_window"] / tokens
                    used_us[f"{mode}-{tokens}"].append(raw["cpu_ns"]["relay"] / 1e3 / requests)
        started = hedged.relay.state()["origins"]
    result = CaseResult(
        axes={"tokens": list(_RATES), "rates_per_s": list(_RATES.values()), "rounds": rounds}
    )
    more: dict[int, list[float]] = {}
    for tokens in _RATES:
        disabled, armed = used_us[f"disabled-{tokens}"], used_us[f"armed-{tokens}"]
        more[tokens] = [a - d for a, d in zip(armed, disabled, strict=True)]
        low, high = spread(more[tokens])
        result.rows[f"sse/{tokens}_tokens"] = {
            "disabled_us": median(disabled),
            "armed_us": median(armed),
            "armed_over_disabled": median([a / d for a, d in zip(armed, disabled, strict=True)]),
            "more_a_request_us": median(more[tokens]),
            "more_low_us": low,
            "more_high_us": high,
        }
    per_token = [
        (long_us - short_us) / (_LONG - _SHORT)
        for long_us, short_us in zip(more[_LONG], more[_SHORT], strict=True)
    ]
    result.rows["sse/a_token"] = {"more_a_token_us": median(per_token)}
    if len(started) > 1:
        other = min(row["streams_opened"] for row in started)
        result.notes.append(f"{other} streams at the second candidate: no hedge was due")
    result.targets.append((f"sse/{_SHORT}_tokens", "more_a_request_us", _LIMIT_US))
    return result
