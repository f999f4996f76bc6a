"""Clients with a provider beside the relay: when they go round it, and when they do not."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
import rtrelay
from rtrelay import _detour
from rtrelay.direct import Provider
from rtrelay.v1 import Budgets, CancelReason, Outcome, Start

from tests.fakes.direct_provider import FakeProvider, says
from tests.fakes.fake_relay import (
    FakeRelay,
    FakeStream,
    answers,
    begins,
    hangs,
    ignores,
    status_of,
)

pytestmark = pytest.mark.sockets

QUICK = rtrelay.Reconnect(connect_timeout_s=0.5, give_up_s=0.2, max_backoff_s=0.05)
TextDelta = rtrelay.TextDelta
Made = Callable[..., rtrelay.Client]


@pytest.fixture
async def relay() -> AsyncIterator[FakeRelay]:
    async with FakeRelay() as running:
        yield running


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider(says("Di", "rect"))


@pytest.fixture
def changes() -> list[rtrelay.PathChange]:
    return []


@pytest.fixture
async def made(
    relay: FakeRelay, provider: FakeProvider, changes: list[rtrelay.PathChange]
) -> AsyncIterator[Made]:
    """Makes clients of the relay and the provider, and closes them."""
    clients: list[rtrelay.Client] = []

    def make(*addresses: str, **options: Any) -> rtrelay.Client:
        known = {"direct": provider, "reconnect": QUICK, "on_path_change": changes.append}
        client = rtrelay.Client(addresses or relay.address, **{**known, **options})
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.aclose()


async def soon(awaitable: Awaitable[Any]) -> Any:
    """Bound a wait of a test."""
    return await asyncio.wait_for(awaitable, 10)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def now_s() -> float:
    return asyncio.get_running_loop().time()


# --- a relay that lives is not gone round -------------------------------------------------------


async def test_a_relay_that_answers_is_asked(
    made: Made, relay: FakeRelay, provider: FakeProvider
) -> None:
    relay.on_start = answers("Re", "lay")
    client = made()
    async with client.session() as session:
        answer = session.start("Hi")
        assert await answer.text() == "Relay"
        assert answer.via == "relay"
    assert provider.starts == []
    assert client.stats == rtrelay.Stats(relay=1)


async def test_a_slow_provider_behind_a_live_relay_is_waited_for(
    made: Made, relay: FakeRelay, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow: the relay has the generation, and answers pings."""
    monkeypatch.setattr(_detour, "PING_AFTER_S", 0.02)
    monkeypatch.setattr(_detour, "PONG_WITHIN_S", 5.0)
    relay.on_start = hangs
    async with made(direct_after_ms=30).session() as session:
        answer = session.start("Hi")
        stream = await relay.stream()
        await stream.until(lambda: len(stream.pings) >= 5)
        stream.say(answer.generation_id, "late")
        stream.end(answer.generation_id)
        assert await answer.text() == "late"
    assert provider.starts == []


async def test_a_failure_that_the_relay_tells_is_told(
    made: Made, relay: FakeRelay, provider: FakeProvider
) -> None:
    async def fails(stream: FakeStream, start: Start) -> None:
        error = status_of(grpc.StatusCode.UNAVAILABLE, "ALL_ATTEMPTS_FAILED")
        stream.end(start.generation_id, outcome=Outcome.OUTCOME_FAILED, error=error)

    relay.on_start = fails
    async with made().session() as session:
        with pytest.raises(rtrelay.RelayError, match="ALL_ATTEMPTS_FAILED"):
            await session.start("Hi").text()
    assert provider.starts == []


async def test_a_key_that_is_refused_is_told(
    made: Made, relay: FakeRelay, provider: FakeProvider
) -> None:
    """Who may not use the relay may not go round it either."""
    relay.refusal = (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    client = made()
    with pytest.raises(rtrelay.RelayError, match="UNAUTHENTICATED"):
        await client.session().__aenter__()
    with pytest.raises(rtrelay.RelayError, match="UNAUTHENTICATED"):
        await client.generate("Hi").text()
    assert provider.starts == []


async def test_the_second_relay_is_tried_before_the_provider(
    made: Made, relay: FakeRelay, provider: FakeProvider, unused_tcp_port: int
) -> None:
    relay.on_start = answers("Relay")
    async with made(f"127.0.0.1:{unused_tcp_port}", relay.address).session() as session:
        assert await session.start("Hi").text() == "Relay"
        assert session.address == relay.address
    assert provider.starts == []


async def test_a_loop_that_was_blocked_is_not_the_relays_silence(
    made: Made, relay: FakeRelay, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application's own code took the time; the answer waits to be read."""
    relay.on_start = answers("Relay")
    async with made(direct_after_ms=50).session() as session:
        answer = session.start("Hi")
        time.sleep(0.15)
        assert await answer.text() == "Relay"
        monkeypatch.setattr(_detour, "PING_AFTER_S", 0.02)
        monkeypatch.setattr(_detour, "PONG_WITHIN_S", 0.05)
        relay.on_start = hangs
        slow = session.start("Hi")
        stream = await relay.stream()
        await stream.until(lambda: stream.pings)
        time.sleep(0.1)
        pings = len(stream.pings)
        await stream.until(lambda: len(stream.pings) > pings + 1)
        assert slow.via == "relay"
    assert provider.starts == []


# --- a relay that does not answer ---------------------------------------------------------------


async def test_no_relay_at_all(
    made: Made,
    provider: FakeProvider,
    changes: list[rtrelay.PathChange],
    unused_tcp_port: int,
) -> None:
    """Where the connection is refused nobody waits at all."""
    client = made(f"127.0.0.1:{unused_tcp_port}", direct_after_ms=60_000, model="fast")
    began_s = now_s()
    async with client.session(budgets=Budgets(total_ms=9000)) as session:
        answer = session.start("Hi", turn_id="t")
        assert await answer.text() == "Direct"
        assert now_s() - began_s < 5
        assert answer.via == "direct"
        assert repr(answer).startswith(f"<Generation {answer.generation_id} ")
        assert answer.end is not None
        assert answer.end.usage.completion_tokens == 3
        (start,) = provider.starts
        assert (start.model, start.turn_id, start.budgets.total_ms) == ("fast", "t", 9000)
        assert session.ready is None
    assert changes == [rtrelay.PathChange("direct", "no_connection")]
    assert client.stats.reasons == {"relay_away": 1}
    assert (client.stats.direct, client.stats.takeovers) == (1, 1)


async def test_a_connection_without_an_answer(
    made: Made, relay: FakeRelay, provider: FakeProvider, changes: list[rtrelay.PathChange]
) -> None:
    """Connected, but silent: after 150 ms. Turns after that do not wait."""
    relay.on_start = ignores
    relay.answers_pings = False
    client = made()
    async with client.session() as session:
        began_s = now_s()
        answer = session.start("Hi")
        relay_id = answer.generation_id
        assert await answer.text() == "Direct"
        assert now_s() - began_s >= 0.149
        stream = await relay.stream()
        await stream.until(lambda: stream.cancels)
        (cancel,) = stream.cancels
        assert cancel.generation_id == relay_id
        assert cancel.reason == CancelReason.CANCEL_REASON_CLIENT_TIMEOUT
        stream.say(relay_id, "late", 0)
        assert await session.start("Hi").text() == "Direct"
        assert len(stream.starts) == 1
    assert client.stats.reasons == {"no_answer": 1, "relay_away": 1}
    assert [change.reason for change in changes] == ["no_answer"]


async def test_a_relay_that_is_not_ready_in_time(
    made: Made, relay: FakeRelay, provider: FakeProvider
) -> None:
    relay.is_ready = False
    client = made(direct_after_ms=50)
    session = client.session()
    assert await soon(session.start("Hi").text()) == "Direct"
    assert client.stats.reasons == {"no_connection": 1}
    await session.aclose()


async def test_opening_waits_no_longer_than_a_second(
    made: Made, relay: FakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtrelay._switchboard.OPEN_WITHIN_S", 0.1)
    relay.is_ready = False
    patient = rtrelay.Reconnect(connect_timeout_s=60, give_up_s=60)
    client = made(reconnect=patient, direct_after_ms=50)
    async with client.session() as session:
        assert session.start("Hi").via == "direct"
    async with client.session() as session:  # what the client knows, a new session need not learn
        assert session.start("Hi").via == "direct"


async def test_a_stream_that_breaks_before_the_first_output(
    made: Made, relay: FakeRelay, provider: FakeProvider
) -> None:
    relay.on_start = hangs
    client = made()
    async with client.session() as session:
        answer = session.start("Hi", speculative=True)
        answer.commit()
        heard = session.start("Hi")
        stream = await relay.stream()
        await stream.start(1)
        stream.say(heard.generation_id, "One", 0)
        reader = aiter(heard)
        assert await anext(reader) == TextDelta("One", 0)
        await relay.stop()
        assert await soon(answer.text()) == "Direct"
        assert answer.via == "direct"
        with pytest.raises(rtrelay.RelayError, match="STREAM_LOST"):
            await anext(reader)
        assert heard.via == "relay"
    assert len(provider.starts) == 1, "what was heard in part is not spliced"
    assert client.stats.reasons == {"stream_lost": 1}
    assert client.stats.relay == 2


async def test_a_relay_that_freezes_after_it_has_a_generation(
    made: Made, relay: FakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is gone without a word: nobody closes the connection."""
    monkeypatch.setattr(_detour, "PING_AFTER_S", 0.05)
    monkeypatch.setattr(_detour, "PONG_WITHIN_S", 0.05)
    monkeypatch.setattr(_detour, "ABORT_AFTER_S", 0.15)
    relay.on_start = hangs
    relay.answers_pings = False
    client = made(reconnect=rtrelay.Reconnect(connect_timeout_s=60))
    async with client.session() as session:
        speaks = session.start("Hi")
        stream = await relay.stream()
        await stream.start()
        stream.say(speaks.generation_id, "One", 0)
        reader = aiter(speaks)
        await anext(reader)
        answer = session.start("Hi")
        assert await soon(answer.text()) == "Direct"
        with pytest.raises(rtrelay.RelayError, match="does not answer"):
            await anext(reader)
        await relay.stream(1)
    assert client.stats.reasons == {"no_answer": 1}


async def refuses(stream: FakeStream, start: Start) -> None:
    error = status_of(grpc.StatusCode.UNAVAILABLE, "DRAINING")
    stream.end(start.generation_id, outcome=Outcome.OUTCOME_FAILED, error=error)


async def test_a_drain_without_another_relay(
    made: Made, relay: FakeRelay, provider: FakeProvider
) -> None:
    async with made(direct_after_ms=50).session() as session:
        old = session.start("Hi")
        stream = await relay.stream()
        await stream.start()
        relay.refusal = (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        relay.on_start = refuses
        stream.drain()
        new = session.start("Hi")
        assert await soon(new.text()) == "Direct"
        assert (old.via, new.via) == ("relay", "direct")
        stream.say(old.generation_id, "Old", 0)
        stream.end(old.generation_id)
        assert await old.text() == "Old"


async def test_what_kills_relays_goes_to_the_provider_in_the_end(
    made: Made, relay: FakeRelay, provider: FakeProvider
) -> None:
    async def breaks(stream: FakeStream, start: Start) -> None:
        stream.abort(text="crash")

    relay.on_start = breaks
    async with made(direct_after_ms=60_000).session() as session:
        assert await soon(session.start("Hi").text()) == "Direct"
    assert sum(len(stream.starts) for stream in relay.streams) == 4


# --- the return -----------------------------------------------------------------------------------


async def test_the_session_returns_to_a_relay_that_is_back(
    made: Made,
    relay: FakeRelay,
    changes: list[rtrelay.PathChange],
) -> None:
    bounds: list[float] = []

    def draw(low: float, high: float) -> float:
        bounds.append(high)
        return high

    relay.is_ready = False
    relay.on_start = ignores
    patient = rtrelay.Reconnect(connect_timeout_s=0.1, max_backoff_s=0.01)
    client = made(direct_after_ms=20, direct_return_ms=200, reconnect=patient)
    session = client.session()
    assert await soon(session.start("Hi").text()) == "Direct"
    detour = session._switchboard._detour
    assert detour is not None
    detour._takeover._draw = draw
    relay.is_ready = True
    relay.on_start = answers("Relay")
    await until(lambda: session.ready is not None)
    assert session.start("Hi").via == "direct", "its moment has not come"
    await until(lambda: len(changes) == 2)
    assert bounds == [0.2]
    answer = session.start("Hi")
    assert (await answer.text(), answer.via) == ("Relay", "relay")
    assert changes[1] == rtrelay.PathChange("relay", "relay_back", "s")
    assert client.stats.returns == 1
    await session.aclose()


async def test_a_relay_that_only_stumbled_is_returned_to_after_its_pong(
    made: Made, relay: FakeRelay, changes: list[rtrelay.PathChange]
) -> None:
    relay.on_start = ignores
    client = made(direct_after_ms=20, direct_return_ms=50)
    async with client.session() as session:
        assert await session.start("Hi").text() == "Direct"
        await until(lambda: len(changes) == 2)
        relay.on_start = answers("Relay")
        assert await session.start("Hi").text() == "Relay"
    assert len(relay.streams) == 1, "on the same stream"


async def test_a_relay_that_comes_back_and_refuses_is_heard(
    made: Made, relay: FakeRelay, provider: FakeProvider, changes: list[rtrelay.PathChange]
) -> None:
    """A key that was revoked meanwhile ends the way round, too."""
    relay.is_ready = False
    client = made(direct_after_ms=20, reconnect=rtrelay.Reconnect(connect_timeout_s=0.1))
    session = client.session()
    relay.on_start = ignores
    assert await soon(session.start("Hi").text()) == "Direct"
    relay.refusal = (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    await until(lambda: len(changes) == 2)
    assert changes[1].reason == "relay_refused"
    with pytest.raises(rtrelay.RelayError, match="UNAUTHENTICATED"):
        await session.start("Hi").text()
    assert len(provider.starts) == 1
    await session.aclose()


async def test_what_a_path_change_calls_back_may_cancel_it(made: Made, relay: FakeRelay) -> None:
    relay.on_start = ignores
    answers_: list[rtrelay.Generation] = []
    client = made(direct_after_ms=20, on_path_change=lambda _: answers_[0].cancel())
    async with client.session() as session:
        answers_.append(session.start("Hi"))
        assert (await soon(answers_[0].ended())).outcome == Outcome.OUTCOME_CANCELLED
        assert await soon(session.start("Hi").text()) == "Direct"


async def test_tries_get_rare_when_an_outage_lasts(
    made: Made, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    enough = asyncio.Event()

    async def noted(_: object, pause_s: float) -> bool:
        pauses.append(pause_s)
        if len(pauses) > 40:
            enough.set()
        await asyncio.sleep(0.001)
        return False

    monkeypatch.setattr("random.uniform", lambda low, high: high)
    monkeypatch.setattr("rtrelay._switchboard.Switchboard._was_asked_within", noted)
    often = rtrelay.Reconnect(give_up_s=0.02, backoff_s=0.05, max_backoff_s=0.1)
    async with made(f"127.0.0.1:{unused_tcp_port}", reconnect=often).session():
        await soon(enough.wait())
    assert pauses[:2] == [0.0, 0.05]
    assert pauses[-1] == pytest.approx(0.5)


async def test_a_relay_that_goes_before_the_return_is_not_returned_to(
    made: Made, relay: FakeRelay, changes: list[rtrelay.PathChange]
) -> None:
    relay.on_start = ignores
    client = made(direct_after_ms=20, direct_return_ms=60_000)
    async with client.session() as session:
        assert await session.start("Hi").text() == "Direct"
        stream = await relay.stream()
        await stream.until(lambda: stream.pings)
        detour = session._switchboard._detour
        assert detour is not None
        await until(lambda: detour._takeover.return_at_s is not None)
        await relay.stop()
        await until(lambda: detour._takeover.return_at_s is None)
        assert session.start("Hi").via == "direct"
    assert [change.via for change in changes] == ["direct"]


async def test_a_callback_that_raises_is_told_to_the_loop(made: Made, unused_tcp_port: int) -> None:
    told: list[str] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))

    def raises(change: rtrelay.PathChange) -> None:
        raise ValueError(change)

    try:
        client = made(f"127.0.0.1:{unused_tcp_port}", on_path_change=raises)
        assert await client.generate("Hi").text() == "Direct"
    finally:
        loop.set_exception_handler(handler)
    assert told == ["rtrelay: the on_path_change of a client raised"]


# --- generations on the other way -----------------------------------------------------------------


@pytest.fixture
async def away(made: Made, unused_tcp_port: int) -> AsyncIterator[rtrelay.Session]:
    """A session that has no relay."""
    async with made(f"127.0.0.1:{unused_tcp_port}").session() as session:
        yield session


async def test_leaving_the_loop_closes_the_answer(
    away: rtrelay.Session, provider: FakeProvider
) -> None:
    provider.script = says("One", hangs=True)
    answer = away.start("Hi")
    async for _ in answer:
        break
    end = await answer.ended()
    assert end.outcome == Outcome.OUTCOME_CANCELLED
    await until(lambda: provider.open == 0)
    await until(lambda: provider.warmed >= 2)  # the next answer finds a connection


async def test_the_task_of_a_caller_is_not_the_answers(
    away: rtrelay.Session, provider: FakeProvider
) -> None:
    provider.script = says("One", hangs=True)
    first, second = away.start("Hi"), away.start("Hi")
    task = asyncio.create_task(first.text())
    await until(lambda: first.flow.has_output)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await first.ended()).outcome == Outcome.OUTCOME_CANCELLED
    assert not second.is_over


async def test_superseding_and_committing(away: rtrelay.Session, provider: FakeProvider) -> None:
    first = away.start("Hi", speculative=True, hold_until_commit=True)
    await until(lambda: provider.starts)
    second = away.start("Hi", speculative=True, hold_until_commit=True, supersedes=first)
    end = await first.ended()
    assert end.cancel_reason == CancelReason.CANCEL_REASON_SUPERSEDED
    assert not second.flow.has_output
    second.commit()
    second.commit()
    assert await second.text() == "Direct"


async def test_one_that_the_relay_has_is_superseded_from_the_other_way(
    made: Made, relay: FakeRelay
) -> None:
    relay.on_start = begins("One")
    async with made(direct_after_ms=50).session() as session:
        old = session.start("Hi")
        stream = await relay.stream()
        await stream.start()
        relay.on_start = ignores
        relay.answers_pings = False
        assert await session.start("Hi").text() == "Direct"
        new = session.start("Hi", supersedes=[old])
        assert new.via == "direct"
        await stream.until(lambda: len(stream.cancels) == 2)
        assert stream.cancels[1].generation_id == old.generation_id
        assert await new.text() == "Direct"


async def test_closing_cancels_what_runs(made: Made, unused_tcp_port: int) -> None:
    provider = FakeProvider(says("One", hangs=True))
    client = made(f"127.0.0.1:{unused_tcp_port}", direct=provider)
    session = await client.session().__aenter__()
    answer = session.start("Hi")
    await until(lambda: answer.flow.has_output)
    await session.aclose()
    assert (await answer.ended()).cancel_reason == CancelReason.CANCEL_REASON_SESSION_END
    assert provider.open == 0
    await client.aclose()
    assert provider.closed == 1
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("rtrelay")]


async def test_closing_while_a_generation_waits(made: Made, relay: FakeRelay) -> None:
    relay.on_start = ignores
    session = await made(direct_after_ms=50).session().__aenter__()
    answer = session.start("Hi")
    await (await relay.stream()).start()
    await session.aclose()
    assert [event async for event in answer] == []
    assert (answer.is_over, answer.via) == (True, "relay")


async def test_a_cancelled_one_does_not_go_round(
    made: Made, relay: FakeRelay, provider: FakeProvider
) -> None:
    relay.on_start = ignores
    async with made(direct_after_ms=30).session() as session:
        answer = session.start("Hi")
        answer.cancel()
        later = session.start("Hi")
        assert await later.text() == "Direct"
        assert answer.via == "relay"
    assert len(provider.starts) == 1


@pytest.mark.parametrize("seed", range(10))
async def test_every_generation_ends_once_whatever_happens(
    made: Made, relay: FakeRelay, seed: int
) -> None:
    """Answers, silence, breaks, drains and frozen relays at random, cancels and commits among them:
    each generation ends once, its text is of one way alone, and nothing is left."""
    draw = random.Random(seed)

    async def script(stream: FakeStream, start: Start) -> None:
        kind = draw.randrange(10)
        if kind < 2:
            return
        await begins(*"abc"[: draw.randrange(4)])(stream, start)
        if kind < 6:
            stream.end(start.generation_id)
        elif kind == 6:
            stream.drain()
            stream.end(start.generation_id)
        elif kind == 7:
            stream.abort(text="break")

    relay.on_start = script
    provider = FakeProvider(says(*"xyz"))
    ended: list[rtrelay.Generation] = []

    async def use(answer: rtrelay.Generation) -> None:
        text = ""
        limit = draw.choice([0, 1, 2, 9])
        try:
            async with asyncio.timeout(0.2):  # for those that hang
                async for event in answer:
                    assert isinstance(event, TextDelta)
                    assert event.char_offset == len(text)
                    text += event.text
                    if len(text) > limit:
                        break
        except (rtrelay.RelayError, TimeoutError):
            pass
        assert "abc".startswith(text) or "xyz".startswith(text)
        if text:
            assert (text[0] == "x") == (answer.via == "direct")

    client = made(direct=provider, direct_after_ms=5, direct_return_ms=20)
    async with client.session() as session:
        generations: list[rtrelay.Generation] = []
        async with asyncio.TaskGroup() as users:
            for number in range(40):
                held = draw.random() < 0.3
                answer = session.start(
                    "Hi",
                    on_end=ended.append,
                    speculative=held,
                    hold_until_commit=held,
                    supersedes=generations[-1:] if draw.random() < 0.2 else [],
                )
                generations.append(answer)
                users.create_task(use(answer))
                if draw.random() < 0.7:
                    answer.commit()
                relay.answers_pings = draw.random() < 0.9
                await asyncio.sleep(0.003 if number % 4 == 0 else 0)
    assert sorted(map(id, ended)) == sorted(map(id, generations))
    assert all(answer.is_over for answer in generations)
    assert provider.open == 0
    stats = client.stats
    assert stats.direct == sum(answer.via == "direct" for answer in generations) > 0


async def test_one_off_generations(made: Made, relay: FakeRelay, unused_tcp_port: int) -> None:
    relay.on_start = answers("Relay")
    client = made()
    assert await client.generate("Hi").text() == "Relay"
    assert await client.generate("Hi", turn_id="t").text() == "Relay"
    assert len(relay.streams) == 1
    away = made(f"127.0.0.1:{unused_tcp_port}")
    assert await away.generate("Hi").text() == "Direct"


async def test_the_provider_is_kept_warm(made: Made, relay: FakeRelay) -> None:
    provider = FakeProvider(says("One"))
    client = made(direct=provider)
    assert provider.warmed == 0, "nothing is done before the first session"
    async with client.session():
        await until(lambda: provider.warmed == 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"direct": object()}, "direct: object has no generate()"),
        ({"direct_after_ms": -1}, "direct_after_ms: "),
        ({"direct_return_ms": "soon"}, "direct_return_ms: "),
        ({"on_path_change": 5}, "on_path_change: "),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        rtrelay.Client("127.0.0.1:1", **arguments)
    assert str(caught.value).startswith(message)


def test_a_provider_needs_no_base_class() -> None:
    class Mine:
        def generate(self, start: Start) -> Any:
            raise NotImplementedError

        async def warm(self) -> None: ...

        async def aclose(self) -> None: ...

    mine: Provider = Mine()
    rtrelay.Client("127.0.0.1:1", direct=mine)
