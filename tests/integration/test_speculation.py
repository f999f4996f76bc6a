"""Speculation, segments and sessions that end by themselves, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from rtrelay.v1 import (
    Budgets,
    CancelReason,
    CommitOn,
    Outcome,
    OutputOptions,
    TextMode,
)
from rtrelay.v1 import Cancel as CancelFrame
from rtrelay.v1 import Commit as CommitFrame

from tests.fakes.converse_client import reason_of, start, status_of
from tests.fakes.h2_server import CANCEL, H2Server, ServerStream, hang, in_turn, stream_chunks
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    answer_chunks,
    chunk,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
SEGMENTS = OutputOptions(text_mode=TextMode.TEXT_MODE_SEGMENTS)


@pytest.fixture
async def relay(upstream: H2Server, spare: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("One. ", "Two", " three."))
    document = {
        "server": {"grpc": {"address": "127.0.0.1:0", "session_idle_ms": 300}},
        "providers": {
            "lab": provider(upstream.url, ca_file=ca_file),
            "spare": provider(spare.url, ca_file=ca_file),
        },
        "models": {
            "fast": {
                "candidates": [
                    {"provider": "lab", "model": "m"},
                    {"provider": "spare", "model": "m"},
                ],
                "hedge": {"mode": "active", "delay": 20, "max_extra_requests": 1.0},
            }
        },
    }
    async with relay_under_test(document) as running:
        yield running


async def test_held_until_the_commit(relay: RelayUnderTest, upstream: H2Server) -> None:
    async with relay.talk() as talk:
        await talk.start("g", speculative=True, hold_until_commit=True)
        await upstream.request(CHAT)
        await talk.send(ping={"nonce": 1})
        await asyncio.sleep(0.1)
        assert [frame.WhichOneof("frame") for frame in talk.answer("g").frames] == ["started"]
        await talk.send(commit=CommitFrame(generation_id="g"))
        answer = await talk.ended("g")
        assert answer.text == "One. Two three."
        assert answer.end is not None
        assert answer.end.outcome == Outcome.OUTCOME_COMPLETED


async def test_a_discarded_speculation_stops_its_provider(
    relay: RelayUnderTest, upstream: H2Server, spare: H2Server
) -> None:
    async def thinks(stream: ServerStream) -> None:
        await stream.send_headers()
        await stream.send(chunk({"content": "Hm"}))
        await stream.hang()

    upstream.routes[CHAT] = thinks
    async with relay.talk() as talk:
        await talk.start("g", speculative=True, hold_until_commit=True)
        stream = await upstream.request(CHAT)
        await asyncio.sleep(0.1)  # its hedge would have been due
        why = CancelReason.CANCEL_REASON_SPECULATION_DISCARDED
        await talk.send(cancel=CancelFrame(generation_id="g", reason=why))
        answer = await talk.ended("g")
        assert answer.end is not None
        assert (answer.end.outcome, answer.end.cancel_reason) == (
            Outcome.OUTCOME_CANCELLED,
            why,
        )
        assert answer.text == ""
        await upstream.until(lambda: stream.reset_code is not None)
        assert stream.reset_code == CANCEL
    assert spare.requests(CHAT) == []


async def test_a_start_supersedes_another(relay: RelayUnderTest, upstream: H2Server) -> None:
    upstream.routes[CHAT] = in_turn(hang(), stream_chunks(answer_chunks("Two")))
    async with relay.talk() as talk:
        await talk.start("g1", speculative=True)
        await upstream.request(CHAT)
        await talk.start("g2", supersedes=["g1"])
        assert (await talk.ended("g2")).text == "Two"
        first = (await talk.ended("g1")).end
        assert first is not None
        assert first.cancel_reason == CancelReason.CANCEL_REASON_SUPERSEDED


async def test_segments_are_sentences(relay: RelayUnderTest) -> None:
    async with relay.talk() as talk:
        await talk.start("g", output=SEGMENTS)
        answer = await talk.ended("g")
        found = [frame.segment for frame in answer.frames if frame.HasField("segment")]
        assert [segment.text for segment in found] == ["One. ", "Two three."]
        assert [segment.is_last for segment in found] == [False, True]
        assert answer.text == ""
    result = await relay.generate(start("g", output=SEGMENTS))
    assert result.answer.segments == {0: ["One. ", "Two three."]}


@pytest.mark.parametrize("commit_on", ["first_content", "first_segment"])
async def test_a_stall_inside_the_first_sentence(
    relay: RelayUnderTest, upstream: H2Server, spare: H2Server, commit_on: str
) -> None:
    async def stalls(stream: ServerStream) -> None:
        await stream.send_headers()
        await stream.send(chunk({"content": "Well, "}))
        await stream.hang()

    upstream.routes[CHAT] = stalls
    spare.routes[CHAT] = stream_chunks(answer_chunks("Sure. ", "Yes."))
    mode = CommitOn.Value(f"COMMIT_ON_{commit_on.upper()}")
    async with relay.talk() as talk:
        await talk.start(
            "g",
            output=OutputOptions(commit_on=mode),
            budgets=Budgets(first_segment_ms=500),
        )
        answer = await talk.ended("g")
        assert answer.end is not None
        if commit_on == "first_segment":
            assert answer.text == "Sure. Yes."
            assert answer.end.outcome == Outcome.OUTCOME_COMPLETED
        else:
            assert answer.text == "Well, "
            assert reason_of(answer.end.error) == "FIRST_SEGMENT_TIMEOUT"


async def test_an_idle_session_ends_and_says_why(relay: RelayUnderTest) -> None:
    async with relay.talk() as talk:
        assert talk.ready is not None
        assert talk.ready.limits.idle_timeout_ms == 300
        await talk.start("g")
        await talk.ended("g")
        assert reason_of(status_of(await talk.over())) == "SESSION_IDLE"
