"""CPU of a request's grant and plan, with and without data zones, classes and a dearer tier.

    python -m bench.micro.zones

An alias of four candidates and two fallbacks, all learnt, with a hedge. `plain`: no zones anywhere.
`classes`: its names are of one class. `key`: a key with zones that leave four of the six; the
narrowed route is kept. `direct`: `provider/model` under such a key, which no route is kept for.
`escalates`: a dearer tier for each candidate. Taken in turns, the best of many rounds,
microseconds; beside it a bare `orjson.loads` of one token's event.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from bench.micro.codec import PAYLOAD
from relay.config import parse
from relay.content import GenerateRequest, Message, Policy, Role, TextPart
from relay.governance.gate import OpenGate
from relay.governance.grants import granted
from relay.governance.key_view import KeyView
from relay.governance.limits import KeyLimits
from relay.governance.scopes import Scopes
from relay.planner import Planner
from relay.routing.catalog import Catalog
from relay.target_state import TargetStates

ROUNDS: Final = 40
CALLS: Final = 200


class _OneKey(OpenGate):
    def __init__(self, zones: tuple[str, ...] | None) -> None:
        super().__init__()
        scopes = Scopes(zones=zones)
        self._view = KeyView("key", "team", "org", scopes, (), KeyLimits(), ())

    def view(self, key_id: str) -> KeyView:  # type: ignore[override]
        return self._view


def _catalog(*, is_zoned: bool, is_same: bool, escalates: bool) -> Catalog:
    prices = {"input": 1.0, "output": 5.0, "tiers": {"priority": {"input": 1.5, "output": 8.0}}}
    providers: dict[str, Any] = {}
    for number in range(6):
        row: dict[str, Any] = {
            "wire": "openai_chat",
            "base_url": f"https://p{number}.test/v1",
            "auth": "none",
            "prices": {"m": prices},
            "service_tiers": ["priority"],
        }
        if is_zoned:
            row["data_zone"] = "us" if number % 3 == 2 else "eu"
        if is_same:
            row["same_as"] = {"m": "one"}
        providers[f"p{number}"] = row
    listed = [{"provider": name, "model": "m"} for name in providers]
    hedge: dict[str, Any] = {"mode": "active"}
    if escalates:
        hedge["escalate"] = {"tier": "priority"}
    alias = {"candidates": listed[:4], "fallbacks": listed[4:], "hedge": hedge}
    return Catalog(parse({"providers": providers, "models": {"fast": alias}}))


def _case(
    *,
    zones: tuple[str, ...] | None = None,
    model: str = "fast",
    is_same: bool = False,
    escalates: bool = False,
) -> tuple[Callable[[], object], Callable[[], object]]:
    """The grant alone, and the plan after it."""
    catalog = _catalog(is_zoned=zones is not None, is_same=is_same, escalates=escalates)
    now_s = 1000.0
    planner = Planner(TargetStates(draw=lambda: 0.5), lambda: now_s, draw=lambda: 0.5)
    route = catalog.routes["fast"]
    for target in (*route.candidates, *route.fallbacks, *route.escalated.values()):
        state = planner.states.of(target, now_s)
        for number in range(200):
            state.latency.record(2.5 if number % 40 == 0 else 0.25, 0, 0, now_s)
        state.refresh(now_s)
    gate = _OneKey(zones)
    request = GenerateRequest(
        model=model,
        messages=(Message(Role.USER, (TextPart("Hello"),)),),
        policy=replace(Policy(), key_id="key", tenant="team"),
    )
    given = granted(gate, catalog, request)

    def grant() -> None:
        granted(gate, catalog, request)

    def plan() -> None:
        planner.plan(given.route, given.request, prompt_tokens=900, elapsed_s=0.0).withdrawn()

    return grant, plan


def measure() -> Mapping[str, float]:
    """Microseconds by case and part."""
    cases = {
        "plain": _case(),
        "classes": _case(is_same=True),
        "key": _case(zones=("eu",)),
        "escalates": _case(escalates=True),
        "plain, direct": _case(model="p0/m"),
        "key, direct": _case(zones=("eu",), model="p0/m"),
    }
    calls: dict[str, Callable[[], object]] = {"orjson.loads": lambda: orjson.loads(PAYLOAD)}
    for name, (grant, plan) in cases.items():
        calls[f"{name}: grant"], calls[f"{name}: plan"] = grant, plan
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            best[name] = min(best[name], timeit.timeit(call, number=CALLS) / CALLS * 1e6)
    return best


if __name__ == "__main__":
    for what, took_us in measure().items():
        print(f"{what:24} {took_us:8.2f} us")
