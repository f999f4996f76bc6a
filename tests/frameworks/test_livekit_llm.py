"""The plugin through LiveKit's own streams: cancels, usage, options, errors, failover above it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import rtrelay
from livekit.agents import APIConnectionError, APIStatusError, APITimeoutError, llm
from livekit.agents.types import APIConnectOptions
from livekit.plugins import openai
from rtrelay import livekit as relay_livekit

from tests.frameworks.faults import FAULTS, SECOND_TEXT, SLACK_MS, alias, second_model
from tests.frameworks.livekit_kit import ONCE, Metrics, ask, get_weather, hear
from tests.frameworks.world import World

pytestmark = pytest.mark.usefixtures("idle_after")

LONG = {"ttft": "20", "itl": "20", "tokens": "400"}
"""Eight seconds of answer."""


@pytest.fixture
async def model(world: World) -> AsyncIterator[relay_livekit.LLM]:
    async with relay_livekit.LLM(world.address, model="lab/emu-instant") as made:
        yield made


class Ends:
    """Collects `generation_ended`."""

    def __init__(self, model: relay_livekit.LLM) -> None:
        self.seen: list[relay_livekit.GenerationEnded] = []
        model.on("generation_ended", self.seen.append)


async def test_an_answer_with_its_usage_and_times(world: World, model: relay_livekit.LLM) -> None:
    world.script(
        "usage",
        {
            "ttft": "50",
            "itl": "1",
            "text": "It is done.",
            "in": "70",
            "out": "9",
            "cached": "64",
            "reason": "0",
        },
    )
    metrics, ends = Metrics(model), Ends(model)
    heard = await hear(model.chat(chat_ctx=ask(), extra_kwargs={"route": "lab/usage"}))
    assert heard.text == "It is done."
    seen = await metrics.next()
    assert (seen.prompt_tokens, seen.completion_tokens, seen.total_tokens) == (70, 9, 79)
    assert seen.prompt_cached_tokens == 64
    assert 0.05 <= seen.ttft <= 0.05 + SLACK_MS / 1e3
    assert not seen.cancelled
    (ended,) = ends.seen
    assert (ended.end.provider, ended.end.model) == ("lab", "usage")
    assert seen.request_id == ended.end.request_id
    assert not ended.was_cancelled


async def test_the_prompt_arrives(world: World, model: relay_livekit.LLM) -> None:
    world.script("echo", {"ttft": "5", "itl": "0", "text": "echo"})
    context = ask("Zürich, seven o'clock 🚆")
    heard = await hear(model.chat(chat_ctx=context, extra_kwargs={"route": "lab/echo"}))
    assert heard.text == "Zürich, seven o'clock 🚆"


async def test_reasoning_is_counted_and_not_spoken(world: World, model: relay_livekit.LLM) -> None:
    world.script(
        "thinker", {"ttft": "5", "itl": "0", "reason": "12", "text": "Four.", "dialect": "deepseek"}
    )
    world.script("tagger", {"ttft": "5", "itl": "0", "text": "<think>two and two</think>Four."})
    metrics = Metrics(model)
    for name in ("thinker", "tagger"):
        heard = await hear(model.chat(chat_ctx=ask(), extra_kwargs={"route": f"lab/{name}"}))
        assert heard.text == "Four."
    assert (await metrics.next()).reasoning_tokens == 12


@pytest.mark.parametrize("chunks", [0, 1, 5])
async def test_barge_in_stops_the_provider_and_brings_usage(
    world: World, model: relay_livekit.LLM, chunks: int
) -> None:
    name = f"barge-in-{chunks}"
    world.script(name, LONG)
    metrics, ends = Metrics(model), Ends(model)
    stream = model.chat(chat_ctx=ask(), extra_kwargs={"route": f"lab/{name}"})
    if chunks == 0:
        await _opened(world, name)
    for _ in range(chunks):
        await anext(stream)
    start_s = time.monotonic()
    await stream.aclose()
    assert time.monotonic() - start_s < SLACK_MS / 1e3
    upstream = await world.stream_ended(name, "abandoned")
    assert upstream["tokens"] < 20
    seen = await metrics.next()
    assert seen.cancelled
    assert seen.prompt_tokens > 0
    assert chunks == 0 or seen.completion_tokens >= chunks
    (ended,) = ends.seen
    assert ended.was_cancelled
    assert rtrelay.v1.CancelReason.Name(ended.end.cancel_reason) == "CANCEL_REASON_BARGE_IN"


async def test_barge_in_over_http(world: World) -> None:
    world.script("barge-in-http", LONG)
    over_http = openai.LLM(model="lab/barge-in-http", base_url=world.base_url, api_key="none")
    async with aclosing(over_http):
        stream = over_http.chat(chat_ctx=ask(), conn_options=ONCE)
        for _ in range(3):
            await anext(stream)
        await stream.aclose()
        upstream = await world.stream_ended("barge-in-http", "abandoned")
        assert upstream["tokens"] < 20


async def test_nothing_is_left_of_many_barge_ins(world: World, model: relay_livekit.LLM) -> None:
    world.script("many", LONG)
    await model._prewarm_impl()
    before = asyncio.all_tasks()

    async def one(chunks: int) -> None:
        stream = model.chat(chat_ctx=ask(), extra_kwargs={"route": "lab/many"})
        for _ in range(chunks):
            await anext(stream)
        await stream.aclose()

    for round_ in range(10):
        await asyncio.gather(*(one((round_ + each) % 4) for each in range(4)))
    assert asyncio.all_tasks() == before
    await world.idle()
    assert {stream["outcome"] for stream in world.streams("many")} == {"abandoned"}


async def test_closing_the_llm_ends_what_runs_with_an_error(world: World) -> None:
    world.script("closing", LONG)
    model = relay_livekit.LLM(world.address, model="lab/closing")
    stream = model.chat(chat_ctx=ask())
    await anext(stream)
    await model.aclose()
    heard = await hear(stream)
    assert isinstance(heard.error, APIConnectionError)
    await world.stream_ended("closing", "abandoned")
    with pytest.raises(RuntimeError, match="closed"):
        await hear(model.chat(chat_ctx=ask()))


async def test_a_timeout_of_the_caller_bounds_the_first_token(
    world: World, model: relay_livekit.LLM
) -> None:
    world.script("mute", "fault=hang")
    start_s = time.monotonic()
    heard = await hear(
        model.chat(
            chat_ctx=ask(),
            conn_options=APIConnectOptions(timeout=0.3),
            extra_kwargs={"route": "lab/mute"},
        )
    )
    assert isinstance(heard.error, APITimeoutError)
    assert 0.3 <= time.monotonic() - start_s <= 0.3 + SLACK_MS / 1e3


async def test_a_relay_that_hangs_does_not_outlast_the_limit() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    patient = rtrelay.Reconnect(connect_timeout_s=60, give_up_s=60)
    async with relay_livekit.LLM(f"127.0.0.1:{port}", model="m", reconnect=patient) as model:
        start_s = time.monotonic()
        heard = await hear(model.chat(chat_ctx=ask(), conn_options=APIConnectOptions(timeout=0.05)))
        assert isinstance(heard.error, APITimeoutError)
        assert time.monotonic() - start_s <= 1.05 + SLACK_MS / 1e3
    server.close()


async def test_no_relay_is_a_connection_error() -> None:
    hurried = rtrelay.Reconnect(connect_timeout_s=0.2, give_up_s=0.2)
    async with relay_livekit.LLM("127.0.0.1:1", model="m", reconnect=hurried) as model:
        model.prewarm()
        heard = await hear(model.chat(chat_ctx=ask()))
        assert isinstance(heard.error, APIConnectionError)
        assert not heard.error.retryable


async def test_an_unknown_model_names_itself(model: relay_livekit.LLM) -> None:
    heard = await hear(model.chat(chat_ctx=ask(), extra_kwargs={"route": "no-such-alias"}))
    assert isinstance(heard.error, APIStatusError)
    assert heard.error.status_code == 404
    assert "no-such-alias" in heard.error.message


async def test_options_reach_the_relay(world: World, model: relay_livekit.LLM) -> None:
    ends = Ends(model)
    await hear(
        model.chat(
            chat_ctx=ask(),
            extra_kwargs={"turn_id": "turn-7", "extra_body": {"relay": {"tags": ["eu"]}}},
        )
    )
    assert ends.seen[0].end.turn_id == "turn-7"
    line = await world.logged(turn="turn-7")
    assert line["tags"] == ["eu"]


async def test_a_speculation_withholds_its_tool_calls_until_commit(
    world: World, model: relay_livekit.LLM
) -> None:
    world.script("tools", {"ttft": "5", "itl": "0", "tools": "1"})
    stream = model.chat(
        chat_ctx=ask(),
        tools=[get_weather],
        extra_kwargs={"route": "lab/tools", "speculative": True},
    )
    await world.stream_ended("tools", "clean")
    first = asyncio.ensure_future(anext(stream))
    done, _ = await asyncio.wait([first], timeout=0.1)  # nothing comes, however long one waits
    assert not done
    stream.commit()
    chunk = await first
    assert chunk.delta is not None
    assert [call.name for call in chunk.delta.tool_calls] == ["get_weather"]
    await stream.aclose()


async def test_tool_choice_and_results_go_out(world: World, model: relay_livekit.LLM) -> None:
    world.script("chosen", {"ttft": "5", "itl": "0"})
    heard = await hear(
        model.chat(
            chat_ctx=ask(),
            tools=[get_weather],
            tool_choice={"type": "function", "function": {"name": "get_weather"}},
            parallel_tool_calls=False,
            extra_kwargs={"route": "lab/chosen"},
        )
    )
    (call,) = heard.calls
    context = ask()
    context.insert(llm.FunctionCall(call_id=call.call_id, name=call.name, arguments=call.arguments))
    context.insert(
        llm.FunctionCallOutput(
            call_id=call.call_id, name=call.name, output="Sunny.", is_error=False
        )
    )
    heard = await hear(
        model.chat(chat_ctx=context, tools=[get_weather], extra_kwargs={"route": "lab/chosen"})
    )
    assert heard.text
    assert heard.error is None


async def test_the_fallback_adapter_goes_on_to_the_next(world: World) -> None:
    fault = next(each for each in FAULTS if each.name == "unavailable")
    name = alias(fault, "livekit-fallback", alone=True)
    world.script("other", {"ttft": "5", "itl": "0", "text": SECOND_TEXT})
    async with (
        relay_livekit.LLM(world.address, model=name) as first,
        relay_livekit.LLM(world.address, model="lab/other") as other,
    ):
        adapter = llm.FallbackAdapter([first, other], attempt_timeout=1.0)
        changed: list[bool] = []
        adapter.on("llm_availability_changed", lambda event: changed.append(event.available))
        heard = await hear(adapter.chat(chat_ctx=ask()))
        assert (heard.text, heard.error) == (SECOND_TEXT, None)
        assert changed == [False]
        assert heard.end_ms <= fault.alone_ms + SLACK_MS
        probe = adapter._status[0].recovering_task  # it asks the first again, and fails
        assert probe is not None
        await asyncio.wait([probe], timeout=5)
        await adapter.aclose()


async def test_the_fallback_adapter_is_not_needed_within_the_relay(world: World) -> None:
    fault = next(each for each in FAULTS if each.name == "unavailable")
    name = alias(fault, "livekit-fallback")
    async with relay_livekit.LLM(world.address, model=name) as first:
        adapter = llm.FallbackAdapter([first, first])
        heard = await hear(adapter.chat(chat_ctx=ask()))
        assert heard.text == SECOND_TEXT
        assert len(world.streams(second_model(name))) == 1
        await adapter.aclose()


async def _opened(world: World, name: str) -> None:
    async with asyncio.timeout(5):
        while not await asyncio.to_thread(world.streams, name):
            await asyncio.sleep(0.005)
