"""What a target would have done with a request: as recorded where it was asked, else drawn.

Drawn from all that the log shows of the target: its times to first token divided by what their
prompts explain (`relay.resilience.latency`), those of attempts that were left counted as longer
than their age (Kaplan and Meier, JASA 1958), and its failures at their share. Draws depend on seed,
request and target alone, so that two policies that send a request to the same target meet the same.
"""

from __future__ import annotations

import bisect
import random
import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.resilience.latency import LatencySketch
from relay.whatif.recorded import Kind, Recorded, Tried

MIN_SAMPLES: Final = 100
"""First tokens of a target without which nothing is drawn: its p99 would be a guess."""


class TooFewSamples(Exception):
    """The log knows too little of a target that the policy would ask.

    Args:
        target: `provider/model`.
        samples: first tokens that the log has of it.
    """

    def __init__(self, target: str, samples: int) -> None:
        super().__init__(
            f"the log has {samples} first tokens of {target}, and this policy would ask it where"
            f" it was not asked: send it at least {MIN_SAMPLES} requests by its own name, such as"
            f" model {target} (relay chat --model {target}, or any client), or leave it out of the"
            " policy"
        )
        self.target = target
        self.samples = samples


class Met(NamedTuple):
    """What an attempt meets."""

    is_failure: bool
    after_s: float
    outcome: str
    """How it ends: `success`, `failure` or `overload`."""
    reason: str
    http_status: int
    """Of a failure that has one."""
    cached_tokens: int | None
    """As recorded; None where it was drawn."""


class Tail:
    """Values of which some are only known to be longer; both may be empty, together they are not.

    Beyond the longest value nothing is known: what would lie there is put at the longest.
    """

    def __init__(self, finished: Sequence[float], censored: Sequence[float]) -> None:
        ends = sorted([(value, 0) for value in finished] + [(value, 1) for value in censored])
        self.samples = len(finished)
        self._at: list[float] = []
        self._gone: list[float] = []  # share that is over at `_at`, ascending
        self._longest = ends[-1][0]
        alive, at_risk = 1.0, len(ends)
        for value, is_censored in ends:  # of equal ones the finished come first
            if not is_censored:
                alive *= 1.0 - 1.0 / at_risk
                if self._at and self._at[-1] == value:
                    self._gone[-1] = 1.0 - alive
                else:
                    self._at.append(value)
                    self._gone.append(1.0 - alive)
            at_risk -= 1
        self.open_share = max(0.0, alive)
        """Of the values, how many are longer than any that finished."""

    def gone(self, by: float) -> float:
        """Share that is over by then."""
        index = bisect.bisect_right(self._at, by)
        return self._gone[index - 1] if index else 0.0

    def at(self, share: float, *, after: float | None = None) -> float:
        """The value that this share lies at or below, of all or of those longer than `after`."""
        begin = 0.0 if after is None else self.gone(after)
        index = bisect.bisect_left(self._gone, begin + share * (1.0 - begin) - 1e-12)
        if after is not None:
            index = max(index, bisect.bisect_right(self._at, after))
        value = self._at[index] if index < len(self._at) else self._longest
        return value if after is None else max(value, after)


class _Known(NamedTuple):
    """All that the log shows of one target."""

    tail: Tail | None
    sketch: LatencySketch
    failures: tuple[Tried, ...]
    failure_share: float
    gap_s: float | None


class Draws:
    """What every target of a log would do.

    Args:
        requests: of the log, in order.
    """

    def __init__(self, requests: Sequence[Recorded]) -> None:
        by_target: dict[str, list[tuple[Recorded, Tried]]] = {}
        gaps: dict[str, list[float]] = {}
        for one in requests:
            for tried in one.tried:
                by_target.setdefault(tried.target, []).append((one, tried))
            if one.winner and one.completion_tokens > 1:
                gaps.setdefault(one.winner, []).append(one.gap_s)
        self._known = {name: _known(rows, gaps.get(name)) for name, rows in by_target.items()}

    def samples(self, target: str) -> int:
        """How many first tokens the log has of a target."""
        known = self._known.get(target)
        return known.tail.samples if known is not None and known.tail is not None else 0

    def open_share(self, target: str) -> float:
        """Share of its first tokens that are longer than any that was seen."""
        known = self._known.get(target)
        return known.tail.open_share if known is not None and known.tail is not None else 0.0

    def gap_s(self, target: str, recorded: Recorded) -> float:
        """Between tokens of an answer of this target: as recorded, else its median."""
        known = self._known.get(target)
        if recorded.winner == target or known is None or known.gap_s is None:
            return recorded.gap_s
        return known.gap_s

    def meet(
        self, target: str, index: int, recorded: Recorded, cached: int, seed: int, nth: int = 0
    ) -> Met:
        """What request number `index` meets at a target.

        Args:
            cached: tokens of its prompt that are believed to be in the target's cache.
            nth: of its attempts there, from 0: a hedge may go to the same target again.

        Raises:
            TooFewSamples: it must be drawn, and the log knows too little.
        """
        left_at_s = None
        for tried in [tried for tried in recorded.tried if tried.target == target][nth : nth + 1]:
            if tried.kind is Kind.LEFT:
                left_at_s = tried.after_s
                break
            is_failure = tried.kind is Kind.FAILED
            outcome = "success" if tried.outcome in ("lost", "ignored") else tried.outcome
            return Met(
                is_failure,
                tried.after_s,
                outcome,
                tried.reason,
                tried.http_status,
                tried.cached_tokens,
            )
        known = self._known.get(target)
        if known is None or known.tail is None or known.tail.samples < MIN_SAMPLES:
            raise TooFewSamples(target, self.samples(target))
        key = f"{seed}/{index}/{target}" + (f"/{nth}" if nth else "")
        draw = random.Random(key)  # noqa: S311 - not a secret
        if left_at_s is None and draw.random() < known.failure_share:
            failed = draw.choice(known.failures)
            return Met(
                True, failed.after_s, failed.outcome, failed.reason, failed.http_status, None
            )
        scale = known.sketch.scale(recorded.prompt_tokens or recorded.prompt_estimate, cached)
        after = None if left_at_s is None else left_at_s / scale
        after_s = known.tail.at(draw.random(), after=after) * scale
        return Met(False, after_s, "success", "", 0, None)


def _known(rows: Sequence[tuple[Recorded, Tried]], gaps: Sequence[float] | None) -> _Known:
    ready = [(one, tried) for one, tried in rows if tried.kind is Kind.READY]
    left = [(one, tried) for one, tried in rows if tried.kind is Kind.LEFT]
    failures = tuple(tried for _, tried in rows if tried.kind is Kind.FAILED)
    sketch = LatencySketch()
    for one, tried in ready:
        sketch.record(tried.after_s, one.prompt_tokens, tried.cached_tokens, 0.0)
    sketch.refit()

    def normal(pairs: Sequence[tuple[Recorded, Tried]]) -> list[float]:
        return [
            tried.after_s
            / sketch.scale(one.prompt_tokens or one.prompt_estimate, tried.cached_tokens)
            for one, tried in pairs
        ]

    finished, censored = normal(ready), normal(left)
    seen = len(ready) + len(failures)
    return _Known(
        tail=Tail(finished, censored) if finished else None,
        sketch=sketch,
        failures=failures,
        failure_share=len(failures) / seen if seen else 0.0,
        gap_s=statistics.median(gaps) if gaps else None,
    )
