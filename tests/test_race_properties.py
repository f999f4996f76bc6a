"""What must hold of every race, whatever its attempts do and in which order.

Three looks at the same promises (at most one winner, no start after it, every start has an end,
the gate is asked and obeyed, no order within a tick matters, a cancel at any moment is clean):

- a state machine drives scripted contenders step by step and compares with a model in a few lines;
- scripts of contenders run by themselves, and are cancelled in every iteration of the loop;
- whole generations run with the real planner, attempts, breakers and budgets, several at once.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import orjson
import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from structlog.testing import capture_logs

from relay.content import Budgets, Events, HedgeWish, Policy
from relay.errors import (
    AllAttemptsFailed,
    BreakerOpen,
    ClientCancelled,
    Draining,
    InternalError,
    Reason,
    RelayError,
    StreamReset,
    TargetLimited,
    UnsupportedFeature,
    UpstreamStatus,
)
from relay.generation import Generation
from relay.hedge_money import has_failed
from relay.outcome import AttemptOutcome, AttemptRecord, AttemptRole, GenerationEnd
from relay.race import TimedStart, run_race
from relay.reaper import Reaper
from relay.resilience.hedge_budget import MIN_HARD_COUNT
from relay.routing.plan import PlannedAttempt
from relay.target_state import TargetState, Ticket
from tests.fakes.behaviours import endpoints, ticks_s
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.properties import examples
from tests.fakes.scenario import Rows, Scenario, answer, request, text_of
from tests.fakes.virtual_time import START_S, VirtualLoop, now_s, run

STALE = StreamReset("gone", reused=True)

# --- scripted contenders ----------------------------------------------------------------------


class Fate:
    """How an attempt can come to its end by itself."""

    READY = "ready"
    BUSY = "busy"
    """503: another may do better."""
    WRONG = "wrong"
    """400: nobody can."""
    UNSAID = "unsaid"
    """This wire cannot say it; another may."""
    STALE = "stale"
    """The connection was gone before the request went out: once more, free."""

    FAILURES = (BUSY, WRONG, UNSAID, STALE)
    ALL = (READY, *FAILURES)


def failure(fate: str) -> RelayError:
    """A fresh one."""
    if fate == Fate.BUSY:
        return UpstreamStatus("busy", reason=Reason.UPSTREAM_OVERLOADED, http_status=503)
    if fate == Fate.WRONG:
        return UpstreamStatus("wrong", reason=Reason.UPSTREAM_REJECTED, http_status=400)
    if fate == Fate.UNSAID:
        return UnsupportedFeature("top_k", "openai")
    return StreamReset("gone", reused=True)


class Contender:
    """An attempt that does what it is told, and keeps account of what it holds."""

    def __init__(self, track: Track, step: PlannedAttempt, role: AttemptRole) -> None:
        self.track = track
        self.step = step
        self.number = len(track.made)
        self.record = AttemptRecord(f"p{step.target}", "m", 0, role=role)
        self.fate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.holds = False
        """A permit, a slot, a stream: from its start until it is let go."""
        self.is_ready = False
        self.lost = 0
        """How often it was told so."""
        self.times_overdue = 0
        self.runs_on = False
        """If it loses, it goes on to its own end."""
        self.slow_turns = 0
        """Turns of the loop it needs to go."""
        track.made.append(self)

    async def run_until_ready(self) -> None:
        assert not self.holds
        self.holds = True
        try:
            fate = await self.fate
            if fate != Fate.READY:
                raise failure(fate)
            if self.lost:
                self.holds = False  # it ran on, and its word is of no use
            else:
                self.is_ready = True
        except asyncio.CancelledError:
            for _ in range(self.slow_turns):
                await asyncio.sleep(0)
            self.holds = False
            raise
        except RelayError:
            self.holds = False
            raise

    def overdue(self) -> None:
        assert self.holds or self.fate.done()
        self.times_overdue += 1

    def lose(self) -> bool:
        self.lost += 1
        self.record.is_loser = True
        if self.runs_on and not self.fate.done():
            return True
        self.abort()
        return False

    def abort(self) -> None:
        if self.is_ready:
            self.holds = False
        self.is_ready = False


class Track:
    """Where one race is run: its gate, its contenders."""

    def __init__(self, pays: Iterable[bool] = ()) -> None:
        self.made: list[Contender] = []
        self.asked: list[tuple[str, int, bool]] = []
        """`hedge`, `replacement` or `failover`, at whom, and whether it was paid."""
        self._pays = itertools.chain(pays, itertools.repeat(True))
        self.reaper = Reaper()
        self.is_over = False

    def _ask(self, kind: str, step: PlannedAttempt) -> bool:
        assert not self.is_over, "the gate is asked after the end"
        paid = next(self._pays)
        self.asked.append((kind, who(step), paid))
        return paid

    def may_hedge(self, step: PlannedAttempt) -> bool:
        return self._ask("hedge", step)

    def may_replace_hedge(self, step: PlannedAttempt) -> bool:
        return self._ask("replacement", step)

    def may_fail_over(self, step: PlannedAttempt) -> bool:
        return self._ask("failover", step)

    def start(self, step: PlannedAttempt, role: AttemptRole) -> Contender:
        assert not self.is_over, "a start after the end"
        return Contender(self, step, role)


def who(step: PlannedAttempt) -> int:
    """The number that stands for a target here."""
    number: Any = step.target
    assert isinstance(number, int)
    return number


def steps(candidates: int, fallbacks: int) -> list[PlannedAttempt]:
    """A plan; numbers stand for targets."""
    targets: list[Any] = list(range(candidates + fallbacks))
    return [PlannedAttempt(target, is_fallback=target >= candidates) for target in targets]


@dataclass
class Model:
    """What a race is to do, said in the fewest words; no tasks, no loop."""

    left: list[PlannedAttempt]
    hedges: list[TimedStart]
    pays: list[bool]
    started: list[tuple[int, AttemptRole]] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)
    """Numbers of the attempts that run, in the order of their starts."""
    free: set[int] = field(default_factory=set)
    """Those that are free retries."""
    beside: set[int] = field(default_factory=set)
    """Those that are hedges, or free retries of one."""
    where: list[PlannedAttempt] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    due_s: float | None = None
    winner: int | None = None
    lost: bool = False
    refused: bool = False
    """The request itself."""

    @property
    def is_over(self) -> bool:
        return self.winner is not None or self.lost

    def _pay(self) -> bool:
        return self.pays.pop(0) if self.pays else True

    def _start(self, step: PlannedAttempt, role: AttemptRole, at_s: float) -> None:
        number = len(self.started)
        self.started.append((who(step), role))
        self.where.append(step)
        self.alive.append(number)
        if role is AttemptRole.RETRY:
            self.free.add(number)
        self._arm(at_s)

    def _arm(self, at_s: float) -> None:
        self.due_s = round(at_s + self.hedges[0].delay_s, 9) if self.hedges else None

    def begin(self, at_s: float) -> None:
        self._start(self.left.pop(0), AttemptRole.PRIMARY, at_s)

    def tick(self, happened: dict[int, str], at_s: float) -> None:
        """All that happens at one moment, in whatever order."""
        ready = [number for number in self.alive if happened.get(number) == Fate.READY]
        if ready:
            self.winner = ready[0]
            return
        unfilled = 0
        for number in [number for number in self.alive if number in happened]:
            self.alive.remove(number)
            if happened[number] == Fate.STALE and number not in self.free and not self.refused:
                if number in self.beside:
                    self.beside.add(len(self.started))
                self._start(self.where[number], AttemptRole.RETRY, at_s)
                continue
            self.failures.append(happened[number])
            unfilled += number in self.beside
            if happened[number] == Fate.WRONG:
                self.refused = True
        if self.alive:
            for _ in range(0 if self.refused else unfilled):
                self._beside([one for one in self.left if not one.is_fallback], at_s)
            return
        if self.refused or not self.left or not self._pay():
            self.lost = True
            return
        self._start(self.left.pop(0), AttemptRole.FAILOVER, at_s)

    def _beside(self, steps: list[PlannedAttempt], at_s: float) -> bool:
        step = next((one for one in steps if self._pay()), None)
        if step is not None:
            self.left.remove(step)
            self.beside.add(len(self.started))
            self._start(step, AttemptRole.HEDGE, at_s)
        return step is not None

    def until(self, at_s: float) -> None:
        """Time passes, and nothing else."""
        while not self.is_over and self.due_s is not None and self.due_s <= at_s:
            due_s, self.due_s = self.due_s, None
            if self.refused:
                return
            hedge = self.hedges.pop(0)
            left = [one for one in self.left if not one.is_fallback]
            steps = [hedge.step] if hedge.step in self.left else left
            if self._beside(steps, due_s):
                continue
            if steps and hedge.again_s is not None:
                self.hedges.insert(0, hedge._replace(delay_s=hedge.again_s))
            self._arm(due_s)


HEDGES = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 1.0]), st.integers(-1, 3), st.sampled_from([None, None, 0.75])
    ),
    min_size=1,
    max_size=3,
)


class RaceMachine(RuleBasedStateMachine):
    """One race a run; everything happens on a loop that stands still between the rules."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.problems: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.problems.append(context))
        self.race: asyncio.Task[Contender] | None = None
        self.was_cancelled = False

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def quiet(self) -> None:
        """Let everything that can happen now happen."""
        for _ in range(12):
            await asyncio.sleep(0)

    @initialize(
        candidates=st.integers(1, 4),
        fallbacks=st.integers(0, 1),
        hedges=HEDGES,
        pays=st.lists(st.booleans(), max_size=4),
    )
    def begin(
        self,
        candidates: int,
        fallbacks: int,
        hedges: list[tuple[float, int, float | None]],
        pays: list[bool],
    ) -> None:
        plan = steps(candidates, fallbacks)
        timed = [
            TimedStart(delay_s, plan[at] if 0 <= at < candidates else None, again_s)
            for delay_s, at, again_s in hedges
        ]
        self.track = Track(pays)
        self.model = Model(list(plan), list(timed), list(pays))

        async def main() -> Contender:
            try:
                return await run_race(
                    plan,
                    self.track.start,
                    hedges=timed,
                    gate=self.track,
                    reaper=self.track.reaper,
                )
            finally:
                self.track.is_over = True

        async def start() -> None:
            self.race = asyncio.get_running_loop().create_task(main())
            await self.quiet()

        self.model.begin(self.loop.time())
        self.model.until(self.loop.time())
        self.do(start())

    def _running(self) -> list[Contender]:
        return [self.track.made[number] for number in self.model.alive]

    @precondition(lambda self: not self.model.is_over)
    @rule(data=st.data())
    def happen(self, data: st.DataObject) -> None:
        """Some attempts come to their ends in one tick, in any order."""
        running = self._running()
        chosen = data.draw(
            st.lists(st.sampled_from(running), min_size=1, max_size=len(running), unique=True)
        )
        fates = {one.number: data.draw(st.sampled_from(Fate.ALL)) for one in chosen}
        note(f"{fates}")

        async def ends() -> None:
            for one in chosen:
                one.fate.set_result(fates[one.number])
            await self.quiet()

        self.model.tick(fates, self.loop.time())
        self.model.until(self.loop.time())
        self.do(ends())

    @precondition(lambda self: not self.model.is_over)
    @rule(data=st.data(), turns=st.integers(1, 3), runs_on=st.booleans())
    def is_of_such_a_kind(self, data: st.DataObject, turns: int, runs_on: bool) -> None:
        """One of them is slow to go, or one that runs on when it loses."""
        one = data.draw(st.sampled_from(self._running()))
        one.slow_turns, one.runs_on = turns, runs_on

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 2.0]))
    def wait(self, seconds: float) -> None:
        """Time passes; after the end too, when nothing more may come of it."""

        async def wait() -> None:
            await asyncio.sleep(seconds)
            await self.quiet()

        self.model.until(round(self.loop.time() + seconds, 9))
        self.do(wait())

    @precondition(lambda self: not self.model.is_over)
    @rule(data=st.data(), times=st.integers(1, 3))
    def cancel(self, data: st.DataObject, times: int) -> None:
        """The client goes away, perhaps in the tick in which somebody is ready."""
        chosen = data.draw(st.lists(st.sampled_from(self._running()), max_size=3, unique=True))
        turns = data.draw(st.integers(0, 4))
        race = self.race
        assert race is not None

        async def cancel() -> None:
            for one in chosen:
                one.fate.set_result(data.draw(st.sampled_from(Fate.ALL)))
            for _ in range(turns):
                await asyncio.sleep(0)
            for _ in range(times):
                race.cancel()
            await self.quiet()
            if race.done() and not race.cancelled() and race.exception() is None:
                race.result().abort()  # it was won before: the owner's to leave
            for one in self.track.made:
                if one.runs_on and one.lost and not one.fate.done():
                    one.fate.set_result(Fate.READY)
            await self.track.reaper.aclose()
            await self.quiet()

        self.do(cancel())
        self.was_cancelled = True
        self.model.lost = True
        assert race.done()
        assert all(not one.holds for one in self.track.made), "held after a cancel"

    # --- what holds at every moment -------------------------------------------------------------

    @invariant()
    def it_is_where_the_model_is(self) -> None:
        race = self.race
        if race is None or self.was_cancelled:
            return
        made, model = self.track.made, self.model
        assert [(who(one.step), one.record.role) for one in made] == model.started
        assert race.done() is model.is_over
        winners = [one.number for one in made if one.record.is_winner]
        assert winners == ([] if model.winner is None else [model.winner])
        if not model.is_over:
            assert [one.number for one in made if one.holds] == model.alive
            assert not any(one.lost for one in made)
        elif model.winner is None:
            error = race.exception()
            assert isinstance(error, AllAttemptsFailed)
            assert len(error.attempts) == len(model.failures)
            assert not any(one.holds for one in made)
            assert not any(one.record.is_loser for one in made), "nobody won"
        else:
            assert race.result() is made[model.winner]
            held = [one for one in made if one.holds]
            runs_on = [one for one in made if one.runs_on and one.lost and not one.fate.done()]
            assert held == sorted([race.result(), *runs_on], key=lambda one: one.number)
            ran = set(model.alive) - {model.winner}
            assert {one.number for one in made if one.record.is_loser} == ran
            assert all(one.lost == 1 for one in made if one.record.is_loser)

    @invariant()
    def nothing_went_wrong_aside(self) -> None:
        assert self.problems == []

    def teardown(self) -> None:
        race = self.race

        async def end() -> None:
            if race is not None:
                race.cancel()
                await asyncio.wait([race])
                if not race.cancelled() and race.exception() is None:
                    race.result().abort()
            await self.quiet()
            for one in self.track.made:
                if one.holds and not one.fate.done():
                    one.fate.set_result(Fate.BUSY)
            await self.track.reaper.aclose()
            await self.quiet()
            assert not any(one.holds for one in self.track.made), "held for ever"
            assert asyncio.all_tasks() == {asyncio.current_task()}, "tasks left behind"

        if race is not None:
            self.do(end())
        self.loop.close()
        assert self.problems == []


def test_the_race_is_its_model() -> None:
    run_state_machine_as_test(RaceMachine, settings=examples(200, full=2000))


def outcome_of(fates: dict[int, str], order: Sequence[int]) -> tuple[object, ...]:
    """A race of three, all of whom come to their ends in one tick: what came of it."""
    track = Track()
    hedges = [TimedStart(0.0, None), TimedStart(0.0, None)]

    async def main() -> tuple[object, ...]:
        race = asyncio.ensure_future(
            run_race(steps(4, 0), track.start, hedges=hedges, gate=track, reaper=track.reaper)
        )
        for _ in range(12):
            await asyncio.sleep(0)
        assert len(track.made) == 3
        for number in order:
            track.made[number].fate.set_result(fates[number])
        for _ in range(12):
            await asyncio.sleep(0)
        told = [(who(one.step), one.record.role, one.record.is_loser) for one in track.made]
        for one in track.made[3:]:
            one.fate.set_result(Fate.READY)
        try:
            winner = await race
        except AllAttemptsFailed as error:
            return (*told, error.reason, len(error.attempts))
        winner.abort()
        await track.reaper.aclose()
        assert not any(one.holds for one in track.made)
        return (*told, winner.number)

    return run(main())


def test_the_order_within_a_tick_changes_nothing() -> None:
    for drawn in itertools.product(Fate.ALL, repeat=3):
        fates = dict(enumerate(drawn))
        outcomes = {outcome_of(fates, order) for order in itertools.permutations(range(3))}
        assert len(outcomes) == 1, (fates, outcomes)


# --- whole generations ------------------------------------------------------------------------


@dataclass
class Ask:
    """One generation of a day."""

    at_s: float = 0.0
    policy: Policy = field(default_factory=Policy)
    cancel_s: float | None = None
    """After its start; by the client."""
    outside_s: float | None = None
    """The same, by the server: its task is cancelled."""
    leaves_after: int | None = None
    """The frontend walks away after so many batches."""


@dataclass
class Day:
    """Providers, and what is asked of them."""

    rows: Rows
    asks: list[Ask]
    hedge: dict[str, Any] = field(default_factory=dict)
    billing: dict[str, str] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()
    choose: dict[str, Any] = field(default_factory=dict)
    rows_more: dict[str, dict[str, Any]] = field(default_factory=dict)
    strike: tuple[int, str] | None = None
    """In an iteration of the loop: `client`, `outside` or `drain` end whatever runs."""


@dataclass
class Seen:
    """One generation and what its frontend got."""

    generation: Generation
    ask: Ask
    task: asyncio.Task[None]
    events: list[Events] = field(default_factory=list)
    committed_s: float | None = None


@dataclass
class Settled:
    """What is left of a day."""

    scenario: Scenario
    seen: list[Seen]
    tickets: Counter[tuple[str, AttemptOutcome]]
    steps: int

    @property
    def ends(self) -> list[GenerationEnd]:
        return [one.generation.end for one in self.seen if one.generation.end is not None]


@contextmanager
def counted_tickets(counts: Counter[tuple[str, AttemptOutcome]]) -> Iterator[list[Ticket]]:
    """How tickets ended, by the target's name; those that have not."""
    names: dict[int, str] = {}
    held: list[Ticket] = []
    admit, end, withdraw = TargetState.admit, Ticket.end, Ticket.withdraw

    def admitted(state: TargetState, at_s: float, *, name: str, **more: Any) -> Ticket:
        ticket = admit(state, at_s, name=name, **more)
        names[id(ticket)] = name
        held.append(ticket)  # kept alive by this list: its id stays its own
        return ticket

    def ended(ticket: Ticket, outcome: AttemptOutcome, at_s: float, **more: Any) -> None:
        assert ticket in held, "a ticket ended twice"
        held.remove(ticket)
        counts[names[id(ticket)], outcome] += 1
        end(ticket, outcome, at_s, **more)

    def withdrawn(ticket: Ticket, at_s: float) -> None:
        assert ticket in held, "a ticket ended twice"
        held.remove(ticket)
        counts[names[id(ticket)], AttemptOutcome.FAILURE] += 1
        withdraw(ticket, at_s)

    with (
        mock.patch.multiple(TargetState, admit=admitted),
        mock.patch.multiple(Ticket, end=ended, withdraw=withdrawn),
    ):
        yield held


PRICES = {"prices": {"m": {"input": 1.0, "cached_input": 0.1, "output": 10.0}}}
FIRST_TOKEN_S = 4.0


def live(day: Day) -> Settled:
    """Run the day, and check what must hold of every day."""
    rows_more = {
        name: {
            **PRICES,
            "cancel_billing": day.billing.get(name, "stops"),
            **day.rows_more.get(name, {}),
        }
        for name in day.rows
    }
    scenario = Scenario(
        day.rows,
        fallbacks=day.fallbacks,
        rows_more=rows_more,
        alias_more={
            "hedge": {"mode": "active", "delay": 500, **day.hedge},
            "choose": day.choose,
        },
    )
    seen: list[Seen] = []

    async def frontend(one: Seen) -> None:
        async with one.generation as generation:
            if await generation.commit():
                one.committed_s = now_s()
                async for events in generation:
                    assert events, "an empty batch"
                    one.events.append(events)
                    generation.released()
                    if len(one.events) == one.ask.leaves_after:
                        break

    def strike(how: str) -> None:
        for one in seen:
            if how == "client":
                one.generation.cancel(ClientCancelled("the person spoke"))
            elif how == "outside":
                one.task.cancel()
        if how == "drain":
            scenario.services.live.cancel_all(Draining("this relay is shutting down"))

    def begin(ask: Ask) -> None:
        generation = scenario.generation(
            request(policy=ask.policy), generation_id=f"gen_{len(seen)}"
        )
        one = Seen(generation, ask, asyncio.current_task())  # type: ignore[arg-type]
        one.task = asyncio.get_running_loop().create_task(frontend(one))
        seen.append(one)
        loop = asyncio.get_running_loop()
        if ask.cancel_s is not None:
            loop.call_later(ask.cancel_s, generation.cancel, ClientCancelled("gone"))
        if ask.outside_s is not None:
            loop.call_later(ask.outside_s, one.task.cancel)

    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        began = loop.steps
        if day.strike is not None:
            step, how = day.strike
            loop.at_step(began + step, lambda: strike(how))
        for ask in sorted(day.asks, key=lambda ask: ask.at_s):
            await asyncio.sleep(START_S + ask.at_s - now_s())
            begin(ask)
        await asyncio.wait([one.task for one in seen])
        taken = loop.steps - began
        for one in seen:
            if not one.task.cancelled():
                one.task.result()
        await scenario.settled()
        await asyncio.sleep(10)  # whatever else was set for later
        return taken

    tickets: Counter[tuple[str, AttemptOutcome]] = Counter()
    with capture_logs() as lines, counted_tickets(tickets) as held:
        taken = run(main())
    assert held == [], "tickets without an end"
    day_is_over = Settled(scenario, seen, tickets, taken)
    check(day, day_is_over, [line for line in lines if line["event"] == "generation"])
    assert not [line for line in lines if line["log_level"] == "error"]
    return day_is_over


def words(row: FakeEndpoint | Sequence[FakeEndpoint]) -> set[str]:
    """What a provider would say, in each of its answers."""
    told = set()
    for endpoint in [row] if isinstance(row, FakeEndpoint) else row:
        events = [data[6:] for _, data in endpoint.chunks if data.startswith(b'data: {"id"')]
        deltas = [orjson.loads(data)["choices"][0]["delta"] for data in events]
        told.add("".join(delta.get("content") or "" for delta in deltas))
    return told


def check(day: Day, over: Settled, lines: list[Any]) -> None:
    scenario = over.scenario
    scenario.check()
    planner = scenario.services.planner
    for name, state in planner.states.items():
        assert state.limiter.in_flight == 0, name
    alias = planner.alias("fast")
    assert alias.retries.active == 0
    assert alias.retries.retries == 0
    assert alias.budgets.operator.credit >= 0

    # One end for each that began, and one line for each end.
    for one in over.seen:
        assert one.generation.end is not None or (one.task.cancelled() and not one.events)
    assert sorted(line["id"] for line in lines) == sorted(
        one.generation.generation_id for one in over.seen if one.generation.end is not None
    )

    # Every attempt is somebody's, and each ticket ended as its attempt did.
    ends = over.ends
    records = [record for end in ends for record in end.attempts]
    asked = [r for r in records if not isinstance(r.error, BreakerOpen | TargetLimited)]
    assert over.tickets == Counter((f"{r.provider}/{r.model}", r.outcome) for r in asked)
    assert len(asked) == len(scenario.transport.attempts)
    for made in scenario.transport.attempts:
        assert made.ended_s is None or made.aborted_s is None, "both ended and reset"

    most = day.hedge.get("max_attempts", 2)
    fired = 0
    for one in over.seen:
        end, ask = one.generation.end, one.ask
        if end is None:
            continue
        assert not isinstance(end.error, InternalError)
        text = text_of([event for events in one.events for event in events])
        mine = end.attempts
        winners = [record for record in mine if record.is_winner]
        assert len(winners) == bool(end.provider)
        if winners:
            (winner,) = winners
            assert winner.provider == end.provider
            if "first_content" in winner.phases_us:  # an answer may be ready by its end
                ready_us = winner.started_us + sum(winner.phases_us.values())
                assert all(record.started_us <= ready_us for record in mine), "a start after it"
            told = words(day.rows[winner.provider])
            assert any(said.startswith(text) for said in told), (
                "one attempt's words, from their first"
            )
            if end.error is None:
                assert text in told, "and all of them"
        else:
            assert text == ""
            assert not any(record.is_loser for record in mine), "nobody won"
        hedges = [record for record in mine if record.role is AttemptRole.HEDGE]
        assert end.hedge is None or len(hedges) == end.hedge.fired
        fired += len(hedges)
        failed = [record for record in hedges if has_failed(record)]
        assert len(hedges) <= most - 1 + len(failed), "one more for each that has failed"
        primaries = [record for record in mine if record.role is AttemptRole.PRIMARY]
        assert len(primaries) <= 1
        for name in {record.provider for record in mine}:
            # Nobody is asked twice, but by a hedge at the first over another connection, and by the
            # free try of either.
            roles = [record.role for record in mine if record.provider == name]
            second, again = roles.count(AttemptRole.HEDGE), roles.count(AttemptRole.RETRY)
            planned = len(roles) - second - again
            assert max(planned, second) <= 1
            assert again <= planned + second
            assert planned + second < 2 or primaries[0].provider == name
        for at_us in {record.started_us for record in mine}:
            running = [r for r in mine if r.started_us <= at_us < r.ended_us]
            assert len(running) <= most
        for record in mine:
            assert record.ended_us >= record.started_us
            assert (record.error is None) is (
                record.outcome in (AttemptOutcome.SUCCESS, AttemptOutcome.IGNORED)
            )
            total_s = ask.policy.budgets.total_s
            first_s = ask.policy.budgets.first_token_s
            if total_s is not None and not record.is_loser:
                assert record.ended_us <= round(total_s * 1e6)
            if first_s is not None and not winners:
                assert record.ended_us <= round(first_s * 1e6)
    assert alias.budgets.operator.hedges == fired
    assert fired <= MIN_HARD_COUNT
    # What runs on after a race is bounded too.
    for made in scenario.transport.attempts:
        assert made.headers_s is not None or made.is_over
        over_s = made.aborted_s if made.ended_s is None else made.ended_s
        if made.chunks_read == 0 and over_s is not None:
            assert over_s - made.started_s <= FIRST_TOKEN_S + 1e-6


STRIKES = ("client", "outside", "drain")
SLOW = FakeEndpoint(headers_s=0.25, chunks=answer("slow", "ly", first_s=2.75, gap_s=0.25))
QUICK = FakeEndpoint(headers_s=0.25, chunks=answer("quick", "ly", first_s=0.25, gap_s=0.25))
HANGS = FakeEndpoint(headers_s=math.inf)
STORIES = {
    "a hedge wins": Day({"a": SLOW, "b": QUICK}, [Ask()]),
    "three of them, one stale": Day(
        {"a": HANGS, "b": [FakeEndpoint(headers_s=0.5, fault=STALE), SLOW], "c": QUICK},
        [Ask()],
        hedge={"max_attempts": 3},
    ),
    "the first fails beside its hedge": Day(
        {"a": FakeEndpoint(headers_s=1.0, status=503), "b": SLOW, "c": QUICK}, [Ask()]
    ),
    "a loser that runs on": Day({"a": SLOW, "b": QUICK}, [Ask()], billing={"a": "full"}),
    "two at once": Day(
        {"a": SLOW, "b": QUICK},
        [Ask(policy=Policy(hedge=HedgeWish(mode="race"))), Ask(0.25)],
    ),
}


@pytest.mark.parametrize("how", STRIKES)
@pytest.mark.parametrize("name", STORIES)
def test_ended_in_any_turn_of_the_loop(name: str, how: str) -> None:
    day = STORIES[name]
    whole = live(day)
    assert all(end.error is None for end in whole.ends)
    assert whole.steps > 10
    for step in range(1, whole.steps + 2):
        over = live(replace(day, strike=(step, how)))
        for end in over.ends:
            assert end.error is None or isinstance(end.error, ClientCancelled | Draining), step


well_ones = st.builds(
    FakeEndpoint,
    headers_s=ticks_s,
    # Within the limit of the first token, 4 s, whatever `headers_s` is.
    chunks=st.sampled_from([0.25, 1.0, 2.0]).map(lambda first_s: answer("Hi", first_s=first_s)),
)


policies = st.builds(
    Policy,
    speculative=st.sampled_from([False] * 7 + [True]),
    session_id=st.sampled_from(["", "s"]),
    tenant=st.sampled_from(["", "t"]),
    budgets=st.builds(
        Budgets,
        total_s=st.sampled_from([None, None, None, 0.5, 2.0, 4.0]),
        first_token_s=st.sampled_from([None, None, None, 0.25, 1.0, 2.0]),
    ),
    hedge=st.builds(
        HedgeWish,
        mode=st.sampled_from(["", "", "", "", "off", "race"]),
        max_attempts=st.sampled_from([None, None, None, 1, 2, 3]),
        delay_s=st.sampled_from([None, None, 0.25, 0.75]),
    ),
)

asks_of_a_day = st.builds(
    Ask,
    at_s=ticks_s,
    policy=policies,
    cancel_s=st.sampled_from([None] * 6 + [0.0, 0.5, 1.0]),
    outside_s=st.sampled_from([None] * 9 + [0.25, 0.5, 1.0]),
    leaves_after=st.sampled_from([None] * 6 + [1, 2]),
)


@st.composite
def days(draw: st.DrawFn) -> Day:
    names = "abc"[: draw(st.integers(2, 3))]
    rows = {name: draw(st.lists(well_ones | endpoints(), min_size=1, max_size=3)) for name in names}
    if draw(st.booleans()):
        rows["x"] = [draw(endpoints())]
    return Day(
        rows,
        draw(st.lists(asks_of_a_day, min_size=1, max_size=6)),
        hedge={
            "delay": draw(st.sampled_from(["auto", 1, 250, 500])),
            "default_delay_ms": 750,
            "max_attempts": draw(st.integers(2, 3)),
        },
        billing={name: draw(st.sampled_from(["stops", "full", "unknown"])) for name in names},
        fallbacks=("x",) if "x" in rows else (),
        choose={"mode": draw(st.sampled_from(["ordered", "balanced"]))},
        rows_more={name: draw(st.sampled_from([{}, {}, {"rpm": 2}])) for name in names},
        strike=draw(
            st.sampled_from([None] * 4 + [(step, how) for step in range(1, 80) for how in STRIKES])
        )
        if draw(st.booleans())
        else None,
    )


@examples(300)
@given(days())
def test_any_day_leaves_nothing_behind(day: Day) -> None:
    live(day)


@examples(60)
@given(
    st.lists(well_ones, min_size=1, max_size=4),
    st.lists(well_ones, min_size=1, max_size=4),
    st.lists(asks_of_a_day, min_size=1, max_size=8),
    st.sampled_from(["stops", "full"]),
)
def test_losers_and_cancels_say_nothing_of_providers_that_are_well(
    first: list[FakeEndpoint], second: list[FakeEndpoint], asks: list[Ask], billing: str
) -> None:
    over = live(Day({"a": first, "b": second}, asks, billing={"a": billing, "b": billing}))
    assert {outcome for _, outcome in over.tickets} <= {
        AttemptOutcome.SUCCESS,
        AttemptOutcome.IGNORED,
    }
    for target in over.scenario.services.catalog.resolve("fast").candidates:
        state = over.scenario.services.planner.states.of(target, START_S)
        assert state.breaker.trips == 0
        assert state.push_back.admits(START_S)
    assert over.scenario.services.planner.alias("fast").throttle.tokens == 10
