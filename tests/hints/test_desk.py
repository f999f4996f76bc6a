"""Workers that tell each other of a provider: whole generations, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from relay.errors import ConnectError
from relay.hints.bus import Take
from relay.hints.desk import IN_PER_S, LASTS_S, MAX_TOLD, OUT_PER_S, RENEW_S, HintDesk
from relay.hints.hint import Hint, HintKind, where
from relay.resilience.breaker import BreakerState, TripReason
from relay.target_state import TargetState
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer
from tests.fakes.virtual_time import now_s, on_virtual_time

WELL = FakeEndpoint(headers_s=0.2, chunks=answer("Hello"))
DEAD = FakeEndpoint(fault=ConnectError("refused"), fault_at="connect")
WAY_S = 0.05


class Wire:
    """What carries hints between the workers of a test."""

    def __init__(self) -> None:
        self.takers: dict[str, Take] = {}
        self.carried: list[tuple[float, dict[str, Any]]] = []
        self.is_cut = False

    def publish_of(self, teller: str) -> Callable[[dict[str, Any]], bool]:
        def publish(hint: dict[str, Any]) -> bool:
            self.carried.append((now_s(), hint))
            if self.is_cut:
                return False
            for name, take in self.takers.items():
                if name != teller:
                    asyncio.get_running_loop().call_later(WAY_S, take, hint)
            return True

        return publish

    def kinds(self) -> list[str]:
        return [hint["kind"] for _, hint in self.carried]


class WireBus:
    def __init__(self, publish: Callable[[dict[str, Any]], bool]) -> None:
        self.publish = publish

    async def aclose(self) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {"by": "wire"}


class OneWorker:
    """A worker's targets, with its desk."""

    def __init__(self, name: str, a: FakeEndpoint, **more: Any) -> None:
        self.name = name
        self.scenario = Scenario(
            {"a": a, "b": WELL}, **{"alias_more": {"hedge": {"mode": "active"}}, **more}
        )
        planner = self.scenario.services.planner
        self.desk = HintDesk(planner.states, now_s, name, lambda target: where(target[0]))
        [self.a, _] = self.scenario.services.catalog.routes["fast"].candidates

    @property
    def state(self) -> TargetState:
        return self.scenario.services.planner.states.of(self.a, now_s())

    @property
    def hits(self) -> int:
        """Requests that went to the first provider."""
        return sum(name == "a" for name, _ in self.scenario.started)

    async def ask(self, times: int = 1) -> None:
        for _ in range(times):
            await self.scenario.generate()


@asynccontextmanager
async def workers(*several: OneWorker) -> AsyncIterator[Wire]:
    wire = Wire()
    for worker in several:
        worker.desk.attach(WireBus(wire.publish_of(worker.name)))
        wire.takers[worker.name] = worker.desk.take
        assert worker.state.breaker.state is BreakerState.CLOSED
    yield wire
    for worker in several:
        await worker.desk.aclose()
        await worker.scenario.settled()


@on_virtual_time
async def test_what_one_has_learnt_costs_the_others_one_request_and_nobody_a_moment() -> None:
    one, other = OneWorker("i_1", DEAD), OneWorker("i_2", DEAD)
    async with workers(one, other) as wire:
        await one.ask(6)
        assert (one.hits, one.state.breaker.state) == (5, BreakerState.OPEN)
        assert wire.kinds() == ["failing"]
        assert other.state.breaker.is_suspected(now_s())
        _, end = await other.scenario.generate()
        assert (other.hits, other.state.breaker.reason) == (1, TripReason.HINT)
        # The second stood by from the beginning.
        assert len({at_s for _, at_s in other.scenario.started}) == 1
        assert end.error is None
        await other.ask(3)
        assert other.hits == 1


@on_virtual_time
async def test_one_worker_s_own_trouble_ejects_nothing_elsewhere() -> None:
    one, other = OneWorker("i_1", DEAD), OneWorker("i_2", WELL)
    async with workers(one, other):
        await one.ask(6)
        await asyncio.sleep(WAY_S)
        await other.ask(3)
        assert not other.state.breaker.is_suspected(now_s())
        for _ in range(20):  # told again all the time, and refuted once for all
            await asyncio.sleep(RENEW_S)
            await other.ask()
            assert not other.state.breaker.is_suspected(now_s())
        assert other.state.breaker.trips == 0
        assert other.hits == 23
        assert other.scenario.services.planner.alias("fast").counters.by_reason["suspect"] == 3


@on_virtual_time
async def test_while_one_looks_the_others_are_asked_elsewhere() -> None:
    slow = FakeEndpoint(headers_s=2.0, chunks=answer("Hello"))
    one, other = OneWorker("i_1", DEAD), OneWorker("i_2", slow)
    async with workers(one, other):
        await one.ask(6)
        await asyncio.sleep(WAY_S)
        looking = asyncio.create_task(other.scenario.generate(generation_id="gen_2"))
        await asyncio.sleep(0.1)
        _, end = await other.scenario.generate()
        assert [record.provider for record in end.attempts] == ["b"]
        await looking
        assert other.hits == 1


@on_virtual_time
async def test_without_hedging_it_is_asked_as_always_until_it_fails() -> None:
    one = OneWorker("i_1", DEAD)
    other = OneWorker("i_2", DEAD, alias_more={"hedge": {"mode": "disabled"}})
    async with workers(one, other):
        await one.ask(6)
        await asyncio.sleep(WAY_S)
        _, end = await other.scenario.generate()
        assert [record.provider for record in end.attempts] == ["a", "b"]
        assert other.state.breaker.reason is TripReason.HINT


@on_virtual_time
async def test_it_is_told_again_while_it_lasts_and_taken_back() -> None:
    one, other = OneWorker("i_1", DEAD), OneWorker("i_2", WELL)
    async with workers(one, other) as wire:
        await one.ask(5)
        await asyncio.sleep(3 * RENEW_S + 0.1)
        assert wire.kinds() == ["failing"] * 4
        assert {hint["episode"] for _, hint in wire.carried} == {1}
        assert other.state.breaker.is_suspected(now_s())
        breaker = one.state.breaker
        assert breaker.retry_at_s is not None
        await asyncio.sleep(breaker.retry_at_s + 0.01 - now_s())
        permit = breaker.permit(now_s())
        assert permit is not None
        permit.success(now_s())
        assert wire.kinds()[-1] == "well"
        await asyncio.sleep(WAY_S)
        assert not other.state.breaker.is_suspected(now_s())
        carried = len(wire.carried)
        await asyncio.sleep(10 * RENEW_S)
        assert len(wire.carried) == carried


@on_virtual_time
async def test_a_worker_that_dies_is_believed_for_a_few_seconds() -> None:
    one, other = OneWorker("i_1", DEAD), OneWorker("i_2", WELL)
    async with workers(one, other) as wire:
        await one.ask(5)
        wire.is_cut = True
        [(told_s, _)] = wire.carried
        await asyncio.sleep(told_s + WAY_S + LASTS_S - 0.1 - now_s())
        assert other.state.breaker.is_suspected(now_s())
        await asyncio.sleep(0.2)
        assert not other.state.breaker.is_suspected(now_s())
        assert one.desk.describe()["lost"] == 3


@on_virtual_time
async def test_hearsay_is_not_told_on() -> None:
    several = [OneWorker(f"i_{number}", DEAD) for number in range(3)]
    async with workers(*several) as wire:
        await several[0].ask(5)
        await asyncio.sleep(WAY_S)
        await several[1].ask()
        await several[2].ask()
        assert all(worker.state.breaker.state is BreakerState.OPEN for worker in several)
        assert {hint["teller"] for _, hint in wire.carried} == {"i_0"}


@on_virtual_time
async def test_a_slow_target_is_told_by_its_level_and_taken_back() -> None:
    one, other = OneWorker("i_1", WELL), OneWorker("i_2", WELL)
    async with workers(one, other) as wire:
        for at in range(300):
            one.state.latency.record(0.2, 0, 0, now_s() + at * 0.01)
        one.state.refresh(now_s())
        for _ in range(40):
            one.state.level.observe(0.6, one.state.p50_s, now_s())
        one.desk.renew()
        assert wire.kinds() == ["slow"]
        await asyncio.sleep(WAY_S)
        assert other.state.breaker.is_suspected(now_s())
        await asyncio.sleep(60)  # nobody asks it, and its level drifts back
        assert wire.kinds()[-1] == "well"
        assert not other.state.breaker.is_suspected(now_s())


@on_virtual_time
async def test_what_is_not_taken() -> None:
    one = OneWorker("i_1", WELL)
    async with workers(one):
        good = Hint("a/m", where("a"), HintKind.FAILING, "i_9", 1, 6.0).to_dict()
        for change in (
            {"target": "a/never asked"},
            {"where": where("another server")},
            {"teller": "i_1"},
            {"v": 9},
        ):
            one.desk.take({**good, **change})
        assert not one.state.breaker.is_suspected(now_s())
        one.desk.take(good)
        one.desk.take(good)
        told = one.desk.describe()
        counts = {key: told[key] for key in ("received", "taken", "unknown", "bad", "bounded")}
        assert counts == {"received": 6, "taken": 1, "unknown": 3, "bad": 1, "bounded": 0}


@on_virtual_time
async def test_storms_are_bounded() -> None:
    one = OneWorker("i_1", WELL)
    async with workers(one) as wire:
        for number in range(5000):
            one.desk.take(
                Hint("a/m", where("a"), HintKind.FAILING, f"i_{number}", 1, 6.0).to_dict()
            )
        assert one.desk.describe()["bounded"] == 5000 - 2 * IN_PER_S
        assert one.state.breaker.trips == 0
        states = one.scenario.services.planner.states
        catalog = one.scenario.services.catalog
        for number in range(300):  # a fault of ours: whatever is asked fails
            breaker = states.of(catalog.resolve(f"a/m{number}").candidates[0], now_s()).breaker
            for _ in range(5):
                permit = breaker.permit(now_s())
                assert permit is not None
                permit.failure(now_s())
        assert len(wire.carried) <= MAX_TOLD
        await asyncio.sleep(100 * RENEW_S)
        assert len(wire.carried) <= 2 * OUT_PER_S + 100 * RENEW_S * OUT_PER_S
