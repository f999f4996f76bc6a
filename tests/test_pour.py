"""Text that is poured into a sink: the same answer as by iterating, and the same ends."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.content import Budgets, Policy, StreamEvent, TextDelta
from relay.errors import ClientCancelled, InternalError, SlowConsumer, StreamReset, StreamStalled
from relay.generation import Generation, TextSink
from relay.outcome import AttemptOutcome, GenerationEnd
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.properties import examples
from tests.fakes.relay_under_test import DONE, chunk
from tests.fakes.scenario import COMMENT, ERROR, Chunks, Scenario, answer, request, text_of
from tests.fakes.virtual_time import on_virtual_time, since_start_s

WORDS = [f" w{number}" for number in range(12)]


class Poured:
    """Everything in order, by whichever way it came."""

    def __init__(self, wait: Callable[[], Awaitable[None]] | None = None) -> None:
        self.events: list[StreamEvent] = []
        self.by_sink = 0
        self._wait = wait

    def __call__(self, delta: TextDelta) -> Awaitable[None] | None:
        self.by_sink += 1
        self.events.append(delta)
        return None if self._wait is None else self._wait()


async def consume(generation: Generation, poured: Poured, sink: TextSink | None) -> GenerationEnd:
    """What a frontend does, with a sink or without."""
    async with generation:
        if await generation.commit():
            if sink is not None:
                generation.pour_text_into(sink)
            async for events in generation:
                poured.events += events
                generation.released()
    end = generation.end
    assert end is not None
    return end


async def read(chunks: Chunks, *, is_poured: bool) -> tuple[Poured, GenerationEnd]:
    scenario = Scenario({"a": FakeEndpoint(chunks=chunks)})
    poured = Poured()
    end = await consume(scenario.generation(), poured, poured if is_poured else None)
    await scenario.settled()
    scenario.check()
    return poured, end


@on_virtual_time
async def test_plain_text_goes_to_the_sink_and_the_rest_does_not() -> None:
    poured, end = await read(answer(*WORDS, gap_s=0.01), is_poured=True)
    assert text_of(poured.events) == "".join(WORDS)
    assert poured.by_sink >= len(WORDS) - 3, "the first ones teach what text looks like"
    assert end.error is None
    assert end.usage is not None


PIECES = st.sampled_from(
    [
        *[chunk({"content": text}) for text in (" a", " b", "\n", '"', "é", " 🙂")],
        chunk({"content": " c"}) + chunk({"content": " d"}),
        chunk({"reasoning_content": "hm"}),
        chunk({}, finish_reason="stop"),
        chunk(usage={"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, choices=[]),
        COMMENT,
        ERROR,
        DONE,
    ]
)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 6.0]), PIECES), max_size=25))
@examples(150, full=3000)
def test_it_is_the_same_answer(pieces: list[tuple[float, bytes]]) -> None:
    """With every kind of event between the text, faults and stalls too."""
    chunks: Chunks = [(0.0, chunk({"content": text})) for text in WORDS[:4]]
    chunks += pieces
    found = []
    for is_poured in (False, True):

        @on_virtual_time
        async def run(is_poured: bool = is_poured) -> None:
            poured, end = await read(chunks, is_poured=is_poured)
            found.append(
                (
                    [repr(event) for event in poured.events],
                    end.error and (type(end.error), end.error.public_message),
                    end.usage,
                    end.finish_reasons,
                    end.stall_count,
                    end.longest_gap_us,
                    end.phases_us,
                    end.has_output,
                )
            )

        run()
    assert found[0] == found[1]


@on_virtual_time
async def test_cancelled_while_it_pours() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer(*WORDS, gap_s=0.5))})
    generation, poured = scenario.generation(), Poured()
    asyncio.get_running_loop().call_later(
        3.25, lambda: generation.cancel(ClientCancelled("the person spoke"))
    )
    end = await consume(generation, poured, poured)
    assert isinstance(end.error, ClientCancelled)
    assert poured.by_sink > 0
    assert scenario.aborted == [("a", 3.25)]
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_cancelled_from_outside_while_it_pours() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer(*WORDS, gap_s=0.5))})
    generation, poured = scenario.generation(), Poured()
    task = asyncio.create_task(consume(generation, poured, poured))
    await asyncio.sleep(3.25)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert generation.end is not None
    assert scenario.aborted == [("a", 3.25)]
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_silence_while_it_pours_is_a_stall() -> None:
    chunks: Chunks = [*answer(*WORDS, gap_s=0.01)[:9], (math.inf, b"")]
    scenario = Scenario({"a": FakeEndpoint(chunks=chunks)})
    poured = Poured()
    end = await consume(
        scenario.generation(request(budgets=Budgets(inter_token_s=2.0))), poured, poured
    )
    assert isinstance(end.error, StreamStalled)
    assert poured.by_sink > 0
    (record,) = end.attempts
    assert record.outcome is AttemptOutcome.FAILURE
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_a_client_that_takes_nothing_while_it_pours_is_slow() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer(*WORDS))}, slow_consumer_s=3.0)

    async def forever() -> None:
        await asyncio.Event().wait()

    poured = Poured(forever)
    end = await consume(scenario.generation(), poured, poured)
    assert isinstance(end.error, SlowConsumer)
    assert 3.0 <= since_start_s() <= 3.001
    assert poured.by_sink == 1, "the next piece waits"
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_time_of_a_slow_client_is_no_stall_of_the_provider() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer(*WORDS, gap_s=0.01))})

    async def a_second() -> None:
        await asyncio.sleep(1.0)

    poured = Poured(a_second)
    end = await consume(scenario.generation(), poured, poured)
    assert end.error is None
    assert poured.by_sink > 5
    assert (end.stall_count, end.longest_gap_us) == (0, 10_000)
    assert sum(end.phases_us.values()) == end.wall_us


@on_virtual_time
async def test_a_reset_while_it_pours_is_told_as_it_is() -> None:
    chunks = answer(*WORDS, gap_s=0.01)[:8]
    fault = StreamReset("the provider reset the stream", headers_received=True)
    scenario = Scenario({"a": FakeEndpoint(chunks=chunks, fault=fault, fault_at="body")})
    poured = Poured()
    end = await consume(scenario.generation(), poured, poured)
    assert isinstance(end.error, StreamReset)
    assert poured.by_sink > 0
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_a_bug_in_the_sink_still_gives_an_end() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer(*WORDS, gap_s=0.01))})

    def broken(delta: TextDelta) -> None:
        raise ZeroDivisionError

    end = await consume(scenario.generation(), Poured(), broken)
    assert isinstance(end.error, InternalError)
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_who_pours_and_who_is_poured_to_go_without_the_collector() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer(*WORDS, gap_s=0.01))})

    class Frontend(Poured):
        generation: Generation

    frontend = Frontend()
    frontend.generation = scenario.generation()
    await consume(frontend.generation, frontend, frontend)
    await scenario.settled()
    gone = weakref.ref(frontend)
    gc.disable()
    try:
        del frontend
        assert gone() is None
    finally:
        gc.enable()


@on_virtual_time
async def test_a_generation_goes_without_the_collector() -> None:
    # A worker makes some hundred a second, and what waits for the collector stops it for long.
    scenario = Scenario({"a": FakeEndpoint(chunks=answer(*WORDS, gap_s=0.01))})
    generation = scenario.generation()
    async with generation:
        assert await generation.commit()
        async for _ in generation:
            generation.released()
    await scenario.settled()
    gone = weakref.ref(generation)
    gc.disable()
    try:
        del generation
        assert gone() is None
    finally:
        gc.enable()


@on_virtual_time
async def test_nothing_is_poured_before_the_first_write() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer(*WORDS, gap_s=0.01))})
    generation, poured = scenario.generation(), Poured()
    async with generation:
        assert await generation.commit()
        generation.pour_text_into(poured)
        async for _ in generation:
            pass  # and never says `released`
    assert poured.by_sink == 0


@pytest.mark.parametrize(
    "policy",
    [
        Policy(speculative=True),
        Policy(budgets=Budgets(first_segment_s=60.0)),
    ],
    ids=["speculation", "first_segment"],
)
def test_who_withholds_or_looks_at_text_gets_it_by_iterating(policy: Policy) -> None:
    @on_virtual_time
    async def check() -> None:
        scenario = Scenario({"a": FakeEndpoint(chunks=answer(*WORDS, gap_s=0.01))})
        asked = request(policy=policy)
        generation, poured = scenario.generation(asked), Poured()
        if policy.speculative:
            generation.wanted()
        end = await consume(generation, poured, poured)
        assert end.error is None
        assert poured.by_sink == 0
        assert text_of(poured.events) == "".join(WORDS)

    check()
