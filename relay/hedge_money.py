"""What hedges add to the bill of one request, over what its first attempt would have cost alone.

That, and not the price of whoever lost, is what `max_extra_cost` caps: a cold hedge that wins over
a warm first has a cheap loser and costs several times what it replaced. Nothing is given back for a
cheap hedge that wins, or cheap seconds would pay for dear ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from relay.content import Usage
from relay.outcome import AttemptOutcome, AttemptRecord, AttemptRole
from relay.prices import LOSER_OUTPUT_TOKENS, Cost, OutputTokens
from relay.routing.sticky import Warm
from relay.routing.target import Target
from relay.target_state import TargetStates


class HedgeMoney:
    """The arithmetic of one request; micro-dollars, None where a price is not known.

    Args:
        prompt_tokens: estimated from bytes, the same for every target.
        warm: where a part of it is believed to be cached, and how much.
        output: how long the answer may become.
    """

    __slots__ = ("_prompt_tokens", "_states", "_warm", "output")

    def __init__(
        self,
        states: TargetStates,
        prompt_tokens: int,
        warm: Warm | None,
        output: OutputTokens,
    ) -> None:
        self._states = states
        self._prompt_tokens = prompt_tokens
        self._warm = warm
        self.output = output

    def cached_tokens(self, target: Target) -> int:
        """How much of the prompt the target is believed to have in its cache."""
        warm = self._warm
        return 0 if warm is None else warm.tokens_at(target)

    def whole(self, target: Target, now_s: float, usage: Usage | None = None) -> float | None:
        """Of a whole answer there: of the expected length, or of that of another's answer."""
        if target.price is None:
            return None
        prompt = self._states.of(target, now_s).prompt_tokens(self._prompt_tokens)
        tokens = self.output.expected if usage is None else usage.completion_tokens
        return target.price.of(prompt, self.cached_tokens(target), tokens)

    def lost(self, target: Target, now_s: float, seen_tokens: int) -> Cost | None:
        """Of an attempt there that is left with so much of its answer written."""
        if target.price is None:
            return None
        return target.price.of_left(
            self._states.of(target, now_s).prompt_tokens(self._prompt_tokens),
            self.cached_tokens(target),
            self.output,
            seen_tokens=seen_tokens,
            stops_billing=target.endpoint.stops_billing,
        )

    def hedge(self, target: Target, now_s: float) -> float:
        """What is put aside for a hedge there, before it starts; 0 where no price is known."""
        lost = self.lost(target, now_s, min(LOSER_OUTPUT_TOKENS, self.output.expected))
        return 0.0 if lost is None else lost.likely

    def added(
        self,
        records: Sequence[AttemptRecord],
        usage: Usage | None,
        first: Target,
        now_s: float,
    ) -> Cost | None:
        """What the attempts of a race cost over the first alone, for the answer it gave.

        Args:
            records: of every attempt, in the order of their starts, final.
            usage: of the answer; None without one.
            first: target of the first attempt.
        """
        likely, upper = _sum(records, "cost"), _sum(records, "cost_upper")
        alone = self._alone(records, usage, first, now_s)
        if likely is None or upper is None or alone is None:
            return None
        return Cost(max(0.0, likely - alone), max(0.0, upper - alone))

    def _alone(
        self,
        records: Sequence[AttemptRecord],
        usage: Usage | None,
        first: Target,
        now_s: float,
    ) -> float | None:
        mine = first_of(records)
        winner = next((record for record in records if record.is_winner), None)
        if winner is None or winner is mine:
            return mine.cost
        if has_failed(mine):
            # Without a hedge another would have been asked in its place.
            return None if mine.cost is None or winner.cost is None else mine.cost + winner.cost
        return self.whole(first, now_s, usage)

    def would_add(
        self, first: Target, second: Target, usage: Usage | None, win: float, now_s: float
    ) -> Cost | None:
        """What a hedge would have added that was not sent, expected over who would have won.

        Args:
            usage: of the answer that the first gave; None without one.
            win: probability that the second would have won.
        """
        first_lost, second_lost = self.lost(first, now_s, 0), self.lost(second, now_s, 0)
        alone, instead = self.whole(first, now_s, usage), self.whole(second, now_s, usage)
        if first_lost is None or second_lost is None or alone is None or instead is None:
            return None
        return Cost(
            win * max(0.0, first_lost.likely + instead - alone) + (1.0 - win) * second_lost.likely,
            win * max(0.0, first_lost.upper + instead - alone) + (1.0 - win) * second_lost.upper,
        )


def has_failed(record: AttemptRecord) -> bool:
    """Whether an attempt ended by itself before another had won; a probe that lost may run on to an
    end of its own."""
    return not record.is_loser and record.outcome in (
        AttemptOutcome.FAILURE,
        AttemptOutcome.OVERLOAD,
    )


def first_of(records: Sequence[AttemptRecord]) -> AttemptRecord:
    """The first attempt, or its free retry on another connection."""
    first = records[0]
    if first.error is None:  # then a retry at the same target is a hedge's own
        return first
    place = (first.provider, first.model)
    for record in records[1:]:
        if record.role is AttemptRole.RETRY and (record.provider, record.model) == place:
            return record
    return first


def _sum(records: Iterable[AttemptRecord], field: str) -> float | None:
    total = 0.0
    for record in records:
        cost = getattr(record, field)
        if cost is None:
            return None
        total += cost
    return total
