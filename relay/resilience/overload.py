"""Whom a worker refuses when it has too much to do: by class, early, and no more than it must.

Three signals, each with a bound of its own:

- what is in flight, exact at every moment: each class has its share of one bound;
- how late the event loop is (95th percentile of the last two seconds). Lateness follows what was
  let in seconds ago, since answers take seconds, so it does not open and shut the door: it moves
  the bound on what is in flight. Down by a tenth or a quarter where the loop is late, and again
  only on new evidence; up by a twentieth for each half second in which it is on time, which keeps
  the worker near the most that it can carry. Open sessions have a bound of their own, which moves
  where the loop is late by several times what it may be: a late answer is better than silence;
- resident memory, in bands that are left lower than they are entered.

Classes go in one order, whichever signal speaks: batch first, then what is new (requests over HTTP,
single generations, new sessions), and generations of sessions that are open last: somebody is on
the phone there. Health and administration are not asked here at all. The order is not a rule that a
caller has to keep: `caps` is one number a class, and they are in order by construction.

`level` is what is told to people: the highest class that was refused within `CALM_S`. It rises at
once and falls after the calm, so it does not flap, whatever the signals do.

Pure state, no clock, no I/O: time is an argument, in seconds of a monotonic clock. Asking costs one
comparison; all that is worked out is worked out when a signal is heard.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Final, NamedTuple

BATCH_SHARE: Final = 0.75
"""Of what new requests may have: what batch may."""
NEW_SHARE: Final = 0.8
"""Of the whole bound; the rest is kept for open sessions."""

LOOKS: Final = 40
"""Looks at the loop that are remembered: two seconds of a loop that is on time."""
LATE_LOOKS: Final = 3
"""So many late ones of them make the loop late: one or two are a collection or a neighbour."""
BEGIN: Final = 0.5
"""Of the bound on lateness, which is on its 99th percentile: from here on there is less room."""
BADLY: Final = 4.0
"""From here on open sessions give way too."""
GROW: Final = 0.4
"""Below it there is more room again."""
CUT: Final = 0.9
CUT_DEEPLY: Final = 0.75
DEEPLY: Final = 2.0
"""From here on: three times too much is to be over in a second or two."""
RAISE: Final = 1.05
RAISE_QUICKLY: Final = 1.25
QUICKLY_AFTER_S: Final = 10.0
"""Without a cut: what it was cut for is over, and not just below the line."""
CUT_EVERY_S: Final = 0.25
"""At least: what has been cut needs time to show."""
RAISE_EVERY_S: Final = 0.5
CALM_LOOKS: Final = 20
"""Since the last cut, before there is more room again: one second."""

MEMORY_BANDS: Final = (0.85, 0.92, 1.0)
"""Of the bound: from where on batch, new requests and open sessions are refused."""
MEMORY_BACK: Final = 0.05
"""So much lower than it was entered, a band is left."""

CALM_S: Final = 5.0
"""A class that was refused is spoken of for so long."""


class RequestClass(enum.IntEnum):
    """Who is refused first has the lowest number; the numbers are those of `level`."""

    BATCH = 1
    """Says of itself that it can wait."""
    NEW = 2
    """A request over HTTP, a single generation, a new session."""
    LIVE = 3
    """A generation of a session that is open."""


class Cause(enum.Enum):
    """Which bound refuses."""

    GENERATIONS = "generations"
    SESSIONS = "sessions"
    LOOP_LAG = "loop_lag"
    MEMORY = "memory"
    DRAINING = "draining"


class Bounds(NamedTuple):
    """What one worker may have; 0 is no bound."""

    max_generations: int = 2000
    """At once, of all classes."""
    max_sessions: int = 20_000
    max_loop_lag_s: float = 0.05
    """What its 99th percentile is to stay below."""
    min_generations: int = 100
    """New ones are let in up to so many, however late the loop is."""
    max_rss_bytes: int = 0


_NO_BOUND: Final = 1 << 60


class OverloadPolicy:
    """Of one worker; see the module."""

    def __init__(self, bounds: Bounds, now_s: float = 0.0) -> None:
        self._bounds = bounds
        whole = bounds.max_generations or _NO_BOUND
        self._most = max(1.0, NEW_SHARE * whole)
        """Of new ones."""
        self._least = min(float(max(1, bounds.min_generations)), self._most)
        self._limit = self._most
        self._whole = float(whole)
        self._live = self._whole
        """The same of open sessions."""
        self._lags: deque[float] = deque(maxlen=LOOKS)
        self._most_in_flight = 0
        """Since the last cut: after a pause many are over at once, and what is left says little of
        what was too much."""
        self._cut_s = self._raised_s = now_s
        self._memory_band = 0
        self._is_closed = False
        self._refused_s: dict[RequestClass, float] = {}
        self._level = 0
        self.caps: dict[RequestClass, int] = {}
        """How many may be in flight for one more of a class to be let in: fewer than this."""
        self._work_out()

    # --- asked ------------------------------------------------------------------------------

    def admits(self, kind: RequestClass, in_flight: int) -> bool:
        """Whether one more of a class may begin beside those in flight."""
        return in_flight < self.caps[kind]

    def admits_session(self, kind: RequestClass, in_flight: int, sessions: int) -> bool:
        """Whether a session may be opened beside those that are open."""
        bound = self._bounds.max_sessions
        return self.admits(kind, in_flight) and not (bound and sessions >= bound)

    def cause(self, kind: RequestClass, in_flight: int) -> Cause:
        """Why a class is refused now; SESSIONS where it is not."""
        if self._is_closed:
            return Cause.DRAINING
        if self._memory_band >= kind:
            return Cause.MEMORY
        if in_flight < self.caps[kind]:
            return Cause.SESSIONS
        is_cut = self._live < self._whole if kind is RequestClass.LIVE else self._limit < self._most
        return Cause.LOOP_LAG if is_cut else Cause.GENERATIONS

    def refused(self, kind: RequestClass, now_s: float) -> bool:
        """One of a class was refused. Returns whether `level` has risen."""
        self._refused_s[kind] = now_s
        if kind <= self._level:
            return False
        self._level = int(kind)
        return True

    @property
    def level(self) -> int:
        """The highest class that was refused lately, by its number; 0 for none."""
        return self._level

    @property
    def limit(self) -> int:
        """How many may be in flight for a new request to be let in, as far as lateness goes."""
        return int(self._limit)

    @property
    def lag_s(self) -> float:
        """How late the loop is: the 95th percentile of the looks that are remembered."""
        if len(self._lags) < LATE_LOOKS:
            return 0.0
        return sorted(self._lags)[-LATE_LOOKS]

    # --- told -------------------------------------------------------------------------------

    def looked(self, lag_s: float, in_flight: int, now_s: float) -> bool:
        """A look at the loop came so late. Returns whether `level` has fallen."""
        bound_s = self._bounds.max_loop_lag_s
        if bound_s > 0:
            self._lags.append(max(0.0, lag_s))
            self._most_in_flight = max(self._most_in_flight, in_flight)
            self._move(self.lag_s / bound_s, in_flight, now_s)
        return self._calmed(now_s)

    def measured_memory(self, rss_bytes: int) -> None:
        """So much is resident now."""
        bound = self._bounds.max_rss_bytes
        if bound <= 0:
            return
        share = rss_bytes / bound
        band = sum(share >= begin for begin in MEMORY_BANDS)
        kept = sum(share >= begin - MEMORY_BACK for begin in MEMORY_BANDS)
        # What is entered is entered at once; what was entered is left by the lower line.
        band = max(band, min(self._memory_band, kept))
        if band != self._memory_band:
            self._memory_band = band
            self._work_out()

    @property
    def is_short_of_memory(self) -> bool:
        """Whether anybody is refused for it."""
        return self._memory_band > 0

    def drain(self) -> None:
        """Nothing more is let in, for good."""
        self._is_closed = True
        self._work_out()

    # --- inside -----------------------------------------------------------------------------

    def _move(self, share: float, in_flight: int, now_s: float) -> None:
        limit, live = self._limit, self._live
        if share >= BEGIN:
            if now_s - self._cut_s < CUT_EVERY_S:
                return
            cut = CUT if share < DEEPLY else CUT_DEEPLY
            if share >= BADLY:
                live = max(self._least / NEW_SHARE, cut * min(live, float(self._most_in_flight)))
                cut *= NEW_SHARE
            limit = max(self._least, cut * min(limit, float(self._most_in_flight)))
            self._cut_s = now_s
            self._lags.clear()  # those were of before it
            self._most_in_flight = in_flight
        elif (
            share < GROW
            and len(self._lags) >= CALM_LOOKS
            and (limit < self._most or live < self._whole)
        ):
            if now_s - self._raised_s < RAISE_EVERY_S:
                return
            is_over = now_s - self._cut_s > QUICKLY_AFTER_S
            rise = RAISE_QUICKLY if is_over else RAISE
            limit, live = min(self._most, limit * rise + 1), min(self._whole, live * rise + 1)
            self._raised_s = now_s
        if (limit, live) != (self._limit, self._live):
            self._limit, self._live = limit, live
            self._work_out()

    def _work_out(self) -> None:
        if self._is_closed:
            self.caps = dict.fromkeys(RequestClass, 0)
            return
        caps = {
            RequestClass.BATCH: BATCH_SHARE * self._limit,
            RequestClass.NEW: self._limit,
            RequestClass.LIVE: max(self._live, self._limit),
        }
        self.caps = {
            kind: 0 if self._memory_band >= kind else max(1, int(cap + 1e-9))
            for kind, cap in caps.items()
        }

    def _calmed(self, now_s: float) -> bool:
        if not self._level:
            return False
        lately = (kind for kind, at_s in self._refused_s.items() if now_s - at_s < CALM_S)
        level = max((int(kind) for kind in lately), default=0)
        if level >= self._level:
            return False
        self._level = level
        return True
