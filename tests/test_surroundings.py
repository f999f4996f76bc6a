"""What rules are told of a worker: learnt latencies, prices of aliases, what a key may."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.compositions import catalog_of
from relay.config import parse
from relay.errors import PermissionDenied, UnknownModel
from relay.governance.directory import Directory
from relay.governance.gate import KeyGate, OpenGate
from relay.governance.grants import granted
from relay.governance.scopes import Scopes
from relay.policy.chooser import Chooser
from relay.routing.catalog import Catalog
from relay.surroundings import MIN_SAMPLES, WorkerSurroundings, price_of
from relay.target_state import TargetStates
from tests.fakes.keys import NOW_US, PEPPERS, key_row, organisation_row, team_row, whole
from tests.fakes.properties import examples
from tests.policy.rule_world import configured, request

ROW = {
    "wire": "openai_chat",
    "base_url": "http://127.0.0.1:1/v1",
    "prices": {"a": {"input": 1, "output": 9}, "b": {"input": 2, "output": 8}},
}


def alias(*models: str, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"provider": "p", "model": model} for model in models], **more}


CATALOG = Catalog(
    parse(
        {
            "providers": {"p": ROW},
            "models": {
                "one": alias("a"),
                "both": alias("a", "b"),
                "balanced": alias("a", "b", choose={"mode": "balanced"}),
                "unpriced": alias("a", "c"),
            },
        }
    )
)


class World:
    """A worker that has learnt of some targets."""

    def __init__(self, prompt_tokens: int = 0) -> None:
        self.states = TargetStates(draw=lambda: 0.5)
        self.around = WorkerSurroundings(
            CATALOG,
            self.states,
            lambda: 100.0,
            OpenGate(),
            key_id="",
            surface="generate",
            prompt_tokens=prompt_tokens,
        )

    def learn(self, model: str, ttft_s: float, times: int) -> None:
        target = CATALOG.resolve(f"p/{model}").candidates[0]
        state = self.states.of(target, 100.0)
        for _ in range(times):
            state.latency.record(ttft_s, 0, 0, 100.0)
        state.refresh(100.0)


def test_nothing_is_known_of_what_has_few_samples() -> None:
    world = World()
    assert world.around.latency_ms("one", 0.5) is None
    world.learn("a", 0.2, MIN_SAMPLES - 1)
    assert world.around.latency_ms("one", 0.5) is None
    world.learn("a", 0.2, 1)
    assert world.around.latency_ms("one", 0.5) is not None


def test_it_is_of_the_target_that_is_asked_first() -> None:
    world = World()
    world.learn("a", 0.4, 600)
    world.learn("b", 0.1, 600)
    for name, value_ms in (("one", 400), ("both", 400), ("balanced", 100), ("p/b", 100)):
        assert world.around.latency_ms(name, 0.5) == pytest.approx(value_ms, rel=0.05)
    assert world.around.latency_ms("none", 0.5) is None


def test_a_long_prompt_takes_longer() -> None:
    short, long = World(), World(prompt_tokens=50_000)
    for world in (short, long):
        world.learn("a", 0.4, 600)
    found = [world.around.latency_ms("one", 0.5) or 0 for world in (short, long)]
    assert found[1] > 2 * found[0]


def test_the_price_of_an_alias_is_that_of_its_dearest_candidate() -> None:
    assert price_of(CATALOG, "one") == (1, 9)
    assert price_of(CATALOG, "both") == (2, 9)
    assert price_of(CATALOG, "unpriced") is None
    assert price_of(CATALOG, "p/b") == (2, 8)
    assert price_of(CATALOG, "none") is None


def test_without_keys_everything_is_allowed() -> None:
    assert World().around.allowed("anything")


# --- with keys, as a worker puts it together ------------------------------------------------

NAMES = ("fast", "accurate", "other")
TAGGED = {"cheap": ("fast", "other"), "best": ("accurate",)}


def gate_of(scopes: Scopes) -> KeyGate:
    directory = Directory(PEPPERS, lambda: 1.0)
    row = key_row(scopes=scopes.to_json())
    directory.apply(whole(organisation_row(), team_row(), row), 1.0)
    return KeyGate(directory, lambda: 1.0, lambda: NOW_US)


scopes = st.builds(
    Scopes,
    models=st.lists(st.sampled_from((*NAMES, "auto")), min_size=1, unique=True).map(tuple),
    model_tags=st.sampled_from(((), ("best",), ("cheap",))),
)
rules = st.lists(
    st.sampled_from(
        (
            {"when": {"model": "auto"}, "use": "accurate"},
            {"when": {"model": "tag:cheap"}, "pick": {"from": ["accurate", "other"]}},
            {"when": {"tools": False}, "pick": {"tag": "cheap"}},
            {"set": {"max_output_tokens": 5, "tags": ["x"]}},
        )
    ),
    max_size=3,
)


@examples(60, full=2_000)
@given(scopes, rules, st.sampled_from(("tag:cheap", "tag:best", "tag:none", *NAMES, "auto")))
def test_a_limited_key_gets_what_it_asked_for_by_leave_or_nothing(
    limits: Scopes, documents: list[dict[str, Any]], asked: str
) -> None:
    config = configured(*documents)
    catalog, gate = catalog_of(config), gate_of(limits)
    wanted = request(model=asked)
    wanted = replace(wanted, policy=replace(wanted.policy, tenant="team_1", key_id="key_1"))
    around = WorkerSurroundings(
        catalog,
        TargetStates(),
        lambda: 0.0,
        gate,
        key_id="key_1",
        surface="generate",
        prompt_tokens=9,
    )
    chosen = Chooser.of(config, lambda: 0.999).choose(wanted, around).request
    may = {name for name in NAMES if name in limits.models}
    may |= {name for tag in limits.model_tags for name in TAGGED[tag]}
    try:
        route = granted(gate, catalog, chosen).route
    except (PermissionDenied, UnknownModel):
        own = set(TAGGED.get(asked.removeprefix("tag:"), ())) & may
        picks = [rule for rule in documents if "pick" in rule]
        assert asked not in may, "what it may ask for is answered"
        assert not own or picks, "only a pick among others leaves a tag without an answer"
        return
    if asked.startswith("tag:"):
        assert route.alias in may
    else:
        assert asked in may or (asked == "auto" and "auto" in limits.models)
