"""LiveKit's own plugin for the Responses API, unchanged, at `/v1/responses`.

It continues from `previous_response_id` unless it is told `store=False`, which a relay that keeps
nothing needs.
"""

from __future__ import annotations

from contextlib import aclosing

import pytest
from livekit.agents import APIError, llm
from livekit.plugins.openai import responses

from tests.frameworks.livekit_kit import ONCE, ask, get_weather, hear
from tests.frameworks.world import World

pytestmark = [pytest.mark.sockets, pytest.mark.usefixtures("idle_after")]


def plugin(world: World, model: str) -> responses.LLM:
    return responses.LLM(
        model=f"lab/{model}",
        base_url=world.base_url,
        api_key="none",
        use_websocket=False,
        store=False,
    )


async def test_text_and_usage(world: World) -> None:
    world.script("responses-text", {"ttft": "20", "itl": "2", "text": "It is sunny."})
    async with aclosing(plugin(world, "responses-text")) as model:
        heard = await hear(model.chat(chat_ctx=ask(), conn_options=ONCE))
    assert heard.error is None
    assert heard.text == "It is sunny."
    assert heard.usage is not None
    assert heard.usage.total_tokens > 0


async def test_tool_loop(world: World) -> None:
    world.script("responses-tools", {"ttft": "20", "itl": "2", "text": "It is sunny."})
    world.script("responses-tools", {"ttft": "20", "itl": "2", "tools": "2"}, count=1)
    context = ask()
    async with aclosing(plugin(world, "responses-tools")) as model:
        first = await hear(model.chat(chat_ctx=context, tools=[get_weather], conn_options=ONCE))
        assert first.error is None
        assert len(first.calls) == 2
        for call in first.calls:
            context.items += [
                llm.FunctionCall(call_id=call.call_id, name=call.name, arguments=call.arguments),
                llm.FunctionCallOutput(call_id=call.call_id, output="sunny", is_error=False),
            ]
        second = await hear(model.chat(chat_ctx=context, tools=[get_weather], conn_options=ONCE))
    assert second.error is None
    assert second.text == "It is sunny."


async def test_barge_in(world: World) -> None:
    world.script("responses-barge-in", "ttft=20,itl=20,tokens=400")
    async with aclosing(plugin(world, "responses-barge-in")) as model:
        stream = model.chat(chat_ctx=ask(), conn_options=ONCE)
        for _ in range(3):
            await anext(stream)
        await stream.aclose()
        upstream = await world.stream_ended("responses-barge-in", "abandoned")
    assert upstream["tokens"] < 20


@pytest.mark.parametrize("fault", ["status:500", "reset@5"])
async def test_failure_is_an_error(world: World, fault: str) -> None:
    name = f"responses-{fault[:5]}"
    world.script(name, f"ttft=20,itl=2,tokens=40,fault={fault}")
    async with aclosing(plugin(world, name)) as model:
        heard = await hear(model.chat(chat_ctx=ask(), conn_options=ONCE))
    assert isinstance(heard.error, APIError)
    assert heard.usage is None
