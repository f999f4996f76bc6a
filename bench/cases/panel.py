"""A panel of three: early stop against waiting for all and one model, replayed and measured.

Replayed: the relay's panel over published latencies on a simulated clock, 20,000 requests an arm
(3,000 with `--quick`). Answers have 5 to 60 tokens at 80 a second; who is right is drawn with
stated rates. A panel's first token comes with the decision, and the rest at once. Measured: relay
and emulator over sockets at a quarter of the time, each answer scripted, so that what the early
stop must save is known beforehand; tokens are counted by the emulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.panels import measured, simulated
from bench.panels.simulated import Played
from bench.panels.world import OUTPUT_TOKENS, RIGHT, SAME_ERROR, draw
from bench.replay.figures import quantile
from bench.result import CaseResult
from bench.rig import Rig

FULL, QUICK = 20_000, 3_000
MEASURED_FULL, MEASURED_QUICK = 200, 60
_TOKENS_OFF = 0.05
"""By which share measured savings may differ from what was promised."""
_LATE_P50_MS = 15.0
"""Behind what the times alone say: relay, emulator, client and two shared cores."""


def run(rig: Rig) -> CaseResult:
    """Both."""
    is_quick = rig.options.is_quick
    requests = QUICK if is_quick else FULL
    world = draw(requests)
    result = CaseResult(
        axes={
            "requests": requests,
            "right": list(RIGHT),
            "same_error": SAME_ERROR,
            "output_tokens": list(OUTPUT_TOKENS),
            "scale_measured": measured.SCALE,
        }
    )
    for number, provider in enumerate(world.providers):
        result.rows[f"alone/{provider.model}"] = _row(simulated.alone(world, number))
    arms: dict[str, dict[str, Any]] = {
        "wait for all": {"early_stop": False},
        "early stop": {},
        "first 2": {"first_n": 2},
        "early stop, wait 1.5 s": {"wait_ms": 1500, "on_too_few": "any"},
    }
    played = {}
    for name, settings in arms.items():
        rig.say(f"panel: {name}")
        played[name] = simulated.panel(world, **settings)
        result.rows[f"panel/{name}"] = _row(played[name])
    late, early = played["wait for all"], played["early stop"]
    result.rows["early stop saves"] = {
        "ttft_p50_ms": _ms(late, 0.5) - _ms(early, 0.5),
        "ttft_p99_ms": _ms(late, 0.99) - _ms(early, 0.99),
        "tokens_share": 1 - sum(p.tokens for p in early) / sum(p.tokens for p in late),
        "cost_share": 1 - sum(p.cost for p in early) / sum(p.cost for p in late),
        "other_answers": float(
            sum(a.is_right != b.is_right for a, b in zip(early, late, strict=True))
        ),
    }
    result.targets.append(("early stop saves", "other_answers", 0.0))
    _measure(rig, result)
    return result


def _measure(rig: Rig, result: CaseResult) -> None:
    count = MEASURED_QUICK if rig.options.is_quick else MEASURED_FULL
    world = draw(count + 1, seed=2)
    found = {
        name: measured.measure(world, count, rig.directory, early_stop=early_stop, say=rig.say)
        for name, early_stop in (("wait for all", False), ("early stop", True))
    }
    for name, arm in found.items():
        late_ms = sorted(
            1e3 * (got - said) for got, said in zip(arm.ttft_s, arm.predicted_s, strict=True)
        )
        result.rows[f"measured/{name}"] = {
            "requests": count,
            "ttft_p50_ms": 1e3 * quantile(sorted(arm.ttft_s), 0.5),
            "ttft_p99_ms": 1e3 * quantile(sorted(arm.ttft_s), 0.99),
            "late_p50_ms": quantile(late_ms, 0.5),
            "late_p99_ms": quantile(late_ms, 0.99),
            "tokens": sum(arm.tokens),
            "promised_tokens": sum(arm.predicted_tokens),
            "cost_micro": sum(arm.cost) / count,
            "promised_cost_micro": sum(arm.predicted_cost) / count,
            "stopped_share": arm.stopped / (3 * count),
        }
        result.targets.append((f"measured/{name}", "late_p50_ms", _LATE_P50_MS))
    late, early = found["wait for all"], found["early stop"]
    saved = sum(late.tokens) - sum(early.tokens)
    promised = sum(late.predicted_tokens) - sum(early.predicted_tokens)
    result.rows["measured/early stop saves"] = {
        "tokens": saved,
        "promised_tokens": promised,
        "off_share": abs(saved - promised) / promised,
        "tokens_share": saved / sum(late.tokens),
        "cost_share": 1 - sum(early.cost) / sum(late.cost),
        "promised_cost_share": 1 - sum(early.predicted_cost) / sum(late.predicted_cost),
    }
    result.targets.append(("measured/early stop saves", "off_share", _TOKENS_OFF))


def _row(played: Sequence[Played]) -> dict[str, float]:
    count = len(played)
    totals = sorted(one.total_s for one in played)
    return {
        "ttft_p50_ms": _ms(played, 0.5),
        "ttft_p99_ms": _ms(played, 0.99),
        "total_p50_ms": 1e3 * quantile(totals, 0.5),
        "total_p99_ms": 1e3 * quantile(totals, 0.99),
        "cost_micro": sum(one.cost for one in played) / count,
        "tokens": sum(one.tokens for one in played) / count,
        "stopped_share": sum(one.stopped for one in played) / (3 * count),
        "right_share": sum(one.is_right for one in played) / count,
    }


def _ms(played: Sequence[Played], share: float) -> float:
    return 1e3 * quantile(sorted(one.ttft_s for one in played), share)
