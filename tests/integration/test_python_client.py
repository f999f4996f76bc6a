"""The Python client through a real relay, down to what the provider sees."""

from __future__ import annotations

import asyncio
import runpy
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import rtrelay
from rtrelay.v1 import CancelReason, Outcome, OutputOptions, TextMode

from tests.fakes.h2_server import CANCEL, H2Server, ServerStream, stream_chunks
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    answer_chunks,
    chunk,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
EXAMPLE = Path(__file__).parents[2] / "clients" / "python" / "examples" / "agent.py"


async def begins(stream: ServerStream) -> None:
    """One word, and no end."""
    await stream.send_headers()
    await stream.send(chunk({"content": "One"}))
    await stream.hang()


@pytest.fixture
async def relay(upstream: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("One. ", "Two", " three."))
    document = {
        "providers": {"lab": provider(upstream.url, ca_file=ca_file)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    async with relay_under_test(document) as running:
        yield running


@pytest.fixture
async def session(relay: RelayUnderTest) -> AsyncIterator[rtrelay.Session]:
    address = f"127.0.0.1:{relay.worker.grpc_port}"
    async with rtrelay.Client(address, model="fast") as client, client.session() as made:
        yield made


async def test_text_and_segments(session: rtrelay.Session) -> None:
    answer = session.start("Hi")
    assert await answer.text() == "One. Two three."
    assert answer.end is not None
    assert answer.end.provider == "lab"
    output = OutputOptions(text_mode=TextMode.TEXT_MODE_SEGMENTS)
    events = [event async for event in session.start("Hi", output=output)]
    assert events == [
        rtrelay.Segment("One. ", 0, 0, is_last=False),
        rtrelay.Segment("Two three.", 5, 1, is_last=True),
    ]
    assert await session.start("Hi", output=output).text() == "One. Two three."


async def test_openai_messages(session: rtrelay.Session) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    assert await session.start(messages).text() == "One. Two three."
    assert await session.start({"model": "fast", "messages": messages}).text() == "One. Two three."


async def test_one_of_two_is_cancelled_down_to_the_provider(
    session: rtrelay.Session, relay: RelayUnderTest, upstream: H2Server
) -> None:
    upstream.routes[CHAT] = begins
    first = session.start("Hi")
    async for _ in first:
        break
    stream = await upstream.request(CHAT)
    second = session.start("Hi")
    reader = aiter(second)
    assert await anext(reader) == rtrelay.TextDelta("One", 0)
    await upstream.until(lambda: stream.reset_code is not None)
    assert stream.reset_code == CANCEL
    end = await first.ended()
    assert end.outcome == Outcome.OUTCOME_CANCELLED
    assert end.usage.completion_tokens > 0
    assert not second.is_over
    (other,) = [found for found in upstream.requests(CHAT) if found is not stream]
    await other.send(chunk(finish="stop"))
    await other.send(b"data: [DONE]\n\n", end=True)
    assert [event async for event in reader] == []
    assert second.end is not None
    assert second.end.outcome == Outcome.OUTCOME_COMPLETED
    await relay.settled()


async def test_a_task_cancelled_before_the_first_word(
    session: rtrelay.Session, upstream: H2Server
) -> None:
    async def hangs(stream: ServerStream) -> None:
        await stream.hang()

    upstream.routes[CHAT] = hangs
    answer = session.start("Hi")
    task = asyncio.create_task(answer.text())
    stream = await upstream.request(CHAT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.until(lambda: stream.reset_code == CANCEL)
    assert (await answer.ended()).outcome == Outcome.OUTCOME_CANCELLED
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Two"))
    assert await session.start("Hi").text() == "Two"


async def test_a_speculation_is_held_until_it_is_committed_to(
    session: rtrelay.Session, upstream: H2Server
) -> None:
    said = asyncio.Event()

    async def script(stream: ServerStream) -> None:
        await stream_chunks(answer_chunks("Yes"))(stream)
        said.set()

    upstream.routes[CHAT] = script
    answer = session.start("Hi", speculative=True, hold_until_commit=True)
    await said.wait()
    task = asyncio.create_task(answer.text())
    discarded = session.start("Hm", speculative=True, hold_until_commit=True)
    why = CancelReason.CANCEL_REASON_SPECULATION_DISCARDED
    discarded.cancel(why)
    assert (await discarded.ended()).cancel_reason == why
    assert not task.done(), "what is held is not released by time"
    answer.commit()
    assert await task == "Yes"


async def test_errors_of_the_relay(session: rtrelay.Session) -> None:
    with pytest.raises(rtrelay.RelayError) as caught:
        await session.start("Hi", model="nobody").text()
    error = caught.value
    assert error.reason == "UNKNOWN_MODEL"
    assert error.code.name == "NOT_FOUND"
    assert not error.is_retryable
    assert error.end is not None
    assert await session.start("Hi").text() == "One. Two three."


async def test_the_example(
    relay: RelayUnderTest,
    upstream: H2Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def script(stream: ServerStream) -> None:
        if len(upstream.requests(CHAT)) > 1:
            await stream_chunks(answer_chunks("It sinks."))(stream)
            return
        await stream.send_headers()
        for _ in range(20):
            await stream.send(chunk({"content": "Once there was "}))
        await stream.hang()

    upstream.routes[CHAT] = script
    monkeypatch.setenv("RTRELAY_ADDRESS", f"127.0.0.1:{relay.worker.grpc_port}")
    example = runpy.run_path(str(EXAMPLE))
    await example["main"]()
    written = capsys.readouterr().out  # log lines among it
    assert "Once there was Once there was" in written
    assert "tokens were written" in written
    assert "\nIt sinks.\n" in written
    assert upstream.requests(CHAT)[0].reset_code == CANCEL


async def test_a_relay_that_is_restarted(upstream: H2Server, ca_file: str) -> None:
    """On the same port: the session finds it again by itself."""
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hi"))
    document = {
        "providers": {"lab": provider(upstream.url, ca_file=ca_file)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    async with relay_under_test(document) as first:
        address = f"127.0.0.1:{first.worker.grpc_port}"
        client = rtrelay.Client(address, model="fast", reconnect=rtrelay.Reconnect(give_up_s=20))
        session = await client.session().__aenter__()
        assert await session.start("Hi").text() == "Hi"
    answer = session.start("Hi")
    again = {**document, "server": {"grpc": {"address": address}}}
    async with relay_under_test(again):
        assert await answer.text() == "Hi"
        await client.aclose()
