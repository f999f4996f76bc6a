"""The Pipecat service in a real pipeline, over a relay that does what it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import grpc
import pytest
import rtrelay
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    FunctionCallResultFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMServiceMetadataFrame,
    LLMTextFrame,
    LLMThoughtEndFrame,
    LLMThoughtStartFrame,
    LLMThoughtTextFrame,
    LLMUpdateSettingsFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.llm_service import FunctionCallParams
from pipecat.tests.utils import run_test
from pipecat.utils.errors import ErrorCategory
from rtrelay._flow import Flow
from rtrelay._switchboard import Switchboard
from rtrelay.pipecat import RelayLLMService, RelayLLMSettings
from rtrelay.session import Generation
from rtrelay.v1 import (
    Budgets,
    CacheMode,
    CancelReason,
    CommitOn,
    ConverseResponse,
    Delta,
    End,
    Extra,
    HedgeMode,
    Notice,
    NoticeKind,
    Outcome,
    PromptCache,
    Start,
    ToolCallDone,
    Usage,
)
from rtrelay.v1 import ToolCall as ToolCallMessage

from tests.fakes.fake_relay import FakeRelay, FakeStream, answers, begins, hangs, status_of
from tests.frameworks.pipecat_pipe import Pipe, asks

pytestmark = pytest.mark.sockets

QUICK = rtrelay.Reconnect(connect_timeout_s=0.5, give_up_s=0.5, max_backoff_s=0.05)


@pytest.fixture
async def relay() -> AsyncIterator[FakeRelay]:
    async with FakeRelay() as running:
        yield running


def service(relay: FakeRelay, **settings: Any) -> RelayLLMService:
    return RelayLLMService(
        relay.address,
        client_options={"reconnect": QUICK, "key": "k"},
        settings=RelayLLMSettings(**{"model": "fast", **settings}),
    )


def body(start: Start) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(start.openai_chat_body)
    return found


# --- what is sent and what comes ----------------------------------------------------------------


async def test_an_answer(relay: FakeRelay) -> None:
    relay.on_start = answers("Hel", "lo")
    down, up = await run_test(
        service(relay),
        frames_to_send=[asks("Hi")],
        expected_down_frames=[
            LLMServiceMetadataFrame,
            LLMFullResponseStartFrame,
            LLMTextFrame,
            LLMTextFrame,
            LLMFullResponseEndFrame,
        ],
    )
    assert [frame.text for frame in down if isinstance(frame, LLMTextFrame)] == ["Hel", "lo"]
    assert [type(frame) for frame in up] == [LLMServiceMetadataFrame]
    stream = await relay.stream()
    assert stream.setup is not None
    assert stream.setup.client_name == "pipecat"
    assert ("authorization", "Bearer k") in stream.context.invocation_metadata()
    (start,) = stream.starts
    assert body(start) == {"messages": [{"role": "user", "content": "Hi"}]}
    assert (start.model, start.speculative) == ("fast", False)
    assert len(relay.streams) == 1


async def test_the_session_opens_before_the_first_turn_and_closes_with_the_pipeline(
    relay: FakeRelay,
) -> None:
    llm = service(relay)
    assert not relay.streams  # nothing before it is set up
    async with Pipe(llm):
        stream = await relay.stream()
        await stream.until(lambda: stream.setup)
        assert not stream.starts
    await stream.until(lambda: stream.is_half_closed)
    with pytest.raises(RuntimeError, match="closed"):
        await llm.run_inference(asks().context)


async def test_a_client_of_several_services_stays_open(relay: FakeRelay) -> None:
    relay.on_start = answers("x")
    async with rtrelay.Client(relay.address, model="shared") as client:
        for _ in range(2):
            async with Pipe(RelayLLMService(client=client)) as pipe:
                await pipe.send(asks())
                await pipe.answered()
                assert pipe.text == "x"
    assert [stream.setup.model for stream in relay.streams if stream.setup] == ["shared"] * 2


class ByHand:
    """What a service may be given instead of a session: its answers are made in the test."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.is_prepared = self.is_closed = False

    def prepare(self) -> None:
        self.is_prepared = True

    def start(self, prompt: Mapping[str, Any], **fields: Any) -> Generation:
        self.started.append({"prompt": prompt, **fields})
        flow = Flow(Start())
        delta = Delta(text="By hand")
        flow.take("delta", ConverseResponse(delta=delta))
        flow.finish(End(outcome=Outcome.OUTCOME_COMPLETED))
        return Generation(flow, cast(Switchboard, None))

    async def aclose(self) -> None:
        self.is_closed = True


async def test_answers_may_come_from_elsewhere() -> None:
    by_hand = ByHand()
    llm = RelayLLMService(answers=lambda: by_hand, settings=RelayLLMSettings(model="fast"))
    async with Pipe(llm) as pipe:
        assert by_hand.is_prepared
        await pipe.send(asks())
        await pipe.answered()
    assert pipe.answers == ["By hand"]
    assert by_hand.started[0]["model"] == "fast"
    assert by_hand.is_closed


async def test_settings_reach_the_relay(relay: FakeRelay) -> None:
    relay.on_start = answers("x")
    llm = service(
        relay,
        system_instruction="Be brief.",
        temperature=0.5,
        max_completion_tokens=9,
        seed=3,
        reasoning_effort="low",
        tags=["eu"],
        labels={"call": "1"},
        hedge=300,
        commit_on="first_segment",
        prompt_cache="auto",
        cache="refresh",
        first_token_ms=800,
        total_ms=9000,
        extra={"verbosity": "low"},
    )
    async with Pipe(llm) as pipe:
        await pipe.send(asks("Hi"))
        await pipe.answered()
        delta = RelayLLMSettings(model="other", temperature=None, hedge="off", total_ms=None)
        await pipe.send(LLMUpdateSettingsFrame(delta=delta), asks("Hi"))
        await pipe.answered(2)
    first, second = (await relay.stream()).starts
    assert body(first) == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
        "temperature": 0.5,
        "seed": 3,
        "max_completion_tokens": 9,
        "reasoning_effort": "low",
        "verbosity": "low",
    }
    assert (list(first.tags), dict(first.labels)) == (["eu"], {"call": "1"})
    assert (first.hedge.mode, first.hedge.delay_ms) == (HedgeMode.HEDGE_MODE_AUTO, 300)
    assert first.output.commit_on == CommitOn.COMMIT_ON_FIRST_SEGMENT
    assert first.prompt_cache == PromptCache.PROMPT_CACHE_AUTO
    assert first.cache == CacheMode.CACHE_MODE_REFRESH
    assert first.budgets == Budgets(first_token_ms=800, total_ms=9000)
    assert "temperature" not in body(second)
    assert (second.model, second.hedge.mode) == ("other", HedgeMode.HEDGE_MODE_OFF)
    assert second.budgets == Budgets(first_token_ms=800)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hedge": "always"}, "hedge: one of auto, off, race or a number"),
        ({"hedge": -1}, "hedge: a whole number"),
        ({"first_token_ms": 0.5}, "first_token_ms: a whole number"),
        ({"total_ms": True}, "total_ms: a whole number"),
        ({"commit_on": "now"}, "commit_on: one of first_content, first_segment"),
        ({"prompt_cache": "on"}, "prompt_cache: one of auto, off"),
        ({"cache": "on"}, "cache: one of off, refresh, only"),
        ({"tags": "eu"}, "tags: several texts"),
    ],
)
def test_bad_settings_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RelayLLMService(settings=RelayLLMSettings(**settings))


async def test_a_bad_update_changes_nothing_and_is_told(relay: FakeRelay) -> None:
    relay.on_start = answers("x")
    async with Pipe(service(relay)) as pipe:
        update = LLMUpdateSettingsFrame(delta=RelayLLMSettings(model="bad", hedge="always"))
        await pipe.send(update, asks())
        await pipe.answered()
    assert "hedge" in pipe.errors[0].error
    assert (await relay.stream()).starts[0].model == "fast"


async def test_settings_of_another_service_pass_by_once(relay: FakeRelay) -> None:
    async with Pipe(service(relay)) as pipe:
        update = LLMUpdateSettingsFrame(
            delta=RelayLLMSettings(model="other"), service=service(relay)
        )
        await pipe.send(update)
    assert pipe.all(LLMUpdateSettingsFrame) == [update]


async def test_thoughts(relay: FakeRelay) -> None:
    async def script(stream: FakeStream, start: Start) -> None:
        stream.send(delta=Delta(generation_id=start.generation_id, reasoning="Hm"))
        stream.say(start.generation_id, "Yes")
        stream.end(start.generation_id)

    relay.on_start = script
    async with Pipe(service(relay, thoughts=True)) as pipe:
        await pipe.send(asks())
        await pipe.answered()
    kinds = [LLMThoughtStartFrame, LLMThoughtTextFrame, LLMThoughtEndFrame, LLMTextFrame]
    assert [type(frame) for frame in pipe.down if type(frame) in kinds] == kinds
    assert (await relay.stream()).starts[0].output.reasoning


async def test_metrics_of_an_answer(relay: FakeRelay) -> None:
    async def script(stream: FakeStream, start: Start) -> None:
        stream.say(start.generation_id, "Yes")
        usage = Usage(
            prompt_tokens=7, completion_tokens=2, total_tokens=9, cached_tokens=5, raw_json=b"{}"
        )
        stream.end(start.generation_id, usage=usage, usage_final=True, provider="lab")

    relay.on_start = script
    llm = service(relay)
    ends: asyncio.Queue[End] = asyncio.Queue()

    @llm.event_handler("on_answer_end")  # type: ignore[untyped-decorator]
    async def _(_llm: object, end: End) -> None:
        ends.put_nowait(end)

    async with Pipe(llm) as pipe:
        await pipe.send(asks())
        await pipe.answered()
        assert (await ends.get()).provider == "lab"
    (usage,) = pipe.usages
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 2, 9)
    assert (usage.cache_read_input_tokens, usage.reasoning_tokens) == (5, None)
    assert len(pipe.ttfbs_s) == 1
    kinds = [type(frame) for frame in pipe.down]
    assert (
        kinds[-2] is LLMFullResponseEndFrame
    )  # before the end of the pipeline: metrics came first


# --- interruptions ------------------------------------------------------------------------------


async def test_a_barge_in_cancels_that_answer_and_no_other(relay: FakeRelay) -> None:
    relay.on_start = begins("One")
    llm = service(relay)
    async with Pipe(llm) as pipe:
        await pipe.send(asks())
        await pipe.until(lambda: pipe.text)
        relay.on_start = hangs
        inference = asyncio.create_task(llm.run_inference(asks("Beside").context))
        stream = await relay.stream()
        await stream.start(1)
        await pipe.send(InterruptionFrame())
        await pipe.answered()
        await stream.until(lambda: stream.cancels)
        await pipe.until(lambda: pipe.usages)
        relay.on_start = answers("Two")
        await pipe.send(asks())
        await pipe.answered(2)
        stream.say(stream.starts[1].generation_id, "still here")
        stream.end(stream.starts[1].generation_id)
        assert await inference == "still here"
    assert pipe.answers == ["One", "Two"]
    (cancel,) = stream.cancels
    assert cancel.generation_id == stream.starts[0].generation_id
    assert cancel.reason == CancelReason.CANCEL_REASON_BARGE_IN
    assert pipe.usages[0].completion_tokens == 3  # what the relay said after the cancel
    assert not pipe.errors
    assert len(relay.streams) == 1


async def test_an_interruption_waits_for_nobody(relay: FakeRelay) -> None:
    """A relay that does not answer a cancel holds up neither the next turn nor the end."""

    relay.answers_cancels = False
    relay.on_start = begins("One")
    async with Pipe(service(relay)) as pipe:
        await pipe.send(asks())
        await pipe.until(lambda: pipe.text)
        async with asyncio.timeout(0.5):
            await pipe.send(InterruptionFrame())
            await pipe.answered()
    assert not pipe.usages


async def test_an_interruption_before_anything_came(relay: FakeRelay) -> None:
    async with Pipe(service(relay)) as pipe:
        await pipe.send(asks())
        stream = await relay.stream()
        await stream.start()
        await pipe.send(InterruptionFrame())
        await stream.until(lambda: stream.cancels)
    assert pipe.answers == [""]
    assert not pipe.ttfbs_s


async def test_cancelling_the_pipeline_ends_the_answer_and_reports_it(relay: FakeRelay) -> None:
    relay.on_start = begins("One")
    async with Pipe(service(relay)) as pipe:
        await pipe.send(asks())
        await pipe.until(lambda: pipe.text)
        await pipe.cancel()
    stream = await relay.stream()
    assert stream.cancels[0].reason == CancelReason.CANCEL_REASON_SESSION_END
    assert pipe.usages[0].completion_tokens == 3


# --- failures -----------------------------------------------------------------------------------


def fails(code: grpc.StatusCode, reason: str, *words: str) -> Any:
    async def script(stream: FakeStream, start: Start) -> None:
        await begins(*words)(stream, start)
        stream.end(
            start.generation_id,
            outcome=Outcome.OUTCOME_FAILED,
            error=status_of(code, reason, "it broke"),
            usage=Usage(prompt_tokens=1, completion_tokens=1),
        )

    return script


@pytest.mark.parametrize(
    ("code", "reason", "category"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, "FIRST_TOKEN_TIMEOUT", ErrorCategory.SERVER),
        (grpc.StatusCode.NOT_FOUND, "UNKNOWN_MODEL", ErrorCategory.INVALID_REQUEST),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "UPSTREAM_RATE_LIMITED", ErrorCategory.RATE_LIMIT),
        (grpc.StatusCode.INVALID_ARGUMENT, "UPSTREAM_CONTENT_BLOCKED", ErrorCategory.APPLICATION),
        (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", ErrorCategory.AUTHORIZATION),
        (grpc.StatusCode.PERMISSION_DENIED, "UPSTREAM_PERMISSION_DENIED", ErrorCategory.SERVER),
        (grpc.StatusCode.FAILED_PRECONDITION, "UPSTREAM_QUOTA_EXHAUSTED", ErrorCategory.QUOTA),
        (grpc.StatusCode.FAILED_PRECONDITION, "GUARDRAIL_BLOCKED", ErrorCategory.APPLICATION),
        (grpc.StatusCode.INTERNAL, "INTERNAL", ErrorCategory.SERVER),
    ],
)
async def test_a_failure_is_pushed_with_its_reason(
    relay: FakeRelay, code: grpc.StatusCode, reason: str, category: ErrorCategory
) -> None:
    relay.on_start = fails(code, reason, "One")
    llm = service(relay)
    async with Pipe(llm) as pipe:
        await pipe.send(asks())
        await pipe.answered()
        relay.on_start = answers("Two")
        await pipe.send(asks())
        await pipe.answered(2)
    assert pipe.answers == ["One", "Two"]
    (error,) = pipe.errors
    assert error.error == f"LLM answer failed: it broke ({reason})"
    assert isinstance(error.exception, rtrelay.RelayError)
    assert error.category is category
    assert llm.is_usable is not category.is_permanent
    assert pipe.usages[0].completion_tokens == 1


async def test_text_that_is_withdrawn_is_told(relay: FakeRelay) -> None:
    async def withdraws(stream: FakeStream, start: Start) -> None:
        await begins("One two")(stream, start)
        stream.send(
            notice=Notice(
                kind=NoticeKind.NOTICE_KIND_RETRACT,
                generation_id=start.generation_id,
                retract_from_chars=3,
            )
        )
        stream.end(start.generation_id)

    relay.on_start = withdraws
    async with Pipe(service(relay)) as pipe:
        await pipe.send(asks())
        await pipe.answered()
    assert [error.error for error in pipe.errors] == [
        "a guardrail withdraws text from character 3 on"
    ]


async def test_a_timeout_is_told_as_one(relay: FakeRelay) -> None:
    relay.on_start = fails(grpc.StatusCode.DEADLINE_EXCEEDED, "STREAM_STALLED")
    llm = service(relay)
    told = asyncio.Event()

    @llm.event_handler("on_completion_timeout")  # type: ignore[untyped-decorator]
    async def _(_llm: object) -> None:
        told.set()

    async with Pipe(llm) as pipe:
        await pipe.send(asks())
        async with asyncio.timeout(5):
            await told.wait()


async def test_a_stream_that_breaks_in_an_answer_is_told_and_the_next_turn_has_another(
    relay: FakeRelay,
) -> None:
    relay.on_start = begins("One")
    async with Pipe(service(relay)) as pipe:
        await pipe.send(asks())
        await pipe.until(lambda: pipe.text)
        (await relay.stream()).abort()
        await pipe.answered()
        relay.on_start = answers("Two")
        await pipe.send(asks())
        await pipe.answered(2)
    assert pipe.answers == ["One", "Two"]
    (error,) = pipe.errors
    assert "STREAM_LOST" in error.error
    assert error.category is ErrorCategory.CONNECTIVITY
    assert not pipe.usages[1:]


async def test_no_relay_at_all(unused_tcp_port: int) -> None:
    llm = RelayLLMService(
        f"127.0.0.1:{unused_tcp_port}",
        client_options={"reconnect": QUICK},
        settings=RelayLLMSettings(model="fast"),
    )
    async with Pipe(llm) as pipe:  # starts nevertheless
        await pipe.send(asks())
        await pipe.answered()
    assert pipe.errors[0].category is ErrorCategory.CONNECTIVITY
    assert llm.is_usable


async def test_a_context_that_cannot_be_sent(relay: FakeRelay) -> None:
    async with Pipe(service(relay, extra={"bad": object()})) as pipe:
        await pipe.send(asks())
        await pipe.answered()
    assert "not JSON serializable" in pipe.errors[0].error


# --- tools --------------------------------------------------------------------------------------

SIGNATURE = {"google": {"thought_signature": "abc"}}
WEATHER = FunctionSchema("weather", "Weather", {"city": {"type": "string"}}, ["city"])


def calls(*tools: ToolCallMessage, is_partial: bool = False) -> Any:
    async def script(stream: FakeStream, start: Start) -> None:
        await hangs(stream, start)
        name = start.generation_id
        details = Extra(key="reasoning_details", value_json=b'[{"data": "x"}]')
        stream.send(delta=Delta(generation_id=name, extras=[details]))
        for index, call in enumerate(tools):
            done = ToolCallDone(generation_id=name, index=index, call=call, is_partial=is_partial)
            stream.send(tool_call=done)
        stream.end(name)

    return script


async def test_calls_are_run_whole_and_their_state_goes_back(relay: FakeRelay) -> None:
    relay.on_start = calls(
        ToolCallMessage(
            call_id="c1",
            name="weather",
            arguments='{"city": "Rome"}',
            extra_json=json.dumps({"extra_content": SIGNATURE}).encode(),
        ),
        ToolCallMessage(call_id="c2", name="weather", arguments=""),
    )
    llm = service(relay)
    ran: list[tuple[str, Any]] = []

    async def weather(params: FunctionCallParams) -> None:
        ran.append((params.tool_call_id, dict(params.arguments)))
        await params.result_callback({"sky": "clear"})

    llm.register_function("weather", weather)
    async with Pipe(llm) as pipe:
        await pipe.send(asks("Weather?", tools=ToolsSchema([WEATHER])))
        await pipe.until(lambda: len(pipe.all(FunctionCallResultFrame)) == 2)
        relay.on_start = answers("Clear.")
        messages: Any = [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "tool_calls": [_called("c1")]},
            {"role": "tool", "tool_call_id": "c1", "content": "clear"},
        ]
        second = asks()
        second.context.set_messages(messages)
        await pipe.send(second)
        await pipe.answered(2)
    assert ran == [("c1", {"city": "Rome"}), ("c2", {})]
    assert pipe.answers == ["", "Clear."]
    assert len(pipe.ttfbs_s) == 2
    first, then = (await relay.stream()).starts
    assert body(first)["tools"][0]["function"]["name"] == "weather"
    (assistant,) = [each for each in body(then)["messages"] if each["role"] == "assistant"]
    assert assistant["tool_calls"] == [{"extra_content": SIGNATURE, **_called("c1")}]
    assert assistant["reasoning_details"] == [{"data": "x"}]
    assert second.context.messages == messages  # the application's own is left as it was
    assert first.turn_id == then.turn_id


def _called(call_id: str) -> dict[str, Any]:
    function = {"name": "weather", "arguments": "{}"}
    return {"id": call_id, "type": "function", "function": function}


@pytest.mark.parametrize(
    ("arguments", "is_partial", "why"),
    [
        ('{"city"', False, "no JSON object"),
        ("[1]", False, "no JSON object"),
        ('{"city": 1}', True, "the limit of tokens"),
    ],
)
async def test_a_call_with_bad_arguments_is_told(
    relay: FakeRelay, arguments: str, is_partial: bool, why: str
) -> None:
    call = ToolCallMessage(call_id="c1", name="weather", arguments=arguments)
    relay.on_start = calls(call, is_partial=is_partial)
    async with Pipe(service(relay)) as pipe:
        await pipe.send(asks())
        await pipe.answered()
    assert not pipe.all(FunctionCallResultFrame)
    assert why in pipe.errors[0].error
    assert pipe.errors[0].category is ErrorCategory.UNKNOWN


# --- out of band --------------------------------------------------------------------------------


async def test_run_inference(relay: FakeRelay) -> None:
    relay.on_start = answers("Short", "er.")
    llm = service(relay, system_instruction="Talk.", max_tokens=500, tags=["eu"])
    schema = {"type": "object"}
    found = await llm.run_inference(
        LLMContext(messages=[{"role": "user", "content": "Sum up"}]),
        max_tokens=50,
        system_instruction="Summarise.",
        response_schema=schema,
    )
    assert found == "Shorter."
    (start,) = (await relay.stream()).starts
    sent = body(start)
    assert sent["messages"][0] == {"role": "system", "content": "Summarise."}
    assert sent["max_completion_tokens"] == 50
    assert "max_tokens" not in sent
    assert sent["response_format"]["json_schema"]["schema"] == schema
    assert list(start.tags) == ["eu"]
    relay.on_start = answers()
    assert await llm.run_inference(asks().context) is None
    relay.on_start = fails(grpc.StatusCode.NOT_FOUND, "UNKNOWN_MODEL")
    with pytest.raises(rtrelay.RelayError, match="UNKNOWN_MODEL"):
        await llm.run_inference(asks().context)
    await llm.cleanup()
    await llm.cleanup()


async def test_a_cancelled_inference_is_cancelled_at_the_relay(relay: FakeRelay) -> None:
    llm = service(relay)
    task = asyncio.create_task(llm.run_inference(asks().context))
    stream = await relay.stream()
    await stream.start()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await stream.until(lambda: stream.cancels)
    await llm.cleanup()
