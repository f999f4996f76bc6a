"""An answer whose every choice has finished is whole, whatever becomes of its stream."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st

from relay.content import Sampling
from relay.errors import Reason, StreamReset
from relay.generation import TAIL_S
from relay.outcome import GenerationEnd
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.properties import examples
from tests.fakes.relay_under_test import chunk
from tests.fakes.scenario import ERROR, ROLE, Chunks, Scenario, request
from tests.fakes.virtual_time import now_s, on_virtual_time

WORD = (0.0, chunk({"content": "Hello"}))
FINISH = (0.0, chunk(finish="stop"))


async def ended(endpoint: FakeEndpoint, choices: int | None = None) -> GenerationEnd:
    scenario = Scenario({"a": endpoint})
    asked = request(sampling=Sampling(choices=choices))
    async with scenario.generation(asked) as generation:
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


DELTAS = (
    {"content": "x"},
    {"reasoning_content": "x"},
    {"refusal": "x"},
    {"audio": {"id": "a", "data": "eHh4"}},
    {"reasoning_details": [1]},
)
CALL = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]}


def of_choice(index: int, delta: dict[str, object], finish: str | None) -> tuple[float, bytes]:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return 0.0, chunk(choices=[choice])


@examples(150)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(DELTAS), st.booleans()), max_size=8),
    st.none() | st.integers(1, 3),
)
@example([(0, DELTAS[0], False), (1, {}, True)], None)
@example([(1, {}, True), (0, DELTAS[0], False)], None)
@example([(0, DELTAS[0], True)], 2)
@example([(1, CALL, False), (0, {}, True)], None)
def test_only_an_answer_whose_every_choice_is_finished_survives_a_cut(
    sent: list[tuple[int, dict[str, object], bool]], asked: int | None
) -> None:
    chunks: Chunks = [(0.0, ROLE), WORD]
    chunks += [of_choice(index, delta, "stop" if ends else None) for index, delta, ends in sent]
    begun = {0} | {index for index, delta, _ in sent if delta}
    finished = {index for index, _, ends in sent if ends}

    @on_virtual_time
    async def check() -> None:
        endpoint = FakeEndpoint(chunks=chunks, fault=StreamReset("x"), fault_at="body")
        end = await ended(endpoint, asked)
        assert (end.error is None) == (begun <= finished and len(finished) >= (asked or 1))

    check()
