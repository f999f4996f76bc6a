"""What tests of panels share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from relay.answer import Answer
from relay.config.panels import PanelConfig
from relay.content import GenerateRequest, TextPart
from relay.policy.panel import Panel
from tests.fakes.legs import FakeLegs, Says
from tests.fakes.scenario import request
from tests.fakes.virtual_time import run

THREE = ["x", "y", "z"]


def panel(decide: Mapping[str, Any], models: Sequence[Any] = tuple(THREE), **more: Any) -> Panel:
    """One called `three`."""
    document = {"models": list(models), "decide": decide, **more}
    return Panel("three", PanelConfig.model_validate(document))


def majority(models: Sequence[Any] = tuple(THREE), **more: Any) -> Panel:
    """By majority: keys of the panel, the rest of `majority`."""
    own = {
        name: more.pop(name)
        for name in ("early_stop", "first_n", "wait_ms", "min_answers", "on_too_few")
        if name in more
    }
    return panel({"majority": more}, models, **own)


async def asked(one: Panel, legs: FakeLegs, **fields: Any) -> Answer:
    """Compose, with the request's fields."""
    return await legs.run(one, request(model="three", **fields))


def decided(one: Panel, scripts: Mapping[str, Any], **fields: Any) -> tuple[str, FakeLegs, float]:
    """The label of the leg that was given, the legs, and after how many (virtual) seconds."""

    async def main() -> tuple[str, FakeLegs, float]:
        legs = FakeLegs(scripts)
        await asked(one, legs, **fields)
        legs.check()
        (given,) = legs.given
        return given.label, legs, round(legs.clock() - legs.received_s, 6)

    return run(main())


def prompt_of(asked_request: GenerateRequest) -> str:
    """The text of the last message."""
    (part,) = asked_request.messages[-1].parts
    assert isinstance(part, TextPart)
    return part.text


def prefers(text: str, *, whole_s: float = 0.1) -> Callable[[GenerateRequest], Says]:
    """A judge who names the answer that holds this text, wherever it stands."""

    def judge(asked_request: GenerateRequest) -> Says:
        before, _, _ = prompt_of(asked_request).partition(text)
        letter = before.rpartition(" answer ")[2][0]
        return Says(letter, whole_s=whole_s)

    return judge


def always(reply: str, *, whole_s: float = 0.1) -> Callable[[GenerateRequest], Says]:
    """A judge who says the same whatever it is shown."""
    return lambda _: Says(reply, whole_s=whole_s)
