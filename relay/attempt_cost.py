"""What one attempt costs: as its provider counted, or estimated where it gave no account.

Also what is learnt of such counts: how a target's tokens compare with those estimated from bytes,
and how much of its rate limit is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relay.content import ReasoningDelta, StreamEvent, TextDelta, ToolArgumentsDelta, Usage
from relay.errors import (
    ConnectError,
    NotAnAnswer,
    RelayError,
    Retry,
    StreamRefused,
    UpstreamStatus,
)
from relay.outcome import AttemptOutcome, AttemptRecord, AttemptRole
from relay.prices import LOSER_OUTPUT_TOKENS, NO_COST, UNSET_OUTPUT_TOKENS, OutputTokens
from relay.routing.target import Target
from relay.target_state import TargetState
from relay.tokens import BYTES_PER_TOKEN, count_bytes, is_plausible

STALE_WITHIN_S: Final = 1.0
"""After so long without a reset somebody was at the other end of a connection that had served."""

ANY_OUTPUT: Final = OutputTokens(UNSET_OUTPUT_TOKENS, UNSET_OUTPUT_TOKENS)

_COSTS_NOTHING: Final = (UpstreamStatus, ConnectError, StreamRefused, NotAnAnswer)


@dataclass(slots=True)
class AttemptCost:
    """Of one attempt; fills `record`."""

    target: Target
    state: TargetState
    record: AttemptRecord
    estimated_prompt_tokens: int
    """From bytes, not corrected for this target."""
    cached_tokens: int
    """How many of them the provider is believed to have in its cache."""
    output: OutputTokens
    """How long the answer may become, for what it costs if it is left."""

    def prompt_tokens(self) -> int:
        """Estimated, as this target counts."""
        return self.state.prompt_tokens(self.estimated_prompt_tokens)

    def believed(self, usage: Usage | None) -> Usage | None:
        """What the provider counted, if that is one to learn from."""
        if usage is None or not is_plausible(usage, self.estimated_prompt_tokens):
            return None
        return usage

    def estimate(
        self,
        outcome: AttemptOutcome,
        error: RelayError | None,
        *,
        at_s: Mapping[str, float],
        now_s: float,
        prelude: Sequence[StreamEvent],
    ) -> None:
        """The attempt is over, and perhaps nobody will say what it cost.

        An error answer costs nothing, and what was not sent. One that was left is paid for its
        prompt and what it had written; where the provider is not known to stop, for a whole answer.

        Args:
            at_s: its marks, by phase.
            prelude: what had come of the answer of one that lost.
        """
        record, target = self.record, self.target
        if record.is_loser and "first_content" in at_s:
            # What had come before it lost, and about what came until the provider knew.
            record.tokens_seen = _count_tokens(prelude) + LOSER_OUTPUT_TOKENS
        record.prompt_tokens = self.prompt_tokens()
        record.is_free = (
            "request_sent" not in at_s
            or (outcome is not AttemptOutcome.IGNORED and isinstance(error, _COSTS_NOTHING))
            or (
                # Over a stale connection nobody has seen it.
                is_free_to_retry(error)
                and record.role is not AttemptRole.RETRY
                and now_s - at_s["request_sent"] < STALE_WITHIN_S
            )
        )
        if target.price is None:
            return
        if record.is_free:
            cost = NO_COST
        else:
            cost = target.price.of_left(
                record.prompt_tokens,
                self.cached_tokens,
                self.output,
                seen_tokens=record.tokens_seen,
                stops_billing=target.endpoint.stops_billing,
            )
        record.cost, record.cost_upper = cost

    def spent(self, usage: Usage, now_s: float) -> None:
        """What it cost, as far as it is known; once, when it is over."""
        state, price, record = self.state, self.target.price, self.record
        if price is not None:
            cached = self.cached_tokens if usage.cached_tokens is None else usage.cached_tokens
            record.cost = price.of(usage.prompt_tokens, cached, usage.completion_tokens)
            if record.outcome is AttemptOutcome.SUCCESS:
                record.cost_upper = record.cost
        record.tokens_seen = usage.completion_tokens
        if self.believed(usage) is None:
            state.headroom.spend(self.prompt_tokens() + self.output.expected, now_s)
            return
        state.headroom.spend(usage.total_tokens, now_s)
        if not usage.is_estimated:
            state.calibrate(self.estimated_prompt_tokens, usage.prompt_tokens)


def is_free_to_retry(error: RelayError | None) -> bool:
    """Whether the provider has certainly not seen what failed so."""
    return error is not None and error.retry is Retry.IF_REUSED


def _count_tokens(events: Sequence[StreamEvent]) -> int:
    """About how much of an answer is in these events."""
    held_bytes = 0
    for event in events:
        if isinstance(event, TextDelta | ReasoningDelta):
            held_bytes += count_bytes(event.text)
        elif isinstance(event, ToolArgumentsDelta):
            held_bytes += count_bytes(event.fragment)
    return -(-held_bytes // BYTES_PER_TOKEN)
