"""Pipecat's own service for the Responses API over HTTP, unchanged, at `/v1/responses`."""

from __future__ import annotations

from typing import Any

import pytest
from pipecat.frames.frames import FunctionCallResultFrame
from pipecat.services.openai.responses.llm import OpenAIResponsesHttpLLMService

from tests.frameworks.pipecat_pipe import Pipe, asks
from tests.frameworks.test_pipecat_faults import TOOLS, Tools
from tests.frameworks.world import World

pytestmark = [pytest.mark.sockets, pytest.mark.usefixtures("idle_after")]


class Service(OpenAIResponsesHttpLLMService):
    """As it is, but for one thing: it never closes its HTTP client."""

    async def cleanup(self) -> None:
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._client.close()


def service(world: World, model: str) -> Service:
    settings: Any = Service.Settings(model=f"lab/{model}", system_instruction="Be brief.")
    return Service(api_key="any", base_url=world.base_url, settings=settings)


async def test_text_and_usage(world: World) -> None:
    world.script("pc-responses", {"ttft": "20", "itl": "2", "text": "It is sunny."})
    async with Pipe(service(world, "pc-responses")) as pipe:
        await pipe.send(asks())
        await pipe.answered()
    assert pipe.answers == ["It is sunny."]
    assert pipe.usages[0].total_tokens > 0
    assert not pipe.errors


async def test_tool_calls(world: World) -> None:
    world.script("pc-responses-tools", "ttft=20,itl=2,tools=2")
    llm = service(world, "pc-responses-tools")
    tools = Tools(llm)
    async with Pipe(llm) as pipe:
        await pipe.send(asks("Hello", tools=TOOLS))
        await pipe.until(lambda: len(pipe.all(FunctionCallResultFrame)) == 2)
    assert len({call_id for call_id, _, _ in tools.ran}) == 2
    assert not pipe.errors


async def test_cut_answer_is_an_error(world: World) -> None:
    world.script("pc-responses-cut", "ttft=20,itl=2,tokens=40,fault=reset@5")
    async with Pipe(service(world, "pc-responses-cut")) as pipe:
        await pipe.send(asks())
        await pipe.answered()
    assert len(pipe.errors) == 1
