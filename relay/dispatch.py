"""One generation's way to a committed stream: admit, route, plan, race.

`Services` is what a worker offers its generations; `server.py` builds it, everything else only
reads it. A reload replaces `catalog`; a generation keeps the one it started with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relay.attempt import Attempt
from relay.content import GenerateRequest
from relay.deadline import Clock
from relay.errors import Draining
from relay.governance.ledger import Ledger, LedgerEntry
from relay.outcome import AttemptRecord
from relay.race import run_race
from relay.reaper import Reaper
from relay.routing.catalog import Catalog
from relay.routing.plan import PlannedAttempt, make_plan
from relay.timeline import Timeline
from relay.transport.base import Transport

if TYPE_CHECKING:
    from collections.abc import MutableSequence


@dataclass(slots=True)
class Services:
    """The parts of one worker that a generation uses."""

    catalog: Catalog
    transport: Transport
    ledger: Ledger
    reaper: Reaper
    clock: Clock
    slow_consumer_s: float = 30.0
    lane_bytes: int = 65_536
    is_draining: bool = False
    live: set[object] = field(default_factory=set)
    """Generations between their enter and their end; a drain waits for it to empty."""


@dataclass(slots=True)
class Committed:
    """A won race."""

    attempt: Attempt
    entry: LedgerEntry | None


async def commit(
    services: Services,
    generation_id: str,
    request: GenerateRequest,
    timeline: Timeline,
    records: MutableSequence[AttemptRecord],
) -> Committed:
    """Bring a request to its first content event.

    Args:
        records: every attempt started is appended, also when this raises.

    Raises:
        RelayError: refused, unknown, or every attempt failed; nothing was released.

    Cancelled: whatever ran is aborted. The caller owns the attempt returned.
    """
    if services.is_draining:
        raise Draining("this relay is shutting down; connect again")
    catalog = services.catalog
    entry = await services.ledger.admit(generation_id, request)
    timeline.close("admission")
    plan = make_plan(catalog.resolve(request.model), request)
    timeline.close("route")

    def start(step: PlannedAttempt) -> Attempt:
        attempt = Attempt(
            step.target,
            request,
            plan.timeouts,
            transport=services.transport,
            reaper=services.reaper,
            clock=services.clock,
            received_s=timeline.received_s,
        )
        records.append(attempt.record)
        return attempt

    attempt = await run_race(plan.attempts, start)
    timeline.adopt(attempt.marks)
    try:
        if entry is not None:
            await entry.durable()
    except BaseException:
        attempt.abort()
        raise
    return Committed(attempt, entry)
