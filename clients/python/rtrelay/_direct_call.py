"""One generation that a provider is asked for directly.

What the relay would see to is seen to here: time limits, what a speculation withholds, one end with
usage and timeline, nothing after it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import grpc

from rtrelay._flow import Flow, slow_consumer
from rtrelay._report import report
from rtrelay._sentences import SegmentedText
from rtrelay.errors import RelayError, to_status
from rtrelay.events import (
    Event,
    Extra,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCall,
)
from rtrelay.v1 import (
    Attempt,
    AttemptKind,
    AttemptOutcome,
    Budgets,
    CacheMode,
    CancelReason,
    ChoiceEnd,
    CommitOn,
    End,
    Outcome,
    Start,
    TextMode,
    Timeline,
)

if TYPE_CHECKING:
    from rtrelay.direct import Provider

COMMIT_WITHIN_S = 60.0
"""Of a speculation whose answer is there, as at the relay."""

_LIMITS = {
    "FIRST_TOKEN_TIMEOUT": "no content came within budgets.first_token_ms",
    "FIRST_SEGMENT_TIMEOUT": "no speakable segment came within budgets.first_segment_ms",
    "STREAM_STALLED": "nothing came for budgets.inter_token_ms",
    "DEADLINE_EXCEEDED": "budgets.total_ms has passed",
}
_TOOL_EVENTS = (ToolCall, ToolArgumentsDelta)


class DirectCall:
    """It runs from `begin` on, in a task of its own, until the flow is over."""

    def __init__(
        self,
        flow: Flow,
        start: Start,
        provider: Provider,
        asked_at_s: float,
        on_over: Callable[[DirectCall, bool], None],
    ) -> None:
        """
        Args:
            start: all that holds for it, the session's defaults included.
            asked_at_s: when the caller started it, by the loop's clock: its time limits count from
                there.
            on_over: called once no task is left, and whether the answer was cut.
        """
        self.flow = flow
        self._start = start
        self._provider = provider
        self._asked_at_s = asked_at_s
        self._on_over = on_over
        self._task: asyncio.Task[None] | None = None
        self._is_whole = False
        self._withholds = start.speculative
        self._withholds_all = start.speculative and start.hold_until_commit
        self._withheld: list[Event] = []
        self._committed = asyncio.Event()
        self._text_chars: dict[int, int] = {}
        self._wants_segments = _wants_segments(start)
        self._waits = start.output.commit_on == CommitOn.COMMIT_ON_FIRST_SEGMENT
        self._early: list[Event] = []
        """What waits for the first segment, where the caller wants that."""
        self._has_segment = False
        needs_segments = self._wants_segments or self._waits or start.budgets.first_segment_ms
        self._segments = SegmentedText() if needs_segments else None
        self._end = End()
        """What the provider's last word was, if there was any."""
        self._began_at_s = self._first_at_s = asyncio.get_running_loop().time()

    def begin(self) -> asyncio.Task[None]:
        """Ask the provider."""
        self._task = asyncio.create_task(self._run(), name="rtrelay direct call")
        # A task that is cancelled before its turn has run nothing of its own.
        self._task.add_done_callback(self._over)
        return self._task

    def cancel(self, reason: CancelReason.ValueType) -> None:
        """Stop it; its end is known when this returns, the connection is closed a moment later."""
        self.flow.finish(self._made_end(Outcome.OUTCOME_CANCELLED, cancel_reason=reason))
        if self._task is not None:
            self._task.cancel()

    def commit(self) -> None:
        """Let go what is withheld."""
        self._withholds = self._withholds_all = False
        self._committed.set()
        withheld, self._withheld = self._withheld, []
        if withheld:
            self._put(withheld)

    # --- the call ---------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._read()
        except RelayError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a user's provider may raise anything
            failure = _failure("UPSTREAM_FAILED", f"{type(error).__name__}: {error}")
            failure.__cause__ = error
            self._fail(failure)

    async def _read(self) -> None:
        if self._start.cache == CacheMode.CACHE_MODE_ONLY:
            raise RelayError(
                "CACHE_MISS",
                grpc.StatusCode.NOT_FOUND,
                "no relay answers, and only it keeps answers",
            )
        limits = _Limits(self._start.budgets, self._asked_at_s)
        try:
            async with asyncio.timeout_at(limits.until_s()) as limit:
                async with self._provider.generate(self._start) as events:
                    async for event in events:
                        if isinstance(event, End):
                            self._end = event
                            continue
                        if self._take(event):
                            limits.heard()
                        if self._has_segment:
                            limits.heard_segment()
                        limit.reschedule(limits.until_s())
                        if self.flow.over.is_set():
                            return
                    self._is_whole = True
                self._let_rest_go()
                limits.heard_all()
                limit.reschedule(limits.until_s())
                await self._until_let_go()
        except TimeoutError:
            if not limit.expired():
                raise
            raise limits.error() from None
        self.flow.finish(self._made_end(Outcome.OUTCOME_COMPLETED))

    async def _until_let_go(self) -> None:
        """A speculation that withholds something ends with its commit."""
        if not (self._withholds_all or self._withheld) or self._committed.is_set():
            return
        try:
            await asyncio.wait_for(self._committed.wait(), COMMIT_WITHIN_S)
        except TimeoutError:
            message = f"the answer was not committed to within {COMMIT_WITHIN_S:.0f} s"
            raise _late("DEADLINE_EXCEEDED", message) from None

    def _take(self, event: Event) -> bool:
        """Pass an event on; whether it is of a kind that is wanted."""
        output = self._start.output
        if isinstance(event, _TOOL_EVENTS):
            self._break_off(event)
        if isinstance(event, ReasoningDelta) and not output.reasoning:
            return False
        if isinstance(event, ToolArgumentsDelta) and not output.tool_arguments:
            return False
        if isinstance(event, Extra) and not output.extras:
            return False
        if not isinstance(event, TextDelta):
            self._pass_on([event])
            return True
        known = self._text_chars.get(event.choice, 0)
        self._text_chars[event.choice] = known + len(event.text)
        if self._segments is None:
            self._pass_on([event])
            return True
        segments = self._segments.feed(event)
        if output.text_mode != TextMode.TEXT_MODE_SEGMENTS:
            self._pass_on([event])
        if segments:
            self._said_one()
        if self._wants_segments:
            self._pass_on(segments)
        return True

    def _break_off(self, event: ToolCall | ToolArgumentsDelta) -> None:
        """What was said before a tool call is to be heard before it."""
        if self._segments is None:
            return
        segments = self._segments.break_off(event.choice)
        if self._wants_segments:
            self._pass_on(segments)
        if segments or isinstance(event, ToolCall):  # after which nobody waits for a sentence
            self._said_one()

    def _said_one(self) -> None:
        """There is something that can be spoken whole."""
        if not self._has_segment:
            self._has_segment = True
            self._end_wait()

    def _let_rest_go(self) -> None:
        """The answer is whole."""
        if self._segments is not None and self._wants_segments:
            self._pass_on(self._segments.flush())
        self._end_wait()

    def _end_wait(self) -> None:
        """What waited for the first segment need not any more."""
        self._waits = False
        early, self._early = self._early, []
        self._pass_on(early)

    def _pass_on(self, events: Iterable[Event]) -> None:
        for event in events:
            if self._waits:
                self._early.append(event)
            elif self._withholds_all or (
                self._withholds and (self._withheld or isinstance(event, _TOOL_EVENTS))
            ):
                self._withheld.append(event)
            else:
                self._put([event])

    def _put(self, events: list[Event]) -> None:
        if not self.flow.has_output:
            self._first_at_s = asyncio.get_running_loop().time()
        if not self.flow.put(events):
            if self.flow.has_callback:  # it raised
                self.flow.drop_unread()
                self.cancel(CancelReason.CANCEL_REASON_UNSPECIFIED)
            else:
                self.flow.drop_unread()
                self.flow.is_cancelled = False
                self._fail(slow_consumer())

    # --- the end ----------------------------------------------------------------------------

    def _fail(self, error: RelayError) -> None:
        # What came before stays valid; what is withheld nobody wants any more.
        self._withheld.clear()
        end = self._made_end(Outcome.OUTCOME_FAILED)
        end.error.CopyFrom(to_status(error))
        self.flow.finish(end)
        if self.flow.error is not None:
            self.flow.error.__cause__ = error.__cause__

    def _made_end(
        self,
        outcome: Outcome.ValueType,
        cancel_reason: CancelReason.ValueType = CancelReason.CANCEL_REASON_UNSPECIFIED,
    ) -> End:
        end = End()
        end.CopyFrom(self._end)
        end.generation_id = self._start.generation_id
        end.turn_id = self._start.turn_id
        end.outcome = outcome
        end.cancel_reason = cancel_reason
        end.provider = end.provider or "direct"
        end.model = end.model or self._start.model
        told = {choice.choice: choice for choice in end.choices}
        for choice, chars in sorted(self._text_chars.items()):
            found = told.get(choice)
            if found is None:
                end.choices.append(ChoiceEnd(choice=choice, text_chars=chars))
            else:
                found.text_chars = chars
        is_completed = outcome == Outcome.OUTCOME_COMPLETED
        end.usage_final = is_completed and end.HasField("usage")
        self._time(end, is_completed=is_completed)
        return end

    def _time(self, end: End, *, is_completed: bool) -> None:
        now_s = asyncio.get_running_loop().time()
        first_at_s = self._first_at_s if self.flow.has_output else now_s
        wall = _us(now_s - self._asked_at_s)
        waited = min(wall, _us(self._began_at_s - self._asked_at_s))
        first = min(wall - waited, _us(first_at_s - self._began_at_s))
        end.timeline.CopyFrom(
            Timeline(
                race_wait_us=waited,
                first_content_us=first,
                stream_us=wall - waited - first,
                wall_us=wall,
            )
        )
        outcomes = {
            Outcome.OUTCOME_COMPLETED: AttemptOutcome.ATTEMPT_OUTCOME_COMPLETED,
            Outcome.OUTCOME_CANCELLED: AttemptOutcome.ATTEMPT_OUTCOME_CANCELLED,
        }
        attempt = Attempt(
            provider=end.provider,
            model=end.model,
            kind=AttemptKind.ATTEMPT_KIND_FAILOVER,
            outcome=outcomes.get(end.outcome, AttemptOutcome.ATTEMPT_OUTCOME_FAILED),
            is_winner=is_completed or self.flow.has_output,
            start_us=waited,
            duration_us=wall - waited,
        )
        if end.HasField("usage"):
            attempt.usage.CopyFrom(end.usage)
        end.attempts.append(attempt)
        if not end.created_s and self.flow.has_output:
            end.created_s = int(time.time())

    def _over(self, task: asyncio.Task[None]) -> None:
        if not self.flow.over.is_set():  # it was cancelled from outside: the loop ends
            self.cancel(CancelReason.CANCEL_REASON_SESSION_END)
        if not task.cancelled() and (error := task.exception()) is not None:
            report(error, "a direct call raised")
        self._on_over(self, not self._is_whole)


class _Limits:
    """The time limits of one call; 0 is none. Times are the loop's."""

    def __init__(self, budgets: Budgets, asked_at_s: float) -> None:
        self._between_s = budgets.inter_token_ms / 1e3
        self._at_s: dict[str, float] = {}
        """When which limit is reached, by its reason."""
        for reason, limit_ms in (
            ("FIRST_TOKEN_TIMEOUT", budgets.first_token_ms),
            ("FIRST_SEGMENT_TIMEOUT", budgets.first_segment_ms),
            ("DEADLINE_EXCEEDED", budgets.total_ms),
        ):
            if limit_ms:
                self._at_s[reason] = asked_at_s + limit_ms / 1e3

    def heard(self) -> None:
        """Wanted output came."""
        self._at_s.pop("FIRST_TOKEN_TIMEOUT", None)
        if self._between_s:
            self._at_s["STREAM_STALLED"] = asyncio.get_running_loop().time() + self._between_s

    def heard_segment(self) -> None:
        """The first speakable piece is whole."""
        self._at_s.pop("FIRST_SEGMENT_TIMEOUT", None)

    def heard_all(self) -> None:
        """The answer is there; only the last limit is left, for the commit."""
        self._at_s = {
            reason: at_s for reason, at_s in self._at_s.items() if reason == "DEADLINE_EXCEEDED"
        }

    def until_s(self) -> float | None:
        """The next limit."""
        return min(self._at_s.values(), default=None)

    def error(self) -> RelayError:
        """Of the limit that has passed."""
        reason = min(self._at_s, key=self._at_s.__getitem__)
        return _late(reason, _LIMITS[reason])


def _wants_segments(start: Start) -> bool:
    return start.output.text_mode in (
        TextMode.TEXT_MODE_SEGMENTS,
        TextMode.TEXT_MODE_DELTAS_AND_SEGMENTS,
    )


def _us(seconds: float) -> int:
    return max(0, round(seconds * 1e6))


def _late(reason: str, message: str) -> RelayError:
    return RelayError(reason, grpc.StatusCode.DEADLINE_EXCEEDED, message)


def _failure(reason: str, message: str) -> RelayError:
    return RelayError(reason, grpc.StatusCode.UNAVAILABLE, message)
