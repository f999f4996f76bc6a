"""What the tests of cascades share."""

from __future__ import annotations

from typing import Any

import pydantic

from relay.answer import Answer
from relay.config.cascades import CascadeConfig
from relay.content import (
    Budgets,
    GenerateRequest,
    Message,
    OpaqueDelta,
    Policy,
    Role,
    StreamEvent,
    TextDelta,
    TextPart,
)
from relay.policy.cascade import Cascade
from relay.policy.cascade_budget import SpeculationBudgets


def config(**more: Any) -> CascadeConfig:
    """A cascade of `s` and `l`; `escalate` and the rest as in the file."""
    return CascadeConfig.model_validate({"small": "s", "large": "l", **more})


def cascade(budgets: SpeculationBudgets | None = None, **more: Any) -> Cascade:
    """The same, made."""
    return Cascade("smart", config(**more), budgets or SpeculationBudgets())


def faults(**more: Any) -> str:
    """What is wrong with a configuration."""
    try:
        config(**more)
    except pydantic.ValidationError as error:
        return "\n".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
        )
    return ""


def request(
    text: str = "Hello", *, first_token_s: float | None = None, **more: Any
) -> GenerateRequest:
    """A small one."""
    fields: dict[str, Any] = {
        "model": "smart",
        "messages": (Message(Role.USER, (TextPart(text),)),),
        "policy": Policy(budgets=Budgets(first_token_s=first_token_s), tenant="t"),
    }
    return GenerateRequest(**{**fields, **more})


async def read(answer: Answer) -> list[StreamEvent]:
    """All of it."""
    events = [*answer.prelude]
    while batch := await answer.read():
        events += batch
    return events


def text_of(events: list[StreamEvent]) -> str:
    """Its text."""
    return "".join(one.text for one in events if isinstance(one, TextDelta))


def has_logprobs(events: list[StreamEvent]) -> bool:
    """Whether log probabilities are among them."""
    return any(isinstance(one, OpaqueDelta) and one.key == "logprobs" for one in events)
