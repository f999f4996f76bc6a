"""What is compared, and one arm over all questions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.cascade.legs import SimulatedLegs
from bench.cascade.world import (
    LARGE,
    MODELS,
    PROMPT_TOKENS,
    SMALL,
    Question,
    answer_of,
)
from bench.replay.clock import SimulatedLoop
from relay.config.cascades import CascadeConfig
from relay.policy.cascade import Cascade
from relay.policy.cascade_budget import SpeculationBudgets

_SURE: Final = {"logprobs": {"tokens": 8, "mean_below": -0.25}}
_WORDS: Final = {"rules": [{"words": ["date", "backwards", "*"]}]}

ARMS: Final[Mapping[str, Mapping[str, Any]]] = {
    "refusal (default)": {},
    "logprobs of 8": {"escalate": _SURE},
    "logprobs of all": {"escalate": {"logprobs": {"tokens": "all", "mean_below": -0.25}}},
    "self-check": {"escalate": {"self_check": {"model": "judge"}}},
    "classifier beside": {"escalate": {"classifier": {"model": "judge", "timeout_ms": 2000}}},
    "classifier before": {
        "escalate": {"classifier": {"model": "judge", "timeout_ms": 2000, "beside_small": False}}
    },
    "rule": {"escalate": _WORDS},
    "rule + logprobs": {"escalate": {**_WORDS, **_SURE}},
    "logprobs, within 800 ms": {"escalate": _SURE, "small_within_ms": 800},
    "logprobs, large at once": {
        "escalate": _SURE,
        "speculate": {"after_ms": 0, "max_share": 1.0, "max_extra_cost": 10.0},
    },
    "logprobs, large at once, 20 %": {
        "escalate": _SURE,
        "speculate": {"after_ms": 0, "max_share": 0.2, "max_extra_cost": 0.1},
    },
    "logprobs, large if unsure": {
        "escalate": _SURE,
        "speculate": {"unsure_below": -0.15, "max_share": 0.3, "max_extra_cost": 0.1},
    },
    "self-check, large after 300 ms": {
        "escalate": {"self_check": {"model": "judge"}},
        "speculate": {"after_ms": 300, "max_share": 1.0, "max_extra_cost": 10.0},
    },
}


@dataclass(slots=True)
class Tally:
    """What came of an arm."""

    name: str
    right: int = 0
    cost: float = 0.0
    """Micro-dollars of all legs."""
    wasted: float = 0.0
    """Of them, of large legs that nobody needed."""
    ttft_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    """Of them, those of the large model's answers."""
    escalated: int = 0
    false: int = 0
    """Escalated, and the small model's answer was right."""
    missed: int = 0
    """The small model's answer was given, and wrong."""
    started_large: int = 0


def alone(name: str, questions: Sequence[Question], seed: int) -> Tally:
    """One tier, without a cascade."""
    model, tally = MODELS[name], Tally(f"{name} alone")
    for question in questions:
        said = answer_of(model, question, seed)
        tally.right += said.is_right
        tally.cost += model.cost(PROMPT_TOKENS, len(said.tokens))
        tally.ttft_s.append(said.ttft_s)
    return tally


def run(name: str, questions: Sequence[Question], seed: int) -> Tally:
    """One arm, question after question, on a simulated clock."""
    config = CascadeConfig.model_validate({"small": "small", "large": "large", **ARMS[name]})
    cascade = Cascade("bench", config, SpeculationBudgets())
    tally = Tally(name)
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        for question in questions:
            runner.run(_one(cascade, question, tally, seed))
    return tally


async def _one(cascade: Cascade, question: Question, tally: Tally, seed: int) -> None:
    legs = SimulatedLegs(question, seed)
    await cascade.compose(question.request, legs)
    tally.ttft_s.append(legs.clock() - legs.received_s)
    for leg in legs.started:
        leg.cancel()  # those that were not given away
        tally.cost += leg.cost
        if leg.label == "large":
            tally.started_large += 1
            if not leg.is_given:
                tally.wasted += leg.cost
    winner = next(leg for leg in legs.started if leg.is_given)
    if winner.said.ttft_s + winner.began_s > legs.clock() + 1e-6:
        raise AssertionError("an answer was released before it began")
    tally.right += winner.said.is_right
    small = answer_of(SMALL, question, seed)
    if winner.model == LARGE.name:
        tally.escalated += 1
        tally.late_s.append(tally.ttft_s[-1])
        tally.false += small.is_right
    else:
        tally.missed += not small.is_right
