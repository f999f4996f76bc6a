"""What rules are told of a worker: learnt latencies, prices of aliases, what a key may."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config import parse
from relay.governance.gate import OpenGate
from relay.routing.catalog import Catalog
from relay.surroundings import MIN_SAMPLES, WorkerSurroundings, price_of
from relay.target_state import TargetStates

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
