"""Equal requests at once: one asks, the others wait for its answer.

    fly(key) -> Leader            the first; it asks
             -> Follower          it is being asked; `await follower.wait(limit)`:
                    Landed(...)       the whole answer
                    a Leader          the one before gave up: it is this one's turn to ask
                    None              too long: ask alone

A leader ends in one of three ways: `land`, which gives everybody the answer; `give_up`, which makes
the follower that has waited longest the next leader and lets the others wait on; or `scatter`,
where the answer is one that is not kept: the next one's would not be either, so everybody asks
alone, and nobody waits in a row. Nothing in here raises or takes time of its own. Whoever is
cancelled while he waits is out of it, and passes on what had just been handed to him.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Landed(Generic[Answer]):
    """The answer that was waited for."""

    __slots__ = ("answer",)

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class Flights(Generic[Answer]):
    """What is being asked now, by key."""

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight[Answer]] = {}
        self.handed_on = 0
        """How often a follower had to take over."""

    def __len__(self) -> int:
        return len(self._flights)

    def fly(self, key: bytes) -> Leader[Answer] | Follower[Answer]:
        """Ask, or wait for who does."""
        flight = self._flights.get(key)
        if flight is not None:
            return Follower(flight)
        flight = self._flights[key] = _Flight(self, key)
        return flight.lead()

    def is_flying(self, key: bytes) -> bool:
        """Whether somebody asks."""
        return key in self._flights

    def landed(self, key: bytes, answer: Answer) -> None:
        """Somebody who asked alone has the answer: whoever waits for it has it too."""
        flight = self._flights.get(key)
        if flight is not None:
            flight.land(answer)

    def drop(self, flight: _Flight[Answer]) -> None:
        """It has ended."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]


class Leader(Generic[Answer]):
    """The right to ask, and the duty to end that: `land`, `give_up` or `scatter`; later ones are
    ignored."""

    __slots__ = ("_flight",)

    def __init__(self, flight: _Flight[Answer]) -> None:
        self._flight = flight

    @property
    def is_leading(self) -> bool:
        """Neither landed nor given up yet."""
        return self._flight.leader is self

    def land(self, answer: Answer) -> None:
        """Everybody who waits has it."""
        if self._flight.leader is self:
            self._flight.land(answer)

    def give_up(self) -> None:
        """There will be none to share: the next one asks."""
        if self._flight.leader is self:
            self._flight.hand_on()

    def scatter(self) -> None:
        """Such answers are not shared: everybody who waits asks alone."""
        if self._flight.leader is self:
            self._flight.scatter()


class Follower(Generic[Answer]):
    """Waits; see the module."""

    __slots__ = ("_flight",)

    def __init__(self, flight: _Flight[Answer]) -> None:
        self._flight = flight

    async def wait(self, limit_s: float) -> Landed[Answer] | Leader[Answer] | None:
        """See the module. Once, and before anything else is awaited.

        Cancelled: it is out of it.
        """
        loop = asyncio.get_running_loop()
        place: asyncio.Future[Landed[Answer] | Leader[Answer] | None] = loop.create_future()
        self._flight.waiting.append(place)
        timer = loop.call_later(limit_s, _too_long, place)
        try:
            given = await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._flight.leave(place)
            elif isinstance(given := place.result(), Leader):
                given.give_up()
            raise
        finally:
            timer.cancel()
        if given is None:
            self._flight.leave(place)
        return given


class _Flight(Generic[Answer]):
    """One key."""

    __slots__ = ("_flights", "key", "leader", "waiting")

    def __init__(self, flights: Flights[Answer], key: bytes) -> None:
        self._flights = flights
        self.key = key
        self.leader: Leader[Answer] | None = None
        self.waiting: deque[asyncio.Future[Landed[Answer] | Leader[Answer] | None]] = deque()

    def lead(self) -> Leader[Answer]:
        self.leader = leader = Leader(self)
        return leader

    def land(self, answer: Answer) -> None:
        self._end()
        landed = Landed(answer)
        while self.waiting:
            place = self.waiting.popleft()
            if not place.done():
                place.set_result(landed)

    def hand_on(self) -> None:
        while self.waiting:
            place = self.waiting.popleft()
            if not place.done():
                self._flights.handed_on += 1
                place.set_result(self.lead())
                return
        self._end()

    def scatter(self) -> None:
        self._end()
        while self.waiting:
            place = self.waiting.popleft()
            if not place.done():
                place.set_result(None)

    def leave(self, place: asyncio.Future[Landed[Answer] | Leader[Answer] | None]) -> None:
        try:
            self.waiting.remove(place)
        except ValueError:
            pass  # its turn had come when it was cancelled

    def _end(self) -> None:
        self.leader = None
        self._flights.drop(self)


def _too_long(place: asyncio.Future[Landed[Answer] | Leader[Answer] | None]) -> None:
    if not place.done():
        place.set_result(None)
