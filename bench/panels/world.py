"""What every arm meets: for each request and member, when it speaks, for how long, and whether it
is right.

Times to first token are published percentiles (`bench.replay.data`), prices as published, lengths
of answers drawn, errors of stated rates. A wrong answer is, with `SAME_ERROR`, the one that others
make too, else one of its own; so an agreement can be wrong.
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

from bench.replay import worlds
from bench.replay.world import Provider

RIGHT: Final = (0.90, 0.85, 0.92)
"""Of each member, in order: assumed, not measured."""
SAME_ERROR: Final = 0.5
PROMPT_TOKENS: Final = 800
OUTPUT_TOKENS: Final = (5, 60)
"""Of an answer, drawn evenly: short ones are what a panel is for."""
JUDGED: Final = 42
COMMON_MISTAKE: Final = 24


class Draw(NamedTuple):
    """One member's answer to one request."""

    ttft_s: float
    tokens: int
    tokens_per_s: float
    says: int
    """The number that its answer ends with; `JUDGED` is right."""

    @property
    def whole_s(self) -> float:
        """From the start to the last token."""
        return self.ttft_s + (self.tokens - 1) / self.tokens_per_s

    def seen_tokens(self, after_s: float) -> int:
        """That have come by then."""
        if after_s < self.ttft_s:
            return 0
        return min(self.tokens, 1 + int((after_s - self.ttft_s) * self.tokens_per_s))


class World(NamedTuple):
    """Read only."""

    providers: tuple[Provider, ...]
    requests: list[tuple[Draw, ...]]


def draw(requests: int, *, world: str = "voice", seed: int = 1) -> World:
    """Three members, so many requests; the same for each arm.

    Args:
        world: of `bench.replay.worlds`, whose providers they are.
    """
    rng = random.Random(f"{seed}/panel")
    providers = worlds.spec(world).providers[: len(RIGHT)]
    found = []
    for number in range(requests):
        members = []
        for index, (provider, right) in enumerate(zip(providers, RIGHT, strict=True)):
            ttft_s = provider.tail.at(rng.random())
            says = JUDGED
            if rng.random() >= right:
                is_common = rng.random() < SAME_ERROR
                says = COMMON_MISTAKE if is_common else 1000 + number * len(RIGHT) + index
            tokens = rng.randint(*OUTPUT_TOKENS)
            members.append(Draw(ttft_s, tokens, provider.tokens_per_s, says))
        found.append(tuple(members))
    return World(providers, found)


def cost_of(provider: Provider, output_tokens: int, prompt_tokens: int = PROMPT_TOKENS) -> float:
    """Micro-dollars."""
    price = provider.price
    return prompt_tokens * price.input + output_tokens * price.output


class Predicted(NamedTuple):
    """What an early stop comes to by the times alone, without a relay."""

    decided_s: float
    tokens: tuple[int, ...]
    """Of each member, until then."""


def predicted(members: tuple[Draw, ...], *, early_stop: bool) -> Predicted:
    """Of a majority of three by equal numbers: decided when two agree, or when all have spoken."""
    order = sorted(members, key=lambda one: one.whole_s)
    decided_s = order[-1].whole_s
    if early_stop and order[0].says == order[1].says:
        decided_s = order[1].whole_s
    return Predicted(decided_s, tuple(one.seen_tokens(decided_s) for one in members))
