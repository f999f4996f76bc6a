"""What tokens that end cost requests: 64 streams, tokens of 4 s that take 500 ms to fetch.

Relays that are the same but for the credential of their one provider: tokens of Entra's (fetched by
the relay's own flow over its own transport) beside a static key, and keys of AWS that botocore
finds in a thread, which holds the interpreter now and then, beside such keys that live an hour. A
renewal goes on in a relay whether or not it is asked, so each has a process of its own and legs
alternate between two. AWS's keys live 24 s, since none is used in its last ten seconds; their
windows are longer, so that each has a renewal.

`added_p99` is the median over rounds of (renewing minus static) of a round's p99, with the 95 %
interval of a bootstrap over rounds. The emulator refuses a token that is over, and a leg with one
failed request is no result. `worst` is the single worst value of all rounds.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any

from bench import emulated
from bench.processes import BenchError, RelayProcess
from bench.result import CaseResult
from bench.rig import ITL_MS, TOKENS_BY_STREAMS, TTFT_MS, Rig
from bench.stats import Histogram, median, merged

STREAMS = 64
TOKEN_LIFE_S, TOKEN_DELAY_MS, TOKEN_WINDOW_S = 4.0, 500.0, 4.0
KEYS_LIFE_S, KEYS_DELAY_MS, KEYS_WINDOW_S = 24.0, 500.0, 13.0
_FIGURES = ("ttft", "token", "gap")
_HOUR_S = 3600.0
_DRAWS = 2000
_VARIABLES = {
    "RTRELAY_BENCH_KEY": "a-key-of-the-bench",
    "RTRELAY_BENCH_SECRET": "a-client-secret-of-the-bench",
    # Nobody's own keys: botocore is to go to the endpoint.
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_CONFIG_FILE": os.devnull,
}


def run(rig: Rig) -> CaseResult:
    """Both kinds beside a static key."""
    rounds = 3 if rig.options.is_quick else 10
    emulator = rig.emulator
    os.environ.update(_VARIABLES)
    os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = (
        f"http://127.0.0.1:{emulator.plain_port}/emulator/cloud/aws_container/v2/credentials/bench"
    )
    result = CaseResult(
        axes={
            "streams": STREAMS,
            "tokens": TOKENS_BY_STREAMS[STREAMS],
            "itl_ms": ITL_MS,
            "rounds": rounds,
            "window_s": {"entra": TOKEN_WINDOW_S, "aws_chain": KEYS_WINDOW_S},
            "life_s": {"entra": TOKEN_LIFE_S, "aws_chain": KEYS_LIFE_S},
            "delay_ms": {"entra": TOKEN_DELAY_MS, "aws_chain": KEYS_DELAY_MS},
        },
        notes=["added_*: median over rounds of paired differences; _low, _high: bootstrap, 95 %"],
    )
    url = emulator.base_url
    azure = {"door": "azure", "base_url": f"{url}/azure/openai/v1", "auth": "api-key"}
    entra = {
        "kind": "azure_entra",
        "tenant_id": "bench",
        "client_id": "bench",
        "client_secret": "${RTRELAY_BENCH_SECRET}",
        "authority": f"{url}/emulator/cloud/entra",
    }
    bedrock = {"door": "bedrock_openai", "region": "us-east-1", "base_url": f"{url}/bedrock/v1"}
    chain = {"kind": "aws_sigv4", "source": "chain"}
    key = {"api_key": "${RTRELAY_BENCH_KEY}"}
    for name, row, static, credential, window_s, times, script in (
        (
            "entra",
            azure,
            key,
            entra,
            TOKEN_WINDOW_S,
            rounds,
            ("entra", TOKEN_LIFE_S, TOKEN_DELAY_MS),
        ),
        (
            "aws_chain",
            bedrock,
            {"credential": chain},
            chain,
            KEYS_WINDOW_S,
            max(2, rounds * 3 // 5),
            ("aws_container", KEYS_LIFE_S, KEYS_DELAY_MS),
        ),
    ):
        rows = {"static": {**row, **static}, "renewing": {**row, "credential": credential}}
        before = _asks(rig, script[0])
        legs = _measure(rig, name, rows, script, window_s, times)
        _add(result, name, legs, _asks(rig, script[0]) - before)
    return result


def _measure(
    rig: Rig,
    name: str,
    rows: dict[str, dict[str, Any]],
    script: tuple[str, float, float],
    window_s: float,
    rounds: int,
) -> dict[str, list[dict[str, Histogram]]]:
    model = f"cloud/emu:ttft={TTFT_MS},itl={ITL_MS},tokens={TOKENS_BY_STREAMS[STREAMS]},stamp=1"
    relays: dict[str, RelayProcess] = {}
    legs: dict[str, list[dict[str, Histogram]]] = {"static": [], "renewing": []}
    try:
        endpoint, life_s, delay_ms = script
        for kind, row in rows.items():
            # What the first one has been given lives for the whole run.
            order = {
                "endpoint": endpoint,
                "expires_in_s": life_s if kind == "renewing" else _HOUR_S,
                "delay_ms": delay_ms,
            }
            emulated.ask(rig.emulator, "/emulator/cloud/script", json.dumps(order).encode())
            # A machine's endpoint would hand out the long-lived ones again.
            emulated.ask(rig.emulator, "/emulator/cloud/rotate", b'{"endpoint": "*"}')
            relay = RelayProcess(
                rig.emulator, rig.directory, f"relay-{name}-{kind}", rows={"cloud": row}
            )
            relays[kind] = relay
            rig.load.ask(
                {
                    "op": "keyed",
                    "path": f"{name}-{kind}",
                    "relay_url": f"http://127.0.0.1:{relay.http_port}",
                    "bearer": "",
                    "model": model,
                },
                60.0,
            )
        for number in range(rounds):
            rig.say(f"token_expiry, {name}, round {number + 1} of {rounds}")
            for kind in ("static", "renewing") if number % 2 else ("renewing", "static"):
                legs[kind].append(_leg(rig, f"{name}-{kind}", model, window_s, relays[kind]))
    finally:
        for relay in relays.values():
            relay.stop()
    return legs


def _leg(
    rig: Rig, path: str, model: str, window_s: float, relay: RelayProcess
) -> dict[str, Histogram]:
    raw = rig.load.ask(
        {
            "op": "leg",
            "path": path,
            "streams": STREAMS,
            "tokens": TOKENS_BY_STREAMS[STREAMS],
            "ttft_ms": TTFT_MS,
            "itl_ms": ITL_MS,
            "model": model,
            "window_s": window_s,
            "jitter": True,
            "watch": {"relay": relay.watched_pids()},
        },
        120.0,
    )
    if raw["error_count"] or raw["unanswered"]:
        raise BenchError(f"{path}: {raw['error_count']} failed: {raw['errors']}")
    return {name: Histogram.from_dict(raw["histograms"][name]) for name in _FIGURES}


def _add(
    result: CaseResult, name: str, legs: dict[str, list[dict[str, Histogram]]], renewals: int
) -> None:
    for figure in _FIGURES:
        static, renewing = ([leg[figure] for leg in legs[kind]] for kind in ("static", "renewing"))
        added_ms = [
            (r.quantile(0.99) - s.quantile(0.99)) / 1e3
            for r, s in zip(renewing, static, strict=True)
        ]
        low_ms, high_ms = interval(added_ms)
        result.rows[f"{name}/{figure}"] = {
            "static_p99_ms": merged(static).quantile(0.99) / 1e3,
            "renewing_p99_ms": merged(renewing).quantile(0.99) / 1e3,
            "added_p99_ms": median(added_ms),
            "added_p99_low_ms": low_ms,
            "added_p99_high_ms": high_ms,
            "static_worst_ms": merged(static).max_us / 1e3,
            "renewing_worst_ms": merged(renewing).max_us / 1e3,
            "samples": merged(renewing).count,
        }
    if renewals < len(legs["renewing"]):
        raise BenchError(f"{name}: {renewals} renewals in {len(legs['renewing'])} rounds")
    result.rows[f"{name}/renewals"] = {"asked": renewals, "rounds": len(legs["renewing"])}


def interval(values: list[float], draws: int = _DRAWS) -> tuple[float, float]:
    """Of the median, 95 %: percentile bootstrap with a seed of its own."""
    drawn = random.Random(1)
    medians = sorted(median(drawn.choices(values, k=len(values))) for _ in range(draws))
    return medians[int(0.025 * draws)], medians[int(0.975 * draws)]


def _asks(rig: Rig, endpoint: str) -> int:
    told = emulated.ask(rig.emulator, "/emulator/cloud/report")["asks"]
    return sum(1 for each in told if each["endpoint"] == endpoint)
