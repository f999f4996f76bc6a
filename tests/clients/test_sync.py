"""The client without a loop.

Each test's relay runs in the test's loop, and the client in a process of its own: grpc.aio is not
made for two loops in one process.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest

from tests.fakes.fake_relay import FakeRelay, answers, begins

if TYPE_CHECKING:
    import threading

    import rtrelay
    from rtrelay.sync import ClientClosed, SyncClient
    from rtrelay.v1 import CancelReason, Outcome

pytestmark = pytest.mark.sockets

PROGRAM = """
from __future__ import annotations
import sys, threading, concurrent.futures
import pytest, rtrelay
from rtrelay.sync import ClientClosed, SyncClient
from rtrelay.v1 import CancelReason, Outcome

{work}
quick = rtrelay.Reconnect(connect_timeout_s=5, give_up_s=0.5)
client = SyncClient(sys.argv[1], model="fast", reconnect=quick)
for _ in range(2):  # it can be opened again
    with client:
        {name}(client)
    assert threading.active_count() == 1, threading.enumerate()
"""


@pytest.fixture
async def relay() -> AsyncIterator[FakeRelay]:
    async with FakeRelay() as running:
        yield running


async def with_client(relay: FakeRelay, work: Callable[[SyncClient], None]) -> None:
    """Run `work`, a function that uses only its argument and what PROGRAM imports, in a process.
    What it writes to its standard error fails the test."""
    source = textwrap.dedent(inspect.getsource(work))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM.format(work=source, name=work.__name__),
        relay.address,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, errors = await asyncio.wait_for(process.communicate(), 40)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, errors.decode()) == (0, "")


async def test_events_and_end(relay: FakeRelay) -> None:
    relay.on_start = answers("Hel", "lo")

    def work(client: SyncClient) -> None:
        answer = client.generate("Hi", turn_id="t")
        assert list(answer) == [rtrelay.TextDelta("Hel", 0), rtrelay.TextDelta("lo", 3)]
        assert answer.end is not None
        assert client.generate("Hi").text() == "Hello"

    await with_client(relay, work)


async def test_leaving_the_loop_is_a_cancel(relay: FakeRelay) -> None:
    relay.on_start = begins("One")

    def work(client: SyncClient) -> None:
        answer = client.generate("Hi")
        for _ in answer:
            break
        assert answer.ended().outcome == Outcome.OUTCOME_CANCELLED
        assert list(answer) == []
        with client.generate("Hi") as other:
            pass
        assert other.ended().outcome == Outcome.OUTCOME_CANCELLED
        assert other.is_cancelled

    await with_client(relay, work)
    assert len(relay.streams) == 2, "one each time it was opened"


async def test_cancel_and_commit_and_supersede(relay: FakeRelay) -> None:
    relay.on_start = begins("One")

    def work(client: SyncClient) -> None:
        answer = client.generate("Hi", speculative=True)
        reader = iter(answer)
        next(reader)
        answer.commit()
        answer.cancel(CancelReason.CANCEL_REASON_BARGE_IN)
        assert list(reader) == []
        assert answer.ended().cancel_reason == CancelReason.CANCEL_REASON_BARGE_IN
        first = client.generate("Hi")
        client.generate("Hi", supersedes=[first])
        assert list(first) == []

    await with_client(relay, work)
    stream = relay.streams[0]
    assert stream.commits == [stream.starts[0].generation_id]
    assert list(stream.starts[2].supersedes) == [stream.starts[1].generation_id]


async def test_an_interrupted_wait_is_a_cancel(relay: FakeRelay) -> None:
    relay.on_start = begins("One")

    def work(client: SyncClient) -> None:
        def interrupts(future: object, timeout: float | None = None) -> None:
            raise KeyboardInterrupt

        answer = client.generate("Hi")
        reader = iter(answer)
        next(reader)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("concurrent.futures.Future.result", interrupts)
            with pytest.raises(KeyboardInterrupt):
                next(reader)
        assert answer.ended().outcome == Outcome.OUTCOME_CANCELLED

    await with_client(relay, work)


async def test_closing_ends_a_loop_in_another_thread(relay: FakeRelay) -> None:
    relay.on_start = begins("One")

    def work(client: SyncClient) -> None:
        said = threading.Event()
        events: list[rtrelay.Event] = []

        def reads() -> None:
            for event in client.generate("Hi"):
                events.append(event)
                said.set()

        reader = threading.Thread(target=reads)
        reader.start()
        assert said.wait(10)
        client.close()
        reader.join(10)
        assert not reader.is_alive()
        assert events == [rtrelay.TextDelta("One", 0)]
        with pytest.raises(ClientClosed):
            client.generate("Hi")

    await with_client(relay, work)


async def test_a_relay_that_is_away(relay: FakeRelay) -> None:
    def work(client: SyncClient) -> None:
        away = SyncClient("127.0.0.1:1", reconnect=rtrelay.Reconnect(give_up_s=0.1))
        client.close()
        with pytest.raises(rtrelay.RelayError):
            away.__enter__()
        assert threading.active_count() == 1

    await with_client(relay, work)


async def test_callbacks_are_refused(relay: FakeRelay) -> None:
    def work(client: SyncClient) -> None:
        with pytest.raises(TypeError, match="callbacks"):
            client.generate("Hi", on_event=print)

    await with_client(relay, work)


async def test_a_relay_that_goes_and_a_provider(relay: FakeRelay) -> None:
    relay.on_start = answers("Relay")

    def work(client: SyncClient) -> None:
        from rtrelay.v1 import End

        from tests.fakes.direct_provider import FakeProvider, says

        client.close()
        provider = FakeProvider(says("Di", "rect"))
        with SyncClient("127.0.0.1:1", direct=provider) as away:
            answer = away.generate("Hi")
            assert answer.text() == "Direct"
            assert answer.via == "direct"
            assert isinstance(answer.ended(), End)
            held = away.generate("Hi", speculative=True, hold_until_commit=True)
            held.commit()
            assert held.text() == "Direct"
            assert away.stats.direct == 2
        assert provider.closed == 1
        with pytest.raises(ClientClosed):
            away.stats  # noqa: B018

    await with_client(relay, work)
