"""What guardrails take: microseconds of a request, and of a token of its answer.

    python -m bench.micro.guard_chain

A voice turn (a system prompt, ten turns, a question) is checked cold and again as the next turn of
the same conversation; an answer of 300 tokens goes through word by word. Best of several rounds.
`held` is how many characters were held back at most, `waits` how many tokens a first word waited.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from relay.config.guardrails import GuardrailsConfig
from relay.content import (
    ChoiceFinished,
    FinishReason,
    GenerateRequest,
    Message,
    Role,
    StreamEvent,
    TextDelta,
    TextPart,
    Tool,
)
from relay.decision import Decision
from relay.emulator.prose import to_tokens
from relay.guardrails.base import GuardScope
from relay.guardrails.build import chain_of
from relay.guardrails.chain import GuardChain
from relay.guardrails.moderation import Ask

ROUNDS: Final = 7
SCOPE: Final = GuardScope("team", "key", "fast", (), "converse")
TERMS: Final = [f"project {word}" for word in ("nightfall", "swordfish", "tuna", "halibut")]

CASES: Final[dict[str, dict[str, Any]]] = {
    "denied: 4 terms": {"kind": "denied", "terms": TERMS},
    "denied: 2,000 terms": {
        "kind": "denied",
        "terms": [*TERMS, *(f"term {at} of many" for at in range(1996))],
    },
    "patterns: one number": {"kind": "patterns", "patterns": {"customer": "KD-[0-9]{8}"}},
    "secrets": {"kind": "secrets"},
    "pii: email, card, iban": {"kind": "pii", "kinds": ["email", "card", "iban"]},
}
ALL: Final = [name for name in CASES if "2,000" not in name]

_WORDS: Final = (
    "I have looked at your booking for the twelfth of March and everything is in order. "
    "The train leaves at 9:42 from platform 7, and you change in Hanover. "
)
_ANSWER: Final = [TextDelta(token) for token in to_tokens(_WORDS * 12)][:300]
_SYSTEM: Final = "You are a helpful agent of a railway, and you answer in short sentences. " * 30


def _request(turns: int) -> GenerateRequest:
    messages = [Message(Role.SYSTEM, (TextPart(_SYSTEM),))]
    for turn in range(turns):
        role = Role.ASSISTANT if turn % 2 else Role.USER
        messages.append(Message(role, (TextPart(f"{turn}: {_WORDS}"),)))
    schema = b'{"type":"object","properties":{"from":{"type":"string","description":"a town"}}}'
    tools = (Tool("book", "Books a ticket.", schema),)
    return GenerateRequest(model="fast", messages=tuple(messages), tools=tools)


def main() -> None:
    """Print one line a case."""
    print(f"{'':28} {'first turn':>11} {'next turn':>11} {'a token':>9} {'first':>8} held waits")
    print(f"{'':28} {'us':>11} {'us':>11} {'us':>9} {'us':>8} chars tokens")
    for name in CASES:
        _case(name, [name])
    _case("denied, patterns, secrets, pii", ALL)


def _case(title: str, names: list[str]) -> None:
    rails = {f"r{at}": {"scan": CASES[name]} for at, name in enumerate(names)}
    config = GuardrailsConfig.model_validate({"rails": rails})

    def made() -> GuardChain:
        found = chain_of(config, _nobody)
        assert found is not None
        return found

    chain = made()
    cold = _best(lambda: _checked(made(), [_request(11)]))
    warm = _best(lambda: _checked(chain, [_request(11), _request(12)]))
    _best(lambda: _streamed(chain))  # the automaton works its steps out once
    token, first, held, waits = min(asyncio.run(_streamed(chain)) for _ in range(ROUNDS))
    print(
        f"{title:28} {cold[0]:>11.0f} {warm[-1]:>11.0f} {token:>9.2f} {first:>8.1f}"
        f" {held:>5} {waits:>5}"
    )


def _best(measured: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return min(asyncio.run(measured()) for _ in range(ROUNDS))


async def _checked(chain: GuardChain, requests: list[GenerateRequest]) -> list[float]:
    took_us = []
    for request in requests:
        began_s = time.perf_counter()
        await chain.check(request, SCOPE, Decision(), None)
        took_us.append((time.perf_counter() - began_s) * 1e6)
    return took_us


async def _streamed(chain: GuardChain) -> tuple[float, float, int, int]:
    decision = Decision()
    guard = chain.over(_request(1), SCOPE, decision, None)
    assert guard is not None
    waits = -1
    first_us = 0.0
    released: list[StreamEvent] = []
    began_s = time.perf_counter()
    for at, delta in enumerate(_ANSWER):
        released += await guard.feed((delta,))
        if waits < 0 and released:
            waits, first_us = at, (time.perf_counter() - began_s) * 1e6
    released += await guard.feed((ChoiceFinished(FinishReason.STOP, "stop"),))
    released += await guard.finish()
    took_us = (time.perf_counter() - began_s) * 1e6
    guard.close()
    return took_us / len(_ANSWER), first_us, decision.held_chars, waits


def _nobody(provider: str) -> Ask:
    raise NotImplementedError(provider)


if __name__ == "__main__":
    main()
