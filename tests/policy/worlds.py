"""Experiments that are made up: their configuration, and what is heard of generations."""

from __future__ import annotations

import random
from typing import Any

from relay.config.experiments import ExperimentConfig
from relay.content import GenerateRequest, Policy
from relay.decision import Decision
from relay.errors import RelayError
from relay.outcome import AttemptRecord, Ended, GenerationEnd
from relay.policy.experiments import Experiments

TWO_ARMS = [{"name": "now", "use": "fast"}, {"name": "new", "use": "other"}]


def experiment(**fields: Any) -> ExperimentConfig:
    """Two arms on `voice`, half each, for as long as sessions last."""
    return ExperimentConfig.model_validate({"model": "voice", "arms": TWO_ARMS, **fields})


def experiments(before: Experiments | None = None, **fields: Any) -> Experiments:
    """One, `ab`, and whoever is told of its stops notes nothing."""
    return Experiments({"ab": experiment(**fields)}, before)


def asked(
    session: str = "", *, user: str = "", tenant: str = "t", key: str = ""
) -> GenerateRequest:
    """A request for `voice`."""
    policy = Policy(session_id=session, tenant=tenant, key_id=key)
    return GenerateRequest("voice", (), user=user, policy=policy)


def ended(
    arm: str,
    unit: str = "",
    *,
    error: RelayError | None = None,
    first_us: int | None = 300_000,
    cost: float | None = 10.0,
    name: str = "ab",
    frontend: str = "converse",
) -> Ended:
    """A generation of an arm that is over."""
    decision = Decision(experiment=name, arm=arm, unit=unit)
    phases = {"relay_in": 0, "first_content": first_us} if first_us is not None else {"rest": 1}
    attempt = AttemptRecord("p", "m", 0, cost=cost)
    end = GenerationEnd(
        error=error,
        finish_reasons={},
        raw_finish_reasons={},
        usage=None,
        is_usage_final=True,
        attempts=(attempt,),
        phases_us=phases,
        stall_count=0,
        longest_gap_us=0,
        provider="p",
        model="m",
        response_id="",
        has_output=first_us is not None,
        decision=decision,
    )
    return Ended(end, asked(), f"gen-{random.random()}", frontend, True)
