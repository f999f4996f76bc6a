"""What a generation asks of the caches: the exact one, then the one by meaning.

    in memory            hit
    is being asked       wait for it: `shared`; or take over, where who asked gave up; or, where it
                         takes too long, ask alone
    else ask, leading:   Redis -> hit, by meaning -> `semantic`, else a provider -> `miss`

Whoever looks into Redis or by meaning leads already, so that a hundred equal requests look once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from relay.answer import Answer
from relay.cache.base import CacheScope
from relay.cache.exact import ExactCache
from relay.cache.near import Near, NearLook
from relay.cache.recording import PriceOf, RecordingAnswer
from relay.cache.replay import StoredAnswer
from relay.cache.single_flight import Follower, Landed, Leader
from relay.cache.stored import Given, Stored
from relay.cache.turn import HitTurn, MissTurn
from relay.content import GenerateRequest, Usage
from relay.deadline import Clock
from relay.decision import Decision
from relay.errors import CacheMiss
from relay.policy.base import Legs

LONGEST_BYTES: Final = 256 * 1024
"""Of an answer, where there is no exact cache to say so."""


class _Asked(NamedTuple):
    """One call of `turn`."""

    request: GenerateRequest
    scope: CacheScope
    decision: Decision
    legs: Legs

    @property
    def wish(self) -> str:
        return self.request.policy.cache


class ResponseCaches:
    """`Caches` over both kinds; either may be missing.

    Args:
        near: not owned.
        price_of: what an answer has cost.
        clock: monotonic.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        exact: ExactCache | None,
        near: Near | None = None,
        *,
        price_of: PriceOf,
        clock: Clock,
        wall_clock: Clock,
    ) -> None:
        self._exact = exact
        self._near = near
        self._price_of = price_of
        self._clock = clock
        self._wall_clock = wall_clock

    async def turn(
        self, request: GenerateRequest, scope: CacheScope, decision: Decision, legs: Legs
    ) -> HitTurn | MissTurn | None:
        """See `Caches`.

        Raises:
            CacheMiss: nothing but a kept answer was wanted.
        """
        asked = _Asked(request, scope, decision, legs)
        if asked.wish == "off" or request.is_prefix:
            decision.cache = "bypass"
            return None
        exact = self._exact
        key = exact.key_of(request, scope) if exact is not None else None
        if exact is None or key is None:
            return await self._by_meaning(asked)
        if asked.wish == "refresh":
            flights = exact.shelf.flights
            place = None if flights.is_flying(key) else flights.fly(key)
            return await self._afresh(exact, key, place, asked)
        stored = exact.shelf.at_hand(key, exact.ttl_s(request))
        if stored is not None:
            return self._hit(Given(stored, "hit"), asked)
        place = exact.shelf.flights.fly(key)
        if isinstance(place, Leader):
            return await self._lead(exact, key, place, asked)
        return await self._follow(exact, key, place, asked)

    async def _follow(
        self, exact: ExactCache, key: bytes, place: Follower[Given], asked: _Asked
    ) -> HitTurn | MissTurn:
        """An equal request is being answered."""
        given = await place.wait(exact.wait_s(asked.request))
        if isinstance(given, Leader):
            return await self._lead(exact, key, given, asked)
        if isinstance(given, Landed):
            found = given.answer
            max_age_s = exact.ttl_s(asked.request) if found.similarity is None else _wanted_s(asked)
            if found.stored.age_s(self._wall_clock()) <= max_age_s:
                return self._hit(found, asked)
        return self._miss(exact, key, None, None, asked)

    async def _lead(
        self, exact: ExactCache, key: bytes, leader: Leader[Given], asked: _Asked
    ) -> HitTurn | MissTurn:
        """Look where it takes time to look, for everybody who waits."""
        try:
            max_age_s = exact.ttl_s(asked.request)
            look: NearLook | None = None
            given: Given | None = None
            stored = await exact.shelf.fetch(key, max_age_s, exact.max_bytes)
            if stored is not None:
                given = Given(stored, "hit")
            elif self._near is not None:
                look = await self._look(self._near, asked)
                given = _given_by(look)
            if given is None:
                return self._miss(exact, key, leader, look, asked)
            leader.land(given)
            return self._hit(given, asked)
        except BaseException:
            leader.give_up()
            raise

    async def _afresh(
        self,
        exact: ExactCache,
        key: bytes,
        place: Leader[Given] | Follower[Given] | None,
        asked: _Asked,
    ) -> MissTurn:
        """A new answer is wanted; equal requests that come meanwhile may have it too."""
        leader = place if isinstance(place, Leader) else None
        try:
            look = None if self._near is None else await self._look(self._near, asked)
        except BaseException:
            if leader is not None:
                leader.give_up()
            raise
        return self._miss(exact, key, leader, look, asked)

    async def _by_meaning(self, asked: _Asked) -> HitTurn | MissTurn | None:
        """Where the exact cache has nothing to do with it."""
        look = None if self._near is None else await self._look(self._near, asked)
        if look is None:
            if asked.wish == "only":
                raise CacheMiss("the relay keeps no answers to such requests")
            asked.decision.cache = "bypass"
            return None
        given = _given_by(look)
        if given is not None:
            return self._hit(given, asked)
        return self._miss(None, None, None, look, asked)

    async def _look(self, near: Near, asked: _Asked) -> NearLook | None:
        return await near.look(
            asked.request,
            asked.scope,
            asked.legs,
            is_refresh=asked.wish == "refresh",
            max_age_s=_wanted_s(asked),
        )

    def _hit(self, given: Given, asked: _Asked) -> HitTurn:
        stored, decision = given.stored, asked.decision
        decision.cache = given.verdict
        decision.cache_age_s = stored.age_s(self._wall_clock())
        decision.similarity = given.similarity
        decision.saved_micro = stored.cost_micro or 0
        max_gap_s = 0.0 if self._exact is None else self._exact.max_gap_s
        return HitTurn(
            StoredAnswer(
                stored, max_gap_s=max_gap_s, clock=self._clock, wall_clock=self._wall_clock
            )
        )

    def _miss(
        self,
        exact: ExactCache | None,
        key: bytes | None,
        leader: Leader[Given] | None,
        look: NearLook | None,
        asked: _Asked,
    ) -> MissTurn:
        asked.decision.cache = "refresh" if asked.wish == "refresh" else "miss"
        if asked.wish == "only":
            if leader is not None:
                leader.give_up()
            raise CacheMiss("the relay has no kept answer to this request")
        keep = None
        if exact is not None and key is not None:
            keep = partial(exact.keep, key, exact.ttl_s(asked.request))
        return MissTurn(partial(self._recording, asked), keep, leader, look)

    def _recording(
        self,
        asked: _Asked,
        answer: Answer,
        keep: Callable[[Stored], None],
        give_up: Callable[[], None],
        let_go: Callable[[], None],
    ) -> RecordingAnswer:
        exact = self._exact
        return RecordingAnswer(
            answer,
            asked.request,
            max_bytes=LONGEST_BYTES if exact is None else exact.max_bytes,
            has_gaps=exact is not None and exact.is_paced,
            clock=self._clock,
            wall_clock=self._wall_clock,
            price_of=partial(self._cost_of, asked.decision),
            keep=keep,
            give_up=give_up,
            let_go=let_go,
        )

    def _cost_of(self, decision: Decision, provider: str, model: str, usage: Usage) -> int | None:
        """With everything that was asked for it: legs of a cascade or panel, questions beside."""
        legs = [row["cost_micro"] for row in decision.legs if "cost_micro" in row]
        if decision.composition:  # the answer is one of its legs
            return sum(legs) if legs else None
        own = self._price_of(provider, model, usage)
        return None if own is None else own + sum(legs)


def _wanted_s(asked: _Asked) -> float:
    """How old an answer may be as the client says."""
    ttl_s = asked.request.policy.cache_ttl_s
    return math.inf if ttl_s is None else ttl_s


def _given_by(look: NearLook | None) -> Given | None:
    hit = None if look is None else look.hit
    return None if hit is None else Given(hit.stored, "semantic", hit.similarity)
