"""What experiments and shadows cost a request, in time of the processor:

python -m bench.micro.experiments
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

from relay.config.experiments import ExperimentConfig, ShadowConfig
from relay.content import GenerateRequest, Policy
from relay.decision import Decision
from relay.outcome import AttemptRecord, Ended, GenerationEnd
from relay.policy.experiments import Experiments
from relay.policy.likeness import likeness
from relay.policy.shadow_plan import ShadowPlan

ROUNDS = 7
CALLS = 20_000


def per_call_us(work: Callable[[int], object], calls: int = CALLS) -> float:
    """Of the processor, median over rounds: others that run do not count."""
    found = []
    for _ in range(ROUNDS):
        began_s = time.process_time()
        for number in range(calls):
            work(number)
        found.append((time.process_time() - began_s) / calls * 1e6)
    return median(found)


def experiments(arms: int) -> Experiments:
    """One on `voice`."""
    rows = [{"name": f"arm-{number}", "use": "fast"} for number in range(arms)]
    row = {"model": "voice", "arms": rows}
    return Experiments({"ab": ExperimentConfig.model_validate(row)})


def ended(number: int, arm: str) -> Ended:
    """A clean answer."""
    decision = Decision(experiment="ab", arm=arm, unit=f"u{number}")
    end = GenerationEnd(
        error=None,
        finish_reasons={},
        raw_finish_reasons={},
        usage=None,
        is_usage_final=True,
        attempts=(AttemptRecord("p", "m", 0, cost=10.0),),
        phases_us={"first_content": random.randrange(200_000, 400_000)},
        stall_count=0,
        longest_gap_us=0,
        provider="p",
        model="m",
        response_id="",
        has_output=True,
        decision=decision,
    )
    return Ended(end, GenerateRequest("voice", ()), f"gen_{number}", "generate", True)


def _assign(assign: Callable[..., object], requests: list[GenerateRequest], n: int) -> object:
    return assign("voice", requests[n], 0.0, random.random)


def main() -> None:
    """Print microseconds a call."""
    requests = [
        GenerateRequest("voice", (), policy=Policy(session_id=f"s{number}"))
        for number in range(CALLS)
    ]
    for arms in (2, 4):
        one = experiments(arms)
        assign = one.assign
        took = per_call_us(partial(_assign, assign, requests))
        sys.stdout.write(f"assign, {arms} arms: {took:.2f} us\n")
    one = experiments(2)
    took = per_call_us(lambda n: one.assign("other", requests[n], 0.0, random.random))
    sys.stdout.write(f"assign, a name without experiment: {took:.2f} us\n")
    ends = [ended(number, f"arm-{number % 2}") for number in range(CALLS)]
    took = per_call_us(lambda n: one.heard(ends[n]))
    sys.stdout.write(f"guard rails, an answer: {took:.2f} us\n")
    plan = ShadowPlan("s", ShadowConfig(model="voice", use="fast"))
    took = per_call_us(lambda n: plan.wants(ends[n].generation_id))
    sys.stdout.write(f"shadow, whether it is copied: {took:.2f} us\n")
    words = [f"word{number % 97}" for number in range(400)]
    texts = " ".join(words), " ".join(reversed(words))
    took = per_call_us(lambda _: likeness(*texts), 200)
    sys.stdout.write(f"likeness of two texts of {len(texts[0])} characters: {took:.0f} us\n")


if __name__ == "__main__":
    main()
