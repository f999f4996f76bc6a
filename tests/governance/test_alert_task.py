"""Delivery: at least once, with pauses, given up after a day; outages are waited out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from structlog.testing import capture_logs

from relay.governance.alert_task import FIRST_PAUSE_S, LAST_PAUSE_S, AlertSettings, AlertTask
from relay.governance.alerts import Crossing, Message
from relay.governance.webhook import NotDelivered
from relay.store import schema
from relay.store.base import StoreUnavailable
from relay.store.engine import engine_for, migrate, reading
from relay.store.outbox_store import OutboxStore
from tests.store.test_outbox_store import NOW_S, budget, spend


class Clock:
    """Seconds since 1970, by hand."""

    def __init__(self) -> None:
        self.now_s = float(NOW_S)

    def __call__(self) -> float:
        return self.now_s


class Receiver:
    """Takes or refuses."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.asked: list[float] = []
        self.refuses = ""
        self.is_closed = False

    async def send(self, message_id: str, body: bytes, now_s: float) -> None:
        self.asked.append(now_s)
        if self.refuses:
            raise NotDelivered(self.refuses)
        assert body.startswith(b"{")
        self.got.append(message_id.rpartition(":")[2])

    async def aclose(self) -> None:
        self.is_closed = True


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = engine_for(f"sqlite:///{tmp_path / 'relay.db'}")
    migrate(engine)
    budget(engine, "b")
    yield engine
    engine.dispose()


def task(engine: Engine, receiver: Receiver | None, clock: Clock) -> AlertTask:
    return AlertTask(OutboxStore(engine), receiver, clock=clock, chance=random.Random(1))


async def test_what_was_crossed_is_told_once(engine: Engine) -> None:
    receiver, clock = Receiver(), Clock()
    alerts = task(engine, receiver, clock)
    assert await alerts.round() == 0
    spend(engine, "b", 900)
    with capture_logs() as logs:
        assert await alerts.round() == 2
    assert sorted(receiver.got) == ["50", "80"]
    told = [line for line in logs if line["event"] == "budget_threshold"]
    assert [(line["percent"], line["spent_usd"]) for line in told] == [
        (50, "0.0009"),
        (80, "0.0009"),
    ]
    assert await alerts.round() == 0
    await alerts.aclose()
    assert receiver.is_closed


async def test_without_an_address_the_log_is_told(engine: Engine) -> None:
    spend(engine, "b", 600)
    alerts = task(engine, None, Clock())
    with capture_logs() as logs:
        assert await alerts.round() == 0
    assert [line["percent"] for line in logs] == [50]
    await alerts.aclose()


async def test_pauses_grow_until_it_is_given_up(engine: Engine) -> None:
    spend(engine, "b", 600)
    receiver, clock = Receiver(), Clock()
    receiver.refuses = "status 503"
    alerts = task(engine, receiver, clock)
    with capture_logs() as logs:
        while clock.now_s < NOW_S + 30 * 3600:
            await alerts.round()
            clock.now_s += 1.0 if clock.now_s < NOW_S + 60 else 240.0
    pauses = [later - one for one, later in pairwise(receiver.asked)]
    assert FIRST_PAUSE_S / 2 <= pauses[0] <= FIRST_PAUSE_S + 1
    assert all(pause <= LAST_PAUSE_S + 241 for pause in pauses)
    assert pauses[-1] > LAST_PAUSE_S / 2
    assert receiver.asked[-1] <= NOW_S + 24 * 3600
    assert [line["event"] for line in logs][-1] == "alert_given_up"
    with reading(engine) as connection:
        row = connection.execute(select(schema.outbox)).one()
    assert row.given_up_at_us is not None
    assert row.tries == len(receiver.asked)
    receiver.refuses = ""
    assert await alerts.round() == 0
    await alerts.aclose()


async def test_a_receiver_that_comes_back_is_told(engine: Engine) -> None:
    spend(engine, "b", 600)
    receiver, clock = Receiver(), Clock()
    receiver.refuses = "status 500"
    alerts = task(engine, receiver, clock)
    await alerts.round()
    receiver.refuses = ""
    assert await alerts.round() == 0  # not due yet
    clock.now_s += FIRST_PAUSE_S
    assert await alerts.round() == 1
    assert receiver.got == ["50"]
    await alerts.aclose()


async def test_two_workers_tell_it_once(engine: Engine) -> None:
    spend(engine, "b", 1_000)
    receiver, clock = Receiver(), Clock()
    workers = [task(engine, receiver, clock) for _ in range(2)]
    counts = await asyncio.gather(*(worker.round() for worker in workers for _ in range(2)))
    assert sum(counts) == 3
    assert sorted(receiver.got) == ["100", "50", "80"]
    for worker in workers:
        await worker.aclose()


class Flaky:
    """An outbox whose database comes and goes."""

    def __init__(self, inner: OutboxStore) -> None:
        self._inner = inner
        self.is_down = False
        self.looks = 0
        self.looked = asyncio.Event()
        self.fails_to_note = False
        self._loop = asyncio.get_running_loop()

    def notice(self, now_us: int, payload: Callable[[Crossing, int], str] | None) -> list[Crossing]:
        self.looks += 1
        self._loop.call_soon_threadsafe(self.looked.set)
        if self.is_down:
            raise StoreUnavailable("disk full")
        return self._inner.notice(now_us, payload)

    def claim(self, now_us: int, hold_us: int, limit: int) -> list[Message]:
        return self._inner.claim(now_us, hold_us, limit)

    def delivered(self, message_id: int, now_us: int) -> None:
        if self.fails_to_note:
            raise StoreUnavailable("disk full")
        self._inner.delivered(message_id, now_us)

    def postpone(self, message_id: int, due_at_us: int) -> None:
        self._inner.postpone(message_id, due_at_us)

    def give_up(self, message_id: int, now_us: int) -> None:
        self._inner.give_up(message_id, now_us)

    def forget(self, before_us: int) -> int:
        return self._inner.forget(before_us)


async def test_what_could_not_be_noted_is_told_again(engine: Engine) -> None:
    spend(engine, "b", 600)
    store, receiver, clock = Flaky(OutboxStore(engine)), Receiver(), Clock()
    alerts = AlertTask(store, receiver, clock=clock)
    store.fails_to_note = True
    assert await alerts.round() == 1
    store.fails_to_note = False
    assert await alerts.round() == 0
    clock.now_s += AlertSettings().hold_s
    assert await alerts.round() == 1
    assert receiver.got == ["50", "50"]
    await alerts.aclose()


async def test_a_database_that_is_gone_is_waited_for_and_said_once(engine: Engine) -> None:
    spend(engine, "b", 600)
    store, receiver = Flaky(OutboxStore(engine)), Receiver()
    store.is_down = True
    alerts = AlertTask(store, receiver, AlertSettings(look_s=0.001), clock=Clock())
    with capture_logs() as logs:
        alerts.start()
        while store.looks < 3:
            store.looked.clear()
            await store.looked.wait()
        store.is_down = False
        while not receiver.got:
            store.looked.clear()
            await store.looked.wait()
        await alerts.aclose()
        await alerts.aclose()
    events = [line["event"] for line in logs]
    assert events.count("alerts_wait_for_store") == 1
    assert receiver.got == ["50"]


@pytest.mark.parametrize("turns", range(6))
async def test_stopping_at_any_moment_leaves_it_in_the_outbox(engine: Engine, turns: int) -> None:
    spend(engine, "b", 600)
    receiver, clock = Receiver(), Clock()
    receiver.refuses = "status 500"
    alerts = task(engine, receiver, clock)
    alerts.start()
    for _ in range(turns * 20):
        await asyncio.sleep(0)
    await alerts.aclose()
    receiver = Receiver()
    clock.now_s += 300
    later = task(engine, receiver, clock)
    await later.round()
    assert receiver.got == ["50"]
    await later.aclose()


async def test_another_address_hears_of_what_waits_and_of_what_comes(engine: Engine) -> None:
    spend(engine, "b", 600)
    first, second, clock = Receiver(), Receiver(), Clock()
    first.refuses = "status 503"
    alerts = task(engine, first, clock)
    assert await alerts.round() == 0
    alerts.take(second, AlertSettings(give_up_s=3600))
    clock.now_s += FIRST_PAUSE_S
    assert await alerts.round() == 1
    spend(engine, "b", 900)
    assert await alerts.round() == 1
    assert (first.got, second.got) == ([], ["50", "80"])
    alerts.take(None)
    await alerts.aclose()
    assert first.is_closed
    assert second.is_closed
