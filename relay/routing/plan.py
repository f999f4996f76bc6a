"""The order in which targets may be tried for one request.

Candidates are a class of equivalents in the operator's order; fallbacks come when every candidate
has failed and are never hedged. A target that is known to refuse now (its provider's rate limit,
or the operator's) comes last of all, the one that opens soonest first: it is asked only when nobody
else is left. Health, load and price change the order in a later version: this is their room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from relay.content import GenerateRequest
from relay.routing.catalog import Route, Target, Timeouts


class PlannedAttempt(NamedTuple):
    """One target and whether it is a fallback."""

    target: Target
    is_fallback: bool


class RoutePlan(NamedTuple):
    """What a race may do: attempts in order (never empty), and the limits of each."""

    attempts: tuple[PlannedAttempt, ...]
    timeouts: Timeouts


def make_plan(
    route: Route, request: GenerateRequest, wait_s: Callable[[Target], float]
) -> RoutePlan:
    """Order the route's targets for this request; a target that stands twice is tried once.

    Args:
        wait_s: how long a target will refuse, seconds; 0 for one that may be asked.
    """
    seen: set[tuple[str, str]] = set()
    planned: list[PlannedAttempt] = []
    for targets, is_fallback in ((route.candidates, False), (route.fallbacks, True)):
        for target in targets:
            key = (target.endpoint.provider, target.model)
            if key not in seen:
                seen.add(key)
                planned.append(PlannedAttempt(target, is_fallback))
    if len(planned) > 1:
        planned.sort(key=lambda step: wait_s(step.target))  # stable: equals keep their order
    return RoutePlan(tuple(planned), route.timeouts_for(request))
