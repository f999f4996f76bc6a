"""One promise: whenever a generation is cancelled, and by whom, nothing is left behind.

First every iteration of the loop of one eventful generation, for every cause; then hypothesis
picks the providers, the ledger, the client, the moment and the cause.
"""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relay.content import Budgets, Events
from relay.errors import (
    AllAttemptsFailed,
    CancelReason,
    ClientCancelled,
    DeadlineExceeded,
    Draining,
    InternalError,
    StreamReset,
)
from relay.generation import Generation
from relay.outcome import AttemptOutcome
from tests.fakes.behaviours import endpoints, ticks_s
from tests.fakes.ledger import FakeLedger
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.properties import examples
from tests.fakes.relay_under_test import chunk
from tests.fakes.scenario import (
    COMMENT,
    ERROR,
    ROLE,
    Rows,
    Scenario,
    answer,
    request,
    text_of,
)
from tests.fakes.virtual_time import VirtualLoop, run, since_start_s

BARGE_IN = ClientCancelled("the person spoke", CancelReason.BARGE_IN)
DRAINED = Draining("this relay is shutting down")


class Cause(enum.Enum):
    """Who wants the generation to end."""

    CLIENT = "client"
    OUTSIDE = "outside"
    BOTH = "client, then outside"
    BOTH_REVERSED = "outside, then client"
    DRAIN = "drain"
    NOBODY = "nobody"


@dataclass
class Story:
    """A generation and what is done to it."""

    rows: Rows
    cause: Cause = Cause.NOBODY
    step: int | None = None
    """The iteration of the loop in which it happens, or"""
    at_s: float | None = None
    """the time."""
    admit_s: float = 0.0
    durable_s: float = 0.0
    write_s: float = 0.0
    total_s: float | None = None
    first_token_s: float | None = None
    slow_consumer_s: float = 30.0

    def words(self, provider: str) -> str:
        """All that a provider would say, in the last of its answers."""
        row = self.rows[provider]
        endpoint = row if isinstance(row, FakeEndpoint) else row[-1]
        events = [data[6:] for _, data in endpoint.chunks if data.startswith(b'data: {"id"')]
        deltas = [orjson.loads(data)["choices"][0]["delta"] for data in events]
        return "".join(delta.get("content") or "" for delta in deltas)


@dataclass
class Told:
    """What came of it."""

    generation: Generation
    text: str
    steps: int
    was_counted: bool
    """`cancel` said that this cancel is the one that counts."""
    was_cancelled: bool
    """The task ended by a cancellation."""


def play(story: Story) -> Told:
    """Tell the story, and check what must hold of every story."""
    ledger = FakeLedger(admit_s=story.admit_s, durable_s=story.durable_s)
    scenario = Scenario(
        story.rows,
        ledger=ledger,
        timeouts={"first_token_ms": 1000, "inter_token_ms": 3000},
        slow_consumer_s=story.slow_consumer_s,
    )
    wanted = request(budgets=Budgets(total_s=story.total_s, first_token_s=story.first_token_s))
    events_seen: list[Events] = []
    told: dict[str, Any] = {"was_counted": False, "is_struck": False}

    async def frontend(generation: Generation) -> None:
        async with generation:
            if await generation.commit():
                async for events in generation:
                    assert generation.end is None, "an event after the end"
                    assert events, "an empty batch"
                    await asyncio.sleep(story.write_s)
                    events_seen.append(events)
                    generation.released()

    def strike() -> None:
        generation, task = told["generation"], told["task"]
        if story.cause is Cause.DRAIN:
            scenario.services.live.cancel_all(DRAINED)
        if story.cause is Cause.BOTH_REVERSED:
            told["is_struck"] = task.cancel()
        if story.cause in (Cause.CLIENT, Cause.BOTH, Cause.BOTH_REVERSED):
            told["was_counted"] = generation.cancel(BARGE_IN)
        if story.cause in (Cause.OUTSIDE, Cause.BOTH):
            told["is_struck"] = task.cancel()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        told["generation"] = generation = scenario.generation(wanted)
        told["task"] = task = loop.create_task(frontend(generation))
        began = loop.steps
        if story.step is not None:
            loop.at_step(began + story.step, strike)
        elif story.at_s is not None:
            loop.call_later(story.at_s, strike)
        await asyncio.wait([task])
        told["steps"] = loop.steps - began
        told["ended_s"] = since_start_s()
        told["was_cancelled"] = task.cancelled()
        if not task.cancelled():
            task.result()
        await scenario.settled()
        for _ in range(3):  # a strike that came too late
            await asyncio.sleep(1)

    with capture_logs() as lines:
        run(main())

    generation: Generation = told["generation"]
    assert told["was_cancelled"] is told["is_struck"], "a cancellation was swallowed, or made up"
    end = generation.end
    if end is None:  # cancelled from outside before its task ran: there was no generation yet
        assert told["was_cancelled"]
        assert story.step == 1
        assert scenario.started == []
        return Told(generation, "", told["steps"], told["was_counted"], True)

    # Exactly one end, which sums up.
    assert [line["event"] for line in lines] == ["generation"], "one end is one line of log"
    assert not isinstance(end.error, InternalError)
    assert min(end.phases_us.values()) >= 0
    assert sum(end.phases_us.values()) == end.wall_us
    assert end.wall_us <= round(told["ended_s"] * 1e6)

    # Nothing is held any more, and nothing was let go twice.
    scenario.check()
    for made in scenario.transport.attempts:
        assert made.ended_s is None or made.aborted_s is None, "both ended and reset"
    assert len(end.attempts) == len(scenario.transport.attempts)
    assert sum(record.is_winner for record in end.attempts) == bool(end.provider)
    for record in end.attempts:
        assert record.ended_us >= record.started_us
        assert (record.error is None) is (
            record.outcome in (AttemptOutcome.SUCCESS, AttemptOutcome.IGNORED)
        )
        assert all(us >= 0 for us in record.phases_us.values())

    # The account is settled once; a ledger that was still asked has nothing to settle.
    assert ledger.settled == ([end] if ledger.entries else [])

    # What was read is the beginning of one provider's answer, whole if the end is clean.
    text = text_of([event for events in events_seen for event in events])
    if end.error is None:
        assert end.finish_reasons, "a clean end has its reason"
        assert text == story.words(end.provider), "and is whole"
    if told["was_counted"] and story.cause is Cause.CLIENT:
        assert end.error is BARGE_IN
    return Told(generation, text, told["steps"], told["was_counted"], told["was_cancelled"])


EVENTFUL = Story(
    {
        "a": [
            FakeEndpoint(headers_s=0.125, fault=StreamReset("stale", reused=True)),
            FakeEndpoint(headers_s=0.125, chunks=[(0.125, ROLE), (0.125, ERROR), (9.0, b"")]),
        ],
        "b": FakeEndpoint(
            connect_s=0.125,
            headers_s=0.125,
            chunks=[(0.125, COMMENT), *answer("Hello", " there", "!", first_s=0.125, gap_s=0.125)],
        ),
    },
    admit_s=0.125,
    durable_s=0.125,
    write_s=0.125,
)
STEPS = play(EVENTFUL).steps


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause is not Cause.NOBODY])
def test_every_step_of_an_eventful_generation(cause: Cause) -> None:
    assert STEPS > 30, "the story has become boring"
    for step in range(1, STEPS + 2):
        told = play(
            Story(EVENTFUL.rows, cause, step, admit_s=0.125, durable_s=0.125, write_s=0.125)
        )
        end = told.generation.end
        if end is not None and end.error is not None:
            assert isinstance(end.error, ClientCancelled | Draining), f"step {step}"
        assert end is None or not told.generation.cancel(BARGE_IN)


def test_uncancelled_story_ends_well() -> None:
    told = play(EVENTFUL)
    assert told.text == "Hello there!"
    assert not told.was_cancelled


# --- any story ------------------------------------------------------------------------------


@st.composite
def stories(draw: st.DrawFn) -> Story:
    count = draw(st.integers(1, 3))
    by_step = draw(st.booleans())
    return Story(
        rows={"abc"[index]: draw(endpoints()) for index in range(count)},
        cause=draw(st.sampled_from(Cause)),
        step=draw(st.integers(1, 60)) if by_step else None,
        at_s=None if by_step else draw(st.integers(0, 16)) / 4,
        admit_s=draw(ticks_s),
        durable_s=draw(ticks_s),
        write_s=draw(ticks_s),
        total_s=draw(st.none() | st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 4.0])),
        first_token_s=draw(st.none() | st.sampled_from([0.25, 0.5, 1.0, 1.5])),
        slow_consumer_s=draw(st.sampled_from([0.5, 30.0])),
    )


@examples(250)
@given(stories())
def test_any_story_leaves_nothing_behind(story: Story) -> None:
    play(story)


# --- ties -----------------------------------------------------------------------------------


def test_deadline_in_the_tick_of_the_first_content() -> None:
    """Either may win, but it is one of the two, and whole."""
    told = play(
        Story({"a": FakeEndpoint(chunks=answer("Hi", first_s=0.5))}, total_s=0.5, first_token_s=0.5)
    )
    end = told.generation.end
    assert end is not None
    assert isinstance(end.error, DeadlineExceeded) or told.text == "Hi"


@pytest.mark.parametrize("cause", [Cause.CLIENT, Cause.OUTSIDE])
def test_cancel_in_the_tick_of_a_failure(cause: Cause) -> None:
    told = play(
        Story({"a": FakeEndpoint(headers_s=0.5, fault=StreamReset("broken"))}, cause, at_s=0.5)
    )
    end = told.generation.end
    assert end is not None
    assert isinstance(end.error, ClientCancelled | AllAttemptsFailed)


@pytest.mark.parametrize("cause", [Cause.CLIENT, Cause.DRAIN])
def test_cancel_in_the_tick_of_the_clean_end(cause: Cause) -> None:
    chunks = [*answer("Hi")[:2], (0.5, chunk(finish="stop")), (0.0, b"data: [DONE]\n\n")]
    told = play(Story({"a": FakeEndpoint(chunks=chunks)}, cause, at_s=0.5))
    end = told.generation.end
    assert end is not None
    assert end.error in (None, BARGE_IN, DRAINED)
    assert told.text == "Hi"
