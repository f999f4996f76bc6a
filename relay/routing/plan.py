"""One step of a plan: a target that may be asked, and in what sense."""

from __future__ import annotations

from typing import NamedTuple

from relay.routing.target import Target


class PlannedAttempt(NamedTuple):
    """One target and whether it is a fallback."""

    target: Target
    is_fallback: bool
    is_planned: bool = True
    """Whether it stands in the plan; a second try at the first target, beside the first and over
    another connection, does not."""
