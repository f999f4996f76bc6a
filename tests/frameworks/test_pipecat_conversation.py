"""Turns as Pipecat's own aggregators make them, down to what the provider sees."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    EagerEndOfTurnCancelFrame,
    EagerTranscriptionFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    TranscriptionFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.services.llm_service import FunctionCallParams
from pipecat.turns.user_turn_strategies import EagerUserTurnStrategies
from rtrelay.pipecat import RelayLLMService, RelayLLMSettings

from tests.frameworks.pipecat_pipe import Pipe
from tests.frameworks.world import World

pytestmark = [pytest.mark.sockets, pytest.mark.usefixtures("idle_after")]

TEXT = "Of course. I look for a table."
SLOW = f"ttft=20,itl=30,text={TEXT}"
TOOLS = ToolsSchema([FunctionSchema("weather", "Weather", {"city": {"type": "string"}}, [])])


class Talk:
    """A pipeline whose person speaks by the frames that an STT service with turns sends."""

    def __init__(self, world: World, model: str, **context: Any) -> None:
        self.world = world
        self.model = model
        self.context = LLMContext(**context)
        # Pipecat leaves the timer of a guess running when another follows it.
        strategies = EagerUserTurnStrategies(speculation_timeout=1.5)
        user_params = LLMUserAggregatorParams(user_turn_strategies=strategies)
        pair = LLMContextAggregatorPair(self.context, user_params=user_params)
        self.llm = RelayLLMService(
            world.address, settings=RelayLLMSettings(model=f"lab/{model}", labels={"test": model})
        )
        self.pipe = Pipe(self.llm, before=[pair.user()], after=[pair.assistant()])

    async def begins(self) -> None:
        await self.pipe.send(ProposedUserStartedSpeakingFrame())

    async def seems_done(self, text: str) -> None:
        await self.pipe.send(EagerTranscriptionFrame(text, "user", "now"))

    async def is_done(self, text: str) -> None:
        transcript = TranscriptionFrame(text, "user", "now", finalized=True)
        await self.pipe.send(transcript, ProposedUserStoppedSpeakingFrame())

    async def asked(self, count: int) -> None:
        """Wait until the provider was asked so often."""
        await self.world.eventually(lambda: len(self.world.streams(self.model)) >= count)

    @property
    def outcomes(self) -> list[str]:
        """Of the provider's streams."""
        return [stream["outcome"] for stream in self.world.streams(self.model)]

    async def lines(self, count: int) -> list[dict[str, Any]]:
        """The relay's records of so many generations, in the order of their ends."""
        asked = f"lab/{self.model}"
        return await self.world.all_logged(count, event="generation", asked=asked)


async def test_a_guess_that_holds_is_asked_once(world: World) -> None:
    talk = Talk(world, "guess-holds.pipecat")
    world.script(talk.model, SLOW)
    async with talk.pipe as pipe:
        await talk.begins()
        await talk.seems_done("a table please")
        await talk.asked(1)
        assert not pipe.answers
        await talk.is_done("A table, please.")
        await pipe.answered()
    assert pipe.answers == [TEXT]
    assert talk.outcomes == ["clean"]
    assert [message["content"] for message in _said(talk, "user")] == ["A table, please."]
    (line,) = await talk.lines(1)
    assert line["wish"]["speculative"]
    assert line["wish"]["committed_s"] > 0


async def test_a_guess_that_the_person_goes_on_from_is_abandoned(world: World) -> None:
    talk = Talk(world, "guess-withdrawn.pipecat")
    world.script(talk.model, SLOW)
    async with talk.pipe as pipe:
        await talk.begins()
        await talk.seems_done("a table")
        await talk.asked(1)
        await pipe.send(EagerEndOfTurnCancelFrame())
        await world.stream_ended(talk.model, "abandoned")
        assert not pipe.answers
        await talk.is_done("A table for two.")
        await pipe.answered()
    assert pipe.answers == [TEXT]
    assert talk.outcomes == ["abandoned", "clean"]
    assert len({line["turn"] for line in await talk.lines(2)}) == 1
    assert len(pipe.usages) == 2


async def test_a_guess_that_was_wrong_is_replaced(world: World) -> None:
    talk = Talk(world, "guess-wrong.pipecat")
    world.script(talk.model, SLOW)
    async with talk.pipe as pipe:
        await talk.begins()
        await talk.seems_done("a table")
        await talk.asked(1)
        await talk.is_done("A table for two.")
        await pipe.answered()
    assert pipe.answers == [TEXT]
    assert talk.outcomes == ["abandoned", "clean"]


async def test_a_guess_is_superseded_by_the_next(world: World) -> None:
    talk = Talk(world, "guess-superseded.pipecat")
    world.script(talk.model, SLOW)
    async with talk.pipe as pipe:
        await talk.begins()
        await talk.seems_done("a table")
        await talk.asked(1)
        await talk.seems_done(" a table for two")
        await talk.asked(2)
        await talk.is_done("A table for two.")
        await pipe.answered()
    assert pipe.answers == [TEXT]
    assert talk.outcomes == ["abandoned", "clean"]


async def test_a_tool_that_a_guess_wants_runs_once_it_holds(world: World) -> None:
    """Pipecat alone would withdraw the guess and ask again."""
    talk = Talk(world, "guess-tool.pipecat", tools=TOOLS)
    world.script(talk.model, "ttft=20,itl=2,tools=1", count=1)
    ran: list[dict[str, Any]] = []

    async def weather(params: FunctionCallParams) -> None:
        ran.append(dict(params.arguments))
        world.script(talk.model, {"ttft": "20", "itl": "2", "text": "It is clear."})
        await params.result_callback({"sky": "clear"})

    talk.llm.register_function("weather", weather)
    async with talk.pipe as pipe:
        await talk.begins()
        await talk.seems_done("the weather")
        await world.stream_ended(talk.model, "clean")
        assert not ran
        await talk.is_done("The weather?")
        await pipe.answered(2)
    assert len(ran) == 1
    assert pipe.answers == ["", "It is clear."]
    assert talk.outcomes == ["clean", "clean"]
    assert len({line["turn"] for line in await talk.lines(2)}) == 1
    (call,) = [each for each in _said(talk, "assistant") if each.get("tool_calls")]
    (result,) = _said(talk, "tool")
    assert result["tool_call_id"] == call["tool_calls"][0]["id"]
    assert json.loads(result["content"]) == {"sky": "clear"}


async def test_a_barge_in_and_the_turn_after_it(world: World) -> None:
    talk = Talk(world, "talk-barge-in.pipecat")
    world.script(talk.model, SLOW)
    async with talk.pipe as pipe:
        await talk.begins()
        await talk.is_done("A table, please.")
        await pipe.until(lambda: pipe.text)
        await talk.begins()
        await world.stream_ended(talk.model, "abandoned")
        await talk.is_done("No, two.")
        await pipe.answered(2)
    assert pipe.answers[1] == TEXT
    assert TEXT.startswith(pipe.answers[0])
    assert talk.outcomes == ["abandoned", "clean"]
    first, second = await talk.lines(2)
    assert [first["status"], second["status"]] == ["CANCELLED", "OK"]
    assert first["turn"] != second["turn"]


def _said(talk: Talk, role: str) -> list[dict[str, Any]]:
    return [
        dict(message)
        for message in talk.context.messages
        if isinstance(message, dict) and message["role"] == role
    ]
