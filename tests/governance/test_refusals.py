"""What an admission decides against a request is in the audit log, in words that tell it apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from relay.config import parse
from relay.content import GenerateRequest, HedgeWish, Message, Policy, Role, Sampling, TextPart
from relay.errors import PermissionDenied, RelayError, Unauthenticated
from relay.governance.admission import Admission, AdmissionSettings
from relay.governance.budget_scopes import BudgetRow
from relay.governance.charges import ChargeBook
from relay.governance.gate import Identity
from relay.governance.key_view import KeyView
from relay.governance.ledger import Asked, NullLedger, Refused, Visit
from relay.governance.limit_desk import LimitDesk
from relay.governance.limits import KeyLimits, Limits
from relay.governance.price_sheet import PriceSheet
from relay.governance.refusals import TOLD_EVERY_US, Refusals
from relay.governance.scopes import Scopes
from relay.governance.visits import Visits
from relay.outcome import AttemptRecord, AttemptRole
from relay.routing.catalog import Catalog
from relay.store.memory_limits import MemoryLimits
from tests.fakes.memory_ledger import MemoryDatabase, MemoryLedger

NOW_US = 1_800_000_000_000_000
ROW = {"wire": "openai_chat", "base_url": "https://p.test/v1"}
CONFIG = parse(
    {
        "providers": {
            "p": {**ROW, "prices": {"m": {"input": 1.0, "output": 2.0}}},
            "q": {**ROW, "prices": {"m": {"input": 1.0, "output": 2.0}}},
        },
        "models": {
            "fast": {
                "candidates": [{"provider": "p", "model": "m"}, {"provider": "q", "model": "m"}],
                "hedge": {"mode": "active", "max_attempts": 2},
            },
            "unpriced": {"candidates": [{"provider": "p", "model": "of nobody"}]},
        },
    },
    {},
)
CATALOG = Catalog(CONFIG)
POLICY = Policy(tenant="team", key_id="key")
REQUEST = GenerateRequest(
    "fast",
    (Message(Role.USER, (TextPart("hello"),)),),
    sampling=Sampling(max_output_tokens=100),
    policy=POLICY,
)
ONE_MICRO = 1_500
"""More than one attempt of `REQUEST` can cost, and less than two."""


@dataclass
class Told:
    """A trail that keeps what it is told."""

    events: list[dict[str, Any]] = field(default_factory=list)

    def note(self, action: str, **more: Any) -> None:
        self.events.append({"action": action, **more})

    def learn(self, secrets: object) -> None:
        del secrets


class OneKey:
    """A gate of one key."""

    needs_keys = True
    is_ready = True

    def __init__(self, view: KeyView) -> None:
        self.key: KeyView | None = view

    def identify(self, bearer: str, names: Sequence[str] = (), peer: str = "") -> Identity:
        del bearer, names, peer
        return Identity("team", "key")

    def view(self, key_id: str) -> KeyView:
        if self.key is None:
            raise Unauthenticated("the key is not valid")
        return self.key


class World:
    def __init__(
        self,
        *,
        budget_micro: int | None = None,
        is_hard: bool = True,
        scopes: Scopes = Scopes(),  # noqa: B008 - it never changes
        limits: Limits = Limits(),  # noqa: B008
        tag_budgets: Mapping[str, int] | None = None,
        providers: Mapping[str, Limits] | None = None,
        settings: AdmissionSettings = AdmissionSettings(),  # noqa: B008
    ) -> None:
        self.told = Told()
        self.now_us = NOW_US
        budgets = () if budget_micro is None else (_budget("key", "key", budget_micro, is_hard),)
        view = KeyView("key", "team", "org", scopes, ("prod",), KeyLimits(limits), budgets)
        self.gate = OneKey(view)
        self.refusals = Refusals(self.told, self._now_us, {"key": "org"}.__getitem__)
        self.store = MemoryLedger(MemoryDatabase())
        desk = LimitDesk(MemoryLimits(), ChargeBook(providers=providers), self._now_us)

        def of_tags(organisation_id: str, tags: Any) -> tuple[BudgetRow, ...]:
            assert organisation_id == "org"
            given = tag_budgets or {}
            return tuple(_budget("tag", tag, given[tag], True) for tag in tags if tag in given)

        self.admission = Admission(
            store=self.store,
            instance_id="one",
            prices=PriceSheet({name: CONFIG.providers[name].prices for name in "pq"}),
            settings=settings,
            gate=self.gate,
            now_us=self._now_us,
            tag_budgets=of_tags,
            limits=desk,
            visits=Visits(
                store=self.store,
                instance_id="one",
                gate=self.gate,
                desk=desk,
                now_us=self._now_us,
                tag_budgets=of_tags,
            ),
            on_refused=self.refusals.tell,
            on_changed=self.refusals.tell_changed,
        )

    def _now_us(self) -> int:
        return self.now_us

    async def ask(self, request: GenerateRequest = REQUEST) -> Any:
        return await self.admission.admit(Asked("gen", request, CATALOG, "chat", 2))

    @property
    def only(self) -> dict[str, Any]:
        (event,) = self.told.events
        return event


def _budget(scope: str, scope_id: str, limit_micro: int, is_hard: bool) -> BudgetRow:
    name = f"{scope}-{scope_id}"
    return BudgetRow(name, scope, scope_id, "org", "total", "UTC", limit_micro, is_hard, (), False)


def with_policy(**changed: Any) -> GenerateRequest:
    return replace(REQUEST, policy=replace(POLICY, **changed))


UNLIMITED = replace(REQUEST, sampling=Sampling())


@pytest.mark.parametrize(
    ("world", "request_", "action", "why"),
    [
        (lambda: World(scopes=Scopes(models=("slow",))), REQUEST, "model.denied", "fast"),
        (
            lambda: World(scopes=Scopes(request_tags=())),
            with_policy(tags=("mine",)),
            "tag.denied",
            "mine",
        ),
        (lambda: World(scopes=Scopes(max_cost_micro=1)), REQUEST, "cost.denied", "may cost"),
        (lambda: World(budget_micro=1), REQUEST, "budget.refused", "key-key"),
        (
            lambda: World(tag_budgets={"prod": 1}),
            REQUEST,
            "budget.refused",
            "tag-prod",
        ),
        (
            lambda: World(budget_micro=ONE_MICRO),
            replace(REQUEST, model="unpriced"),
            "unpriced.refused",
            "no price",
        ),
        (
            lambda: World(budget_micro=ONE_MICRO, is_hard=False),
            replace(REQUEST, model="unpriced"),
            "unpriced.refused",
            "no price",
        ),
        (
            lambda: World(
                budget_micro=ONE_MICRO, settings=AdmissionSettings(sets_max_tokens=False)
            ),
            UNLIMITED,
            "budget.refused",
            "max_tokens",
        ),
        (lambda: World(limits=Limits(input_tpm=1)), REQUEST, "limit.reached", "input tokens"),
    ],
)
async def test_refusals_are_told_apart(
    world: Callable[[], World], request_: GenerateRequest, action: str, why: str
) -> None:
    made = world()
    with pytest.raises(RelayError) as refused:
        await made.ask(request_)
    told = made.only
    assert (told["action"], told["outcome"]) == (action, "denied")
    assert (told["actor"], told["organisation_id"]) == ("key:key", "org")
    assert told["subject"] == request_.model
    assert why in told["detail"]["why"] == refused.value.public_message


async def test_whose_a_revoked_key_was_is_told() -> None:
    world = World()
    world.gate.key = None
    with pytest.raises(Unauthenticated):
        await world.ask()
    assert (world.only["action"], world.only["organisation_id"]) == ("key.denied", "org")


async def test_what_is_the_callers_own_business_is_not_told() -> None:
    world = World()
    with pytest.raises(RelayError):
        await world.ask(replace(REQUEST, model="nothing"))
    await world.ask()
    assert world.told.events == []


@pytest.mark.parametrize(
    ("world", "action", "why"),
    [
        (lambda: World(scopes=Scopes(may_hedge=False)), "hedge.denied", "may not hedge"),
        (
            lambda: World(scopes=Scopes(max_cost_micro=ONE_MICRO)),
            "hedge.denied",
            "more than the key allows",
        ),
        (lambda: World(budget_micro=ONE_MICRO), "hedge.denied", "enough for one attempt"),
        (lambda: World(budget_micro=10**9), "tokens.capped", "is 4096"),
    ],
)
async def test_what_goes_on_otherwise_is_told_once_a_minute(
    world: Callable[[], World], action: str, why: str
) -> None:
    made = world()
    request = UNLIMITED if action == "tokens.capped" else REQUEST

    async def ask() -> None:
        admitted = await made.ask(request)
        if action == "hedge.denied":
            assert admitted.request.policy.hedge == HedgeWish(mode="off")
        else:
            assert admitted.request.sampling.max_output_tokens == 4096
        made.store.database.periods.clear()

    for _ in range(3):
        await ask()
    assert (made.only["action"], made.only["outcome"]) == (action, "done")
    assert why in made.only["detail"]["why"]
    made.now_us += TOLD_EVERY_US
    await ask()
    assert [event["detail"].get("others_since") for event in made.told.events] == [None, 2]


@pytest.mark.parametrize("may_hedge", [True, False])
async def test_a_request_without_hedges_is_denied_none(may_hedge: bool) -> None:
    world = World(scopes=Scopes(may_hedge=may_hedge))
    await world.ask(with_policy(hedge=HedgeWish(mode="off")))
    assert world.told.events == []


async def test_attempts_that_may_not_start_are_told() -> None:
    world = World(budget_micro=ONE_MICRO, providers={"q": Limits(rpm=1)})
    entry = (await world.ask()).entry
    first, second = CATALOG.resolve("fast").candidates
    assert entry.started(AttemptRecord("p", "m", 0, role=AttemptRole.PRIMARY), first) is None
    world.told.events.clear()
    waiting = entry.started(AttemptRecord("q", "m", 0, role=AttemptRole.FAILOVER), second)
    with pytest.raises(RelayError):
        await waiting
    assert (world.only["action"], world.only["detail"]["attempt"]) == ("budget.refused", "q/m")
    world.told.events.clear()
    with pytest.raises(RelayError):  # the row's one request a minute is gone
        entry.started(AttemptRecord("q", "m", 0, role=AttemptRole.FAILOVER), second)
    assert (world.only["action"], world.only["detail"]["attempt"]) == ("limit.reached", "q/m")


async def test_sessions_and_visits_that_are_refused_are_told() -> None:
    world = World(limits=Limits(sessions=1, rpm=1))
    await world.admission.enter("team", "key")
    with pytest.raises(RelayError):
        await world.admission.enter("team", "key")
    assert world.only["action"] == "limit.reached"
    assert "sessions" in world.only["detail"]["why"]
    world.told.events.clear()
    visit = Visit("gen", "team", "key", "p", "passthrough", "/files")
    await world.admission.hand_through(visit)
    with pytest.raises(RelayError):
        await world.admission.hand_through(visit)
    assert (world.only["action"], world.only["subject"]) == ("limit.reached", "p")


@pytest.mark.parametrize(
    "world", [lambda: World(budget_micro=10**9), lambda: World(tag_budgets={"prod": 10**9})]
)
async def test_nothing_is_handed_through_where_a_budget_applies(
    world: Callable[[], World],
) -> None:
    """One of the key, or of a tag that the key puts on all it does."""
    made = world()
    with pytest.raises(PermissionDenied, match="budget"):
        await made.admission.hand_through(Visit("gen", "team", "key", "p", "passthrough", "/f"))
    assert made.only["action"] == "unpriced.refused"


async def test_without_a_ledger_the_hedges_of_a_key_are_told_of_too() -> None:
    world = World(scopes=Scopes(may_hedge=False))
    ledger = NullLedger(world.gate, world.refusals.tell, world.refusals.tell_changed)
    for hedge in (HedgeWish(), HedgeWish(mode="off")):
        await ledger.admit(Asked("gen", with_policy(hedge=hedge), CATALOG, "chat", 2))
    assert world.only["action"] == "hedge.denied"


async def test_a_request_that_is_refused_in_the_end_did_not_go_on() -> None:
    world = World(budget_micro=1)
    with pytest.raises(RelayError):
        await world.ask(UNLIMITED)
    assert [event["action"] for event in world.told.events] == ["budget.refused"]


@pytest.mark.parametrize("surface", ["passthrough", "websocket"])
def test_what_may_not_be_handed_through_is_no_model(surface: str) -> None:
    world = World()
    what = Refused("req", surface, "team", "key", "/v1/files")
    world.refusals.tell(PermissionDenied("not for this key"), what)
    assert world.only["action"] == "passthrough.denied"


def test_how_many_keys_were_told_of_is_bounded() -> None:
    world = World()
    for number in range(5000):
        world.refusals.tell_changed("tokens.capped", Refused("", "", f"t{number}", "", ""), "why")
    assert len(world.told.events) == 5000
    assert len(world.refusals._told) <= 4096
