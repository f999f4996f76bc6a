"""The order in which targets may be tried for one request.

Candidates are a class of equivalents in the operator's order; fallbacks come when every candidate
has failed and are never hedged. Health, load and price change the order in a later version: this
is their room.
"""

from __future__ import annotations

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


def make_plan(route: Route, request: GenerateRequest) -> RoutePlan:
    """Order the route's targets for this request; a target that stands twice is tried once."""
    seen: set[tuple[str, str]] = set()
    planned: list[PlannedAttempt] = []
    for targets, is_fallback in ((route.candidates, False), (route.fallbacks, True)):
        for target in targets:
            key = (target.endpoint.provider, target.model)
            if key not in seen:
                seen.add(key)
                planned.append(PlannedAttempt(target, is_fallback))
    return RoutePlan(tuple(planned), route.timeouts_for(request))
