"""Chat Completions as the official client reads them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.fakes.emulator_process import EmulatorProcess

pytestmark = pytest.mark.sockets

MESSAGES: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "When does the museum open?"}
]


@pytest.fixture
async def client(emulator: EmulatorProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    base_url = f"{emulator.base_url_plain}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0) as made:
        yield made


async def test_stream_is_the_whole_answer(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="emu:ttft=5,itl=1,tokens=12",
        messages=MESSAGES,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, finish, usage, role = "", None, None, None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            role = choice.delta.role or role
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    assert role == "assistant"
    assert finish == "stop"
    assert usage is not None
    assert usage.completion_tokens == 12
    assert usage.total_tokens == usage.prompt_tokens + 12
    assert text.endswith(".")
