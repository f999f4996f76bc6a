"""One account from its first attempt to what is booked: what is covered, what each attempt cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from relay.config import parse
from relay.content import FinishReason, Usage
from relay.decision import Decision
from relay.errors import BudgetExceeded, ConnectError, RelayError, StoreDown
from relay.governance.entry import BOOKED_WAIT_S, Entry, _is_of
from relay.governance.ledger import Asked, NullLedger, Refused, Visit
from relay.governance.limits import Limits
from relay.governance.price_sheet import PriceSheet
from relay.governance.scopes import Scopes
from relay.outcome import AttemptOutcome, AttemptRecord, AttemptRole, GenerationEnd, refused
from relay.store.base import ClosedAttempt, OpenedAttempt, SettledGeneration, StoreUnavailable
from tests.fakes.memory_ledger import GenerationRow
from tests.fakes.virtual_time import on_virtual_time, since_start_s
from tests.governance.test_refusals import CATALOG, NOW_US, REQUEST, ROW, World

FIRST, SECOND = CATALOG.resolve("fast").candidates
ONE = 1037 + 2 * 100
"""What an attempt of `REQUEST` can cost."""
USED = Usage(100, 20, 120)
COST = 100 + 2 * 20


def record(
    name: str = "p", *, role: AttemptRole = AttemptRole.PRIMARY, **more: Any
) -> AttemptRecord:
    return AttemptRecord(name, "m", more.pop("started_us", 180), role=role, **more)


def won(name: str = "p", **more: Any) -> AttemptRecord:
    usual: dict[str, Any] = {
        "outcome": AttemptOutcome.SUCCESS,
        "is_winner": True,
        "is_free": False,
        "ended_us": 900_000,
        "http_status": 200,
    }
    return record(name, **{**usual, **more})


def end_of(*attempts: AttemptRecord, **more: Any) -> GenerationEnd:
    usual: dict[str, Any] = {
        "error": None,
        "usage": USED,
        "is_usage_final": True,
        "attempts": attempts,
        "provider": "p",
        "model": "m",
    }
    return replace(refused(RelayError("none")), **{**usual, **more})


async def entry_of(world: World) -> Entry:
    entry = (await world.ask()).entry
    assert isinstance(entry, Entry)
    return entry


def row_of(world: World) -> GenerationRow:
    return world.store.database.generations["gen"]


async def settled(world: World, entry: Entry, end: GenerationEnd) -> SettledGeneration:
    """What is booked when it ends so."""
    entry.settle(end)
    await entry.booked()
    found = row_of(world).settled
    assert found is not None
    return found


async def one_attempt(
    attempt: AttemptRecord, end: GenerationEnd | None = None, **more: Any
) -> tuple[SettledGeneration, ClosedAttempt]:
    """What is booked of a generation with this attempt alone."""
    world = World(**more)
    entry = await entry_of(world)
    waiting = entry.started(attempt, FIRST)
    assert waiting is None
    found = await settled(world, entry, end or end_of(attempt))
    (closed,) = found.attempts
    return found, closed


# --- what is covered --------------------------------------------------------------------------


async def test_what_was_put_aside_covers_its_attempts_and_the_next_asks_for_more() -> None:
    world = World(budget_micro=3 * ONE)
    entry = await entry_of(world)
    assert entry.started(record(), FIRST) is None
    assert entry.started(record("q", role=AttemptRole.HEDGE), SECOND) is None
    assert row_of(world).reserved_micro == 2 * ONE
    waiting = entry.started(record(role=AttemptRole.FAILOVER), FIRST)
    assert waiting is not None
    await waiting
    assert row_of(world).reserved_micro == 3 * ONE
    last = entry.started(record("q", role=AttemptRole.FAILOVER), SECOND)
    assert last is not None
    with pytest.raises(BudgetExceeded, match="does not cover another attempt"):
        await last
    assert row_of(world).reserved_micro == 3 * ONE


async def test_an_attempt_that_ended_and_cost_nothing_makes_room_for_another() -> None:
    world = World(budget_micro=2 * ONE)
    entry = await entry_of(world)
    free, other = record(), record("q")
    for attempt, target in ((free, FIRST), (other, SECOND)):
        assert entry.started(attempt, target) is None
    free.ended_us = 500
    assert entry.started(record("q", role=AttemptRole.FAILOVER), SECOND) is None
    other.ended_us, other.is_free = 600, False
    waiting = entry.started(record(role=AttemptRole.FAILOVER), FIRST)
    assert waiting is not None
    with pytest.raises(BudgetExceeded):
        await waiting


async def test_two_that_ask_together_each_need_their_own_part() -> None:
    world = World(budget_micro=10 * ONE)
    entry = await entry_of(world)
    entry.started(record(), FIRST)
    entry.started(record("q"), SECOND)
    both = [entry.started(record(), FIRST), entry.started(record("q"), SECOND)]
    for waiting in both:
        assert waiting is not None
        await waiting
    assert row_of(world).reserved_micro == 4 * ONE


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(StoreUnavailable("away"), StoreDown), (asyncio.CancelledError(), asyncio.CancelledError)],
)
async def test_what_was_not_put_aside_is_not_counted_as_if(
    failure: BaseException, raised: type[BaseException]
) -> None:
    world = World(budget_micro=10 * ONE)
    entry = await entry_of(world)
    entry.started(record(), FIRST)
    entry.started(record("q"), SECOND)
    asked: list[int] = []

    async def extend(generation_id: str, holds: object, more_micro: int) -> None:
        assert generation_id == "gen"
        asked.append(more_micro)
        if len(asked) == 1:
            raise failure

    cast(Any, world.store).extend = extend
    waiting = entry.started(record(), FIRST)
    assert waiting is not None
    with pytest.raises(raised):
        await waiting
    again = entry.started(record(), FIRST)
    assert again is not None
    await again
    assert asked == [ONE, ONE]


async def test_a_key_that_allows_so_much_for_one_request_gets_no_attempt_beyond() -> None:
    world = World(scopes=Scopes(max_cost_micro=2 * ONE))
    entry = await entry_of(world)
    assert entry.is_bounded
    for name, target in (("p", FIRST), ("q", SECOND)):
        assert entry.started(record(name), target) is None
    with pytest.raises(BudgetExceeded, match="covers no further attempt"):
        entry.started(record(), FIRST)
    assert world.only["detail"]["attempt"] == "p/m"


async def test_a_target_whose_price_has_gone_may_not_start_where_a_budget_applies() -> None:
    world = World(budget_micro=10 * ONE)
    entry = await entry_of(world)
    with pytest.raises(BudgetExceeded, match="p/m has no price"):
        entry.started_for(record(), FIRST, None, "", 10)
    free = await entry_of(World())
    assert not free.is_bounded
    assert free.started_for(record(), FIRST, None, "", 10) is None


async def test_legs_are_covered_by_the_account_of_their_generation() -> None:
    world = World(budget_micro=3 * ONE)
    entry = await entry_of(world)
    leg = entry.leg(lambda _: 3 * ONE, lambda _: "", 5)
    assert leg.rate_state is entry.rate_state
    waiting = leg.started(record(), FIRST)
    assert waiting is not None
    await waiting
    assert row_of(world).reserved_micro == 3 * ONE
    await leg.durable()
    leg.settle(end_of(won()))
    await leg.booked()
    assert row_of(world).state == "open"


async def test_a_provider_whose_limit_is_reached_refuses_and_that_is_told() -> None:
    world = World(providers={"p": Limits(rpm=1)})
    entry = await entry_of(world)
    assert entry.started(record(), FIRST) is None
    told: list[tuple[RelayError, Refused]] = []
    entry._on_refused = lambda error, what: told.append((error, what))
    with pytest.raises(RelayError):
        entry.started(record(), FIRST)
    ((_, what),) = told
    assert (what.surface, what.request_id, what.attempt) == ("chat", "gen", "p/m")


# --- what is written as it goes ---------------------------------------------------------------


async def test_each_attempt_is_written_when_it_starts_and_the_first_not_twice() -> None:
    for notes_first in (False, True):
        world = World()
        world.store.notes_first = notes_first
        entry = await entry_of(world)
        entry.started(record(started_us=5), FIRST)
        entry.started(record("q", role=AttemptRole.HEDGE, started_us=7), SECOND)
        await entry.durable()
        found = cast("dict[int, OpenedAttempt]", row_of(world).attempts)
        written = {
            number: (one.provider, one.role, one.started_us) for number, one in found.items()
        }
        assert written[1] == ("q", "hedge", 7)
        assert (0 in written) is not notes_first, "it stands in the row of the generation"


async def test_another_first_than_was_foretold_is_written() -> None:
    world = World()
    world.store.notes_first = True
    entry = await entry_of(world)
    entry.started(record("q"), SECOND)
    await entry.durable()
    assert set(row_of(world).attempts) == {0}


async def test_durable_waits_for_the_store_and_says_when_it_is_away() -> None:
    world = World()
    entry = await entry_of(world)
    entry.started(record(), FIRST)
    world.store.database.fail_with("away")
    with pytest.raises(StoreDown):
        await entry.durable()


# --- what an attempt cost ---------------------------------------------------------------------


async def test_an_answer_with_its_final_count_is_what_it_cost() -> None:
    world_end, closed = await one_attempt(
        won(phases_us={"pool_wait": 12}, leg="small"),
    )
    assert (closed.state, closed.cost_micro, closed.upper_micro) == ("actual", COST, COST)
    assert (closed.prompt_tokens, closed.output_tokens) == (100, 20)
    assert (closed.cached_tokens, closed.cache_write_tokens, closed.reasoning_tokens) == (0, 0, 0)
    assert (closed.ordinal, closed.provider, closed.model, closed.role) == (0, "p", "m", "primary")
    assert (closed.outcome, closed.reason, closed.http_status) == ("success", "", 200)
    assert (closed.is_winner, closed.started_us, closed.ended_us) == (True, 180, 900_000)
    assert (closed.leg, json.loads(closed.phases)) == ("small", {"pool_wait": 12})
    assert closed.price_version
    assert (world_end.state, world_end.settled_micro) == ("settled", COST)


@pytest.mark.parametrize(
    ("attempt", "end", "state", "cost", "upper"),
    [
        (won(), {"is_usage_final": False}, "estimated", COST, ONE),
        (won(), {"usage": Usage(100, 20, 120, is_estimated=True)}, "estimated", COST, ONE),
        (won(outcome=AttemptOutcome.FAILURE), {}, "estimated", COST, ONE),
        (
            won(),
            {"usage": Usage(5_000, 0, 5_000), "is_usage_final": False},
            "estimated",
            5000,
            5000,
        ),
        (won(is_free=True), {}, "actual", COST, COST),
        (won(), {"usage": None}, "estimated", 0, ONE),
        (won(cost=7.2), {"usage": None}, "estimated", 8, ONE),
        (won(cost=9_000.0), {"usage": None}, "estimated", 9_000, 9_000),
        (record(ended_us=5), {"usage": None}, "free", 0, 0),
        (
            record(ended_us=5, is_free=False, usage=USED, is_usage_final=True),
            {},
            "estimated",
            COST,
            ONE,
        ),
    ],
)
async def test_what_is_not_known_for_certain_is_an_estimate_up_to_its_bound(
    attempt: AttemptRecord, end: dict[str, Any], state: str, cost: int, upper: int
) -> None:
    found, closed = await one_attempt(attempt, end_of(attempt, **end), budget_micro=10**9)
    assert (closed.state, closed.cost_micro, closed.upper_micro) == (state, cost, upper)
    assert found.settled_micro == cost
    assert found.state == {"actual": "settled", "estimated": "estimated", "free": "void"}[state]


async def test_without_a_bound_the_most_is_what_it_would_cost_had_it_not_stopped() -> None:
    world = World()
    entry = await entry_of(world)
    loser = record(ended_us=5, is_free=False, cost=3.1, cost_upper=77.5)
    assert entry.started_for(loser, FIRST, None, "", 10) is None
    found = await settled(world, entry, end_of(loser, usage=None, error=ConnectError("reset")))
    (closed,) = found.attempts
    assert (closed.cost_micro, closed.upper_micro) == (4, 78)
    assert found.reason == ConnectError("reset").reason.name


async def test_without_a_price_nobody_knows_what_it_cost() -> None:
    world = World()
    entry = await entry_of(world)
    target = CATALOG.resolve("unpriced").candidates[0]
    attempt = AttemptRecord("p", target.model, 1, outcome=AttemptOutcome.SUCCESS)
    attempt.is_winner, attempt.is_free = True, False
    entry.started(attempt, target)
    found = await settled(world, entry, end_of(attempt))
    (closed,) = found.attempts
    assert (closed.state, closed.cost_micro, closed.upper_micro) == ("unpriced", None, None)
    assert (found.state, found.settled_micro, closed.price_version) == ("estimated", 0, "")


async def test_tokens_of_whom_nobody_counted_are_as_they_were_seen() -> None:
    seen = record(ended_us=5, is_free=False, prompt_tokens=40, tokens_seen=3, cached_tokens=8)
    _, closed = await one_attempt(seen, end_of(seen, usage=None))
    assert (closed.prompt_tokens, closed.output_tokens, closed.cached_tokens) == (40, 3, 8)
    free = record(ended_us=5, prompt_tokens=40, tokens_seen=3, cached_tokens=8)
    _, closed = await one_attempt(free, end_of(free, usage=None))
    assert (closed.prompt_tokens, closed.output_tokens, closed.cached_tokens) == (0, 0, 0)


async def test_counts_of_all_kinds_are_kept() -> None:
    used = Usage(100, 20, 120, cached_tokens=11, cache_write_tokens=12, reasoning_tokens=13)
    attempt = won()
    _, closed = await one_attempt(attempt, end_of(attempt, usage=used))
    assert (closed.cached_tokens, closed.cache_write_tokens, closed.reasoning_tokens) == (
        11,
        12,
        13,
    )


# --- the end ----------------------------------------------------------------------------------


async def test_the_end_is_booked_once_with_the_sum_of_its_attempts() -> None:
    world = World()
    entry = await entry_of(world)
    told: list[tuple[str, int]] = []
    entry._on_settled = lambda team, cost: told.append((team, cost))
    loser = record("q", ended_us=5, is_free=False, cost=3.0)
    winner = won()
    entry.started(loser, SECOND)
    entry.started(winner, FIRST)
    end = end_of(
        loser,
        winner,
        phases_us={"admission": 40, "first_content": 60, "streaming": 900},
        has_output=True,
    )
    found = await settled(world, entry, end)
    entry.settle(end)
    assert told == [("team", COST + 3)]
    assert (found.id, found.state, found.settled_micro) == ("gen", "estimated", COST + 3)
    assert (found.provider, found.model, found.reason) == ("p", "m", "")
    assert (found.ended_at_us, found.wall_us, found.ttft_us) == (NOW_US, 1000, 100)
    assert json.loads(found.phases)["admission"] == 40
    assert (found.is_usage_final, found.decision, found.saved_micro) == (True, "", 0)
    assert [one.ordinal for one in found.attempts] == [0, 1]


async def test_an_answer_without_content_has_no_time_to_it() -> None:
    attempt = won()
    found, _ = await one_attempt(attempt, end_of(attempt, has_output=False))
    assert found.ttft_us is None


async def test_without_an_attempt_it_is_void() -> None:
    world = World(budget_micro=10**9)
    entry = await entry_of(world)
    found = await settled(world, entry, end_of(usage=None))
    assert (found.state, found.settled_micro, found.attempts) == ("void", 0, ())
    assert [one.reserved_micro for one in world.store.database.periods.values()] == [0]


@pytest.mark.parametrize(
    ("experiment", "reasons", "finish"),
    [("e", {0: FinishReason.STOP}, "STOP"), ("", {0: FinishReason.STOP}, None), ("e", {}, None)],
)
async def test_what_was_decided_is_kept_and_of_experiments_how_it_finished(
    experiment: str, reasons: dict[int, FinishReason], finish: str | None
) -> None:
    attempt = won()
    decision = Decision(experiment=experiment, rule="r", saved_micro=9)
    found, _ = await one_attempt(
        attempt, end_of(attempt, decision=decision, finish_reasons=reasons)
    )
    assert found.saved_micro == 9
    told = json.loads(found.decision)
    assert (told["rule"], told.get("finish")) == ("r", finish)


async def test_a_store_that_is_away_at_the_end_leaves_the_row_to_a_sweep() -> None:
    world = World()
    entry = await entry_of(world)

    def settle(*_: object) -> int:
        raise StoreUnavailable("away")

    cast(Any, world.store).settle = settle
    with structlog.testing.capture_logs() as lines:
        entry.settle(end_of(usage=None))
    assert [(line["event"], line["id"]) for line in lines] == [("not_settled", "gen")]


@pytest.mark.parametrize("is_away", [True, False])
def test_nobody_waits_long_until_it_is_booked(is_away: bool) -> None:
    @on_virtual_time
    async def play() -> None:
        world = World()
        entry = await entry_of(world)

        async def committed(_: int) -> None:
            if is_away:
                raise StoreUnavailable("away")
            await asyncio.sleep(3600)

        cast(Any, world.store).committed = committed
        began_s = since_start_s()
        with structlog.testing.capture_logs() as lines:
            await entry.booked()
        took_s = since_start_s() - began_s
        assert took_s == pytest.approx(0.0 if is_away else BOOKED_WAIT_S)
        assert [line["event"] for line in lines] == ["end_not_booked_yet"]

    play()


# --- limits -----------------------------------------------------------------------------------


async def test_limits_are_corrected_by_what_was_used() -> None:
    world = World(limits=Limits(input_tpm=1000, output_tpm=1000))
    entry = await entry_of(world)
    state = entry.rate_state
    assert state is not None
    attempt = won()
    entry.started(attempt, FIRST)
    await settled(world, entry, end_of(attempt, usage=Usage(100, 20, 120)))
    asked = Asked("gen2", REQUEST, CATALOG, "chat", 2)
    left = (await world.admission.admit(asked)).entry
    assert left is not None
    assert left.rate_state is not None
    # 100 and 20 were used; then 2 and 100 (the limit of its answer) were taken.
    assert left.rate_state.remaining_tokens == 1000 - 20 - 100


async def test_a_providers_limits_are_corrected_by_each_attempts_own_count() -> None:
    world = World(providers={"p": Limits(output_tpm=1000), "q": Limits(output_tpm=1000)})
    entry = await entry_of(world)
    winner, leg, seen = won(), record("q", usage=Usage(9, 7, 16)), record("q", tokens_seen=5)
    seen.is_free = leg.is_free = False
    taken: list[tuple[str, int | None, int | None]] = []
    for attempt, target in ((winner, FIRST), (leg, SECOND), (seen, SECOND)):
        assert entry.started(attempt, target) is None
    for attempt, grant in entry._grants:

        def note(
            prompt: int | None, output: int | None, _: int, by: str = attempt.provider
        ) -> None:
            taken.append((by, prompt, output))

        entry._grants[entry._grants.index((attempt, grant))] = (
            attempt,
            cast(Any, type("Grant", (), {"settle": staticmethod(note)})),
        )
    entry.settle(end_of(winner, leg, seen))
    assert taken == [("p", 100, 20), ("q", 9, 7), ("q", 0, 5)]


# --- tiers ------------------------------------------------------------------------------------


TIERED = {
    "m": {
        "input": 1.0,
        "output": 2.0,
        "tiers": {"priority": {"input": 2.0, "output": 4.0}, "fast": {"input": 6.0, "output": 6.0}},
    }
}


@pytest.mark.parametrize(
    ("asked", "told", "cost"),
    [
        ("", "", COST),
        ("priority", "priority", 2 * COST),
        ("priority", "", 2 * COST),  # nothing was said, so it is as it was asked
        ("priority", "default", COST),  # it had no room
        ("", "priority", 2 * COST),  # asked for any
        ("fast", "standard", 6 * 120),  # two words for different things
    ],
)
async def test_the_tier_is_the_providers_to_say(asked: str, told: str, cost: int) -> None:
    world = World()
    prices = parse({"providers": {"p": {**ROW, "prices": TIERED}}}, {}).providers["p"].prices
    world.admission.prices = PriceSheet({"p": prices})
    entry = await entry_of(world)
    attempt = won()
    assert entry.started_for(attempt, FIRST, None, asked, 10) is None
    found = await settled(world, entry, end_of(attempt, service_tier=told))
    assert found.settled_micro == cost


async def test_what_a_loser_was_served_at_is_not_what_the_answer_says() -> None:
    world = World()
    prices = parse({"providers": {"p": {**ROW, "prices": TIERED}}}, {}).providers["p"].prices
    world.admission.prices = PriceSheet({"p": prices})
    entry = await entry_of(world)
    leg = record(ended_us=5, is_free=False, usage=USED, is_usage_final=True)
    entry.started_for(leg, FIRST, None, "", 10)
    found = await settled(world, entry, end_of(leg, service_tier="priority"))
    assert found.settled_micro == COST


# --- no books ---------------------------------------------------------------------------------


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.refused: list[tuple[RelayError, Refused]] = []
        self.changed: list[str] = []

    def __call__(self, error: RelayError, what: Refused) -> None:
        self.refused.append((error, what))

    def note_change(self, action: str, what: Refused, why: str) -> None:
        self.changed.append(action)


def unbooked(world: World, told: Told | None = None) -> NullLedger:
    """A ledger of the same key that keeps no books."""
    return NullLedger(
        world.gate,
        told,
        None if told is None else told.note_change,
        world.admission._tag_budgets,
    )


ASKED = Asked("gen", REQUEST, CATALOG, "chat", 2)
VISIT = Visit("gen", "team", "key", "p", "passthrough", "/f")


@pytest.mark.parametrize(
    "world", [lambda: World(budget_micro=5), lambda: World(limits=Limits(rpm=1))]
)
@pytest.mark.parametrize("has_teller", [True, False])
async def test_keys_whose_limits_nobody_would_hold_are_refused_everywhere(
    world: Callable[[], World], has_teller: bool
) -> None:
    told = Told() if has_teller else None
    ledger = unbooked(world(), told)
    for asking in (
        ledger.admit(ASKED),
        ledger.count(ASKED),
        ledger.enter("team", "key"),
        ledger.hand_through(VISIT),
    ):
        with pytest.raises(RelayError):
            await asking
    if told is not None:
        assert [(what.surface, what.key_id) for _, what in told.refused] == [
            ("chat", "key"),
            ("chat", "key"),
            ("session", "key"),
            ("passthrough", "key"),
        ]


async def test_budgets_of_tags_are_not_held_either() -> None:
    """Of what the key puts on all it does, and a visit goes with those too; a session has none."""
    ledger = unbooked(World(tag_budgets={"prod": 5}))
    for asking in (ledger.admit(ASKED), ledger.hand_through(VISIT)):
        with pytest.raises(RelayError):
            await asking
    await ledger.enter("team", "key")


async def test_keys_without_any_go_on_and_nothing_is_booked() -> None:
    told = Told()
    ledger = unbooked(World(), told)
    admitted = await ledger.admit(ASKED)
    assert (admitted.entry, admitted.route.alias) == (None, "fast")
    assert (await ledger.count(ASKED)).rate_state is None
    assert ledger.leg(ASKED, None).entry is None
    (await ledger.enter("team", "key"))()
    await ledger.hand_through(VISIT)
    assert (told.refused, told.changed) == ([], [])


@pytest.mark.parametrize("has_teller", [True, False])
async def test_hedges_that_a_key_may_not_have_are_left_out_and_told(has_teller: bool) -> None:
    told = Told() if has_teller else None
    admitted = await unbooked(World(scopes=Scopes(may_hedge=False)), told).admit(ASKED)
    assert admitted.request.policy.hedge.mode == "off"
    assert told is None or told.changed == ["hedge.denied"]


async def test_prices_of_an_hour_are_those_of_its_start() -> None:
    """In seconds since 1970, to the second."""
    world = World()
    entry = await entry_of(world)
    asked: list[float] = []
    real = world.admission.prices.price_of

    def price_of(provider: str, model: str, tier: str, at_s: float | None = None) -> Any:
        assert at_s is not None
        asked.append(at_s)
        return real(provider, model, tier, at_s)

    cast(Any, entry)._prices = SimpleNamespace(price_of=price_of)
    entry.started(record(), FIRST)
    assert asked == [NOW_US / 1e6]


@pytest.mark.parametrize(
    ("provider", "model", "is_of"),
    [("p", "m", True), ("p", "l", False), ("p", "n", False), ("o", "m", False), ("q", "m", False)],
)
def test_which_attempt_was_written_with_the_generation(
    provider: str, model: str, is_of: bool
) -> None:
    first = OpenedAttempt(0, provider, model, "primary", -1, 5)
    assert _is_of(first, record()) is is_of
    assert not _is_of(None, record())
