"""The client where things go wrong: lost streams beside live ones, callbacks that misbehave, tasks
cancelled at every point, arguments that cannot be right."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
import rtrelay
from rtrelay import _flow
from rtrelay._flow import Flow
from rtrelay._link import Link
from rtrelay.v1 import (
    AudioDelta,
    CancelReason,
    Delta,
    Notice,
    NoticeKind,
    Outcome,
    Start,
)

from tests.fakes.direct_provider import FakeProvider, says
from tests.fakes.fake_relay import FakeRelay, FakeStream, answers, begins, hangs, status_of

pytestmark = pytest.mark.sockets

QUICK = rtrelay.Reconnect(connect_timeout_s=0.5, give_up_s=1.0, max_backoff_s=0.05)


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
    async with rtrelay.Client(relay.address, reconnect=QUICK) as made:
        yield made


@pytest.fixture
async def session(client: rtrelay.Client) -> AsyncIterator[rtrelay.Session]:
    async with client.session() as made:
        yield made


# --- streams that go while another one lives --------------------------------------------------


async def drained_to(
    session: rtrelay.Session, relay: FakeRelay, other: FakeRelay
) -> tuple[rtrelay.Generation, FakeStream]:
    """A silent generation on a stream that drains, while the session is on another relay."""
    relay.on_start = hangs
    answer = session.start("Hi")
    old = await relay.stream()
    await old.start()
    old.drain()
    new = await other.stream()
    await new.until(lambda: new.setup)
    other.on_start = answers("New")
    assert await session.start("Hi").text() == "New"
    return answer, old


async def test_what_a_drained_stream_loses_goes_to_the_live_one(
    relay: FakeRelay, other: FakeRelay
) -> None:
    addresses = [relay.address, other.address]
    async with rtrelay.Client(addresses, reconnect=QUICK) as client, client.session() as session:
        answer, old = await drained_to(session, relay, other)
        old.abort(text="killed")
        assert await asyncio.wait_for(answer.text(), 5) == "New"


async def test_what_a_drained_stream_refuses_late_goes_to_the_live_one(
    relay: FakeRelay, other: FakeRelay
) -> None:
    addresses = [relay.address, other.address]
    async with rtrelay.Client(addresses, reconnect=QUICK) as client, client.session() as session:
        answer, old = await drained_to(session, relay, other)
        error = status_of(grpc.StatusCode.UNAVAILABLE, "DRAINING")
        old.end(answer.generation_id, outcome=Outcome.OUTCOME_FAILED, error=error)
        assert await asyncio.wait_for(answer.text(), 5) == "New"
        await old.until(lambda: old.is_half_closed)


async def test_a_rejection_is_the_last_word_of_a_drained_stream(
    relay: FakeRelay, other: FakeRelay
) -> None:
    addresses = [relay.address, other.address]
    async with rtrelay.Client(addresses, reconnect=QUICK) as client, client.session() as session:
        other.on_start = answers("New")

        async def says_nothing(stream: FakeStream, start: Start) -> None:
            stream.drain()

        relay.on_start = says_nothing
        answer = session.start("Hi")
        old = await relay.stream()
        await old.start()
        await other.stream()
        kind = NoticeKind.NOTICE_KIND_FRAME_REJECTED
        error = status_of(grpc.StatusCode.ALREADY_EXISTS, "DUPLICATE_GENERATION")
        old.send(notice=Notice(kind=kind, error=error, generation_id=answer.generation_id))
        with pytest.raises(rtrelay.RelayError, match="DUPLICATE"):
            await answer.text()
        await old.until(lambda: old.is_half_closed)


async def test_details_that_cannot_be_read_are_passed_over(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    """A proxy's trailers, or a later relay's."""

    async def breaks(stream: FakeStream, start: Start) -> None:
        stream.abort(grpc.StatusCode.PERMISSION_DENIED, text="no", details=b"\xff\xff")

    relay.on_start = breaks
    with pytest.raises(rtrelay.RelayError, match="no") as caught:
        await session.start("Hi").text()
    assert caught.value.code == grpc.StatusCode.PERMISSION_DENIED


# --- callbacks ------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError])
@pytest.mark.parametrize("which", ["on_event", "on_end"])
async def test_a_callback_that_raises_leaves_the_stream(
    session: rtrelay.Session, relay: FakeRelay, error: type[BaseException], which: str
) -> None:
    """CancelledError too: `task.result()` of a cancelled task raises it."""
    told: list[str] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))
    relay.on_start = begins("One")
    bystander = session.start("Hi")
    await (await relay.stream()).start()
    relay.on_start = answers("One")

    def raises(_: object) -> None:
        raise error

    try:
        await session.start("Hi", **{which: raises}).ended()  # type: ignore[arg-type]
    finally:
        loop.set_exception_handler(handler)
    assert told == [f"rtrelay: the {which} of a generation raised"]
    assert not bystander.is_over
    assert len(relay.streams) == 1
    assert await session.start("Hi").text() == "One"


async def test_callbacks_run_in_the_context_of_their_start(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    """A tracer's current span is kept in such a variable."""
    relay.on_start = answers("One")
    span = contextvars.ContextVar("span", default="none")
    seen: list[str] = []

    def note(_: object) -> None:
        seen.append(span.get())

    token = span.set("mine")
    answer = session.start("Hi", on_event=note, on_end=note)
    span.reset(token)
    await answer.ended()
    assert seen == ["mine", "mine"]


async def test_who_reads_beside_another_is_told_and_stops_nothing(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    relay.on_start = hangs
    answer = session.start("Hi")
    task = asyncio.create_task(answer.text())
    stream = await relay.stream()
    await stream.start()
    with pytest.raises(RuntimeError, match="another task"):
        await answer.text()
    heard: list[object] = []
    called = session.start("Hi", on_event=heard.append)
    with pytest.raises(RuntimeError, match="callback"):
        await called.text()
    await stream.start(1)
    for index, generation in enumerate([answer, called]):
        stream.say(generation.generation_id, "Hi", 0)
        stream.end(generation.generation_id)
        assert (await generation.ended()).outcome == Outcome.OUTCOME_COMPLETED, index
    assert await task == "Hi"
    assert heard == [rtrelay.TextDelta("Hi", 0)]


# --- cancels at every point -------------------------------------------------------------------


async def life(address: str, provider: FakeProvider | None) -> None:
    """A client from its making to its end; one generation is read, one left running."""
    async with (
        rtrelay.Client(address, reconnect=QUICK, direct=provider) as client,
        client.session() as session,
    ):
        left = session.start("Hi")
        async with session.start("Hi") as answer:
            async for _ in answer:
                pass
        left.cancel()
        await left.ended()


@pytest.mark.parametrize("way", ["relay", "both", "direct"])
async def test_a_task_cancelled_at_any_step_leaves_nothing(
    relay: FakeRelay, unused_tcp_port: int, way: str
) -> None:
    """The task is cancelled when it is resumed for the n-th time, for every n (opening, starting,
    reading, closing); the fixture looks for tasks."""
    relay.on_start = answers("One", "two")
    provider = FakeProvider(says("One", "two", every_s=0.001))
    address = f"127.0.0.1:{unused_tcp_port}" if way == "direct" else relay.address

    async def cut_at(step: int) -> bool:
        coroutine = life(address, None if way == "relay" else provider)
        task = asyncio.current_task()
        assert task is not None
        try:
            return not await _Stepper(coroutine, step, task)
        except asyncio.CancelledError:
            task.uncancel()
            return True

    step = 0
    while await asyncio.wait_for(asyncio.create_task(cut_at(step)), 5):
        step += 1
        assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("rtrelay")], step
        assert provider.open == 0
    assert step >= 4


class _Stepper:
    """Awaits a coroutine, and cancels the task at its n-th suspension. Gives whether it came to its
    end without."""

    def __init__(self, coroutine: Any, step: int, task: asyncio.Task[Any]) -> None:
        self._coroutine, self._step, self._task = coroutine, step, task

    def __await__(self) -> Any:
        inner = self._coroutine.__await__()
        value: Any = None
        left = self._step
        error: BaseException | None = None
        while True:
            try:
                waits_for = inner.send(value) if error is None else inner.throw(error)
            except StopIteration:
                return left >= 0
            error = None
            if left == 0:
                self._task.cancel()
            left -= 1
            try:
                value = yield waits_for
            except BaseException as raised:  # noqa: BLE001 - handed on
                error = raised


async def test_closing_that_is_cancelled_closes_everything(
    client: rtrelay.Client, relay: FakeRelay
) -> None:
    """Also when the stream's task has not run at all."""
    relay.is_ready = False
    session = client.session()
    opening = asyncio.create_task(session.__aenter__())
    answer = session.start("Hi")
    while session.address is None:  # until the stream is made
        await asyncio.sleep(0)
    closing = asyncio.create_task(session.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    with pytest.raises(rtrelay.RelayError):
        await opening
    with pytest.raises(rtrelay.RelayError):
        await asyncio.wait_for(answer.ended(), 5)


async def test_a_task_group_of_a_caller_is_not_the_streams(
    client: rtrelay.Client, relay: FakeRelay
) -> None:
    relay.on_start = begins("One")
    session = client.session()

    async def opens() -> None:
        await session.__aenter__()
        await session.start("Hi").text()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), asyncio.TaskGroup() as group:
            group.create_task(opens())
    relay.on_start = answers("Two")
    assert await session.start("Hi").text() == "Two"
    assert len(relay.streams) == 1
    await session.aclose()


async def test_an_iterator_dropped_in_another_thread_cancels_in_the_loop(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    """As the garbage collector of a cycle does it."""
    relay.on_start = begins("One")
    answer = session.start("Hi")
    readers = [aiter(answer)]
    await anext(readers[0])
    threads: list[int] = []
    loop = asyncio.get_running_loop()
    cancel = answer.cancel

    def noted(*arguments: Any) -> None:
        threads.append(threading.get_ident())
        cancel(*arguments)

    answer.cancel = noted  # type: ignore[method-assign, assignment]
    await loop.run_in_executor(None, readers.clear)
    end = await asyncio.wait_for(answer.ended(), 5)
    assert end.outcome == Outcome.OUTCOME_CANCELLED
    assert threads == [threading.get_ident()]


# --- what is left in memory -------------------------------------------------------------------


async def test_cancelled_generations_leave_nothing(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    """Without the help of the garbage collector, whose pauses a voice agent hears."""
    relay.on_start = begins("One")
    gc.collect()
    gc.disable()
    try:
        tasks = len(asyncio.all_tasks())
        for _ in range(10):
            wave = [session.start("Hi", turn_id="w", on_end=lambda _: None) for _ in range(100)]
            for answer in wave:
                async for _ in answer:
                    break
            for answer in wave:
                await answer.ended()
            del wave, answer
        flows = [found for found in gc.get_objects() if isinstance(found, Flow)]
        assert [flow for flow in flows if flow.start.turn_id == "w"] == []
        await (await relay.stream()).until(lambda: True)
        for _ in range(100):  # tasks of the fake
            await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) <= tasks
    finally:
        gc.enable()


async def test_what_nobody_reads_is_bounded_in_bytes(
    session: rtrelay.Session, relay: FakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_flow, "MOST_UNREAD_BYTES", 300_000)

    async def speaks(stream: FakeStream, start: Start) -> None:
        for _ in range(600):
            audio = AudioDelta(audio_id="a", data=bytes(1000))
            stream.send(delta=Delta(generation_id=start.generation_id, audio=audio))

    relay.on_start = speaks
    with pytest.raises(rtrelay.RelayError) as caught:
        await asyncio.wait_for(session.start("Hi").ended(), 5)
    assert caught.value.reason == "SLOW_CONSUMER"
    assert "300000 bytes" in caught.value.message
    stream = await relay.stream()
    await stream.until(lambda: stream.cancels)


# --- arguments that cannot be right -----------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"addresses": ""}, "addresses: an address is empty"),
        ({"addresses": ["a:1", ""]}, "addresses: an address is empty"),
        ({"addresses": b"a:1"}, "addresses: a text or several"),
        ({"addresses": ["a:1", 5]}, "addresses: a text or several"),
        ({"addresses": 5}, "addresses: a text or several"),
        ({"addresses": "http://a:1"}, "addresses: host:port or unix:/path, without http://"),
        ({"key": "top secret\n"}, "key: "),
        ({"key": "sécret"}, "key: "),
        ({"key": ""}, "key: "),
        ({"key": 5}, "key: "),
        ({"channel_options": {"grpc.x": object()}}, "channel_options: grpc.x"),
        ({"labels": {"a": 1}}, "labels: "),
        ({"model": 5}, "model: "),
        ({"client_name": 5}, "client_name: "),
        ({"budgets": 5}, "budgets: "),
    ],
)
def test_bad_arguments_of_a_client(arguments: dict[str, Any], message: str) -> None:
    arguments = {"addresses": "127.0.0.1:1", **arguments}
    with pytest.raises((TypeError, ValueError)) as caught:
        rtrelay.Client(**arguments)
    assert str(caught.value).startswith(message)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None or "secret" not in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": 5}, "prompt: "),
        ({"prompt": None}, "prompt: "),
        ({"prompt": []}, "prompt: it has no message"),
        ({"prompt": [5]}, "prompt: "),
        ({"prompt": {"messages": [object()]}}, "prompt: "),
        ({"prompt": [{"content": float("nan")}]}, "prompt: "),
        ({"prompt": "\ud800"}, "prompt: "),
        ({"tags": "eu"}, "tags: "),
        ({"tags": [5]}, "tags: "),
        ({"labels": {"a": 1}}, "labels: "),
        ({"supersedes": 5}, "supersedes: "),
        ({"supersedes": [5]}, "supersedes: "),
        ({"model": 5}, "model: "),
        ({"turn_id": 5}, "turn_id: "),
        ({"budgets": 5}, "budgets: "),
        ({"output": "segments"}, "output: "),
        ({"on_event": 5}, "on_event: "),
        ({"on_end": 5}, "on_end: "),
    ],
)
async def test_bad_arguments_of_a_start(
    session: rtrelay.Session, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        session.start(**{"prompt": "Hi", **arguments})
    assert str(caught.value).startswith(message), caught.value


@pytest.mark.parametrize("name", ["connect_timeout_s", "give_up_s", "backoff_s", "max_backoff_s"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), "5"])
def test_bad_times(name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{name}: "):
        rtrelay.Reconnect(**{name: value})


async def test_one_generation_may_be_superseded_without_a_list(
    session: rtrelay.Session, relay: FakeRelay
) -> None:
    relay.on_start = begins("One")
    old = session.start("Hi")
    stream = await relay.stream()
    await stream.start()
    session.start("Hi", supersedes=old)
    assert list((await stream.start(1)).supersedes) == [old.generation_id]


def test_no_secret_is_shown() -> None:
    client = rtrelay.Client("127.0.0.1:1", key="top-secret")
    assert "secret" not in repr(client)
    assert "127.0.0.1:1" in repr(client)


Make = Callable[[str], grpc.aio.Channel]


async def test_a_stream_whose_writer_failed_is_ended(
    relay: FakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever gRPC raises there: such a stream is dead and looks alive."""
    write = Link._write
    failures = [ValueError("no such frame")]

    async def fails_once(link: Link) -> None:
        if failures:
            raise failures.pop()
        await write(link)

    monkeypatch.setattr(Link, "_write", fails_once)
    relay.on_start = answers("Two")
    patient = rtrelay.Reconnect(connect_timeout_s=60, give_up_s=60)
    async with rtrelay.Client(relay.address, reconnect=patient) as client:
        assert await asyncio.wait_for(client.session().start("Hi").text(), 5) == "Two"


async def test_a_stream_that_cannot_be_made_is_told(
    client: rtrelay.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever gRPC raises there, the session says so and tries anew with the next start."""

    def raises(address: str) -> grpc.aio.Channel:
        raise ValueError("no such resolver")

    make: Make = client._make_channel
    monkeypatch.setattr(client._channels, "_make", raises)
    session = client.session()
    with pytest.raises(rtrelay.RelayError, match="no such resolver"):
        await asyncio.wait_for(session.start("Hi").text(), 5)
    monkeypatch.setattr(client._channels, "_make", make)
    answer = session.start("Hi")
    answer.cancel(CancelReason.CANCEL_REASON_BARGE_IN)
    await asyncio.wait_for(answer.ended(), 5)
    await session.aclose()
