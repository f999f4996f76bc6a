"""A worker's desk for hints: tells what its own breakers learnt, and hears what others say.

Told at once when a breaker opens for what happened here, again every `RENEW_S` while it stays open,
and taken back when a probe succeeds. So a teller that died is believed for `LASTS_S` and no longer.
A breaker that opened for what others said is not told of: workers would keep each other's suspicion
alive without anybody's evidence. A target that is slow, and not yet so slow that its breaker opens,
is told of too, by its level.

Storms are bounded on both sides, in all and by target.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from relay.deadline import Clock
from relay.hints.allowance import Allowance
from relay.hints.bus import HintBus
from relay.hints.hint import BadHint, Hint, HintKind
from relay.resilience.breaker import Breaker, BreakerState, TripReason
from relay.target_state import TargetState, TargetStates

RENEW_S: Final = 2.0
LASTS_S: Final = 6.0
"""Two renewals may get lost."""
SLOW_LEVEL: Final = 2.0
"""Over its usual: told as slow, until it is below `WELL_LEVEL`."""
WELL_LEVEL: Final = 1.5
MAX_TOLD: Final = 64
"""Targets that are told of at once; more than an operator names fail together only if the fault is
ours."""
LOOKED_AT: Final = 256
"""Targets, those asked last, whose level is looked at."""
OUT_PER_S: Final = 32.0
IN_PER_S: Final = 256.0
_BURST_S: Final = 2

_OPENED: Final = (BreakerState.OPEN, BreakerState.HALF_OPEN)


class _Told(NamedTuple):
    kind: HintKind
    episode: int


class HintDesk:
    """Of one worker; `attach` it before requests come, `aclose` it after the last."""

    def __init__(
        self,
        states: TargetStates,
        clock: Clock,
        teller: str,
        where: Callable[[str], str | None],
    ) -> None:
        """
        Args:
            teller: this worker's `instance_id`.
            where: which server a target's name stands for now (`relay.hints.hint.where`); None for
                names that no row of the configuration has.
        """
        self._states = states
        self._clock = clock
        self._teller = teller
        self._where = where
        self._bus: HintBus | None = None
        self._task: asyncio.Task[None] | None = None
        self._episodes = itertools.count(1)
        self._told: dict[str, _Told] = {}
        self._out = Allowance(OUT_PER_S, int(_BURST_S * OUT_PER_S))
        self._in = Allowance(IN_PER_S, int(_BURST_S * IN_PER_S))
        self._sent = self._lost = self._received = self._taken = 0
        self._unknown = self._bounded = self._bad = 0

    def attach(self, bus: HintBus) -> None:
        """Begin to tell. The bus is the desk's from then on."""
        self._bus = bus
        self._states.on_edge = self._edge
        self._task = asyncio.create_task(self._run(), name="hints")

    async def aclose(self) -> None:
        """Take back nothing (what is told is over by itself), and stop. Idempotent, bounded."""
        self._states.on_edge = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if self._bus is not None:
            await self._bus.aclose()

    def describe(self) -> dict[str, Any]:
        """For people."""
        return {
            "telling": {name: told.kind.value for name, told in self._told.items()},
            "sent": self._sent,
            "lost": self._lost,
            "received": self._received,
            "taken": self._taken,
            "unknown": self._unknown,
            "bounded": self._bounded,
            "bad": self._bad,
            "bus": None if self._bus is None else self._bus.describe(),
        }

    # --- what others say --------------------------------------------------------------------

    def take(self, data: dict[str, Any]) -> None:
        """A hint has come; never raises. Of targets that nobody here has asked nothing is kept."""
        self._received += 1
        now_s = self._clock()
        if not self._in.take(now_s):
            self._bounded += 1
            return
        try:
            hint = Hint.from_dict(data)
        except BadHint:
            self._bad += 1
            return
        state = self._states.known(hint.target)
        if state is None or hint.teller == self._teller or self._where(hint.target) != hint.where:
            self._unknown += 1
        elif hint.kind is HintKind.WELL:
            state.breaker.unsuspect(hint.teller, hint.episode)
        else:
            self._taken += state.breaker.suspect(
                hint.teller,
                hint.episode,
                now_s,
                hint.lasts_s,
                is_slow=hint.kind is HintKind.SLOW,
            )

    # --- what we say ------------------------------------------------------------------------

    def _edge(self, name: str, breaker: Breaker, before: BreakerState) -> None:
        """A breaker has changed: in the middle of a request, so only bytes are handed over."""
        state = breaker.state
        if state is BreakerState.OPEN and before in (BreakerState.CLOSED, BreakerState.RAMP):
            if not breaker.is_hearsay:
                is_slow = breaker.reason is TripReason.SLOW
                self._begin(name, HintKind.SLOW if is_slow else HintKind.FAILING)
        elif state not in _OPENED:
            self._end(name)

    def _begin(self, name: str, kind: HintKind) -> None:
        if name not in self._told and len(self._told) >= MAX_TOLD:
            self._bounded += 1
            return
        self._told[name] = told = _Told(kind, next(self._episodes))
        self._tell(name, told)

    def _end(self, name: str) -> None:
        told = self._told.pop(name, None)
        if told is not None:
            self._tell(name, _Told(HintKind.WELL, told.episode))

    def _tell(self, name: str, told: _Told) -> None:
        server = self._where(name)
        if self._bus is None or server is None:
            return
        if not self._out.take(self._clock()):
            self._bounded += 1
            return
        hint = Hint(name, server, told.kind, self._teller, told.episode, LASTS_S)
        if self._bus.publish(hint.to_dict()):
            self._sent += 1
        else:
            self._lost += 1

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            self.renew()

    def renew(self) -> None:
        """Tell again what still holds, and look at levels. Every `RENEW_S`."""
        now_s = self._clock()
        for name, told in list(self._told.items()):
            state = self._states.known(name)
            if state is None:
                self._end(name)
            elif state.breaker.state in _OPENED:
                self._tell(name, told)
            elif _level(state, now_s) < WELL_LEVEL:
                self._end(name)
            else:  # slow, and not open for it
                self._tell(name, told)
        for name, state in _latest(self._states, LOOKED_AT):
            if (
                name not in self._told
                and state.breaker.state is BreakerState.CLOSED
                and _level(state, now_s) >= SLOW_LEVEL
            ):
                self._begin(name, HintKind.SLOW)


def _level(state: TargetState, now_s: float) -> float:
    """The present level of first tokens over the usual; 1 while nobody knows what is usual."""
    return state.level.level_s(state.p50_s, now_s) / state.p50_s if state.is_learned else 1.0


def _latest(states: TargetStates, count: int) -> Iterable[tuple[str, TargetState]]:
    return itertools.islice(reversed(dict(states.items()).items()), count)
