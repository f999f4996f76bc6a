"""The relay's own contract: Generate and Converse."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Final

import grpc
import orjson
from google.rpc import status_pb2
from rtrelay.v1 import Message, OutputOptions, Part, Prompt, ReasoningOptions, Role, Start, Tool
from rtrelay.v1 import relay_pb2 as relay_pb

from tests.fakes.converse_client import Answer, Frame, details_of, generate, start, status_of
from tests.fakes.relay_under_test import RelayUnderTest
from tests.surfaces.told import SCHEMA, Call, Failure, Told, Watch, Wish

_FINISHES: Final = {"STOP": "stop", "TOOL_CALLS": "tool_calls", "LENGTH": "length"}
_EXHAUSTED: Final = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


class _Watched(Answer):
    """An answer that is told of as it grows."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def take(self, frame: Frame) -> None:
        super().take(frame)
        self._watch(told_of(self))


class _Grpc(ABC):
    """See `told.Surface`."""

    name: ClassVar[str]
    is_stream: ClassVar[bool] = True
    lacks: ClassVar[Mapping[str, str]] = {}
    rate_limited: ClassVar[tuple[int, str]] = (_EXHAUSTED, "UPSTREAM_RATE_LIMITED")

    @abstractmethod
    async def ask(self, relay: RelayUnderTest, wish: Wish, watch: Watch) -> Told: ...


class Generate(_Grpc):
    """One unary request, a stream of frames."""

    name = "gRPC Generate"

    async def ask(self, relay: RelayUnderTest, wish: Wish, watch: Watch) -> Told:
        generated = await generate(relay.channel, start_of(wish), answer=_Watched(watch))
        told = told_of(generated.answer)
        if generated.error is not None:
            failure = failure_of(status_of(generated.error))
            assert told.failure in (None, failure), "the RPC ends otherwise than its last frame"
            told.failure = failure
        else:
            assert told.failure is None, "a failure, and the RPC ends with OK"
        return told


class Converse(_Grpc):
    """A session, of which this is one generation."""

    name = "gRPC Converse"

    async def ask(self, relay: RelayUnderTest, wish: Wish, watch: Watch) -> Told:
        async with relay.talk() as talk:
            answer = talk.answers["g1"] = _Watched(watch)
            await talk.send(start=start_of(wish))
            await talk.ended("g1")
        return told_of(answer)


def start_of(wish: Wish) -> Start:
    """The request in the contract's own terms."""
    schema = orjson.dumps(SCHEMA)
    prompt = Prompt(
        messages=[Message(role=Role.ROLE_USER, parts=[Part(text="Hello")])],
        tools=[Tool(name=name, parameters_json=schema) for name in wish.tools],
    )
    output = OutputOptions()
    if wish.reasoning:
        prompt.reasoning.CopyFrom(ReasoningOptions(effort="low"))
        output.reasoning = True
    return start("g1", wish.model, prompt=prompt, output=output)


def told_of(answer: Answer) -> Told:
    """What came so far."""
    told = Told(
        text=answer.text,
        reasoning=answer.reasonings.get(0, ""),
        calls=[
            Call(done.call.call_id, done.call.name, done.call.arguments)
            for done in answer.tool_calls.get(0, ())
        ],
    )
    if (end := answer.end) is not None:
        if end.outcome == relay_pb.OUTCOME_COMPLETED:
            told.ends, told.finish = 1, _FINISHES[answer.finish_reasons[0]]
        else:
            assert not any(choice.finish_reason for choice in end.choices)
            assert end.outcome == relay_pb.OUTCOME_FAILED
            told.failure = failure_of(end.error)
    return told


def failure_of(status: status_pb2.Status) -> Failure:
    """`google.rpc.Status` with its details."""
    details = details_of(status)
    info = details["ErrorInfo"]
    facts = info.metadata
    retry = details.get("RetryInfo")
    return Failure(
        status.code,
        info.reason,
        frozenset(facts[key] for key in ("provider_code", "provider_type") if key in facts),
        dict(facts).get("upstream_status", ""),
        None if retry is None else retry.retry_delay.ToMilliseconds() / 1000,
    )
