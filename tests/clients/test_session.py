"""Sessions of the client against a relay that does what it is told: cancels, breaks, buffers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest
import rtrelay
from rtrelay.events import Event, merged
from rtrelay.session import Input
from rtrelay.v1 import (
    CacheMode,
    CancelReason,
    Delta,
    Message,
    Notice,
    NoticeKind,
    Outcome,
    Part,
    Prompt,
    Role,
    Start,
    Started,
    ToolCallDone,
)
from rtrelay.v1 import Segment as SegmentFrame
from rtrelay.v1 import ToolCall as ToolCallMessage

from tests.fakes.fake_relay import FakeRelay, FakeStream, answers, begins, hangs, status_of

pytestmark = pytest.mark.sockets

BARGE_IN = CancelReason.CANCEL_REASON_BARGE_IN
QUICK = rtrelay.Reconnect(connect_timeout_s=0.5, give_up_s=1.0, max_backoff_s=0.05)
TextDelta = rtrelay.TextDelta


@pytest.fixture
async def relay() -> AsyncIterator[FakeRelay]:
    async with FakeRelay() as running:
        yield running


@pytest.fixture
async def other() -> AsyncIterator[FakeRelay]:
    async with FakeRelay() as running:
        yield running


@pytest.fixture
async def client(relay: FakeRelay) -> AsyncIterator[rtrelay.Client]:
    async with rtrelay.Client(relay.address, model="fast", key="k", reconnect=QUICK) as made:
        yield made


@pytest.fixture
async def session(client: rtrelay.Client) -> AsyncIterator[rtrelay.Session]:
    async with client.session(labels={"call": "1"}) as made:
        yield made


async def soon(awaitable: Awaitable[object]) -> None:
    """Bound a wait of a test."""
    await asyncio.wait_for(awaitable, 10)


# --- what is sent and what comes ------------------------------------------------------------


async def test_an_answer_and_its_end(session: rtrelay.Session, relay: FakeRelay) -> None:
    relay.on_start = answers("Hel", "lo")
    answer = session.start("Hi", turn_id="t", tags=["eu"])
    assert [event async for event in answer] == [TextDelta("Hel", 0), TextDelta("lo", 3)]
    assert answer.end is not None
    assert answer.end.outcome == Outcome.OUTCOME_COMPLETED
    assert answer.is_over
    stream = await relay.stream()
    assert stream.setup is not None
    assert (stream.setup.model, dict(stream.setup.labels)) == ("fast", {"call": "1"})
    assert ("authorization", "Bearer k") in stream.context.invocation_metadata()
    (start,) = stream.starts
    assert (start.turn_id, list(start.tags)) == ("t", ["eu"])
    assert start.prompt.messages[0].parts[0].text == "Hi"
    assert session.ready is not None
    assert session.address == relay.address


USER = Message(role=Role.ROLE_USER, parts=[Part(text="Hi")])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Hi", Start(prompt=Prompt(messages=[USER]))),
        (Prompt(user="u"), Start(prompt=Prompt(user="u"))),
        ([USER, USER], Start(prompt=Prompt(messages=[USER, USER]))),
        ([{"role": "user"}], Start(openai_chat_body=b'{"messages": [{"role": "user"}]}')),
        ({"messages": []}, Start(openai_chat_body=b'{"messages": []}')),
        (b"{}", Start(openai_chat_body=b"{}")),
    ],
    ids=["text", "prompt", "messages", "dicts", "body", "bytes"],
)
async def test_kinds_of_prompts(
    session: rtrelay.Session, relay: FakeRelay, given: Input, expected: Start
) -> None:
    relay.on_start = answers("x")
    assert await session.start(given).text() == "x"
    (start,) = (await relay.stream()).starts
    start.generation_id = ""
    assert start == expected


async def test_messages_of_two_kinds_are_refused(session: rtrelay.Session) -> None:
    with pytest.raises(TypeError, match="all mappings"):
        session.start([USER, {"role": "user"}])  # type: ignore[arg-type]


async def test_callbacks(session: rtrelay.Session, relay: FakeRelay) -> None:
    relay.on_start = answers("Hel", "lo")
    events: list[Event] = []
    ended: list[rtrelay.Generation] = []
    answer = session.start("Hi", on_event=events.append, on_end=ended.append)
    await answer.ended()
    assert events == [TextDelta("Hel", 0), TextDelta("lo", 3)]
    assert ended == [answer]
    with pytest.raises(RuntimeError, match="callback"):
        await answer.text()


async def test_a_callback_that_cancels_hears_nothing_more(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    relay.on_start = answers("One", "two")
    events: list[Event] = []

    def on_event(event: Event) -> None:
        events.append(event)
        answer.cancel(BARGE_IN)

    answer = session.start("Hi", on_event=on_event)
    await answer.ended()
    assert events == [TextDelta("One", 0)]


async def test_a_callback_that_raises_costs_its_generation_alone(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    relay.on_start = begins("One")
    told: list[str] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))

    def on_event(event: Event) -> None:
        raise ValueError(event)

    try:
        end = await session.start("Hi", on_event=on_event).ended()
    finally:
        loop.set_exception_handler(handler)
    assert end.outcome == Outcome.OUTCOME_CANCELLED
    assert told == ["rtrelay: the on_event of a generation raised"]
    relay.on_start = answers("Two")
    assert await session.start("Hi").text() == "Two"


async def test_an_error_is_raised_after_what_came(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    async def fails(stream: FakeStream, start: Start) -> None:
        await begins("Hel")(stream, start)
        error = status_of(grpc.StatusCode.RESOURCE_EXHAUSTED, "UPSTREAM_RATE_LIMITED", "slow down")
        stream.end(start.generation_id, outcome=Outcome.OUTCOME_FAILED, error=error)

    relay.on_start = fails
    answer = session.start("Hi")
    reader = aiter(answer)
    assert await anext(reader) == TextDelta("Hel", 0)
    with pytest.raises(rtrelay.RelayError) as caught:
        await anext(reader)
    error = caught.value
    assert error.reason == "UPSTREAM_RATE_LIMITED"
    assert error.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (error.message, error.retry_after_s, error.is_retryable) == ("slow down", 1.5, True)
    assert error.details == {"a": "b"}
    assert error.end is answer.end
    assert (await answer.ended()).outcome == Outcome.OUTCOME_FAILED


# --- cancels --------------------------------------------------------------------------------


async def begun(session: rtrelay.Session, relay: FakeRelay) -> rtrelay.Generation:
    """A generation that has said one word and goes on."""
    relay.on_start = begins("One")
    return session.start("Hi")


async def stopped(answer: rtrelay.Generation, relay: FakeRelay) -> None:
    """It was cancelled: the relay was told once, its end has come, and nothing is delivered."""
    stream = await relay.stream()
    await soon(answer.ended())
    assert [cancel.generation_id for cancel in stream.cancels] == [answer.generation_id]
    assert answer.is_cancelled
    assert answer.end is not None
    assert answer.end.usage.completion_tokens == 3
    assert [event async for event in answer] == []
    relay.on_start = answers("fine")
    assert len(relay.streams) == 1, "the stream lives"


async def test_break_is_a_cancel(session: rtrelay.Session, relay: FakeRelay) -> None:
    answer = await begun(session, relay)
    async for _ in answer:
        break
    assert answer.is_cancelled
    await stopped(answer, relay)
    assert await session.start("Hi").text() == "fine"


async def test_an_exception_in_the_loop_is_a_cancel(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    answer = await begun(session, relay)

    async def raises() -> None:
        async for _ in answer:
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await raises()
    await stopped(answer, relay)


async def test_leaving_the_block_is_a_cancel(session: rtrelay.Session, relay: FakeRelay) -> None:
    answer = await begun(session, relay)
    async with answer:
        pass
    await stopped(answer, relay)


async def reads_on(answer: rtrelay.Generation, said: asyncio.Event) -> None:
    async for _ in answer:
        said.set()


async def speaks(answer: rtrelay.Generation, said: asyncio.Event) -> None:
    async for _ in answer:
        said.set()
        await asyncio.Event().wait()


async def speaks_in_block(answer: rtrelay.Generation, said: asyncio.Event) -> None:
    async with answer:
        await speaks(answer, said)


async def collects(answer: rtrelay.Generation, said: asyncio.Event) -> None:
    said.set()
    await answer.text()


@pytest.mark.parametrize("reader", [reads_on, speaks, speaks_in_block, collects])
async def test_cancelling_the_task_is_a_cancel(
    session: rtrelay.Session,
    relay: FakeRelay,
    reader: Callable[[rtrelay.Generation, asyncio.Event], Awaitable[None]],
) -> None:
    answer = await begun(session, relay)
    said = asyncio.Event()

    async def reads() -> None:
        await reader(answer, said)

    task = asyncio.create_task(reads())
    await soon(said.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert answer.is_cancelled
    await stopped(answer, relay)
    assert await session.start("Hi").text() == "fine"


async def test_leaving_gives_the_reason_that_was_set(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    relay.on_start = begins("One")
    answer = session.start("Hi")
    answer.leave_reason = BARGE_IN
    async for _ in answer:
        break
    assert (await answer.ended()).cancel_reason == BARGE_IN


async def test_a_session_that_is_prepared_is_open_before_its_first_start(
    relay: FakeRelay, client: rtrelay.Client
) -> None:
    relay.on_start = answers("x")
    session = client.session()
    session.prepare()
    stream = await relay.stream()
    await stream.until(lambda: stream.setup)
    assert not stream.starts
    assert await session.start("Hi").text() == "x"
    assert stream.starts
    await session.aclose()


async def test_cancelling_a_wait_for_the_end_changes_nothing(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    answer = await begun(session, relay)
    task = asyncio.create_task(answer.ended())
    await (await relay.stream()).start()
    task.cancel()
    await asyncio.wait([task])
    assert not answer.is_cancelled
    (await relay.stream()).end(answer.generation_id)
    assert await answer.text() == "One"


async def test_what_comes_after_a_cancel_is_not_delivered(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    relay.on_start = begins("One", "two", "three")
    answer = session.start("Hi")
    reader = aiter(answer)
    assert await anext(reader) == TextDelta("One", 0)
    answer.cancel(BARGE_IN)
    answer.cancel()
    stream = await relay.stream()
    stream.say(answer.generation_id, "late", 11)
    with pytest.raises(StopAsyncIteration):
        await anext(reader)
    end = await answer.ended()
    assert end.cancel_reason == BARGE_IN
    await stopped(answer, relay)


async def test_a_waiting_reader_is_woken_by_a_cancel(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    relay.on_start = hangs
    answer = session.start("Hi")
    task = asyncio.create_task(answer.text())
    await (await relay.stream()).start()
    answer.cancel()
    await soon(task)
    assert task.result() == ""
    await stopped(answer, relay)


async def test_one_of_two_is_cancelled(session: rtrelay.Session, relay: FakeRelay) -> None:
    first, second = await begun(session, relay), await begun(session, relay)
    stream = await relay.stream()
    await stream.start(1)
    first.cancel()
    await stopped(first, relay)
    stream.end(second.generation_id)
    assert await second.text() == "One"


async def test_superseding(session: rtrelay.Session, relay: FakeRelay) -> None:
    first = await begun(session, relay)
    stream = await relay.stream()
    await stream.start()
    relay.on_start = answers("Two")
    assert await session.start("Hi", supersedes=[first]).text() == "Two"
    assert list(stream.starts[1].supersedes) == [first.generation_id]
    assert first.is_cancelled
    assert stream.cancels == []


async def test_one_of_another_session_is_superseded(
    client: rtrelay.Client, session: rtrelay.Session, relay: FakeRelay
) -> None:
    first = await begun(session, relay)
    await (await relay.stream()).start()
    relay.on_start = answers("Two")
    async with client.session() as second:
        assert await second.start("Hi", supersedes=first).text() == "Two"
    assert (await first.ended()).cancel_reason == CancelReason.CANCEL_REASON_SUPERSEDED
    assert not (await relay.stream(1)).starts[0].supersedes


# --- without a session ----------------------------------------------------------------------


async def test_more_at_once_than_a_session_may_have(
    client: rtrelay.Client, relay: FakeRelay
) -> None:
    relay.max_live = 4
    await client.open()
    hanging = [client.generate("Hi") for _ in range(6)]
    first, second = await relay.stream(0), await relay.stream(1)
    await first.start(3)
    await second.start(1)
    hanging[0].cancel()
    await soon(hanging[0].ended())
    client.generate("Hi", supersedes=hanging[5])
    await first.start(4)
    assert (len(first.starts), len(second.starts)) == (5, 2)
    assert (await hanging[5].ended()).cancel_reason == CancelReason.CANCEL_REASON_SUPERSEDED
    assert not first.starts[4].supersedes


async def test_before_the_limit_is_known_few_share_a_session(
    client: rtrelay.Client, relay: FakeRelay
) -> None:
    relay.on_start = answers("One")
    texts = await asyncio.gather(*(client.generate("Hi").text() for _ in range(9)))
    assert texts == ["One"] * 9
    assert sorted(len(stream.starts) for stream in relay.streams) == [1, 4, 4]


async def test_another_event_loop_is_refused_in_words(relay: FakeRelay) -> None:
    relay.on_start = answers("One")
    client = rtrelay.Client(relay.address, model="fast", reconnect=QUICK)
    async with client, client.session() as session:
        assert await session.start("Hi").text() == "One"

        async def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="belongs to the event loop that used it first"):
                session.start("Hi")
            with pytest.raises(RuntimeError, match="belongs to the event loop that used it first"):
                client.generate("Hi")

        await asyncio.to_thread(asyncio.run, elsewhere())


async def test_two_readers_at_once_are_refused(session: rtrelay.Session, relay: FakeRelay) -> None:
    relay.on_start = hangs
    answer = session.start("Hi")
    task = asyncio.create_task(answer.text())
    await (await relay.stream()).start()
    with pytest.raises(RuntimeError, match="another task"):
        await answer.text()
    assert not answer.is_cancelled
    answer.cancel()
    await soon(task)


# --- buffers --------------------------------------------------------------------------------


async def test_who_does_not_read_gets_merged_text_and_stops_nobody(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    words = [f"{number} " for number in range(5000)]
    relay.on_start = answers(*words)
    slow = session.start("Hi")
    await soon(slow.ended())
    assert await session.start("Hi").text() == "".join(words)
    events = [event async for event in slow]
    assert len(events) < 300
    offset = 0
    for event in events:
        assert isinstance(event, TextDelta)
        assert event.char_offset == offset
        offset += len(event.text)
    assert offset == len("".join(words))


async def test_what_cannot_be_merged_ends_its_generation(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    async def segments(stream: FakeStream, start: Start) -> None:
        for index in range(3000):
            segment = SegmentFrame(generation_id=start.generation_id, text="A. ", index=index)
            stream.send(segment=segment)

    relay.on_start = segments
    answer = session.start("Hi")
    with pytest.raises(rtrelay.RelayError) as caught:
        await answer.ended()
    assert caught.value.reason == "SLOW_CONSUMER"
    stream = await relay.stream()
    await stream.until(lambda: stream.cancels)
    with pytest.raises(rtrelay.RelayError):
        await answer.text()


def test_merging_keeps_each_kind_in_order() -> None:
    call = rtrelay.ToolCall(ToolCallMessage(call_id="c"), 0, is_partial=False)
    piece = rtrelay.ToolArgumentsDelta
    given: list[Event] = [
        TextDelta("a", 0),
        rtrelay.ReasoningDelta("r"),
        piece(0, "{", "c", "f"),
        TextDelta("b", 1),
        TextDelta("x", 0, choice=1),
        call,
        piece(0, "}"),
        rtrelay.ReasoningDelta("s"),
        rtrelay.RefusalDelta("n"),
        rtrelay.RefusalDelta("o"),
        rtrelay.AudioDelta("i", b"1", "p", 5),
        rtrelay.AudioDelta("i", b"2", "q", 6),
    ]
    assert merged(given) == [
        TextDelta("ab", 0),
        rtrelay.ReasoningDelta("rs"),
        piece(0, "{}", "c", "f"),
        TextDelta("x", 0, choice=1),
        call,
        rtrelay.RefusalDelta("no"),
        rtrelay.AudioDelta("i", b"12", "pq", 6),
    ]


# --- streams that break ---------------------------------------------------------------------


async def test_a_break_restarts_what_had_no_output_and_fails_the_rest(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    heard = await begun(session, relay)
    stream = await relay.stream()
    await stream.start()
    reader = aiter(heard)
    assert await anext(reader) == TextDelta("One", 0)
    relay.on_start = hangs
    silent = session.start("Hi", speculative=True)
    silent.commit()
    await stream.until(lambda: stream.commits)
    first_id = silent.generation_id
    relay.on_start = answers("Back")
    stream.abort(text="gone")
    assert await silent.text() == "Back"
    assert silent.generation_id != first_id
    again = await relay.stream(1)
    assert again.commits == [silent.generation_id]
    with pytest.raises(rtrelay.RelayError) as caught:
        await anext(reader)
    assert (caught.value.reason, caught.value.is_retryable) == ("STREAM_LOST", True)
    assert caught.value.message == "gone"
    with pytest.raises(rtrelay.RelayError):
        await heard.ended()


async def test_a_cancelled_one_is_not_restarted(session: rtrelay.Session, relay: FakeRelay) -> None:
    relay.on_start = hangs
    answer = session.start("Hi")
    stream = await relay.stream()
    await stream.start()
    stream.abort()
    answer.cancel()  # the break is not known yet
    with pytest.raises(rtrelay.RelayError, match="STREAM_LOST"):
        await answer.ended()
    assert [event async for event in answer] == []
    relay.on_start = answers("Two")
    assert await session.start("Hi").text() == "Two"
    assert len((await relay.stream(1)).starts) == 1


async def test_what_breaks_every_relay_is_given_up(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    async def breaks(stream: FakeStream, start: Start) -> None:
        stream.abort(text="crash")

    relay.on_start = breaks
    with pytest.raises(rtrelay.RelayError, match="crash"):
        await session.start("Hi").text()
    assert sum(len(stream.starts) for stream in relay.streams) == 4


async def test_streams_that_do_not_last_are_not_asked_for_in_a_tight_loop(
    relay: FakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[float] = []

    def uniform(low: float, high: float) -> float:
        bounds.append(high)
        return low

    monkeypatch.setattr("random.uniform", uniform)
    backoff = rtrelay.Reconnect(backoff_s=0.5, max_backoff_s=1.5)
    async with (
        rtrelay.Client(relay.address, reconnect=backoff) as client,
        client.session(),
    ):
        for index in range(4):
            stream = await relay.stream(index)
            await stream.until(lambda: stream.setup)  # noqa: B023 - awaited here
            stream.abort()
        await relay.stream(4)
    assert bounds == [0.5, 1.0, 1.5, 1.5]


@pytest.mark.parametrize("seed", range(12))
async def test_every_generation_ends_whatever_happens(
    relay: FakeRelay, other: FakeRelay, seed: int
) -> None:
    """Starts, cancels, breaks and drains at random: each generation ends once, its text has no gap,
    and nothing is left (the fixtures look)."""
    draw = random.Random(seed)

    async def script(stream: FakeStream, start: Start) -> None:
        await begins(*"abc"[: draw.randrange(4)])(stream, start)
        kind = draw.randrange(8)
        if kind < 4:
            stream.end(start.generation_id)
        elif kind == 4:
            stream.drain()
            stream.end(start.generation_id)
        elif kind == 5:
            stream.abort(text="break")

    relay.on_start = other.on_start = script
    ended: list[rtrelay.Generation] = []

    async def use(answer: rtrelay.Generation) -> None:
        offset = 0
        limit = draw.choice([0, 1, 2, 9])
        try:
            async with asyncio.timeout(0.2):  # for those that hang
                async for event in answer:
                    assert isinstance(event, TextDelta)
                    assert event.char_offset == offset
                    offset += len(event.text)
                    if offset > limit:
                        break
        except (rtrelay.RelayError, TimeoutError):
            pass

    addresses = [relay.address, other.address]
    async with rtrelay.Client(addresses, reconnect=QUICK) as client, client.session() as session:
        made: list[rtrelay.Generation] = []
        async with asyncio.TaskGroup() as users:
            for _ in range(25):
                made.append(session.start("Hi", on_end=ended.append, supersedes=made[-1:-2:-1]))
                users.create_task(use(made[-1]))
                if draw.random() < 0.5:
                    made.append(session.start("Hi", on_end=ended.append))
                    users.create_task(use(made[-1]))
                if draw.random() < 0.5:
                    await asyncio.sleep(0)
    assert sorted(map(id, ended)) == sorted(map(id, made))
    assert all(answer.is_over for answer in made)


async def test_a_key_that_is_refused_is_told_at_once(
    client: rtrelay.Client, relay: FakeRelay
) -> None:
    relay.refusal = (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    with pytest.raises(rtrelay.RelayError) as caught:
        async with client.session():
            pass
    assert caught.value.code == grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.reason == "UNAUTHENTICATED"
    assert len(relay.streams) <= 2, "gRPC may lose the first status to a write"


async def test_a_drain_sends_what_is_new_elsewhere(relay: FakeRelay, other: FakeRelay) -> None:
    addresses = [relay.address, other.address]
    async with rtrelay.Client(addresses, reconnect=QUICK) as client, client.session() as session:
        old = await begun(session, relay)
        stream = await relay.stream()
        await stream.start()
        other.on_start = answers("New")
        stream.drain()
        await other.stream()
        assert await session.start("Hi").text() == "New"
        assert session.address == other.address
        assert not stream.is_half_closed
        stream.say(old.generation_id, "two", 3)
        stream.end(old.generation_id)
        assert await old.text() == "Onetwo"
        await stream.until(lambda: stream.is_half_closed)
        assert [len(found.starts) for found in (stream, other.streams[0])] == [1, 1]


async def test_a_drain_is_left_by_a_new_connection(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    """Over the old one, the worker that drains would get the new stream too."""
    old = await begun(session, relay)
    first = await relay.stream()
    await first.start()
    first.drain()
    second = await relay.stream(1)
    assert second.peer != first.peer
    relay.on_start = answers("New")
    assert await session.start("Hi").text() == "New"
    assert not old.is_over
    second.abort(reason="DRAINING")
    third = await relay.stream(2)
    assert third.peer not in (first.peer, second.peer)
    first.end(old.generation_id)
    assert await old.text() == "One"


async def test_a_start_that_a_draining_relay_refuses_goes_on(
    relay: FakeRelay, other: FakeRelay
) -> None:
    async def refuses(stream: FakeStream, start: Start) -> None:
        error = status_of(grpc.StatusCode.UNAVAILABLE, "DRAINING")
        stream.end(start.generation_id, outcome=Outcome.OUTCOME_FAILED, error=error)

    relay.on_start, other.on_start = refuses, answers("New")
    addresses = [relay.address, other.address]
    async with rtrelay.Client(addresses, reconnect=QUICK) as client, client.session() as session:
        assert await session.start("Hi").text() == "New"


async def test_the_second_address_takes_over(relay: FakeRelay, other: FakeRelay) -> None:
    addresses = [relay.address, other.address]
    async with rtrelay.Client(addresses, reconnect=QUICK) as client, client.session() as session:
        relay.on_start, other.on_start = hangs, answers("New")
        answer = session.start("Hi")
        await (await relay.stream()).start()
        await relay.stop()
        assert await answer.text() == "New"
        assert session.address == other.address


async def test_addresses_that_are_dead_or_silent_are_passed_over(
    relay: FakeRelay, other: FakeRelay, unused_tcp_port: int
) -> None:
    relay.is_ready = False
    other.on_start = answers("New")
    addresses = [f"127.0.0.1:{unused_tcp_port}", relay.address, other.address]
    async with rtrelay.Client(addresses, reconnect=QUICK) as client, client.session() as session:
        assert session.address == other.address
        assert await session.start("Hi").text() == "New"


async def test_no_relay_at_all(unused_tcp_port: int) -> None:
    async with rtrelay.Client(f"127.0.0.1:{unused_tcp_port}", reconnect=QUICK) as client:
        with pytest.raises(rtrelay.RelayError, match="refused") as caught:
            async with client.session():
                pass
        assert caught.value.is_retryable


async def test_an_idle_end_is_followed_by_a_stream_when_one_is_needed(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    stream = await relay.stream()
    stream.abort(reason="SESSION_IDLE")
    relay.on_start = answers("New")
    assert await session.start("Hi").text() == "New"
    assert len(relay.streams) == 2


async def test_a_start_too_large_for_a_frame(relay: FakeRelay, client: rtrelay.Client) -> None:
    relay.max_frame_bytes = 100
    relay.on_start = answers("x")
    async with client.session() as session:
        with pytest.raises(rtrelay.RelayError, match="REQUEST_TOO_LARGE"):
            await session.start("x" * 200).text()
        assert await session.start("x").text() == "x"


async def test_a_start_too_large_still_stops_what_it_supersedes(
    relay: FakeRelay, client: rtrelay.Client
) -> None:
    relay.max_frame_bytes = 100
    async with client.session() as session:
        old = session.start("x")
        stream = await relay.stream()
        await stream.start()
        new = session.start("x" * 200, supersedes=[old])
        end = await old.ended()
        assert end.cancel_reason == CancelReason.CANCEL_REASON_SUPERSEDED
        with pytest.raises(rtrelay.RelayError, match="REQUEST_TOO_LARGE"):
            await new.text()


async def test_a_start_that_the_relay_rejects(session: rtrelay.Session, relay: FakeRelay) -> None:
    async def rejects(stream: FakeStream, start: Start) -> None:
        error = status_of(grpc.StatusCode.ALREADY_EXISTS, "DUPLICATE_GENERATION")
        stream.send(
            notice=Notice(
                kind=NoticeKind.NOTICE_KIND_FRAME_REJECTED,
                error=error,
                generation_id=start.generation_id,
            )
        )

    relay.on_start = rejects
    with pytest.raises(rtrelay.RelayError, match="DUPLICATE_GENERATION"):
        await session.start("Hi").text()


# --- what the relay's policies make of it -----------------------------------------------------


def withdraws(stream: FakeStream, start: Start, from_chars: int, choice: int = 0) -> None:
    stream.send(
        notice=Notice(
            kind=NoticeKind.NOTICE_KIND_RETRACT,
            generation_id=start.generation_id,
            message="withdrawn",
            choice=choice,
            retract_from_chars=from_chars,
        )
    )


async def test_what_was_decided_and_what_kept_answers_are_wanted(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    async def decided(stream: FakeStream, start: Start) -> None:
        stream.send(started=Started(generation_id=start.generation_id))
        stream.end(start.generation_id, decision_json=b'{"rule":"tools"}', cache="hit")

    relay.on_start = decided
    answer = session.start("Hi", cache=CacheMode.CACHE_MODE_REFRESH)
    decisions = [answer.decision]
    end = await answer.ended()
    decisions.append(answer.decision)
    assert decisions == [None, {"rule": "tools"}], "before the end nobody knows"
    assert end.cache == "hit"
    relay.on_start = answers("x")
    plain = session.start("Hi")
    await plain.ended()
    assert plain.decision == {}
    starts = (await relay.stream()).starts
    assert [start.cache for start in starts] == [
        CacheMode.CACHE_MODE_REFRESH,
        CacheMode.CACHE_MODE_UNSPECIFIED,
    ]


async def test_text_that_a_guardrail_withdraws(session: rtrelay.Session, relay: FakeRelay) -> None:
    async def bad(stream: FakeStream, start: Start) -> None:
        stream.send(started=Started(generation_id=start.generation_id))
        stream.say(start.generation_id, "h\u00e9 \U0001f600 secret")
        withdraws(stream, start, 5)
        withdraws(stream, start, 0, choice=1)
        stream.end(start.generation_id)

    relay.on_start = bad
    events = [event async for event in session.start("Hi")]
    assert events[1:] == [rtrelay.Retract(5, "withdrawn"), rtrelay.Retract(0, "withdrawn", 1)]
    assert await session.start("Hi").text() == "h\u00e9 \U0001f600 "


async def test_word_of_what_is_withdrawn_passes_what_is_unread(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    """Pieces merge where nobody reads; what is withdrawn stays behind them."""

    async def long(stream: FakeStream, start: Start) -> None:
        stream.send(started=Started(generation_id=start.generation_id))
        for number in range(600):
            stream.say(start.generation_id, "a", number)
        withdraws(stream, start, 10)
        stream.end(start.generation_id)

    relay.on_start = long
    answer = session.start("Hi")
    await answer.ended()
    assert await answer.text() == "a" * 10


async def test_over_a_unix_socket(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/s"
    async with FakeRelay(address) as relay, rtrelay.Client(address) as client:
        relay.on_start = answers("Hi")
        async with client.session() as session:
            assert await session.start("Hi").text() == "Hi"


async def test_a_relay_that_hangs_is_left(relay: FakeRelay, other: FakeRelay) -> None:
    relay.answers_pings, relay.on_start, other.on_start = False, hangs, answers("New")
    addresses = [relay.address, other.address]
    impatient = rtrelay.Reconnect(silence_s=0.05)
    async with (
        rtrelay.Client(addresses, reconnect=impatient) as client,
        client.session() as session,
    ):
        assert await asyncio.wait_for(session.start("Hi").text(), 10) == "New"
        assert session.address == other.address
    assert (await relay.stream()).pings == [0]


async def test_a_relay_that_answers_pings_is_waited_for(relay: FakeRelay) -> None:
    relay.on_start = hangs
    impatient = rtrelay.Reconnect(silence_s=0.02)
    async with (
        rtrelay.Client(relay.address, reconnect=impatient) as client,
        client.session() as session,
    ):
        answer = session.start("Hi")
        stream = await relay.stream()
        await stream.until(lambda: len(stream.pings) > 4)
        assert not answer.is_over
        answer.cancel()
        await soon(answer.ended())
    assert len(relay.streams) == 1


async def test_who_asks_does_not_wait_for_the_next_try(relay: FakeRelay) -> None:
    patient = rtrelay.Reconnect(backoff_s=1000, max_backoff_s=1000, give_up_s=1e6)
    async with (
        rtrelay.Client(relay.address, model="fast", reconnect=patient) as client,
        client.session() as session,
    ):
        gone = session.start("Hi")
        await (await relay.stream()).start()
        await relay.stop()
        async with FakeRelay(relay.address) as back:
            back.on_start = answers("One")
            async with asyncio.timeout(10):
                while session.address is not None:  # grpc tells it when its poller comes to it
                    await asyncio.sleep(0.005)
            assert await asyncio.wait_for(session.start("Hi").text(), 10) == "One"
            assert await asyncio.wait_for(gone.text(), 10) == "One"


# --- the end --------------------------------------------------------------------------------


async def test_closing_ends_what_runs_and_leaves_no_task(
    client: rtrelay.Client, relay: FakeRelay
) -> None:
    relay.on_start = begins("One")
    before = asyncio.all_tasks()
    session = client.session()
    async with session:
        answer = session.start("Hi")
        reader = aiter(answer)
        await anext(reader)

        async def rest() -> list[Event]:
            return [event async for event in reader]

        task = asyncio.create_task(rest())
    assert await task == []
    await client.aclose()
    named = {task.get_name() for task in asyncio.all_tasks() - before}
    assert not {name for name in named if name.startswith("rtrelay")}
    with pytest.raises(RuntimeError, match="closed"):
        session.start("Hi")
    with pytest.raises(RuntimeError, match="closed"):
        client.session()
    await session.aclose()


async def test_closing_while_the_relay_is_away(unused_tcp_port: int) -> None:
    patient = rtrelay.Reconnect(give_up_s=60)
    client = rtrelay.Client(f"127.0.0.1:{unused_tcp_port}", reconnect=patient)
    session = client.session()
    opening = asyncio.create_task(session.__aenter__())
    await asyncio.sleep(0)
    answer = session.start("Hi")
    await session.aclose()
    with pytest.raises(rtrelay.RelayError):
        await opening
    await client.aclose()
    end = await answer.ended()
    assert end.cancel_reason == CancelReason.CANCEL_REASON_SESSION_END


async def test_an_opening_that_is_cancelled_leaves_nothing(unused_tcp_port: int) -> None:
    patient = rtrelay.Reconnect(give_up_s=60)
    async with rtrelay.Client(f"127.0.0.1:{unused_tcp_port}", reconnect=patient) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), client.session():
                pass
        assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("rtrelay")]


async def test_a_tool_call(session: rtrelay.Session, relay: FakeRelay) -> None:
    call = ToolCallMessage(call_id="c", name="f", arguments="{}")

    async def calls(stream: FakeStream, start: Start) -> None:
        done = ToolCallDone(generation_id=start.generation_id, index=1, call=call)
        stream.send(tool_call=done)
        stream.end(start.generation_id)

    relay.on_start = calls
    events = [event async for event in session.start("Hi")]
    assert events == [rtrelay.ToolCall(call, 1, is_partial=False)]


async def test_deltas_of_many_kinds(session: rtrelay.Session, relay: FakeRelay) -> None:
    async def mixes(stream: FakeStream, start: Start) -> None:
        delta = Delta(generation_id=start.generation_id, text="t", reasoning="r", refusal="n")
        delta.tool_arguments.add(index=1, fragment="{", call_id="c", name="f")
        delta.audio.audio_id, delta.audio.data = "a", b"d"
        delta.extras.add(key="k", value_json=b"1")
        stream.send(delta=delta)
        stream.end(start.generation_id)

    relay.on_start = mixes
    assert [event async for event in session.start("Hi")] == [
        rtrelay.ReasoningDelta("r"),
        TextDelta("t", 0),
        rtrelay.RefusalDelta("n"),
        rtrelay.ToolArgumentsDelta(1, "{", "c", "f"),
        rtrelay.AudioDelta("a", b"d", "", 0),
        rtrelay.Extra("k", b"1"),
    ]
