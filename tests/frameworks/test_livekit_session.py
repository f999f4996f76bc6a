"""Whole agent sessions over the plugin: tools, turns, and answers that LiveKit starts too early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from livekit.agents import Agent, AgentSession, function_tool
from livekit.agents.voice import ConversationItemAddedEvent
from livekit.agents.voice.run_result import RunResult
from rtrelay import livekit as relay_livekit
from rtrelay.v1 import CancelReason, Outcome

from tests.frameworks.livekit_ears import Ears, Silence
from tests.frameworks.world import World

pytestmark = pytest.mark.usefixtures("idle_after")


class Weatherman(Agent):
    """Has one tool, and counts its calls."""

    def __init__(self) -> None:
        super().__init__(instructions="You tell the weather.")
        self.calls: list[tuple[str, int]] = []

    @function_tool
    async def get_weather(self, city: str, days: int) -> str:
        """The weather of a city.

        Args:
            city: which one.
            days: for how many days.
        """
        self.calls.append((city, days))
        return f"Sunny in {city} for {days} days."


class Ends:
    """Collects `generation_ended`, and waits for it."""

    def __init__(self, model: relay_livekit.LLM) -> None:
        self.seen: list[relay_livekit.GenerationEnded] = []
        self._came = asyncio.Event()
        model.on("generation_ended", self._take)

    def _take(self, ended: relay_livekit.GenerationEnded) -> None:
        self.seen.append(ended)
        self._came.set()

    async def count(self, number: int) -> None:
        async with asyncio.timeout(5):
            while len(self.seen) < number:
                self._came.clear()
                await self._came.wait()


@pytest.fixture
async def model(world: World) -> AsyncIterator[relay_livekit.LLM]:
    async with relay_livekit.LLM(world.address, model="lab/-") as made:
        yield made


async def test_a_turn_with_a_tool_in_text(world: World) -> None:
    world.script("talk", {"ttft": "20", "itl": "2", "text": "It will be sunny."})
    world.script("talk", {"ttft": "20", "itl": "2", "tools": "1"}, count=1)
    agent = Weatherman()
    async with (
        relay_livekit.LLM(world.address, model="lab/talk") as model,
        AgentSession(llm=model, vad=None) as session,
    ):
        ends = Ends(model)
        await session.start(agent)
        result: RunResult[None] = await session.run(user_input="What is the weather in Paris?")
        result.expect.next_event().is_function_call(name="get_weather")
        result.expect.next_event().is_function_call_output()
        result.expect.next_event().is_message(role="assistant")
        result.expect.no_more_events()
        assert len(agent.calls) == 1
        messages = [item for item in session.history.items if item.type == "message"]
        assert messages[-1].text_content == "It will be sunny."
    assert len(world.streams("talk")) == 2
    call, answer = ends.seen
    assert call.end.turn_id == answer.end.turn_id != ""
    assert not call.was_speculative
    await world.logged(turn=call.end.turn_id)


async def test_what_is_started_too_early_is_committed_to(world: World) -> None:
    world.script("early", {"ttft": "20", "itl": "2", "text": "It will be sunny."})
    world.script("early", {"ttft": "20", "itl": "2", "tools": "1"}, count=1)
    agent, ears = Weatherman(), Ears()
    async with (
        relay_livekit.LLM(world.address, model="lab/early") as model,
        _calling(ears, model) as session,
    ):
        ends, says = Ends(model), Says(session)
        await session.start(agent)
        ears.begins()
        ears.likely("What is the weather in Paris?")
        await world.stream_ended("early", "clean")
        assert agent.calls == []  # the relay has the call, and keeps it
        assert ends.seen == []
        ears.ends("What is the weather in Paris?")
        await says.heard("It will be sunny.")
        assert len(agent.calls) == 1
    assert len(world.streams("early")) == 2
    assert [each.was_speculative for each in ends.seen] == [True, False]
    assert {each.end.outcome for each in ends.seen} == {Outcome.OUTCOME_COMPLETED}


async def test_what_the_caller_overtakes_is_discarded(world: World) -> None:
    world.script("late", {"ttft": "5", "itl": "2", "text": "It will be sunny."})
    world.script("late", {"ttft": "20", "itl": "20", "tokens": "400"}, count=1)
    ears = Ears()
    async with (
        relay_livekit.LLM(world.address, model="lab/late") as model,
        _calling(ears, model) as session,
    ):
        ends, says = Ends(model), Says(session)
        await session.start(Weatherman())
        ears.begins()
        ears.likely("What is")
        await _until(lambda: any(each["tokens"] for each in world.streams("late")))
        ears.likely("What is the weather in Paris?")
        await ends.count(1)
        ears.ends("What is the weather in Paris?")
        await says.heard("It will be sunny.")
    discarded, used = ends.seen
    reason = CancelReason.CANCEL_REASON_SPECULATION_DISCARDED
    assert (discarded.was_cancelled, discarded.end.cancel_reason) == (True, reason)
    assert discarded.end.usage.completion_tokens > 0
    assert used.was_speculative
    assert [stream["outcome"] for stream in world.streams("late")] == ["abandoned", "clean"]


class Says:
    """What the agent has said, as its history has it."""

    def __init__(self, session: AgentSession[None]) -> None:
        self._texts: list[str] = []
        self._came = asyncio.Event()
        session.on("conversation_item_added", self._take)

    def _take(self, event: ConversationItemAddedEvent) -> None:
        if event.item.type == "message" and event.item.role == "assistant":
            self._texts.append(event.item.text_content or "")
            self._came.set()

    async def heard(self, text: str) -> None:
        async with asyncio.timeout(5):
            while text not in self._texts:
                self._came.clear()
                await self._came.wait()


def _calling(ears: Ears, model: relay_livekit.LLM) -> AgentSession[None]:
    session = AgentSession[None](
        stt=ears,
        llm=model,
        vad=None,
        turn_handling={
            "turn_detection": "stt",
            "endpointing": {"min_delay": 0.05, "max_delay": 0.1},
        },
    )
    session.input.audio = Silence()
    return session


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.005)
