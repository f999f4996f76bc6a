"""What stands between a request's admission and its stream, over scripted providers on virtual
time: legs are stopped and awaited, one account pays, and one end tells of all."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from relay.answer import Answer
from relay.content import (
    ChoiceFinished,
    Events,
    FinishReason,
    GenerateRequest,
    Policy,
    TextDelta,
)
from relay.course import PolicyCourse
from relay.decision import Decision, GuardVerdict
from relay.errors import (
    ClientCancelled,
    ConnectError,
    DeadlineExceeded,
    GuardrailBlocked,
    NoCandidates,
    Reason,
    RelayError,
)
from relay.governance.ledger import Admitted, Asked, LedgerEntry
from relay.guardrails.base import GuardScope
from relay.outcome import AttemptOutcome, Ended
from relay.policy.base import Legs
from tests.fakes.ledger import FakeLedger
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.relay_under_test import DONE, chunk
from tests.fakes.scenario import Scenario, answer, request, text_of
from tests.fakes.virtual_time import on_virtual_time, since_start_s

QUICK = FakeEndpoint(headers_s=0.1, chunks=answer("quick", " words", first_s=0.1, gap_s=0.1))
SLOW = FakeEndpoint(headers_s=1.0, chunks=answer("slow", " words", first_s=0.5, gap_s=0.5))
DEAD = FakeEndpoint(fault=ConnectError("refused"), fault_at="connect")
SILENT = FakeEndpoint(headers_s=math.inf)

Compose = Callable[[GenerateRequest, Legs], Awaitable[Answer]]


class Scripted:
    """A composition that does what a test says."""

    models = ("a/m", "b/m")
    legs_at_once = 2

    def __init__(self, compose: Compose) -> None:
        self._compose = compose

    async def compose(self, request: GenerateRequest, legs: Legs) -> Answer:
        return await self._compose(request, legs)


def composed(compose: Compose, a: FakeEndpoint, b: FakeEndpoint, **more: object) -> Scenario:
    """A relay whose alias `fast` is that composition of its providers `a` and `b`."""
    scenario = Scenario({"a": a, "b": b}, **more)  # type: ignore[arg-type]
    scenario.services.course = PolicyCourse(compositions={"fast": Scripted(compose)})
    return scenario


async def both_and_the_first(request: GenerateRequest, legs: Legs) -> Answer:
    first, second = legs.start("x", "a/m", request), legs.start("y", "b/m", request)
    del second
    await first.whole()
    return first.answer()


@on_virtual_time
async def test_legs_that_nobody_takes_are_stopped_and_told_with_the_end() -> None:
    scenario = composed(both_and_the_first, QUICK, SLOW)
    heard: list[Ended] = []
    scenario.services.on_ended.append(heard.append)
    batches, end = await scenario.generate()
    assert text_of([event for events in batches for event in events]) == "quick words"
    assert end.error is None
    assert [(r.leg, r.provider, r.is_winner) for r in end.attempts] == [
        ("x", "a", True),
        ("y", "b", False),
    ]
    assert end.attempts[1].outcome is AttemptOutcome.IGNORED
    assert (end.provider, end.model) == ("a", "m")
    assert end.decision is not None
    assert [(leg["label"], leg["outcome"]) for leg in end.decision.legs] == [
        ("x", "ok"),
        ("y", "cancelled"),
    ]
    assert len(heard) == 1, "a leg is nobody's generation"
    assert heard[0].was_planned
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_a_question_that_was_answered_is_no_cancelled_one() -> None:
    """Its answer is never given away; it was asked for something else, and told it."""

    async def asked_before(request: GenerateRequest, legs: Legs) -> Answer:
        for label in ("classifier", "self_check"):
            await legs.start(label, "a/m", request).whole()
        legs.start("late", "b/m", request)
        leg = legs.start("x", "a/m", request)
        await leg.ready()
        return leg.answer()

    scenario = composed(asked_before, QUICK, SLOW)
    _, end = await scenario.generate()
    assert end.decision is not None
    assert [leg["outcome"] for leg in end.decision.legs] == ["ok", "ok", "cancelled", "ok"]


@on_virtual_time
async def test_a_stream_goes_on_while_it_is_read() -> None:
    """The answer is given at its first content, and its words come when they come."""

    async def at_once(request: GenerateRequest, legs: Legs) -> Answer:
        leg = legs.start("x", "b/m", request)
        await leg.ready()
        return leg.answer()

    scenario = composed(at_once, QUICK, SLOW)
    times: list[float] = []
    generation = scenario.generation()
    async with generation:
        assert await generation.commit()
        async for events in generation:
            times += [round(since_start_s(), 3)] if text_of(events) else []
    assert times == [1.5, 2.0]
    end = generation.end
    assert end is not None
    assert end.phases_us["first_content"] + end.phases_us["response_headers"] == 1_500_000
    assert sum(end.phases_us.values()) == end.wall_us


@on_virtual_time
async def test_no_leg_outlives_a_cancel() -> None:
    scenario = composed(both_and_the_first, SILENT, SILENT)
    generation = scenario.generation()
    loop = asyncio.get_running_loop()
    loop.call_later(0.7, generation.cancel, ClientCancelled("barge-in"))
    async with generation:
        assert not await generation.commit()
    end = generation.end
    assert end is not None
    assert isinstance(end.error, ClientCancelled)
    assert [record.ended_us for record in end.attempts] == [700_000, 700_000]
    assert [at_s for _, at_s in scenario.aborted] == [0.7, 0.7]
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_no_leg_outlives_a_task_that_is_torn_down() -> None:
    scenario = composed(both_and_the_first, SILENT, SILENT)
    task = asyncio.create_task(scenario.generate())
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [at_s for _, at_s in scenario.aborted] == [0.3, 0.3]
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_legs_are_awaited_though_their_generation_is_torn_down_twice() -> None:
    for turns in range(8):
        scenario = composed(both_and_the_first, SILENT, SILENT)
        task = asyncio.create_task(scenario.generate())
        await asyncio.sleep(0.3)
        task.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await scenario.settled()
        scenario.check()
        assert asyncio.all_tasks() == {asyncio.current_task()}


@on_virtual_time
async def test_a_composition_that_fails_leaves_nothing() -> None:
    async def never(request: GenerateRequest, legs: Legs) -> Answer:
        legs.start("x", "a/m", request)
        failed = legs.start("y", "b/m", request)
        with pytest.raises(RelayError):
            await failed.whole()
        raise NoCandidates("no leg is good enough")

    scenario = composed(never, SILENT, DEAD)
    _, end = await scenario.generate()
    assert end.error is not None
    assert end.error.reason is Reason.NO_CANDIDATES
    assert end.decision is not None
    assert [leg["outcome"] for leg in end.decision.legs] == ["cancelled", "upstream_unreachable"]
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_a_bug_of_a_composition_ends_its_legs() -> None:
    async def broken(request: GenerateRequest, legs: Legs) -> Answer:
        legs.start("x", "a/m", request)
        raise ZeroDivisionError

    scenario = composed(broken, SILENT, SILENT)
    _, end = await scenario.generate()
    assert end.error is not None
    assert end.error.reason is Reason.INTERNAL
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_a_given_leg_that_breaks_breaks_the_answer() -> None:
    broken = FakeEndpoint(chunks=[(0.1, chunk({"content": "half"})), (0.1, b"data: {oops\n\n")])

    async def at_once(request: GenerateRequest, legs: Legs) -> Answer:
        leg = legs.start("x", "a/m", request)
        await leg.ready()
        return leg.answer()

    scenario = composed(at_once, broken, SLOW)
    batches, end = await scenario.generate()
    assert text_of([event for events in batches for event in events]) == "half"
    assert end.error is not None
    assert end.error.reason is Reason.UPSTREAM_PROTOCOL
    assert end.attempts[0].outcome is AttemptOutcome.FAILURE


@on_virtual_time
async def test_the_whole_has_its_time() -> None:
    scenario = composed(both_and_the_first, SILENT, SILENT)
    _, end = await scenario.generate(total_s=2.0)
    assert isinstance(end.error, DeadlineExceeded)
    assert end.wall_us == 2_000_000
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_what_is_read_is_kept_for_the_answer() -> None:
    async def looked_at(request: GenerateRequest, legs: Legs) -> Answer:
        leg = legs.start("x", "a/m", request)
        seen: list[str] = []
        while not "".join(seen).endswith("words"):
            seen.append(text_of(await leg.read()))
        whole = await leg.whole()
        assert whole.text == "quick words"
        assert whole.finish == {0: FinishReason.STOP}
        assert await leg.read() is not None
        return leg.answer()

    scenario = composed(looked_at, QUICK, SLOW)
    batches, end = await scenario.generate()
    assert text_of([event for events in batches for event in events]) == "quick words"
    assert end.finish_reasons == {0: FinishReason.STOP}


@on_virtual_time
async def test_a_slow_reader_holds_its_leg_and_no_more() -> None:
    words = ["word " * 1000] * 100
    endpoint = FakeEndpoint(chunks=answer(*words))

    async def at_once(request: GenerateRequest, legs: Legs) -> Answer:
        leg = legs.start("x", "a/m", request)
        await leg.ready()
        return leg.answer()

    scenario = composed(at_once, endpoint, SLOW)
    scenario.services.lane_bytes = 20_000
    generation = scenario.generation()
    told: list[str] = []
    async with generation:
        assert await generation.commit()
        async for events in generation:
            told.append(text_of(events))
            await asyncio.sleep(0.01)
    assert "".join(told) == "".join(words)
    # It goes on when there is room, and never much further.
    assert max(map(len, told[1:])) <= 30_000


# --- one account ------------------------------------------------------------------------------


@on_virtual_time
async def test_one_account_pays_for_every_leg() -> None:
    ledger = FakeLedger()
    scenario = composed(both_and_the_first, QUICK, SLOW, ledger=ledger)
    _, end = await scenario.generate()
    assert len(ledger.entries) == 1
    assert ledger.legs == ["a/m", "b/m"]
    assert ledger.entries[0].ends == [end]
    assert [record.usage is not None for record in end.attempts] == [True, False]


@on_virtual_time
async def test_nobody_starts_a_leg_behind_the_end() -> None:
    """Who asks beside the answer is told of a leg's end, and would ask the next one."""
    ledger = FakeLedger()
    tasks: list[asyncio.Task[None]] = []

    async def asked_again_and_again(request: GenerateRequest, legs: Legs) -> None:
        for _ in range(3):
            try:
                await legs.start("beside", "b/m", request).whole()
            except ClientCancelled:
                continue

    async def first(request: GenerateRequest, legs: Legs) -> Answer:
        leg = legs.start("x", "a/m", request)
        await leg.ready()
        tasks.append(asyncio.create_task(asked_again_and_again(request, legs)))
        return leg.answer()

    scenario = composed(first, SLOW, SILENT, ledger=ledger)
    generation = scenario.generation()
    asyncio.get_running_loop().call_later(1.7, generation.cancel, ClientCancelled("barge-in"))
    async with generation:
        assert await generation.commit()
        async for _ in generation:
            generation.released()
    await asyncio.wait(tasks, timeout=60)
    await scenario.settled()
    assert generation.end is not None
    asked = [provider for provider, _ in scenario.started]
    assert asked == [record.provider for record in generation.end.attempts] == ["a", "b"]
    scenario.check()


@on_virtual_time
async def test_a_leg_is_asked_for_whoever_asks() -> None:
    """Whatever the request says that it is started with."""
    asked: list[GenerateRequest] = []

    class Books(FakeLedger):
        def leg(self, asked_: Asked, parent: LedgerEntry | None) -> Admitted:
            asked.append(asked_.request)
            return super().leg(asked_, parent)

    async def other(request: GenerateRequest, legs: Legs) -> Answer:
        leg = legs.start("x", "a/m", replace(request, policy=Policy(key_id="key_2")))
        await leg.whole()
        return leg.answer()

    scenario = composed(other, QUICK, QUICK, ledger=Books())
    own = Policy(tenant="team_1", key_id="key_1", zones=frozenset({"eu"}), tags=("minors",))
    await scenario.generate(replace(request(), policy=own))
    policy = asked[0].policy
    assert (policy.tenant, policy.key_id, policy.zones) == (
        "team_1",
        "key_1",
        frozenset({"eu"}),
    )
    assert policy.tags == ("minors",)


# --- rules ------------------------------------------------------------------------------------


@on_virtual_time
async def test_a_chosen_name_is_asked_and_the_client_s_is_remembered() -> None:
    scenario = Scenario({"a": QUICK, "b": SLOW})

    def choose(
        request: GenerateRequest, surface: str, tokens: int, decision: Decision | None
    ) -> GenerateRequest:
        assert (surface, tokens > 0) == ("test", True)
        assert decision is not None
        decision.asked, decision.rule = request.model, "to-b"
        return replace(request, model="b/m", asked_as=request.model)

    scenario.services.course = PolicyCourse(choose=choose)
    _, end = await scenario.generate()
    assert [name for name, _ in scenario.started] == ["b"]
    assert end.decision is not None
    assert end.decision.as_dict() == {"asked": "fast", "rule": "to-b"}


@on_virtual_time
async def test_without_a_decision_there_is_none_to_tell() -> None:
    scenario = Scenario({"a": QUICK})
    scenario.services.course = PolicyCourse()
    _, end = await scenario.generate()
    assert end.error is None
    assert end.decision is None


# --- guardrails -------------------------------------------------------------------------------


class Upper:
    """A guard that lets out what is in capitals, one batch late, and ends at `stop`."""

    def __init__(self, stop: str = "") -> None:
        self._held: list[TextDelta] = []
        self._stop = stop
        self.is_blocked = False
        self.is_closed = False
        self.retract_from: int | None = None
        self.retract_choice = 0

    async def feed(self, events: Events) -> Events:
        out: list[TextDelta | ChoiceFinished] = [*self._held]
        self._held = []
        for event in events:
            if isinstance(event, TextDelta):
                if self._stop and self._stop in event.text:
                    self.is_blocked = True
                    return [*out, ChoiceFinished(FinishReason.CONTENT_FILTER, "guardrail:x")]
                self._held.append(TextDelta(event.text.upper()))
            elif isinstance(event, ChoiceFinished):
                out += [*self._held, event]
                self._held = []
        return out

    async def finish(self) -> Events:
        return self._held

    def close(self) -> None:
        self.is_closed = True


class Guarding:
    """Guardrails of a test."""

    def __init__(self, guard: Upper | None = None, refuses: bool = False) -> None:
        self.guard = guard
        self.refuses = refuses

    async def check(
        self, request: GenerateRequest, scope: GuardScope, decision: Decision, legs: Legs | None
    ) -> GenerateRequest:
        if self.refuses:
            decision.guards.append(GuardVerdict("g", "denied", "input", "block"))
            raise GuardrailBlocked("not here", guardrail="g", side="input")
        return request

    def over(
        self, request: GenerateRequest, scope: GuardScope, decision: Decision, legs: Legs | None
    ) -> Upper | None:
        return self.guard

    def check_passthrough(self, scope: GuardScope) -> None:
        pass

    async def aclose(self) -> None:
        pass


@on_virtual_time
async def test_what_may_not_be_asked_is_not_sent() -> None:
    ledger = FakeLedger()
    scenario = Scenario({"a": QUICK}, ledger=ledger)
    scenario.services.course = PolicyCourse(guards=Guarding(refuses=True))
    batches, end = await scenario.generate()
    assert (batches, scenario.started) == ([], [])
    assert isinstance(end.error, GuardrailBlocked)
    assert end.decision is not None
    assert end.decision.guards[0].action == "block"
    assert ledger.entries[0].ends == [end], "what was put aside is given back"


@on_virtual_time
async def test_nobody_is_told_what_was_refused() -> None:
    """Who writes prompts down (payload log, spans) gets what guardrails have let go."""
    heard: list[Ended] = []
    scenario = Scenario({"a": QUICK})
    scenario.services.on_ended.append(heard.append)
    scenario.services.course = PolicyCourse(guards=Guarding(refuses=True))
    wanted = replace(request(), user="swordfish", extra={"metadata": {"a": "swordfish"}})
    await scenario.generate(wanted)
    told = heard[0].request
    assert wanted.messages
    assert (told.model, told.policy) == (wanted.model, wanted.policy)
    assert (told.messages, told.user, told.extra, told.native) == ((), "", {}, {})


@on_virtual_time
async def test_a_guard_passes_what_it_lets_go() -> None:
    guard = Upper()
    scenario = Scenario({"a": QUICK})
    scenario.services.course = PolicyCourse(guards=Guarding(guard))
    batches, end = await scenario.generate()
    assert text_of([event for events in batches for event in events]) == "QUICK WORDS"
    assert end.finish_reasons == {0: FinishReason.STOP}
    assert guard.is_closed


@on_virtual_time
async def test_a_block_stops_the_provider_and_ends_the_answer_truly() -> None:
    endless = FakeEndpoint(chunks=[*answer("fine", "bad", gap_s=0.5)[:3], (60.0, DONE)])
    scenario = Scenario({"a": endless})
    scenario.services.course = PolicyCourse(guards=Guarding(Upper(stop="bad")))
    batches, end = await scenario.generate()
    assert text_of([event for events in batches for event in events]) == "FINE"
    assert end.error is None
    assert end.finish_reasons == {0: FinishReason.CONTENT_FILTER}
    assert not end.is_usage_final
    assert end.usage is not None
    assert end.usage.completion_tokens > 1, (
        "what the provider wrote is counted, not what was let go"
    )
    assert scenario.aborted == [("a", 0.5)]
    await scenario.settled()
    scenario.check()


# --- caches -----------------------------------------------------------------------------------


@on_virtual_time
async def test_every_end_closes_its_turn() -> None:
    closed: list[str] = []

    class Missed:
        answer = None

        def recording(self, answer: Answer) -> Answer:
            return answer

        def close(self) -> None:
            closed.append("turn")

    class Caching:
        async def turn(self, *_: object) -> Missed:
            return Missed()

    for endpoint in (QUICK, DEAD):
        scenario = Scenario({"a": endpoint})
        scenario.services.course = PolicyCourse(caches=Caching())
        await scenario.generate()
    assert closed == ["turn", "turn"]


# --- answers that are held back ---------------------------------------------------------------


class Holding(Upper):
    """A guard that lets nothing out before the end, and blocks it there where it is told to."""

    def __init__(self, blocks: bool = False) -> None:
        super().__init__()
        self._all: list[object] = []
        self._blocks = blocks

    async def feed(self, events: Events) -> Events:
        self._all += events
        return ()

    async def finish(self) -> Events:
        if self._blocks:
            self.is_blocked = True
            raise GuardrailBlocked("not this", guardrail="g", side="output")
        return self._all  # type: ignore[return-value]


def holding(endpoint: FakeEndpoint, guard: Upper, **more: object) -> Scenario:
    scenario = Scenario({"a": endpoint}, **more)  # type: ignore[arg-type]
    scenario.services.course = PolicyCourse(guards=Guarding(guard))
    return scenario


@on_virtual_time
async def test_silence_behind_a_guard_is_the_provider_s() -> None:
    """Nothing was released yet, and nobody waits for ever."""
    silent = FakeEndpoint(chunks=[*answer("one", "two", gap_s=0.5)[:3], (math.inf, DONE)])
    scenario = holding(silent, Holding(), timeouts={"inter_token_ms": 2_000})
    batches, end = await scenario.generate()
    assert batches == []
    assert end.error is not None
    assert end.error.reason is Reason.STREAM_STALLED
    assert scenario.aborted == [("a", 2.5)]
    assert (end.provider, end.usage is not None) == ("a", True)
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_what_a_guard_holds_back_is_no_silence() -> None:
    words = [f"w{number} " for number in range(10)]
    steady = FakeEndpoint(chunks=answer(*words, gap_s=0.5))
    for guard in (Holding(), HoldingAfter(2)):
        scenario = holding(steady, guard, timeouts={"inter_token_ms": 2_000})
        batches, end = await scenario.generate()
        assert end.error is None
        assert text_of([event for events in batches for event in events]) == "".join(words)


class HoldingAfter(Holding):
    """Lets so many batches out, and holds back the rest."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self._left = batches

    async def feed(self, events: Events) -> Events:
        self._left -= 1
        return events if self._left >= 0 else await super().feed(events)


@on_virtual_time
async def test_an_answer_that_is_blocked_whole_was_written_nevertheless() -> None:
    ledger = FakeLedger()
    scenario = holding(
        FakeEndpoint(chunks=answer("a long", " answer of", " many words")),
        Holding(blocks=True),
        ledger=ledger,
    )
    batches, end = await scenario.generate()
    assert batches == []
    assert isinstance(end.error, GuardrailBlocked)
    assert (end.provider, end.model) == ("a", "m")
    assert end.usage is not None
    assert end.usage.completion_tokens > 1
    assert ledger.entries[0].ends == [end]
