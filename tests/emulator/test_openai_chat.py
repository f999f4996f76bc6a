"""Chat Completions as the official client reads them."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.fakes.emulator_process import EmulatorProcess

pytestmark = pytest.mark.sockets

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "When does it open?"}]
TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"day": {"type": "string"}}},
        },
    }
    for name in ("opening_hours", "book_table")
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


async def test_whole_answer_echoes_the_user(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="emu:ttft=1,itl=0", messages=MESSAGES)
    text = whole.choices[0].message.content
    assert text is not None
    assert text.startswith("You said “When does it open”.")
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None


async def test_choices_share_one_stream(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="emu:ttft=1,itl=0,tokens=5", messages=MESSAGES, stream=True, n=3
    )
    texts = ["", "", ""]
    finished = []
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                finished.append(choice.index)
    assert texts[0]
    assert texts == [texts[0]] * 3
    assert finished == [0, 1, 2]


async def test_parallel_tool_calls_arrive_in_fragments(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        model="emu:ttft=1,itl=0,tools=2", messages=MESSAGES, tools=TOOLS
    ) as stream:
        completion = await stream.get_final_completion()
    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls
    assert calls is not None
    assert [call.function.name for call in calls] == ["opening_hours", "book_table"]
    assert len({call.id for call in calls}) == 2
    assert all(list(json.loads(call.function.arguments)) == ["day"] for call in calls)


async def test_forced_tool_is_called(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(
        model="emu:ttft=1,itl=0",
        messages=MESSAGES,
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "book_table"}},
    )
    calls = whole.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert calls[0].function.name == "book_table"


async def test_cap_ends_with_length(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(
        model="emu:ttft=1,itl=0", messages=MESSAGES, max_completion_tokens=3
    )
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 3


async def test_refusal(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="emu:ttft=1,itl=0,refusal=1", messages=MESSAGES, stream=True
    )
    refusal = ""
    async for chunk in stream:
        refusal += chunk.choices[0].delta.refusal or ""
        assert not chunk.choices[0].delta.content
    assert refusal.startswith("I am sorry")


async def test_stamps_are_monotonic_nanoseconds(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="emu:ttft=1,itl=20,tokens=6,stamp=1", messages=MESSAGES, stream=True
    )
    stamps = []
    async for chunk in stream:
        content = chunk.choices[0].delta.content
        if content:
            mark, _, word = content.partition(" ")
            assert mark.startswith("t=")
            assert word
            stamps.append(int(mark[2:]))
    assert len(stamps) == 6
    assert stamps == sorted(stamps)
    # Five gaps of 20 ms; a first token that came late on a busy machine shortens the whole.
    assert stamps[-1] - stamps[0] >= 40_000_000


async def test_bad_key_is_refused(emulator: EmulatorProcess) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{emulator.base_url_plain}/v1", api_key="bad-key", max_retries=0
    ) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(model="emu", messages=MESSAGES)
    assert caught.value.code == "invalid_api_key"


async def test_models_are_listed(client: openai.AsyncOpenAI) -> None:
    names = [model.id async for model in client.models.list()]
    assert {"emu-fast", "emu-slow", "emu-tail"} <= set(names)


async def test_unreadable_parameter_is_a_400(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="unknown parameter 'colour'"):
        await client.chat.completions.create(model="emu:colour=red", messages=MESSAGES)


async def test_http2_over_tls(emulator: EmulatorProcess) -> None:
    wreq = pytest.importorskip("wreq")
    tls = pytest.importorskip("wreq.tls")
    store = tls.CertStore.from_pem_stack(Path(emulator.ca_file).read_bytes())
    client = wreq.Client(tls_verify=store)
    response = await client.get(f"{emulator.base_url_tls}/v1/models")
    assert response.version == wreq.Version.HTTP_2
    context = ssl.create_default_context(cafile=emulator.ca_file)
    async with httpx2.AsyncClient(verify=context, trust_env=False) as http1:
        answer = await http1.get(f"{emulator.base_url_tls}/v1/models")
    assert answer.http_version == "HTTP/1.1"
