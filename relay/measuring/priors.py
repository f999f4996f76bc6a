"""What workers learn of a measuring: rows of `learned`, of a worker that is none.

Each worker takes up the rows of all when it starts, so it begins with these as with what an
earlier worker has seen. A target's row takes the place of the one of an earlier measuring, and
fades like all that is learnt (six hours).

How many tokens a byte makes is not learnt here, though workers do: the words are ours, not those
of anybody's prompts.

`require_usable` and `save` are blocking: called in a thread.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from relay.measuring.samples import DoorResult, Sample, figures
from relay.resilience.breaker import BreakerSettings
from relay.resilience.latency import DEFAULT_SLOPE, LatencySketch, Prior
from relay.resilience.limiter import LimiterSettings
from relay.store import learned
from relay.target_state import TargetState

MIN_KEPT: Final = 10
"""Warm samples of a door, to be worth keeping."""
_FITS: Final = 4
"""Each takes the slope of the one before; it moves by little after the second."""


def require_usable(path: Path) -> None:
    """Before anything is paid for.

    Raises:
        StoreError: nothing could be written to the file.
    """
    if not path.parent.is_dir():
        raise learned.StoreError(f"there is no folder {path.parent}")
    learned.load(path, learned.MEASURED)


def save(path: Path, states: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises StoreError: nothing was written."""
    learned.save(path, learned.MEASURED, states, time.time())


def states_of(results: Sequence[DoorResult], now_s: float) -> dict[str, dict[str, Any]]:
    """What is to be kept, by target; doors with too few warm samples are left out, or a run that
    ended at once would take the place of one that did not.

    Args:
        now_s: monotonic, the clock of the samples.
    """
    return {
        result.door.target.name: _learnt(result.warm).to_dict(now_s)
        for result in results
        if len(result.warm) >= MIN_KEPT
    }


def _learnt(samples: Sequence[Sample]) -> TargetState:
    state = TargetState(
        breaker=BreakerSettings(),
        limiter=LimiterSettings(),
        draw=random.random,
        prior=_prior(samples),
    )
    for sample in samples:
        _record(state.latency, sample)
    return state  # not refreshed: that would fit the slope to the same samples once more


def _prior(samples: Sequence[Sample]) -> Prior:
    """By which samples are normalised. A worker fits the slope while they come; here all are there,
    so it is fitted before the first is counted."""
    found = figures(samples)
    prior = Prior()
    if found is not None:
        prior = Prior(found.p50_s, found.p90_s, found.p99_s, DEFAULT_SLOPE)
    trial = LatencySketch(prior)
    for sample in samples:
        _record(trial, sample)
    for _ in range(_FITS):
        trial.refit()
    return prior._replace(slope=trial.slope)


def _record(sketch: LatencySketch, sample: Sample) -> None:
    sketch.record(sample.ttft_s, sample.prompt_tokens, sample.cached_tokens, sample.at_s)
