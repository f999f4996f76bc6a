"""Every part fails where its defence is taken away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.matrix.conftest import MakeStage
from tests.matrix.row import Part
from tests.matrix.rows import PARTS, named

pytestmark = pytest.mark.sockets

SEEDS = range(3)
"""It may take a draw or two until the defence is what matters."""

CRASHES = (TypeError, AttributeError, NameError, ImportError)
"""What comes of a badly taken away defence, and proves nothing."""

EACH = [
    pytest.param(part, id=named(row, part), marks=pytest.mark.timeout(3 * part.timeout_s + 60))
    for row, part in PARTS
    if not part.undefended
]


@pytest.mark.parametrize("part", EACH)
def test_fails_without(part: Part, make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    if part.without is not None:
        part.without(monkeypatch)
    for seed in SEEDS:
        stage = replace(make_stage(part, seed), weakness=part.weakness)
        if not asyncio.run(_holds(part, stage)):
            return
    pytest.fail("it holds without its defence")


async def _holds(part: Part, stage: Any) -> bool:
    crashes: list[BaseException] = []

    def seen(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(error := context.get("exception"), CRASHES):
            crashes.append(error)

    asyncio.get_running_loop().set_exception_handler(seen)
    try:
        async with asyncio.timeout(part.timeout_s):
            await part.play(stage)
    except Exception as error:  # whatever a scenario ends with is looked at
        broken = [one for one in _leaves(error) if isinstance(one, AssertionError | TimeoutError)]
        if not broken:
            raise
        return False
    finally:
        assert not crashes, crashes
    return True


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
