"""Ends of generations, for the encoders."""

from __future__ import annotations

from collections.abc import Sequence

from relay.content import ChoiceFinished, StreamEvent, Usage
from relay.errors import RelayError
from relay.outcome import AttemptRecord, GenerationEnd, HedgeRecord
from relay.timeline import PHASES


def end_of(
    events: Sequence[StreamEvent] = (),
    *,
    error: RelayError | None = None,
    attempts: Sequence[AttemptRecord] = (),
    provider: str = "a",
    usage: Usage | None = None,
    hedge: HedgeRecord | None = None,
) -> GenerationEnd:
    """The end that a generation would have after these events."""
    finished = [event for event in events if isinstance(event, ChoiceFinished)]
    counted = [event for event in events if isinstance(event, Usage)]
    usage = counted[-1] if counted else usage
    return GenerationEnd(
        error=error,
        finish_reasons={event.choice: event.reason for event in finished},
        raw_finish_reasons={event.choice: event.raw_reason for event in finished},
        usage=usage,
        is_usage_final=usage is not None and not usage.is_estimated,
        attempts=tuple(attempts),
        phases_us={phase: index for index, phase in enumerate(PHASES)},
        stall_count=1,
        longest_gap_us=600_000,
        provider=provider,
        model="m",
        response_id="chatcmpl-1",
        has_output=bool(events),
        hedge=hedge,
    )
