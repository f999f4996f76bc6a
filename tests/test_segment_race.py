"""A primary that fails inside its first sentence is not heard where the race is for sentences."""

from __future__ import annotations

import asyncio
import math

import pytest

from relay.content import Policy
from relay.errors import StreamReset
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Chunks, Scenario, answer, request, text_of
from tests.fakes.virtual_time import on_virtual_time, since_start_s

FIRST = [f" first{number}" for number in range(14)]
SECOND = [f" second{number}" for number in range(14)]
WHOLE = {
    "a": "".join([*FIRST, ".", " More", " of", " it", "."]),
    "b": "".join([*SECOND, ".", " And", " more", "."]),
}
GAP_S, DRIBBLE_S, HEDGE_S = 0.02, 0.4, 0.6
FIRST_SECOND_S = HEDGE_S + 0.15 + 15 * GAP_S
"""When the second has its first sentence, known by the word behind it, if it is asked on time."""


def chunks_of(name: str) -> Chunks:
    words = WHOLE[name].replace(".", " .").split()
    pieces = [word if word == "." else f" {word}" for word in words]
    return answer(*pieces, first_s=0.15, gap_s=GAP_S)


def broken(fault: str, at: int) -> FakeEndpoint:
    chunks = list(chunks_of("a"))
    first = at + 1  # behind the role
    if fault == "reset":
        return FakeEndpoint(chunks=chunks[:first], fault=StreamReset("gone"), fault_at="body")
    if fault == "stall":
        chunks[first] = (math.inf, chunks[first][1])
        return FakeEndpoint(chunks=chunks)
    slow = [(DRIBBLE_S, data) for _, data in chunks[first:-2]]
    return FakeEndpoint(chunks=[*chunks[:first], *slow, *chunks[-2:]])


@pytest.mark.parametrize("at", range(1, 13))
@pytest.mark.parametrize("fault", ["stall", "dribble", "reset"])
def test_what_fails_inside_the_first_sentence_is_not_heard(fault: str, at: int) -> None:
    @on_virtual_time
    async def play() -> None:
        rows = {"a": broken(fault, at), "b": FakeEndpoint(chunks=chunks_of("b"))}
        hedge = {"mode": "active", "delay": 600, "max_extra_requests": 1.0}
        scenario = Scenario(rows, alias_more={"hedge": hedge})
        generation = scenario.generation(request(policy=Policy(commit_on="first_segment")))
        batches: list[str] = []
        first_s = math.inf
        async with generation:
            assert await generation.commit()
            async for events in generation:
                first_s = min(first_s, since_start_s())
                batches.append(text_of(events))
        end = generation.end
        assert end is not None
        assert end.error is None
        assert "".join(batches) == WHOLE[end.provider]
        assert first_s <= FIRST_SECOND_S + 1e-6
        assert end.provider == "b", "it was first to have a sentence"
        await scenario.settled()
        assert not asyncio.all_tasks() - {asyncio.current_task()}
        scenario.check()

    play()
