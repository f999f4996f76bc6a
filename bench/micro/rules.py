"""What rules take of a request's way.

    python -m bench.micro.rules

A chooser is asked with a turn of a voice call, by rules of each kind; the worker's prices and
learnt latencies are the real ones, over a catalog of three aliases. Best of several rounds,
microseconds for one choice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from relay.config import parse
from relay.content import GenerateRequest, Message, Policy, Role, TextPart, Tool
from relay.governance.gate import OpenGate
from relay.policy.chooser import Chooser
from relay.routing.catalog import Catalog
from relay.surroundings import WorkerSurroundings
from relay.target_state import TargetStates

ROUNDS: Final = 150
CHOICES: Final = 200

_PRICES: Final = {model: {"input": price, "output": price} for price, model in enumerate("abc", 1)}
_DOCUMENT: Final[Mapping[str, Any]] = {
    "providers": {"p": {"wire": "openai_chat", "base_url": "https://p.test/v1", "prices": _PRICES}},
    "models": {
        name: {"candidates": [{"provider": "p", "model": model}], "tags": ["cheap"]}
        for name, model in (("fast", "a"), ("accurate", "b"), ("other", "c"))
    },
}
_MISSES: Final[Sequence[dict[str, Any]]] = [
    {"when": {"images": True}, "use": "accurate"},
    {"when": {"prompt_tokens": {"min": 5000}}, "use": "accurate"},
    {"when": {"tenant": "team_x"}, "use": "accurate"},
    {"when": {"json": True}, "use": "accurate"},
    {"when": {"labels": {"room": "a*"}}, "use": "accurate"},
    {"when": {"user": "bob*"}, "use": "accurate"},
    {"when": {"model": "gpt-*"}, "use": "accurate"},
    {"when": {"model": "auto"}, "use": "accurate"},
    {"when": {"tools": ["transfer"]}, "use": "accurate"},
    {"when": {"session": False, "surface": ["converse"]}, "use": "accurate"},
]
_BOTH: Final = {"from": ["fast", "accurate", "other"], "explore": 0}
CASES: Final[Mapping[str, Sequence[dict[str, Any]]]] = {
    "no rules": (),
    "ten rules, none of which matches": _MISSES,
    "ten rules, then one that gives another name": [*_MISSES, {"use": "other"}],
    "one rule: language of the turn": [{"when": {"language": "de"}, "use": "other"}],
    "one rule: hours of a time zone": [
        {"when": {"time": {"zone": "Europe/Berlin", "hours": "22:00-06:00"}}, "use": "other"}
    ],
    "one rule: cheapest of three": [{"pick": {**_BOTH, "by": "price"}}],
    "one rule: fastest of three": [{"pick": {**_BOTH, "by": "latency"}}],
    "one rule: cheapest of three below a p95": [
        {"pick": {**_BOTH, "by": "price", "max_p95_ms": 800}}
    ],
}


def turn(messages: int = 12) -> GenerateRequest:
    """Of a call, with so many messages."""
    text = TextPart("Could you find me a table for two in the city centre tonight at eight?")
    return GenerateRequest(
        "fast",
        tuple(Message(Role.USER if at % 2 else Role.ASSISTANT, (text,)) for at in range(messages)),
        tools=(Tool("book"), Tool("look_up")),
        policy=Policy(session_id="call-1", labels={"room": "7"}),
    )


def micros(rules: Sequence[dict[str, Any]]) -> float:
    """Of one choice."""
    config = parse({**_DOCUMENT, "policies": {"rules": [*rules]}}, {})
    catalog, chooser, request = Catalog(config), Chooser.of(config), turn()
    states, gate = TargetStates(), OpenGate()
    for alias in catalog.routes.values():
        state = states.of(alias.candidates[0], 0.0)
        for sample in range(200):
            state.latency.record(0.3 + sample / 1000, 0, 0, 0.0)
        state.refresh(0.0)
    best_s = float("inf")
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        for _ in range(CHOICES):
            around = WorkerSurroundings(
                catalog,
                states,
                time.monotonic,
                gate,
                key_id="",
                surface="generate",
                prompt_tokens=200,
            )
            chooser.choose(request, around)
        best_s = min(best_s, time.perf_counter() - began_s)
    return best_s / CHOICES * 1e6


def main() -> None:
    """Print a table for docs/rules.md."""
    print("| rules | us |\n|---|---|")
    for name, rules in CASES.items():
        print(f"| {name} | {micros(rules):.1f} |")


if __name__ == "__main__":
    main()
