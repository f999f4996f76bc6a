"""Whether one target (endpoint and model) is worth trying, and with how much of the traffic.

    CLOSED --- failures in a row, their ratio, slowness ---> OPEN <-------------.
      ^                                                     ^  |                |
      |                                    as from closed   |  | time is over   | failure, 429
      |                                                     |  v                |
      '--- evidence at full share --- RAMP -----------------'  HALF_OPEN -------+
                                        ^                                       | success
                                        '---------------------------------------'

What differs from the textbook, and why:

- An outcome belongs to the generation in which its permit was taken (sony/gobreaker): what was
  started before a trip says nothing about the target after it.
- There is a third and a fourth outcome. Lost races, clients' cancels and our own 4xx are `ignored`;
  429, 529 and whatever says when to come back are `overload`: the target lives, it must not get
  more (the limiter's business), but a probe that meets one has not shown that traffic may come back
  (linkerd). A 503 that names no time is a failure: a balancer answers it for hosts that are gone.
- A slow target is as useless to a voice as a failing one, so latency trips too: more than half of
  the last ten first tokens took over twice the usual (2.9 of the hedging notes). Times are
  normalised, TTFT over what the prompt's length explains; censored ones count once they are late.
- The way back is gradual: 10, 25, 50, 100 % of the traffic, each for 15 s and until 5 successes in
  a row. Full share is reached 45 s after the probe's success, so at most 36 + 45 = 81 s after the
  target recovered during its first two open periods (30 s + 20 %), if a tenth of its traffic
  brings 5 successes in 15 s: 3.4 requests/s; 90 s are held from 2.1 requests/s up. Less traffic
  takes longer, evidence is not waived.
- What other workers say (`suspect`) is no evidence, but makes us look twice: while a word stands,
  the first failure of our own opens it, for a shorter period and without the gradual way back,
  since one failure is little to go by. Such an opening is not told on (`is_hearsay`): two workers
  would hold each other's suspicion up for ever.
- The last member of a class is never ejected: its attempts are `forced`, and while it is open their
  successes cut the open period short.

A pure state machine: time is an argument, in seconds of a monotonic clock. A reading before the
latest one counts as the latest, so a clock that runs backwards stands still for a while and nothing
else. Every call is O(1).
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from relay.resilience.suspicion import Suspicion

WINDOW_SLOTS: Final = 10
"""The window moves in tenths: it holds between 0.9 and 1 of its length."""


_MAX_DOUBLINGS: Final = 30

TRIAL_SHARE: Final = 0.01
"""Of first places while a trial is out: all but none, and not none, which would be refused."""


class BreakerState(enum.Enum):
    """Where a breaker is, as of its latest event."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    """A probe is out, or may be taken."""
    RAMP = "ramp"
    """Coming back, with a growing share of the traffic."""


# In Python 3.11 a member of an enum costs ten times the look-up of a name.
_CLOSED: Final = BreakerState.CLOSED
_OPEN: Final = BreakerState.OPEN
_HALF_OPEN: Final = BreakerState.HALF_OPEN
_RAMP: Final = BreakerState.RAMP


class TripReason(enum.Enum):
    """Why a breaker last went from closed or ramp to open; a failed probe keeps the reason."""

    CONSECUTIVE = "consecutive"
    RATIO = "ratio"
    SLOW = "slow"
    HINT = "hint"
    """Others said so, and then it failed here too."""


class Outcome(enum.Enum):
    """What an attempt says of its target."""

    SUCCESS = "success"
    FAILURE = "failure"
    OVERLOAD = "overload"
    """429, 529, or a refusal that names a time: it lives, and has enough to do."""
    IGNORED = "ignored"
    """Ended by us, or refused for what we sent: says nothing."""


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When to trip and how to come back; the defaults suit a provider of language models."""

    consecutive_failures: int = 5
    """Failures in a row that trip (Envoy, Finagle): before a first token, or after it."""
    failure_ratio: float = 0.5
    """Failures among the window's outcomes that trip, from `min_samples` outcomes on."""
    min_samples: int = 20
    window_s: float = 30.0
    """Outcomes and latencies older than this are forgotten."""
    slow_factor: float = 2.0
    """A first token is late beyond this many times the usual (long-window) p50."""
    slow_samples: int = 10
    """More than half of so many late: trip. Among fewer, never."""
    open_s: float = 30.0
    """First two open periods; each further opening before the target is closed again doubles it.
    Doubled at once, the second would outlast the brown-outs of a minute that are common."""
    max_open_s: float = 300.0
    hinted_open_s: float = 10.0
    """The open period after a failure that counted for being foretold by others."""
    jitter: float = 0.2
    """Open periods are drawn from 1 - jitter to 1 + jitter of their length, also the longest."""
    probe_timeout_s: float = 60.0
    """After it a probe without an outcome no longer keeps the next one away. Longer than an
    attempt may take: it is for probes that got lost."""
    ramp_shares: tuple[float, ...] = (0.10, 0.25, 0.50, 1.0)
    """Shares on the way back; empty: closed at once."""
    ramp_evidence: int = 5
    """Successes in a row before the next share."""
    ramp_step_s: float = 15.0
    """And this long at each share, whatever the traffic."""
    foretold_failures: int = 2
    """Failures in a row that we have already when others tell of theirs: trip at once."""
    ramp_failures: int = 3
    """Failures in a row that trip during the ramp: less than `consecutive_failures`, for a target
    that has just been ill, more than one, for one that fails 1 in 20 as it always does."""

    def __post_init__(self) -> None:
        counts = (
            self.consecutive_failures,
            self.min_samples,
            self.slow_samples,
            self.ramp_evidence,
            self.foretold_failures,
            self.ramp_failures,
        )
        if min(counts) < 1:
            raise ValueError("counts of a breaker are at least 1")
        positive = (self.window_s, self.open_s, self.hinted_open_s, self.probe_timeout_s)
        if min(positive) <= 0 or self.ramp_step_s < 0:
            raise ValueError("times of a breaker are positive")
        if self.max_open_s < self.open_s:
            raise ValueError("max_open_s is at least open_s")
        if not 0 < self.failure_ratio <= 1 or not 0 <= self.jitter < 1 or self.slow_factor < 1:
            raise ValueError("failure_ratio is in (0, 1], jitter in [0, 1), slow_factor from 1")
        if not all(0 < share <= 1 for share in self.ramp_shares):
            raise ValueError("shares of the ramp are in (0, 1]")


class Permit:
    """The right to one attempt. The first of its four outcomes counts, further ones do nothing."""

    __slots__ = (
        "_breaker",
        "_is_over",
        "_was_observed",
        "generation",
        "has_token",
        "is_probe",
        "is_trial",
    )

    def __init__(self, breaker: Breaker, generation: int, is_probe: bool) -> None:
        self._breaker = breaker
        self._is_over = False
        self._was_observed = False
        self.generation = generation
        self.has_token = False
        """Its first token has come."""
        self.is_probe = is_probe
        """Its success starts the way back. Arm its hedge at once, for it may well fail; and if it
        loses its race, let it run to its first token: ignored, it has shown nothing, and a target
        that is well but slower than its neighbour would never come back."""
        self.is_trial = False
        """It is the next attempt after others spoke ill of the target: likewise."""

    def success(self, now_s: float) -> None:
        """The target answered."""
        self._end(Outcome.SUCCESS, now_s)

    def failure(self, now_s: float) -> None:
        """It did not: connect error, reset, 5xx (503 too, unless it names a time), error event,
        time-out, broken bytes."""
        self._end(Outcome.FAILURE, now_s)

    def overload(self, now_s: float) -> None:
        """It answered 429 or 529, or said when to come back."""
        self._end(Outcome.OVERLOAD, now_s)

    def ignored(self, now_s: float) -> None:
        """The attempt says nothing: a lost race, a client's cancel, our own 4xx."""
        self._end(Outcome.IGNORED, now_s)

    def observe(
        self,
        ttft: float,
        baseline_p50: float | None,
        now_s: float,
        *,
        is_censored: bool = False,
    ) -> None:
        """Take the time to the first token; once for each permit, and before its outcome.

        Args:
            ttft: normalised, in the unit of the baseline; the age for a censored one.
            baseline_p50: the target's usual, None while nobody knows: no evidence then.
            is_censored: the attempt was ended before its first token. An age that is not late yet
                says nothing: counted as it is, it would make a target that always loses look fast.
        """
        if self._is_over:
            return
        if not self._was_observed:
            self._was_observed = True
            self.has_token = not is_censored
            self._breaker.observed(self, ttft, baseline_p50, now_s, is_censored)
        elif not (is_censored or self.has_token):  # overdue, and here it is
            self.has_token = True
            self._breaker.spoke(self)

    def overdue(self, age: float, baseline_p50: float | None, now_s: float) -> None:
        """There is no first token at this age. If that is late already, it is known now: whatever
        comes is later. Else nothing is said, and `observe` may still be."""
        if self._is_over or self._was_observed or baseline_p50 is None:
            return
        if age > self._breaker.settings.slow_factor * baseline_p50:
            self._was_observed = True
            self._breaker.observed(self, age, baseline_p50, now_s, True)

    def _end(self, outcome: Outcome, now_s: float) -> None:
        if not self._is_over:
            self._is_over = True
            self._breaker.ended(self, outcome, now_s)


class Breaker:
    """The breaker of one target.

    Args:
        draw: a uniform draw from [0, 1), for the jitter of open periods.
    """

    __slots__ = (
        "_broken",
        "_consecutive",
        "_draw",
        "_evident_at_s",
        "_lateness",
        "_latest_s",
        "_openings",
        "_probe",
        "_probe_until_s",
        "_step",
        "_step_at_s",
        "_streak",
        "_suspicion",
        "_window",
        "edges",
        "generation",
        "on_edge",
        "opened_at_s",
        "reason",
        "retry_at_s",
        "settings",
        "state",
        "trips",
    )

    def __init__(self, settings: BreakerSettings, draw: Callable[[], float]) -> None:
        self.settings = settings
        self._draw = draw
        self.state = _CLOSED
        self.generation = 0
        """Of the permits whose outcomes count: new at each opening, half-opening and recovery. The
        end of the ramp is none: what it learnt stays true."""
        self.reason: TripReason | None = None
        self.trips = 0
        """Openings from closed or ramp."""
        self.opened_at_s: float | None = None
        self.retry_at_s: float | None = None
        """When a probe may be sent; None unless it has opened."""
        self.edges: dict[tuple[BreakerState, BreakerState], int] = {}
        """How often each edge was taken."""
        self.on_edge: Callable[[BreakerState], None] | None = None
        """Is called after each edge with the state before it; must not call back."""
        self._latest_s = float("-inf")
        self._openings = 0  # since it was last closed
        # Failures in a row are counted apart: those before a first token, since the last first
        # token; and those after it, since the last success. An answer is over seconds after its
        # first token, so answers that began before an outage would end the row of the first kind.
        self._consecutive = 0
        self._broken = 0
        self._streak = 0  # successes since the last failure; at this share during the ramp
        self._window = _Counts(settings.window_s)
        self._lateness: deque[tuple[float, bool]] = deque(maxlen=settings.slow_samples)
        self._probe: Permit | None = None
        self._probe_until_s = 0.0
        self._step = 0
        self._step_at_s = 0.0
        self._evident_at_s = 0.0  # when the streak was long enough
        self._suspicion: Suspicion | None = None  # made by the first word of others

    # --- asked by routing: changes nothing --------------------------------------------------

    def share(self, now_s: float) -> float:
        """The part of its usual traffic that the target may get as a primary: 1 closed, 0 open and
        half-open, in between on the way back."""
        if self.state is _CLOSED:
            suspicion = self._suspicion
            if suspicion is not None and suspicion.is_on_trial(max(now_s, self._latest_s)):
                return TRIAL_SHARE
            return 1.0
        if self.state is _RAMP:
            shares = self.settings.ramp_shares
            step = self._step_due(max(now_s, self._latest_s))[0]
            return shares[step] if step < len(shares) else 1.0
        return 0.0

    def wants_probe(self, now_s: float) -> bool:
        """Whether the next permit would be a probe: the open period is over and none is out."""
        now_s = max(now_s, self._latest_s)
        if self.state is _OPEN:
            return self.retry_at_s is not None and now_s >= self.retry_at_s
        if self.state is _HALF_OPEN:
            return self._probe is None or now_s >= self._probe_until_s
        return False

    def wants_trial(self, now_s: float) -> bool:
        """Whether the next permit would be a trial: others speak ill of the target, and none is
        out. To be treated as a probe, but it is asked of whoever would have been asked anyhow."""
        suspicion = self._suspicion
        return suspicion is not None and (
            self.state is _CLOSED and suspicion.wants_trial(max(now_s, self._latest_s))
        )

    def is_suspected(self, now_s: float) -> bool:
        """Whether others speak ill of the target, and nothing here has refuted it."""
        suspicion = self._suspicion
        return suspicion is not None and suspicion.is_on(max(now_s, self._latest_s))

    @property
    def is_hearsay(self) -> bool:
        """Whether it last opened for what others said: not to be told on."""
        return self.reason is TripReason.HINT

    def admits(self, now_s: float) -> bool:
        """Whether a permit would be given now without force."""
        return self.state is _CLOSED or self.state is _RAMP or self.wants_probe(now_s)

    # --- asked by an attempt ----------------------------------------------------------------

    def permit(self, now_s: float, *, forced: bool = False) -> Permit | None:
        """Take the right to one attempt, before anything of it is sent.

        Args:
            forced: for the last member of a class, which is never ejected.

        Returns:
            None while open, or half-open with a probe out; never when forced. Whoever gets a permit
            owes it an outcome; a probe's that never comes is made up for by `probe_timeout_s`.
        """
        now_s = self._arrive(now_s)
        if self.state is _CLOSED or self.state is _RAMP:
            permit = Permit(self, self.generation, is_probe=False)
            if self._suspicion is not None and self.wants_trial(now_s):
                permit.is_trial = True
                self._suspicion.tried(permit, now_s)
            return permit
        if self.wants_probe(now_s):
            if self.state is _OPEN:
                self._enter(_HALF_OPEN)
            self._probe = Permit(self, self.generation, is_probe=True)
            self._probe_until_s = now_s + self.settings.probe_timeout_s
            return self._probe
        return Permit(self, self.generation, is_probe=False) if forced else None

    # --- told by others ---------------------------------------------------------------------

    def suspect(
        self, teller: str, episode: int, now_s: float, lasts_s: float, *, is_slow: bool = False
    ) -> bool:
        """Another worker's breaker of this target has opened; see `Suspicion.hear`.

        Returns:
            Whether it was news to a breaker that is closed or on the ramp. Others know better.
        """
        now_s = self._arrive(now_s)
        if self.state is _OPEN or self.state is _HALF_OPEN:
            return False
        suspicion = self._suspicion
        if suspicion is None:
            suspicion = self._suspicion = Suspicion()
        if not suspicion.hear(teller, episode, now_s, lasts_s, is_slow=is_slow):
            return False
        row = max(self._consecutive, self._broken)
        if (
            not is_slow
            and row >= self.settings.foretold_failures
            and self._window.totals(now_s)[1] >= self.settings.foretold_failures
        ):
            self._trip(TripReason.HINT, now_s)
        return True

    def unsuspect(self, teller: str, episode: int) -> None:
        """The other one says that it is well again."""
        if self._suspicion is not None:
            self._suspicion.take_back(teller, episode)

    # --- told by permits --------------------------------------------------------------------

    def ended(self, permit: Permit, outcome: Outcome, now_s: float) -> None:
        """Take the one outcome of a permit (called by it)."""
        now_s = self._arrive(now_s)
        if permit is self._probe:
            self._probe = None
        if permit.is_trial and self._suspicion is not None:
            self._suspicion.trial_over(permit)
        if permit.generation != self.generation or outcome is Outcome.IGNORED:
            return
        if self.state is _HALF_OPEN:
            # Whoever comes first decides: a forced attempt is as good a witness as the probe.
            if outcome is Outcome.SUCCESS:
                self._recover(now_s)
            else:
                self._open(now_s)
        elif outcome is Outcome.SUCCESS:
            self._succeeded(permit, now_s)
        elif outcome is Outcome.FAILURE:
            self._failed(permit, now_s)

    def spoke(self, permit: Permit) -> None:
        """The first token of a permit whose lateness is known (called by it)."""
        if permit.generation == self.generation:
            self._consecutive = 0
        if permit.is_trial and self._suspicion is not None:
            self._suspicion.trial_over(permit)

    def observed(
        self,
        permit: Permit,
        ttft: float,
        baseline_p50: float | None,
        now_s: float,
        is_censored: bool,
    ) -> None:
        """Take the one latency of a permit (called by it)."""
        now_s = self._arrive(now_s)
        suspicion = self._suspicion
        if permit.is_trial and permit.has_token and suspicion is not None:
            suspicion.trial_over(permit)
        if permit.generation != self.generation:
            return
        if permit.has_token:
            self._consecutive = 0
        is_late = baseline_p50 is not None and ttft > self.settings.slow_factor * baseline_p50
        if suspicion is not None:
            if is_late:
                suspicion.doubt()
            elif permit.has_token:
                suspicion.spoke()
        if baseline_p50 is None or (is_censored and not is_late):
            return
        if self.state is _HALF_OPEN:
            # Its success would bring traffic back to what was left for being slow.
            if is_late and self.reason is TripReason.SLOW:
                self._open(now_s)
        elif self.state is not _OPEN:
            lateness = self._lateness
            lateness.append((now_s, is_late))
            if is_late and self._is_foretold_slow(now_s):
                self._trip(TripReason.HINT, now_s)
                return
            # The first one is the oldest: with it, all are of the window.
            if (
                is_late
                and len(lateness) == self.settings.slow_samples
                and lateness[0][0] > now_s - self.settings.window_s
                and 2 * sum(late for _, late in lateness) > len(lateness)
            ):
                self._trip(TripReason.SLOW, now_s)

    def _is_foretold_slow(self, now_s: float) -> bool:
        """Whether the last two first tokens were late, and others say that it is slow. One is late
        by chance now and then."""
        suspicion, lateness = self._suspicion, self._lateness
        if suspicion is None or len(lateness) < 2 or not suspicion.is_slow(now_s):
            return False
        at_s, was_late = lateness[-2]
        return was_late and at_s > now_s - self.settings.window_s

    # --- observability ----------------------------------------------------------------------

    def describe(self, now_s: float) -> dict[str, object]:
        """The state in words and numbers, for people."""
        is_open = self.state is _OPEN or self.state is _HALF_OPEN
        retry_in_s = self.retry_at_s - now_s if is_open and self.retry_at_s is not None else 0.0
        successes, failures = self._window.totals(max(now_s, self._latest_s))
        return {
            "state": self.state.value,
            "share": self.share(now_s),
            "wants_probe": self.wants_probe(now_s),
            "reason": self.reason.value if self.reason is not None else None,
            "suspected": self.is_suspected(now_s),
            "trips": self.trips,
            "retry_in_s": max(0.0, retry_in_s),
            "consecutive_failures": max(self._consecutive, self._broken),
            "window": {"successes": successes, "failures": failures},
            "edges": {f"{a.value}->{b.value}": count for (a, b), count in self.edges.items()},
        }

    # --- transitions: all of them are here --------------------------------------------------

    def _arrive(self, now_s: float) -> float:
        """Take the clock's reading, and the step of the ramp that was due by then."""
        if now_s > self._latest_s:
            self._latest_s = now_s
        else:
            now_s = self._latest_s
        if self.state is _RAMP:
            self._climb(now_s)
        return now_s

    def _climb(self, now_s: float) -> None:
        step, since_s = self._step_due(now_s)
        if step != self._step:
            self._step, self._step_at_s, self._streak = step, since_s, 0
            if step == len(self.settings.ramp_shares):
                self._close()

    def _step_due(self, now_s: float) -> tuple[int, float]:
        """The ramp's step at this time and its beginning, had anyone asked in between."""
        if self._streak >= self.settings.ramp_evidence:
            due_s = max(self._step_at_s + self.settings.ramp_step_s, self._evident_at_s)
            if now_s >= due_s:
                return self._step + 1, due_s
        return self._step, self._step_at_s

    def _succeeded(self, permit: Permit, now_s: float) -> None:
        if not permit.has_token:
            self._consecutive = 0
            if self._suspicion is not None:
                self._suspicion.spoke()
        self._broken = 0
        self._streak += 1
        if self.state is not _OPEN:
            self._window.add(now_s, is_failure=False)
            if self._streak == self.settings.ramp_evidence:
                self._evident_at_s = now_s
                if self.state is _RAMP:
                    self._climb(now_s)
        elif self._streak >= self.settings.ramp_evidence and self.retry_at_s is not None:
            # Forced attempts have shown what a probe is for.
            self.retry_at_s = min(self.retry_at_s, now_s)

    def _failed(self, permit: Permit, now_s: float) -> None:
        self._streak = 0
        if permit.has_token:
            self._broken += 1
        else:
            self._consecutive += 1
        if self.state is _OPEN:
            return
        suspicion = self._suspicion
        if suspicion is not None:
            suspicion.doubt()
        settings = self.settings
        is_closed = self.state is _CLOSED
        row = settings.consecutive_failures if is_closed else settings.ramp_failures
        self._window.add(now_s, is_failure=True)
        successes, failures = self._window.totals(now_s)
        samples = successes + failures
        if max(self._consecutive, self._broken) >= row:
            self._trip(TripReason.CONSECUTIVE, now_s)
        elif samples >= settings.min_samples and failures >= settings.failure_ratio * samples:
            self._trip(TripReason.RATIO, now_s)
        elif suspicion is not None and suspicion.is_failing(now_s):
            self._trip(TripReason.HINT, now_s)

    def _trip(self, reason: TripReason, now_s: float) -> None:
        self.reason = reason
        self.trips += 1
        self._open(now_s)

    def _open(self, now_s: float) -> None:
        settings = self.settings
        spread = 1 + settings.jitter * (2 * self._draw() - 1)
        self.opened_at_s = now_s
        if self.is_hearsay and self.state is not _HALF_OPEN:
            self.retry_at_s = now_s + settings.hinted_open_s * spread
        else:
            doublings = min(max(0, self._openings - 1), _MAX_DOUBLINGS)
            period_s = min(settings.open_s * 2**doublings, settings.max_open_s)
            self.retry_at_s = now_s + period_s * spread
            self._openings += 1
        self._enter(_OPEN)

    def _recover(self, now_s: float) -> None:
        self._enter(_RAMP)
        self._step, self._step_at_s = 0, now_s
        is_trusted = self.is_hearsay and not self._openings  # one failure, and now it answers
        if is_trusted or not self.settings.ramp_shares:
            self._close()

    def _close(self) -> None:
        self._count(_CLOSED)
        self._openings = 0

    def _enter(self, state: BreakerState) -> None:
        """Begin a new generation in this state: nothing of before is evidence."""
        self._count(state)
        self.generation += 1
        self._consecutive = self._broken = self._streak = 0
        self._window.clear()
        self._lateness.clear()
        if state is _OPEN:
            self._suspicion = None  # we know better now

    def _count(self, state: BreakerState) -> None:
        edge = (self.state, state)
        self.edges[edge] = self.edges.get(edge, 0) + 1
        before, self.state = self.state, state
        if self.on_edge is not None:
            self.on_edge(before)


class _Counts:
    """Successes and failures of a sliding window, in slots; times do not decrease."""

    __slots__ = ("_failures", "_slot", "_slot_s", "_successes", "_sums")

    def __init__(self, window_s: float) -> None:
        self._slot_s = window_s / WINDOW_SLOTS
        self._slot = 0
        """Number of the newest slot, counted from the clock's zero."""
        self._successes = [0] * WINDOW_SLOTS
        self._failures = [0] * WINDOW_SLOTS
        self._sums = [0, 0]

    def add(self, now_s: float, *, is_failure: bool) -> None:
        slot = int(now_s // self._slot_s)
        for old in range(self._slot + 1, min(slot, self._slot + WINDOW_SLOTS) + 1):
            index = old % WINDOW_SLOTS
            self._sums[0] -= self._successes[index]
            self._sums[1] -= self._failures[index]
            self._successes[index] = self._failures[index] = 0
        self._slot = slot
        counts = self._failures if is_failure else self._successes
        counts[slot % WINDOW_SLOTS] += 1
        self._sums[is_failure] += 1

    def totals(self, now_s: float) -> tuple[int, int]:
        """Successes and failures of the slots that are in the window at this time."""
        slots_gone = int(now_s // self._slot_s) - self._slot
        if slots_gone <= 0:
            return self._sums[0], self._sums[1]
        kept = [(self._slot - back) % WINDOW_SLOTS for back in range(WINDOW_SLOTS - slots_gone)]
        return sum(self._successes[i] for i in kept), sum(self._failures[i] for i in kept)

    def clear(self) -> None:
        self._successes = [0] * WINDOW_SLOTS
        self._failures = [0] * WINDOW_SLOTS
        self._sums = [0, 0]
