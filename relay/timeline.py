"""The latency record of one generation: consecutive phases of the winner's path.

The phases sum to the wall time exactly and there is no `other`. Up to the first content every
phase ends where the next begins, on one monotonic clock, and is closed by `close(phase)`; from
there the time is split by what the generation waited for. Waiting for the provider is `stream` or
`stalls`, also before the first output: tool arguments that the client gets whole are not written
while they come.

    admission         received            -> admitted (parsed, known, may and can pay)
    route             admitted            -> plan made
    race_wait         plan made           -> the winner's attempt starts (failed ones before it);
                      without a winner, the last attempt's
    pool_wait         attempt starts      -> a stream slot on a warm connection is ours
    request_sent      slot                -> request encoded and handed to the HTTP engine
    response_headers  handed over         -> response head
    first_content     head                -> first content event decoded
    relay_out         first content       -> first output written to the client, without waiting
                      for the provider; to the end, where the answer has ended before it is written
    stream            the rest of the time between first content and the last wait for the provider
    stalls            waits of more than STALL_S inside it, in which the provider sent nothing
    end               last wait over      -> the end is fixed and goes to the frontend
"""

from __future__ import annotations

from relay.deadline import Clock

PHASES = (
    "admission",
    "route",
    "race_wait",
    "pool_wait",
    "request_sent",
    "response_headers",
    "first_content",
    "relay_out",
    "stream",
    "stalls",
    "end",
)
"""Names in order; `_us` is added where units are shown."""

_INDEX = {name: index for index, name in enumerate(PHASES)}
_RACE_WAIT = _INDEX["race_wait"]
_ATTEMPT_PHASES = PHASES[3:7]
_FIRST_CONTENT = _INDEX["first_content"]
_RELAY_OUT = _INDEX["relay_out"]

STALL_S = 0.5
"""A gap between two upstream events longer than this is a stall: well above the inter-token
times of every provider in the published data (20-100 ms), and about where a listener notices."""


class AttemptMarks:
    """When one attempt passed its points; absolute seconds, None where it never came to it."""

    __slots__ = ("at_s", "started_s")

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.at_s: dict[str, float] = {}
        """Phase -> the moment it was over."""


class Timeline:
    """Builds the record; one object a generation, a handful of clock readings a request."""

    def __init__(self, clock: Clock, received_s: float | None = None) -> None:
        self._clock = clock
        self.received_s = clock() if received_s is None else received_s
        self._ends_s: list[float] = []
        """End of each closed phase in order of PHASES, up to `relay_out`."""
        self._ends_us: list[int] = []
        """The same in microseconds since receipt, as far as it was asked for."""
        self._stalled_s = 0.0
        self._held_s = 0.0
        """Waiting for the provider between first content and first output."""
        self._last_event_s: float | None = None
        self._finished_us: dict[str, int] | None = None
        self.stall_count = 0
        self.longest_gap_s = 0.0

    def close(self, phase: str) -> None:
        """`phase` is over now, and with it every phase before it; ignored if it was over."""
        self._close_at(_INDEX[phase], self._clock())

    def adopt(self, marks: AttemptMarks) -> None:
        """Take over the winner's points: its start ends `race_wait`."""
        self._close_at(_RACE_WAIT, marks.started_s)
        ends, at_s = self._ends_s, marks.at_s
        if len(at_s) == len(_ATTEMPT_PHASES) and len(ends) == _RACE_WAIT + 1:
            last_s = ends[-1]
            for phase in _ATTEMPT_PHASES:
                moment_s = at_s[phase]
                if moment_s > last_s:
                    last_s = moment_s
                ends.append(last_s)
        else:
            for index, phase in enumerate(_ATTEMPT_PHASES, _RACE_WAIT + 1):
                if (found_s := at_s.get(phase)) is not None:
                    self._close_at(index, found_s)
        self._last_event_s = at_s.get("first_content")

    def _close_at(self, index: int, at_s: float) -> None:
        ends = self._ends_s
        missing = index - len(ends)
        if missing < 0:
            return
        last_s = ends[-1] if ends else self.received_s
        if missing:
            ends += [last_s] * missing
        ends.append(at_s if at_s > last_s else last_s)

    def _closed_us(self, count: int) -> list[int]:
        """Since receipt, when each of the first `count` phases was over, of those that are."""
        known, received_s = self._ends_us, self.received_s
        for at_s in self._ends_s[len(known) : count]:
            known.append(round((at_s - received_s) * 1e6))
        return known

    def gap(self, waited_s: float, now_s: float) -> None:
        """A wait of `waited_s` for the provider is over: its next events are here, or its end, or
        the generation's. Once a batch of events."""
        self._last_event_s = now_s
        if len(self._ends_s) <= _RELAY_OUT:
            self._held_s += waited_s
        if waited_s > self.longest_gap_s:
            self.longest_gap_s = waited_s
        if waited_s > STALL_S:
            self._stalled_s += waited_s
            self.stall_count += 1

    def finish(self) -> dict[str, int]:
        """Close the record now; phases in microseconds, summing to the wall time. Idempotent.

        A generation that ended early has its last stretch in the phase it was in.
        """
        if self._finished_us is not None:
            return self._finished_us
        end_s = self._clock()
        ends = self._ends_s
        phases = dict.fromkeys(PHASES, 0)
        begin_us = 0
        for name, at_us in zip(PHASES, self._closed_us(len(ends)), strict=False):
            phases[name] = at_us - begin_us
            begin_us = at_us
        wall_us = round((end_s - self.received_s) * 1e6)
        if len(ends) <= _FIRST_CONTENT:
            phases[PHASES[len(ends)]] = wall_us - begin_us
        else:
            content_us = begin_us - phases["relay_out"]
            if len(ends) > _RELAY_OUT:
                last_s = max(self._last_event_s or ends[-1], ends[-1])
                last_us = max(begin_us, min(wall_us, round((last_s - self.received_s) * 1e6)))
            else:  # nothing was written: what was no waiting was relay_out, to the end
                begin_us = last_us = wall_us
            held_us = min(round(self._held_s * 1e6), begin_us - content_us)
            waited_us = held_us + last_us - begin_us
            stalled_us = min(round(self._stalled_s * 1e6), waited_us)
            phases["relay_out"] = begin_us - content_us - held_us
            phases["stalls"] = stalled_us
            phases["stream"] = waited_us - stalled_us
            phases["end"] = wall_us - last_us
        self._finished_us = phases
        return phases

    @property
    def is_finished(self) -> bool:
        """Whether the record is closed."""
        return self._finished_us is not None

    def until_first_content(self) -> dict[str, int]:
        """The phases closed so far in microseconds, `first_content` the last of them."""
        phases: dict[str, int] = {}
        begin_us = 0
        closed_us = self._closed_us(_FIRST_CONTENT + 1)
        for name, at_us in zip(PHASES[: _FIRST_CONTENT + 1], closed_us, strict=False):
            phases[name] = at_us - begin_us
            begin_us = at_us
        return phases
