"""Frames in any order: no answer is spoken twice, mixed with another, or left running."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from pipecat.frames.frames import (
    EagerEndOfTurnCancelFrame,
    Frame,
    InterruptionFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from rtrelay.pipecat import RelayLLMService, RelayLLMSettings
from rtrelay.v1 import Start

from tests.fakes.fake_relay import FakeRelay, FakeStream, hangs
from tests.frameworks.pipecat_pipe import Pipe, asks

pytestmark = pytest.mark.sockets

SEEDS = range(24)
STEPS = 30
PIECES = 4


@pytest.fixture
async def relay() -> AsyncIterator[FakeRelay]:
    async with FakeRelay() as running:
        yield running


def answers_in_pieces(dice: random.Random) -> object:
    """Each answer is made of its own generation's id, so that a mixture shows."""

    async def script(stream: FakeStream, start: Start) -> None:
        await hangs(stream, start)
        name, offset = start.generation_id, 0
        for piece in range(PIECES):
            for _ in range(dice.choice((0, 0, 1, 5, 20))):
                await asyncio.sleep(0)
            text = f"{name}.{piece} "
            stream.say(name, text, offset)
            offset += len(text)
        stream.end(name)

    return script


def step(dice: random.Random) -> Frame:
    return dice.choice(
        (
            asks,
            lambda: asks(speculation=True),
            lambda: asks(speculation=True),
            UserStartedSpeakingFrame,
            UserStoppedSpeakingFrame,
            UserStoppedSpeakingFrame,
            EagerEndOfTurnCancelFrame,
            InterruptionFrame,
        )
    )()


@pytest.mark.parametrize("seed", SEEDS)
async def test_any_order(relay: FakeRelay, seed: int) -> None:
    dice = random.Random(seed)
    relay.on_start = answers_in_pieces(dice)  # type: ignore[assignment]
    llm = RelayLLMService(relay.address, settings=RelayLLMSettings(model="fast"))
    async with Pipe(llm) as pipe:
        for _ in range(STEPS):
            await pipe.send(step(dice))
            for _ in range(dice.choice((0, 0, 1, 3, 10, 100))):
                await asyncio.sleep(0)
        # What is still held is let go, so that it has to be right as well.
        await pipe.send(UserStoppedSpeakingFrame(), asks())
    spoken: list[str] = []
    for text in pipe.answers:
        words = text.split()
        names = {word.partition(".")[0] for word in words}
        assert len(names) <= 1, f"answers are mixed: {text!r}"
        assert words == [f"{name}.{piece}" for name in names for piece in range(len(words))]
        spoken += names
    assert len(spoken) == len(set(spoken)), f"an answer was spoken twice: {spoken}"
    assert not pipe.errors
    (stream,) = relay.streams
    assert pipe.answers[-1].split() == [
        f"{stream.starts[-1].generation_id}.{piece}" for piece in range(PIECES)
    ]
