"""An answer whose every choice has finished is whole, whatever becomes of its stream."""

from __future__ import annotations

import math

from relay.errors import Reason, StreamReset
from relay.generation import TAIL_S
from relay.outcome import GenerationEnd
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.relay_under_test import chunk
from tests.fakes.scenario import ERROR, ROLE, Chunks, Scenario, request
from tests.fakes.virtual_time import now_s, on_virtual_time

WORD = (0.0, chunk({"content": "Hello"}))
FINISH = (0.0, chunk(finish="stop"))


async def ended(endpoint: FakeEndpoint) -> GenerationEnd:
    scenario = Scenario({"a": endpoint})
    async with scenario.generation(request()) as generation:
        assert await generation.commit()
        async for _ in generation:
            pass
    assert generation.end is not None
    return generation.end


@on_virtual_time
async def test_reset_after_the_finish_is_a_clean_end() -> None:
    chunks: Chunks = [(0.0, ROLE), WORD, FINISH]
    end = await ended(FakeEndpoint(chunks=chunks, fault=StreamReset("x"), fault_at="body"))
    assert end.error is None
    assert end.usage is not None
    assert end.usage.is_estimated
    assert not end.is_usage_final


@on_virtual_time
async def test_silence_after_the_finish_is_waited_for_shortly() -> None:
    began_s = now_s()
    end = await ended(FakeEndpoint(chunks=[(0.0, ROLE), WORD, FINISH, (math.inf, b"")]))
    assert end.error is None
    assert now_s() - began_s == TAIL_S


@on_virtual_time
async def test_reset_before_the_finish_is_an_error() -> None:
    chunks: Chunks = [(0.0, ROLE), WORD]
    end = await ended(FakeEndpoint(chunks=chunks, fault=StreamReset("x"), fault_at="body"))
    assert end.error is not None
    assert end.error.reason is Reason.UPSTREAM_RESET


@on_virtual_time
async def test_an_error_of_the_provider_after_the_finish_is_an_error() -> None:
    end = await ended(FakeEndpoint(chunks=[(0.0, ROLE), WORD, FINISH, (0.0, ERROR)]))
    assert end.error is not None
    assert end.error.reason is not Reason.INTERNAL
