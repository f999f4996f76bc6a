"""What spans a generation has: their names, times, parents, attributes, events and links."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import orjson
import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
)

from relay.content import (
    Budgets,
    EmbeddingOptions,
    ImagePart,
    Message,
    Policy,
    Role,
    Sampling,
    TextPart,
    ToolCall,
)
from relay.errors import ClientCancelled, ConnectError
from relay.observability.tracing.shapes import Kind, Shape, shapes_of
from relay.timeline import PHASES
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer, request
from tests.fakes.virtual_time import on_virtual_time
from tests.observability.tracing.traced import NOW_NS, PLAIN, doors, knowing, listening, spans_of

CONVENTIONS = {
    value
    for module in (
        gen_ai_attributes,
        error_attributes,
        http_attributes,
        network_attributes,
        server_attributes,
    )
    for name, value in vars(module).items()
    if name.isupper() and isinstance(value, str)
}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HELLO = FakeEndpoint(connect_s=0.01, headers_s=0.2, chunks=answer("Hel", "lo", first_s=0.1))
SLOW = FakeEndpoint(headers_s=0.1, chunks=answer("slow", first_s=3.0))
FAST = FakeEndpoint(headers_s=0.1, chunks=answer("fast", first_s=0.1))
HEDGED = {"hedge": {"mode": "active", "delay": 1000}}


def called(spans: list[Shape], name: str) -> list[Shape]:
    return [span for span in spans if span.name == name]


def check_tree(spans: list[Shape]) -> None:
    """Ids are there once, parents are there, children lie within their parents' times, and each
    name is one of the conventions' or marked as ours."""
    root, *others = spans
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    assert root.kind is Kind.SERVER
    for span in others:
        parent = by_id[span.parent_id]
        assert parent.start_ns <= span.start_ns <= span.end_ns <= parent.end_ns
    for span in spans:
        told = {*span.attributes}
        for mark in span.events:
            told |= {*mark.attributes}
            assert span.start_ns <= mark.at_ns <= span.end_ns
        for link in span.links:
            told |= {*link.attributes}
            assert link.span_id in by_id
        assert {name for name in told if not name.startswith("rtrelay.")} <= CONVENTIONS


@on_virtual_time
async def test_a_plain_answer() -> None:
    policy = Policy(traceparent=PARENT, session_id="ses_1", turn_id="t1", labels={"room": "r1"})
    wanted = request(policy=policy, sampling=Sampling(temperature=0.5, max_output_tokens=64))
    spans = await spans_of(Scenario({"a": HELLO}), wanted)
    check_tree(spans)
    root = spans[0]
    assert (root.name, root.parent_id, root.is_parent_remote) == ("chat fast", PARENT[36:52], True)
    assert (root.end_ns, root.end_ns - root.start_ns) == (NOW_NS, 310_000_000)
    told = root.attributes
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.model"] == "fast"
    assert told["gen_ai.response.model"] == "upstream-model"
    assert told["gen_ai.response.finish_reasons"] == ("stop",)
    assert told["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.31)
    assert told["gen_ai.conversation.id"] == "ses_1"
    assert told["gen_ai.request.temperature"] == 0.5
    assert told["gen_ai.request.max_tokens"] == 64
    assert told["rtrelay.label.room"] == "r1"
    assert "error.type" not in told
    assert root.fault is None
    (attempt,) = called(spans, "chat m")
    assert attempt.kind is Kind.CLIENT
    assert attempt.parent_id == root.span_id
    assert attempt.attributes["server.address"] == "a.test"
    assert attempt.attributes["server.port"] == 443
    assert attempt.attributes["http.response.status_code"] == 200
    assert attempt.attributes["gen_ai.usage.output_tokens"] == 2
    assert attempt.attributes["rtrelay.attempt.won"] is True
    assert not any(name.startswith("gen_ai.usage") for name in told), "counted once"
    phases = {span.name: span.end_ns - span.start_ns for span in spans if span.name in PHASES}
    assert phases["pool_wait"] == 10_000_000
    assert phases["response_headers"] == 200_000_000
    assert phases["first_content"] == 100_000_000
    texts = [value for span in spans for value in span.attributes.values()]
    assert "Hello" not in str(texts), "no content where none is asked for"


@on_virtual_time
async def test_phases_of_a_stream_that_stalled_are_told_as_its_stream() -> None:
    chunks = [*answer("a", "b", "c", gap_s=0.8)]
    spans = await spans_of(Scenario({"a": FakeEndpoint(chunks=chunks)}))
    check_tree(spans)
    (stream,) = called(spans, "stream")
    assert stream.end_ns - stream.start_ns == 1_600_000_000
    assert stream.attributes == {"rtrelay.stalls": 2, "rtrelay.stalls_us": 1_600_000}
    assert spans[0].attributes["rtrelay.stalls"] == 2


@on_virtual_time
async def test_a_hedge_that_wins() -> None:
    scenario = Scenario({"a": SLOW, "b": FAST}, alias_more=HEDGED)
    spans = await spans_of(scenario)
    check_tree(spans)
    root = spans[0]
    loser, winner = called(spans, "chat m")
    assert loser.attributes["rtrelay.attempt.role"] == "primary"
    assert loser.attributes["rtrelay.attempt.outcome"] == "lost"
    assert winner.attributes["rtrelay.attempt.role"] == "hedge"
    assert [(link.span_id, link.attributes) for link in winner.links] == [
        (loser.span_id, {"rtrelay.link": "beat"})
    ]
    assert [(link.span_id, link.attributes) for link in loser.links] == [
        (winner.span_id, {"rtrelay.link": "beaten_by"})
    ]
    assert loser.fault is None
    assert "gen_ai.usage.output_tokens" not in loser.attributes
    assert [mark.name for mark in root.events] == ["hedge.decided", "hedge.fired", "race.won"]
    decided, fired, won = root.events
    assert decided.attributes["rtrelay.hedge.reason"] == "fixed"
    assert decided.attributes["rtrelay.hedge.delay_us"] == 1_000_000
    assert decided.attributes["rtrelay.hedge.second"] == "b/m"
    assert fired.at_ns == winner.start_ns
    assert fired.attributes == {"rtrelay.target": "b/m"} == won.attributes
    assert won.at_ns - root.start_ns == 1_200_000_000
    assert root.attributes["rtrelay.hedge.won"] is True
    assert root.attributes["rtrelay.provider"] == "b"


@on_virtual_time
async def test_what_failed_and_what_took_its_place() -> None:
    broken = FakeEndpoint(fault=ConnectError("a cannot be reached"), fault_at="connect")
    spans = await spans_of(Scenario({"a": broken, "b": FAST}, fallbacks=("b",)))
    check_tree(spans)
    failed, winner = called(spans, "chat m")
    assert failed.fault == "a cannot be reached"
    assert failed.attributes["error.type"] == "UPSTREAM_UNREACHABLE"
    assert winner.attributes["rtrelay.attempt.role"] == "failover"
    assert winner.links == ()
    assert spans[0].fault is None


@on_virtual_time
async def test_a_generation_that_failed() -> None:
    silent = FakeEndpoint(headers_s=0.1, chunks=[(math.inf, b"")])
    spans = await spans_of(Scenario({"a": silent}), request(budgets=Budgets(first_token_s=1.0)))
    check_tree(spans)
    root = spans[0]
    assert root.attributes["error.type"] == "FIRST_TOKEN_TIMEOUT"
    assert root.fault is not None
    assert "gen_ai.response.time_to_first_chunk" not in root.attributes
    assert root.end_ns - root.start_ns == 1_000_000_000


@on_virtual_time
async def test_a_cancel_is_no_error() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer(*"abcdef", gap_s=0.1))})
    taken = listening(scenario)
    async with scenario.generation() as generation:
        await generation.commit()
        async for _ in generation:
            asyncio.get_running_loop().call_soon(generation.cancel, ClientCancelled("barge-in"))
    await scenario.settled()
    root = shapes_of(taken[0], doors(scenario), PLAIN, 0)[0]
    assert root.fault is None
    assert "error.type" not in root.attributes
    assert root.attributes["rtrelay.end.reason"] == "CLIENT_CANCELLED"


@on_virtual_time
async def test_a_generation_that_was_refused_has_one_span() -> None:
    spans = await spans_of(Scenario({"a": HELLO}), request(model="nobody"))
    assert spans[0].attributes["error.type"] == "UNKNOWN_MODEL"
    assert [span.name for span in spans[1:]] in ([], ["admission"])


@on_virtual_time
async def test_vectors_are_embeddings() -> None:
    wanted = replace(request(), messages=(), embedding=EmbeddingOptions(texts=("x",)))
    spans = await spans_of(Scenario({"a": FakeEndpoint(status=500)}), wanted)
    assert spans[0].name == "embeddings fast"


CANARY = "sk-canary-0123456789abcdef"


@on_virtual_time
async def test_content_is_bounded_and_redacted() -> None:
    messages = (
        Message(Role.SYSTEM, (TextPart("Be brief."),)),
        Message(Role.USER, (TextPart(f"my key is {CANARY}"), ImagePart(data_base64="AAAA"))),
        Message(Role.ASSISTANT, (), tool_calls=(ToolCall("c1", "find", '{"q": 1}'),)),
        Message(Role.TOOL, (TextPart("found"),), tool_call_id="c1"),
    )
    scenario = Scenario({"a": FakeEndpoint(chunks=answer("you said ", CANARY[:12], CANARY[12:]))})
    spans = await spans_of(
        scenario, request(messages=messages), content_chars=2000, redactor=knowing(CANARY)
    )
    check_tree(spans)
    told = spans[0].attributes
    assert orjson.loads(str(told["gen_ai.system_instructions"])) == [
        {"type": "text", "content": "Be brief."}
    ]
    assert orjson.loads(str(told["gen_ai.input.messages"])) == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "my key is ***"},
                {"type": "blob", "modality": "image", "bytes": 3},
            ],
        },
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "name": "find", "arguments": '{"q": 1}', "id": "c1"}],
        },
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "c1", "response": "found"}],
        },
    ]
    assert orjson.loads(str(told["gen_ai.output.messages"])) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "you said ***"}],
            "finish_reason": "stop",
        }
    ]
    assert "rtrelay.content.cut_at_chars" not in told


@on_virtual_time
async def test_content_that_is_too_long_is_cut_and_says_so() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer("x" * 90, "y" * 90))})
    messages = tuple(Message(Role.USER, (TextPart(c * 60),)) for c in "abc")
    spans = await spans_of(scenario, request(messages=messages), content_chars=100)
    told = spans[0].attributes
    assert told["rtrelay.content.cut_at_chars"] == 100
    (asked,) = orjson.loads(str(told["gen_ai.input.messages"]))
    assert asked["parts"][0]["content"] == "c" * 60, "the last is what is new"
    (said,) = orjson.loads(str(told["gen_ai.output.messages"]))
    assert said["parts"][0]["content"] == "x" * 90 + "y" * 10


@on_virtual_time
async def test_secrets_in_callers_words_are_masked() -> None:
    policy = Policy(
        session_id=CANARY,
        turn_id=CANARY,
        labels={CANARY: CANARY},
        tags=(CANARY,),
        client=f"me/{CANARY}",
    )
    scenario = Scenario({"a": HELLO})
    for model in (CANARY, f"a/{CANARY}", "fast"):
        scenario.services.on_ended.clear()
        spans = await spans_of(
            scenario, request(model=model, policy=policy), redactor=knowing(CANARY)
        )
        assert CANARY[3:] not in str(spans)
