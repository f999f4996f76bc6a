"""A cascade that is cancelled leaves nothing behind, at whichever await it is."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from relay.errors import RelayError
from relay.policy.cascade import Cascade
from tests.fakes.scripted_legs import FAILED, Script, ScriptedLegs, words
from tests.fakes.virtual_time import run
from tests.policy.cascades import cascade, read, request

SURE = words("one ", "two ", "three ", "four ", "five", first_s=0.2, gap_s=0.1, logprob=-0.1)
UNSURE = words("one ", "two ", "three ", "four ", "five", first_s=0.2, gap_s=0.1, logprob=-0.9)
LARGE = words("large", first_s=0.4)
LOGPROBS = {"logprobs": {"tokens": 4, "mean_below": -0.5}}
CLASSIFIER = {"classifier": {"model": "c"}}
BEFORE = {"classifier": {"model": "c", "beside_small": False}}
CHECK: dict[str, Any] = {"self_check": {}}
SPECULATE = {"after_ms": 100, "max_share": 1.0}

WAYS: dict[str, tuple[dict[str, list[Script]], dict[str, Any]]] = {
    "small": ({"small": [Script(SURE)]}, {}),
    "escalated": ({"small": [Script(UNSURE)]}, {"escalate": LOGPROBS}),
    "classified": (
        {"small": [Script(SURE)], "classifier": [Script(words("large"))]},
        {"escalate": CLASSIFIER},
    ),
    "classified before": (
        {"small": [Script(SURE)], "classifier": [Script(words("small"))]},
        {"escalate": BEFORE},
    ),
    "checked": (
        {"small": [Script(SURE)], "self_check": [Script(words("no"))]},
        {"escalate": CHECK, "speculate": SPECULATE},
    ),
    "speculated": ({"small": [Script(SURE)]}, {"escalate": LOGPROBS, "speculate": SPECULATE}),
    "needed": ({"small": [Script(UNSURE)]}, {"escalate": LOGPROBS, "speculate": SPECULATE}),
    "late": ({"small": [Script(words("late", first_s=5.0))]}, {"small_within_ms": 100}),
    "failed": (
        {"small": [Script(UNSURE)], "large": [Script(error=FAILED, error_after_s=0.3)]},
        {"escalate": LOGPROBS},
    ),
    "by rule": (
        {"small": [Script(SURE)], "large": [Script(error=FAILED, error_after_s=0.3)]},
        {"escalate": {"rules": [{"tools": False}]}},
    ),
}


def steps_of(way: str) -> int:
    """How many iterations of the loop it takes to its answer."""
    seen = 0

    async def main() -> None:
        nonlocal seen
        legs, made = _made(way)
        answer = await made.compose(request(), legs)
        seen = asyncio.get_running_loop().steps  # type: ignore[attr-defined]
        await read(answer)
        legs.check()

    run(main())
    return seen


def _made(way: str) -> tuple[ScriptedLegs, Cascade]:
    scripts, config = WAYS[way]
    return ScriptedLegs({"large": [Script(LARGE)], **scripts}), cascade(**config)


@pytest.mark.parametrize("way", WAYS)
def test_at_every_step(way: str) -> None:
    steps = steps_of(way)
    assert steps > 3
    for step in range(1, steps + 1):
        task: asyncio.Task[Any] | None = None
        held: list[ScriptedLegs] = []

        def cancel() -> None:
            if task is not None:  # noqa: B023 - called before the next one
                task.cancel()  # noqa: B023

        async def main() -> None:
            nonlocal task
            legs, made = _made(way)
            held.append(legs)  # noqa: B023
            task = asyncio.ensure_future(made.compose(request(), legs))
            with contextlib.suppress(asyncio.CancelledError):
                answer = await task
                answer.abort()
                legs.check()

        run(main(), at_step={step: cancel})  # it checks that no task is left
        for leg in held[0].started:
            assert leg.is_over or leg.cancelled_s is not None


@pytest.mark.parametrize("way", WAYS)
def test_each_leg_failing_at_each_moment(way: str) -> None:
    """There is an answer or an error of ours, one leg is given at most, the others are stopped."""
    scripts, config = WAYS[way]
    for label in ("small", "large", *scripts):
        for moment in range(7):

            async def main() -> None:
                steps = (scripts.get(label) or [Script(LARGE)])[0].steps  # noqa: B023
                broken = Script(steps[:moment], error=FAILED, error_after_s=0.05)  # noqa: B023
                legs = ScriptedLegs({"large": [Script(LARGE)], **scripts, label: [broken]})  # noqa: B023
                given = 1
                try:
                    answer = await cascade(**config).compose(request(), legs)
                except RelayError:
                    given = 0
                else:
                    with contextlib.suppress(RelayError):
                        await read(answer)
                legs.check(given=given)

            run(main())
