"""What an admission puts aside, lets go on otherwise, writes down, and gives back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from relay.content import (
    EmbeddingOptions,
    GenerateRequest,
    HedgeWish,
    Message,
    Policy,
    Role,
    Sampling,
    TextPart,
)
from relay.errors import BudgetExceeded, LimitReached, PermissionDenied, RelayError, StoreDown
from relay.governance.admission import (
    EXPECTED_OUTPUT_TOKENS,
    LONGEST_US,
    AdmissionSettings,
    _bound_micro,
    _expected_output,
    _tier,
    _unhedged,
)
from relay.governance.bounds import Bound, bound
from relay.governance.entry import Entry
from relay.governance.ledger import Asked, Visit
from relay.governance.limits import Limits
from relay.governance.money import dollars
from relay.governance.price_sheet import PriceSheet
from relay.governance.scopes import Scopes
from relay.routing.target import Target
from relay.store.base import (
    BudgetSpent,
    Hold,
    OpenedGeneration,
    SettledGeneration,
    StoreUnavailable,
    Ticket,
)
from tests.governance.test_refusals import (
    CATALOG,
    CONFIG,
    NOW_US,
    POLICY,
    REQUEST,
    UNLIMITED,
    World,
    with_policy,
)

ONE = bound(REQUEST, 0).prompt_tokens + 2 * 100
"""What one attempt of `REQUEST` can cost, in micro-dollars: $1 in and $2 out, a million."""


async def opened(world: World, request: GenerateRequest = REQUEST) -> OpenedGeneration:
    """As it stands in the books."""
    await world.ask(request)
    await asyncio.sleep(0)
    (row,) = world.store.database.generations.values()
    return row.opened


def reserved(world: World) -> int:
    (row,) = world.store.database.generations.values()
    return row.reserved_micro


# --- what is put aside ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cap_micro", "aside", "hedge"),
    [(2 * ONE, 2 * ONE, "auto"), (2 * ONE - 1, ONE, "off"), (ONE, ONE, "off")],
)
async def test_both_attempts_are_put_aside_or_one_goes_alone(
    cap_micro: int, aside: int, hedge: str
) -> None:
    world = World(budget_micro=cap_micro)
    admitted = await world.ask()
    assert reserved(world) == aside
    assert admitted.request.policy.hedge.mode == hedge


async def test_less_than_one_attempt_is_refused_with_what_is_left_and_what_it_may_cost() -> None:
    world = World(budget_micro=ONE - 1)
    with pytest.raises(BudgetExceeded) as refused:
        await world.ask()
    assert f"has ${dollars(ONE - 1)} left" in refused.value.public_message
    assert refused.value.public_message.endswith(f"may cost ${dollars(ONE)}")
    assert refused.value.metadata == {"budget": "key-key"}


@pytest.mark.parametrize(
    ("most_micro", "goes", "hedge"),
    [(2 * ONE, True, "auto"), (2 * ONE - 1, True, "off"), (ONE, True, "off"), (ONE - 1, False, "")],
)
async def test_what_a_key_allows_for_one_request(most_micro: int, goes: bool, hedge: str) -> None:
    world = World(scopes=Scopes(max_cost_micro=most_micro))
    if not goes:
        with pytest.raises(PermissionDenied) as refused:
            await world.ask()
        assert refused.value.metadata == {"field": "max_tokens"}
        assert not world.store.database.generations
        return
    admitted = await world.ask()
    assert admitted.request.policy.hedge.mode == hedge
    assert isinstance(admitted.entry, Entry)
    assert admitted.entry.is_bounded


async def test_without_budgets_and_limits_nothing_is_bounded() -> None:
    world = World()
    admitted = await world.ask(UNLIMITED)
    assert admitted.request.sampling.max_output_tokens is None
    assert not cast(Entry, admitted.entry).is_bounded
    await asyncio.sleep(0)
    assert reserved(world) == 0
    assert world.told.events == []


async def test_soft_budgets_count_and_limit_no_answer() -> None:
    world = World(budget_micro=1, is_hard=False)
    admitted = await world.ask(UNLIMITED)
    assert admitted.request.sampling.max_output_tokens is None
    assert admitted.request.policy.hedge.mode == "auto"
    assert (await world_holds(world))[0].cap_micro is None


async def world_holds(world: World) -> tuple[Hold, ...]:
    (row,) = world.store.database.generations.values()
    return row.opened.holds


async def test_budgets_of_tags_count_beside_those_of_the_key() -> None:
    world = World(budget_micro=10**9, tag_budgets={"prod": 10**9})
    assert [hold.budget_id for hold in (await opened(world)).holds] == ["key-key", "tag-prod"]


async def test_a_limit_that_was_given_stays_and_vectors_need_none() -> None:
    world = World(budget_micro=10**9, settings=AdmissionSettings(default_max_tokens=7))
    assert (await world.ask()).request.sampling.max_output_tokens == 100
    assert (await world.ask(UNLIMITED)).request.sampling.max_output_tokens == 7
    vectors = replace(UNLIMITED, messages=(), embedding=EmbeddingOptions(texts=("a",)))
    assert (await world.ask(vectors)).request.sampling.max_output_tokens is None


async def test_what_was_refused_for_a_budget_gives_its_limits_back() -> None:
    """Two tries of one request a minute: the first was never made."""
    world = World(budget_micro=ONE - 1, limits=Limits(rpm=1))
    for _ in range(2):
        with pytest.raises(BudgetExceeded):
            await world.ask()
    free = World(budget_micro=10**9, limits=Limits(rpm=1))
    await free.ask()
    with pytest.raises(LimitReached):
        await free.ask()


# --- what is written down ---------------------------------------------------------------------


async def test_the_row_says_whose_it_is_and_what_of() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    world = World()
    row = await opened(
        world,
        with_policy(labels={"call": "7"}, session_id="s", turn_id="t", traceparent=trace, tags=()),
    )
    assert (row.instance_id, row.organisation_id, row.team_id, row.key_id) == (
        "one",
        "org",
        "team",
        "key",
    )
    assert (row.alias, row.surface, row.session_id, row.turn_id) == ("fast", "chat", "s", "t")
    assert row.tags == '["prod"]', "the key's own"
    assert row.labels == '{"call":"7"}'
    assert row.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert row.admitted_at_us == NOW_US
    assert row.lease_until_us == NOW_US + LONGEST_US
    assert (row.holds, row.first) == ((), None)


async def test_without_keys_the_row_has_the_bearers_name_and_no_tags() -> None:
    world = World()
    operators = world.admission.for_operator()
    await operators.admit(Asked("gen", with_policy(key_id=""), CATALOG, "chat", 2))
    await asyncio.sleep(0)
    (row,) = world.store.database.generations.values()
    assert (row.opened.organisation_id, row.opened.team_id, row.opened.key_id) == ("", "team", "")
    assert (row.opened.tags, row.opened.labels, row.opened.trace_id) == ("[]", "{}", "")


async def test_the_first_attempt_is_noted_with_it_where_the_store_can() -> None:
    world = World()
    world.store.notes_first = True
    first = (await opened(world)).first
    assert first is not None
    assert (first.ordinal, first.provider, first.model, first.role) == (0, "p", "m", "primary")
    assert first.started_us == -1, "it has not started"
    # Of what is not put aside the prompt counts by its estimate, four bytes a token.
    assert first.upper_micro == 2 * 4 + 2 * 100


async def test_operators_have_no_limits_and_no_budgets_and_the_store_as_it_is() -> None:
    world = World(budget_micro=1, limits=Limits(rpm=1))
    operators = world.admission.for_operator()
    asked = Asked("gen", with_policy(key_id=""), CATALOG, "chat", 2)
    for _ in range(3):
        admitted = await operators.admit(asked)
        assert admitted.request.policy.hedge.mode == "auto"
    world.admission.is_open = False
    with pytest.raises(StoreDown):
        await world.admission.for_operator().admit(asked)


# --- the store away ---------------------------------------------------------------------------


class Failing:
    """A store whose reserving ends so."""

    notes_first = False

    def __init__(self, *, reserve: BaseException | None = None, settle: bool = True) -> None:
        self.reserve_error = reserve
        self.can_settle = settle
        self.settled: list[tuple[SettledGeneration, tuple[Hold, ...]]] = []

    async def reserve(self, opened: OpenedGeneration, amounts: Sequence[int]) -> int:
        del opened
        await asyncio.sleep(0)
        if self.reserve_error is not None:
            raise self.reserve_error
        return amounts[0]

    def open(self, opened: OpenedGeneration) -> Ticket:
        del opened
        raise StoreUnavailable("away")

    def settle(self, settled: SettledGeneration, holds: Sequence[Hold]) -> Ticket:
        if not self.can_settle:
            raise StoreUnavailable("away")
        self.settled.append((settled, tuple(holds)))
        return 1


def over(world: World, store: Failing) -> World:
    world.admission._store = cast(Any, store)
    return world


@pytest.mark.parametrize("can_settle", [True, False])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (StoreUnavailable("away"), StoreDown),
        (asyncio.CancelledError(), asyncio.CancelledError),
        (RuntimeError("a bug"), RuntimeError),
    ],
)
async def test_what_may_be_written_and_was_not_answered_is_given_back(
    error: BaseException, raised: type[BaseException], can_settle: bool
) -> None:
    store = Failing(reserve=error, settle=can_settle)
    world = over(World(budget_micro=10**9, limits=Limits(rpm=1)), store)
    for _ in range(2):  # the limit's only request was given back too
        with pytest.raises(raised):
            await world.ask()
    if can_settle:
        settled, holds = store.settled[0]
        assert (settled.id, settled.state, settled.settled_micro) == ("gen", "void", 0)
        assert (settled.ended_at_us, settled.attempts, settled.wall_us) == (NOW_US, (), 0)
        assert [hold.budget_id for hold in holds] == ["key-key"]


async def test_what_is_spent_was_never_written_and_nothing_is_given_back() -> None:
    hold = Hold("key-key", 0, 5)
    store = Failing(reserve=BudgetSpent(hold, 3))
    with pytest.raises(BudgetExceeded, match=r"\$0\.000003 left"):
        await over(World(budget_micro=10**9), store).ask()
    assert store.settled == []


async def test_without_a_budget_nobody_waits_and_a_store_that_is_away_refuses() -> None:
    world = over(World(limits=Limits(rpm=1)), Failing())
    for _ in range(2):
        with pytest.raises(StoreDown) as refused:
            await world.ask()
        assert refused.value.retry_after_s == 1.0


@pytest.mark.parametrize("what", ["admit", "hand_through"])
async def test_before_the_store_has_begun_nothing_is_admitted_and_that_is_told(what: str) -> None:
    world = World()
    told: list[RelayError] = []
    world.admission._on_refused = lambda error, _: told.append(error)
    world.admission.is_open = False
    visit = Visit("gen", "team", "key", "p", "passthrough", "/f")
    asking = world.ask() if what == "admit" else world.admission.hand_through(visit)
    with pytest.raises(StoreDown):
        await asking
    assert len(told) == 1
    world.admission.is_open = True
    await world.ask()


# --- counting, sessions, legs -----------------------------------------------------------------


async def test_counting_tokens_is_a_request_of_the_limits_by_the_name_that_was_asked() -> None:
    world = World(limits=Limits(rpm=2))
    asked = Asked("gen", REQUEST, CATALOG, "chat", 2)
    counted = await world.admission.count(asked)
    assert counted.request.policy.tags == ("prod",)
    assert counted.route.alias == "fast"
    assert counted.rate_state is not None
    await world.admission.count(asked)
    with pytest.raises(LimitReached):
        await world.admission.count(asked)
    assert world.only["action"] == "limit.reached"
    assert (await world.admission.for_operator().count(asked)).rate_state is None


async def test_without_visits_sessions_are_nobodys_and_nothing_is_held() -> None:
    operators = World(limits=Limits(sessions=1)).admission.for_operator()
    for _ in range(3):
        await operators.enter("team", "key")
    visit = Visit("gen", "team", "key", "p", "passthrough", "/f")
    assert await operators.hand_through(visit) is None


async def test_legs_are_booked_with_their_generation_and_limited_where_it_is() -> None:
    world = World(budget_micro=10**9)
    parent = (await world.ask()).entry
    asked = Asked("gen", UNLIMITED, CATALOG, "chat", 2)
    leg = world.admission.leg(asked, parent)
    assert leg.entry is not None
    assert leg.request.sampling.max_output_tokens == 4096
    free = World()
    unbounded = free.admission.leg(asked, (await free.ask()).entry)
    assert unbounded.entry is not None
    assert unbounded.request.sampling.max_output_tokens is None
    assert world.admission.leg(asked, None).entry is None


# --- prices and tiers -------------------------------------------------------------------------


def test_what_an_answer_is_expected_to_be_for_the_limits() -> None:
    expected = EXPECTED_OUTPUT_TOKENS
    assert _expected_output(UNLIMITED) == expected
    for most in (expected - 1, expected, expected + 1):
        request = replace(REQUEST, sampling=Sampling(max_output_tokens=most))
        assert _expected_output(request) == min(most, expected)
    assert _expected_output(replace(REQUEST, embedding=EmbeddingOptions(texts=("a",)))) == 0


def target_of(wire: str) -> Target:
    target = CATALOG.resolve("fast").candidates[0]
    return replace(target, endpoint=replace(target.endpoint, wire=wire))


@pytest.mark.parametrize(
    ("wire", "extra_wire", "speed", "tier"),
    [
        ("anthropic_messages", "anthropic_messages", "fast", "fast"),
        ("anthropic_messages", "anthropic_messages", "standard", ""),
        ("openai_chat", "openai_chat", "fast", ""),
    ],
)
def test_a_speed_that_was_asked_for_is_a_tier_of_its_price(
    wire: str, extra_wire: str, speed: str, tier: str
) -> None:
    request = replace(REQUEST, extra={"speed": speed}, extra_wire=extra_wire)
    assert _tier(request, target_of(wire)) == tier


def test_bounds_are_in_the_targets_price_and_unknown_without_one() -> None:
    prices = PriceSheet({"p": CONFIG.providers["p"].prices})
    most = Bound(1_000, 500, frozenset())
    first, second = CATALOG.resolve("fast").candidates
    assert _bound_micro(prices, most, lambda _: "", first) == 1_000 + 2 * 500
    assert _bound_micro(prices, most, lambda _: "", second) is None


def test_hedges_that_were_off_stay_as_they_are() -> None:
    off = replace(REQUEST, policy=replace(POLICY, hedge=HedgeWish(mode="off")))
    assert _unhedged(off) is off
    assert _unhedged(REQUEST).policy.hedge == HedgeWish(mode="off")
    assert _unhedged(REQUEST).policy.tenant == REQUEST.policy.tenant
    racing = replace(REQUEST, policy=replace(POLICY, hedge=HedgeWish(mode="race")))
    assert _unhedged(racing).policy.hedge == HedgeWish(mode="off")


def test_the_request_of_these_tests_has_the_price_that_they_reckon_with() -> None:
    plain = GenerateRequest("fast", (Message(Role.USER, (TextPart("hello"),)),), policy=Policy())
    assert bound(plain, 100) == (1024 + 8 + 5, 100, frozenset())
    assert ONE == 1037 + 200


@pytest.mark.parametrize("name", ["models", "Models"])
async def test_where_a_budget_of_a_tag_applies_no_other_models_may_be_named(name: str) -> None:
    """Their cost is nobody's bound."""
    request = replace(REQUEST, extra={name: ["dear"]}, extra_wire="openai_chat")
    await World().ask(request)
    with pytest.raises(PermissionDenied, match="models"):
        await World(tag_budgets={"prod": 10**9}).ask(request)


@pytest.mark.parametrize(("most_micro", "goes"), [(ONE, True), (ONE - 1, False)])
async def test_what_a_key_allows_for_one_request_also_where_it_asks_for_no_hedge(
    most_micro: int, goes: bool
) -> None:
    world = World(scopes=Scopes(max_cost_micro=most_micro))
    asking = world.ask(with_policy(hedge=HedgeWish(mode="off")))
    if goes:
        assert (await asking).request.policy.hedge.mode == "off"
    else:
        with pytest.raises(PermissionDenied):
            await asking
    assert [event["action"] for event in world.told.events] == ([] if goes else ["cost.denied"])


async def test_tokens_are_counted_for_the_model_by_the_name_it_was_asked_by() -> None:
    world = World()
    desk = world.admission._limits
    assert desk is not None
    asked: list[str] = []

    async def request(_: object, model: str) -> None:
        asked.append(model)

    cast(Any, desk).request = request
    for as_ in ("", "nick"):
        request_ = replace(REQUEST, asked_as=as_)
        await world.admission.count(Asked("gen", request_, CATALOG, "chat", 2))
    assert asked == ["fast", "nick"]
