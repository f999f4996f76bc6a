"""What every arm of a replay meets: providers, arrivals, prompts, draws, trouble.

A world is drawn once from a seed; the time that provider `p` takes for request `i` does not depend
on who asks it or when, so differences between arms are those of the arms (common random numbers).
Trouble (brown-out, outage) hits stretches of requests, so it too is the same in each arm.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from bench.replay import data
from bench.replay.data import Tail

SPEECH_TOKENS: Final = (6, 18)
"""Tokens of an answer's first sentence, drawn evenly: what a voice needs before it speaks."""
TOKENS_PER_S: Final = 80.0
"""At which providers write, unless their row says otherwise."""

TRACE_RATE: Final = 5.9
"""Requests a second of the chat trace."""

SESSION_TURNS: Final = 20
_SESSION_SYSTEM_TOKENS: Final = 1500
_SESSION_TURN_TOKENS: Final = (60, 180)
_SESSION_GAP_S: Final = (6.0, 14.0)
_SESSION_OUTPUT: Final = (20, 100)
CACHE_TTL_S: Final = 300.0


class Price(NamedTuple):
    """Dollars per million tokens."""

    input: float
    cached_input: float
    output: float


EQUAL: Final = Price(1.0, 0.1, 5.0)


@dataclass(frozen=True, slots=True)
class Provider:
    """One candidate."""

    row: str
    """Of the configuration: what fails together."""
    model: str
    tail: Tail
    price: Price = EQUAL
    tokens_per_s: float = TOKENS_PER_S
    same: str = ""
    """Class of names that are one model; empty for none."""
    billing: Literal["used_tokens", "full"] = "used_tokens"
    """What an answer costs that is left."""
    tier: str = ""
    """It is no candidate, but the dearer tier of the candidate with this row and model."""

    @property
    def name(self) -> str:
        """As the relay calls it."""
        return f"{self.place}#{self.tier}" if self.tier else self.place

    def label(self, among: Sequence[Provider]) -> str:
        """As short as it can be told from the others."""
        is_alone = sum(one.model == self.model for one in among) == 1
        return self.model if is_alone else self.name

    @property
    def place(self) -> str:
        """Where its prompt cache is."""
        return f"{self.row}/{self.model}"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A stretch of requests for which one provider (None: each) is ill."""

    provider: int | None
    first: int
    count: int
    factor: float = 1.0
    """Of the time to first token."""
    refuses: bool = False
    """It cannot be connected to; infinite `factor`: it is connected to and says nothing."""

    @property
    def end(self) -> int:
        """The first request after it."""
        return self.first + self.count


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """How a world is drawn."""

    name: str
    providers: tuple[Provider, ...]
    rho: float = 0.0
    """Correlation of the providers' times for one request (Gaussian copula)."""
    shares_again: bool = False
    """A second try at the same provider has the same correlation with the first; else none."""
    lag1: float = 0.0
    """Of each provider's times for consecutive requests (the same): slow episodes."""
    prompts: str = "chat"
    """chat: sizes of the Azure trace, of no influence on times (percentiles hold a mix already);
    cold: times grow with the prompt; voice: 20-turn sessions with warm prefixes; poisson: arrivals
    at random, all of one size, for what needs no data."""
    trouble: Callable[[int], tuple[Trouble, ...]] = lambda requests: ()
    rate: float = 1.0
    """Arrivals, times that of the trace (5.9/s)."""


@dataclass(slots=True)
class World:
    """The draws of one spec; read only."""

    spec: WorldSpec
    requests: int
    arrival_s: array[float]
    prompt: array[int]
    output: array[int]
    speech: array[int]
    session: list[str]
    """Empty for single calls."""
    base_s: list[array[float]]
    """By provider and request: with nothing in the prompt that takes time."""
    again_s: list[array[float]]
    """Of a second attempt at the same provider for the same request."""
    slope: list[float]
    """By provider: relative growth per 1,000 uncached prompt tokens."""
    trouble: tuple[Trouble, ...] = ()
    ill: dict[int, list[tuple[int | None, float, bool]]] = field(default_factory=dict)
    """By request: `(provider, factor, refuses)`."""

    def ttft_s(self, provider: int, request: int, cached_tokens: int, attempt: int = 0) -> float:
        """How long this attempt takes; infinite if nothing would ever come, negative if it is
        refused."""
        value_s = (self.base_s if attempt == 0 else self.again_s)[provider][request]
        slope = self.slope[provider]
        if slope:
            value_s *= 1.0 + slope * max(0, self.prompt[request] - cached_tokens) / 1000.0
        if request in self.ill:
            for who, factor, refuses in self.ill[request]:
                if who is None or who == provider:
                    if refuses:
                        return -1.0
                    value_s *= factor
        return value_s

    def speech_s(self, provider: int, request: int) -> float:
        """From the first token to the end of the first sentence."""
        return self.speech[request] / self.spec.providers[provider].tokens_per_s


def draw(spec: WorldSpec, requests: int, seed: int = 1) -> World:
    """Draw a world of so many requests."""
    rng = random.Random(f"{seed}/arrivals/{spec.prompts}")
    if spec.prompts == "voice":
        arrival, prompt, output, session = _voice(requests, spec.rate, rng)
    elif spec.prompts == "poisson":
        arrival, prompt, output = _poisson(requests, spec.rate, rng)
        session = []
    else:
        arrival, prompt, output = _chat(requests, spec.rate)
        session = []
    speech = array("l", [rng.randint(*SPEECH_TOKENS) for _ in range(requests)])
    trouble = spec.trouble(requests)
    ill: dict[int, list[tuple[int | None, float, bool]]] = {}
    for row in trouble:
        for index in range(row.first, min(requests, row.end)):
            ill.setdefault(index, []).append((row.provider, row.factor, row.refuses))
    slopes = [0.0] * len(spec.providers)
    if spec.prompts in ("cold", "voice"):
        per_1k_s = data.ms_per_1k_tokens() / 1e3
        slopes = [per_1k_s / provider.tail.at(0.5) for provider in spec.providers]
    return World(
        spec=spec,
        requests=requests,
        arrival_s=arrival,
        prompt=prompt,
        output=output,
        speech=speech,
        session=session,
        base_s=_draws(spec, requests, f"{seed}/first", seed if spec.shares_again else None),
        again_s=_draws(spec, requests, f"{seed}/again", seed if spec.shares_again else None),
        slope=slopes,
        trouble=trouble,
        ill=ill,
    )


def _draws(
    spec: WorldSpec, requests: int, seed: str, common_seed: object = None
) -> list[array[float]]:
    """Times by provider and request.

    Args:
        common_seed: of what providers share, if that is to be the same in other draws.
    """
    if not spec.rho and not spec.lag1:
        columns = []
        for number, provider in enumerate(spec.providers):
            uniform, at = random.Random(f"{seed}/{number}").random, provider.tail.at
            columns.append(array("d", [at(uniform()) for _ in range(requests)]))
        return columns
    shared_by = seed if common_seed is None else f"{common_seed}/both"
    together = random.Random(f"{shared_by}/together").gauss
    common = [together(0.0, 1.0) for _ in range(requests)]
    shared, own = math.sqrt(spec.rho), math.sqrt(1.0 - spec.rho)
    keeps, fresh = spec.lag1, math.sqrt(1.0 - spec.lag1**2)
    columns = []
    for number, provider in enumerate(spec.providers):
        gauss, at = random.Random(f"{seed}/{number}").gauss, provider.tail.at
        column = array("d", bytes(8 * requests))
        state = gauss(0.0, 1.0)
        for index in range(requests):
            state = keeps * state + fresh * gauss(0.0, 1.0)
            z = shared * common[index] + own * state
            share = 0.5 * math.erfc(-z / math.sqrt(2.0))
            column[index] = at(min(share, 1.0 - 1e-12))
        columns.append(column)
    return columns


def _chat(requests: int, rate: float) -> tuple[array[float], array[int], array[int]]:
    """The trace over and over."""
    trace = data.chat_trace()
    length_s = trace[-1][0] + 1.0
    arrival, prompt, output = array("d"), array("l"), array("l")
    for index in range(requests):
        at_s, tokens_in, tokens_out = trace[index % len(trace)]
        arrival.append((index // len(trace) * length_s + at_s) / rate)
        prompt.append(tokens_in)
        output.append(tokens_out)
    return arrival, prompt, output


def _poisson(
    requests: int, rate: float, rng: random.Random
) -> tuple[array[float], array[int], array[int]]:
    arrival, at_s = array("d"), 0.0
    for _ in range(requests):
        arrival.append(at_s)
        at_s += rng.expovariate(TRACE_RATE * rate)
    return arrival, array("l", [1000]) * requests, array("l", [100]) * requests


def _voice(
    requests: int, rate: float, rng: random.Random
) -> tuple[array[float], array[int], array[int], list[str]]:
    """Sessions of 20 turns whose prompts grow, as many beside each other as make 5.9 turns/s."""
    turns: list[tuple[float, int, int, str]] = []
    began_s = 0.0
    sessions = -(-requests // SESSION_TURNS)
    for number in range(sessions):
        at_s, tokens = began_s, _SESSION_SYSTEM_TOKENS
        for _ in range(SESSION_TURNS):
            tokens += rng.randint(*_SESSION_TURN_TOKENS)
            turns.append((at_s, tokens, rng.randint(*_SESSION_OUTPUT), f"s{number}"))
            at_s += rng.uniform(*_SESSION_GAP_S)
        began_s += rng.expovariate(1.0) * SESSION_TURNS / (TRACE_RATE * rate)
    turns.sort()
    del turns[requests:]
    return (
        array("d", [turn[0] for turn in turns]),
        array("l", [turn[1] for turn in turns]),
        array("l", [turn[2] for turn in turns]),
        [turn[3] for turn in turns],
    )
