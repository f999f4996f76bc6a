"""One generation, one object: from the moment it is received to its single end.

Every frontend uses it the same way and nothing else:

    async with Generation(services, request, generation_id=...) as generation:
        await generation.commit()                 # the race; nothing is released before it
        async for events in generation:           # batches, as the provider sends them
            await write(events)
            generation.released()                 # after the first write
    end = generation.end                          # always set, exactly once

Errors do not come out of it as exceptions: they are in `end`. Only a cancellation from outside
(the server's own) passes through, with the end noted as cancelled. `cancel` may be called from any
other task or callback at any moment; also while the frontend is writing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

import msgspec
import structlog

from relay.answer import Answer, TextSource
from relay.content import (
    AudioDelta,
    ChoiceFinished,
    Events,
    GenerateRequest,
    OpaqueDelta,
    ReasoningDelta,
    RefusalDelta,
    ResponseInfo,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from relay.deadline import Scope, Timer, Watchdog
from relay.decision import Decision
from relay.dispatch import Progress, Services, commit
from relay.errors import (
    AttemptTimeout,
    ClientCancelled,
    ConnectError,
    DeadlineExceeded,
    InternalError,
    LimitReached,
    Reason,
    RelayError,
    SlowConsumer,
    StreamReset,
    StreamStalled,
    UpstreamError,
)
from relay.event_size import held_bytes
from relay.first_segment import FirstSegment
from relay.governance.ledger import RateState
from relay.outcome import AttemptOutcome, AttemptRecord, Ended, GenerationEnd, HedgeRecord, merged
from relay.race_plan import RacePlan
from relay.speculation import LONGEST_S, Speculation
from relay.timeline import Timeline
from relay.tokens import count_bytes, estimate_usage, mended

_log = structlog.get_logger("relay.generation")

TextSink = Callable[[TextDelta], Awaitable[None] | None]
"""Takes a piece of text; see `Generation.pour_text_into`."""

_UPSTREAM, _DOWNSTREAM, _TAIL = 0, 1, 2
"""States of the watchdog: whom the generation waits for. `_TAIL` is the upstream when every choice
has finished and only usage and the end marker can come."""

LEAST_STALL_S = 1.0
"""Silence that is shorter, and within the target's own limit, is no stall that others should hear
of, whatever limit a request has: with one of a millisecond every target would be at fault."""
TAIL_S = 2.0
"""How long a whole answer may wait for them: they come with the last chunk or never."""

_OF_A_CHOICE = (
    ReasoningDelta,
    RefusalDelta,
    ToolCallStart,
    ToolArgumentsDelta,
    ToolCallDone,
    AudioDelta,
    OpaqueDelta,
)
"""With `TextDelta`, what a choice begins with."""

_HELD = 3
"""State of the watchdog: everything is here, and the client has not committed yet."""

_BROKEN_OFF = (ConnectError, StreamReset, StreamStalled)
"""Endings that say nothing about an answer which was whole before."""


class Generation:
    """See the module; bound to the task that enters it."""

    def __init__(
        self,
        services: Services,
        request: GenerateRequest,
        *,
        generation_id: str,
        frontend: str,
        client_id: str = "",
        received_s: float | None = None,
        total_s: float | None = None,
        of: Progress | None = None,
        leg: str = "",
        decision: Decision | None = None,
    ) -> None:
        """
        Args:
            generation_id: the relay's own, unique; in logs, accounts and answers.
            client_id: the client's own id, unique in its session.
            frontend: `converse`, `generate`, `chat_completions`: for logs.
            received_s: when the request arrived, on `services.clock`; now if None.
            total_s: a limit of the transport itself (gRPC deadline, header), beside the
                request's own budgets.
            of: of the generation that this is a leg of: its account pays, no policy looks at it
                again, and nobody is told of its end; the other one tells of both.
            leg: what it is called there.
            decision: what was decided before it began; policies add to it.
        """
        self._services = services
        self.request = request
        self.generation_id = generation_id
        self.client_id = client_id
        self._frontend = frontend
        self._clock = services.clock
        self.timeline = Timeline(services.clock, received_s)
        self._total_s = total_s
        self._scope = Scope()
        self._timers: list[Timer] = []
        self._watchdog: Watchdog | None = None
        self._attempt_timer: Timer | None = None
        self._attempt: Answer | None = None
        self._progress = Progress(of=of, leg=leg, decision=decision)
        self._text_sink: TextSink | None = None
        self._is_prelude_taken = False
        self._is_released = False
        self._has_output = False
        self._output_bytes = 0
        self._usage: Usage | None = None
        self._is_usage_doubted = False
        self._begun: set[int] = set()
        self._finish_of: dict[int, ChoiceFinished] = {}
        self.info: ResponseInfo | None = None
        """What the provider said of the response; None before it did."""
        policy = request.policy
        self.speculation: Speculation | None = None
        """What is withheld of it; None where it is wanted from the start."""
        if policy.speculative:
            self.speculation = Speculation(
                holds_all=policy.hold_until_commit,
                max_bytes=services.lane_bytes,
                count=held_bytes,
            )
        self._first_segment = FirstSegment() if policy.budgets.first_segment_s is not None else None
        self._recorder = (
            services.record(request, generation_id)
            if services.record is not None and of is None
            else None
        )
        self._looks_at_events = self._first_segment is not None or self._recorder is not None
        self._segment_timer: Timer | None = None
        self._wanted_s: float | None = None
        self._cancel_heard_s: float | None = None
        self._is_impatience = False
        """A limit of silence has ended it that is the request's own, and shorter than a stall."""
        self.end: GenerationEnd | None = None
        """None while the generation lives; set exactly once."""

    # --- lifetime ---------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        limits = [self.request.policy.budgets.total_s, self._total_s]
        given = [limit for limit in limits if limit is not None]
        if given:
            limit_s = min(given)
            left_s = limit_s - self._elapsed_s()
            if left_s > 0:
                self._timers.append(Timer(self._scope, left_s, lambda: _over(limit_s)))
            else:  # before the scope is entered: nothing is interrupted, and nothing sent
                self._scope.cancel(_over(limit_s))
        self._scope.enter()
        if self._progress.of is None:
            self._services.live.add(self, self.cancel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        try:
            is_ours = await self._left(error)
            if is_ours:
                await self._booked()
            return is_ours
        finally:
            for timer in self._timers:
                timer.stop()
            if self._watchdog is not None:
                self._watchdog.stop()
            # Both may hold who holds us: no work for the cycle collector, whose pauses everybody
            # hears (370 ms after some thousand generations).
            self._text_sink = self._watchdog = None
            self._scope.leave()
            self._services.live.discard(self)

    async def _left(self, error: BaseException | None) -> bool:
        """See that there is an end. Returns whether `error` is a cancellation of our own."""
        is_ours = False
        if self.end is None:
            if isinstance(error, asyncio.CancelledError):
                is_ours = await self._close_cancelled()
            elif error is not None:  # a RelayError: the frontend refuses what came, by its bounds
                await self._finish(error if isinstance(error, RelayError) else self._bug(error))
            else:
                await self._finish(ClientCancelled("the frontend left the generation early"))
        elif isinstance(error, asyncio.CancelledError):
            is_ours = self._scope.caught() is not None
        return is_ours

    def cancel(self, cause: RelayError, heard_s: float | None = None) -> bool:
        """End the generation with this cause; False if it had ended or was cancelled before.

        The provider sees the reset when the generation's task runs next, within this iteration
        of the loop or the next one.

        Args:
            heard_s: when the client's frame that asks for it was read, on `services.clock`; the
                end then says how long it took until the upstream was given up (`cancel_us`).
        """
        is_cancelled = self.end is None and self._scope.cancel(cause)
        if is_cancelled:
            self._cancel_heard_s = heard_s
        return is_cancelled

    def give_up(self) -> None:
        """The client has taken no output for too long, though it waits; like `cancel`."""
        self.cancel(self._slow_consumer())

    def _slow_consumer(self) -> SlowConsumer:
        return SlowConsumer(f"the client read nothing for {self._services.slow_consumer_s:g} s")

    def _elapsed_s(self) -> float:
        """Since the request was received: budgets count from there."""
        return self._clock() - self.timeline.received_s

    # --- the race ---------------------------------------------------------------------------

    async def commit(self) -> bool:
        """Run the race. True: there is a committed stream to iterate; False: `end` is set."""
        if self._scope.cause is not None:  # cancelled, or out of time, before its task ran
            self._close(self._scope.cause)
            return False
        budget_s = self.request.policy.budgets.first_token_s
        left_s = None if budget_s is None else budget_s - self._elapsed_s()
        if left_s is not None and left_s <= 0:
            self._close(_no_content(budget_s))
            return False
        timer = Timer(self._scope, left_s, lambda: _no_content(budget_s))
        segment_s = self.request.policy.budgets.first_segment_s
        if segment_s is not None:
            left_s = max(0.0, segment_s - self._elapsed_s())
            self._segment_timer = Timer(self._scope, left_s, lambda: _no_segment(segment_s))
            self._timers.append(self._segment_timer)
        if self._services.course is not None:
            self._progress.on_held = self._hold
        try:
            attempt = await commit(
                self._services,
                self.generation_id,
                self.request,
                self.timeline,
                self._progress,
                surface=self._frontend,
            )
        except asyncio.CancelledError:
            if not await self._close_cancelled():
                raise
            await self._booked()
            return False
        except RelayError as error:
            await self._finish(error)
            await self._booked()
            return False
        except Exception as error:  # noqa: BLE001 - a bug must still give its one end
            await self._finish(self._bug(error))
            await self._booked()
            return False
        finally:
            timer.stop()
            self._progress.on_held = None  # it holds who holds it: no work for the cycle collector
        if self._progress.request is not None:
            self.request = self._progress.request
        self._attempt = attempt
        if self._watchdog is None:
            self._watch(attempt)
        else:  # it was read already
            self._watchdog.enter(_DOWNSTREAM, self._clock())
        self._account(attempt.prelude)
        return True

    def _hold(self, answer: Answer) -> Callable[[], None]:
        """An answer is read before anything of it may leave: its limits hold from now on, and what
        was written of it counts, also if nothing ever leaves."""
        self._attempt = answer
        watchdog = self._watch(answer)
        watchdog.enter(_UPSTREAM, self._clock())

        def heard() -> None:
            now_s = self._clock()
            if self._is_prelude_taken:
                self.timeline.gap(now_s - watchdog.since_s, now_s)
            watchdog.enter(watchdog.state, now_s)

        return heard

    def _watch(self, attempt: Answer) -> Watchdog:
        """The limits that hold after the commit: silence, a slow client, the attempt's total."""
        limits = attempt.timeouts
        budget_s = self.request.policy.budgets.inter_token_s
        inter_token_s = min(limits.inter_token_s, budget_s or limits.inter_token_s)
        slow_s = self._services.slow_consumer_s

        def overdue(state: int) -> RelayError:
            self._is_impatience = inter_token_s < min(LEAST_STALL_S, limits.inter_token_s)
            if state == _TAIL:
                return StreamStalled(f"{attempt.name} did not end its answer")
            if state == _UPSTREAM:
                return StreamStalled(f"{attempt.name} sent nothing for {inter_token_s:g} s")
            return self._slow_consumer()

        tail_s = min(TAIL_S, inter_token_s)
        limits_s = (inter_token_s, slow_s, tail_s, None)
        self._watchdog = watchdog = Watchdog(self._scope, limits_s, overdue, self._clock)
        watchdog.enter(_DOWNSTREAM, self._clock())
        left_s = limits.total_s - (self._clock() - attempt.marks.started_s)
        self._attempt_timer = Timer(
            self._scope,
            max(0.0, left_s),
            lambda: AttemptTimeout(f"{attempt.name} took longer than {limits.total_s:g} s"),
        )
        self._timers.append(self._attempt_timer)
        return watchdog

    # --- the stream -------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Events:
        """The next batch of events; never empty.

        Raises:
            StopAsyncIteration: the generation has ended, `end` says how.
        """
        attempt, watchdog = self._attempt, self._watchdog
        if self.end is not None or attempt is None or watchdog is None:
            raise StopAsyncIteration
        if not self._is_prelude_taken:
            self._is_prelude_taken = True
            if attempt.prelude:
                self._has_output = True
                return attempt.prelude
        is_whole = self._is_whole
        watchdog.enter(_TAIL if is_whole else _UPSTREAM, self._clock())
        try:
            try:
                if self._text_sink is not None and self._is_released and not is_whole:
                    source = attempt.text_source()
                    if source is not None:
                        await self._pour(source, self._text_sink, watchdog)
                events = await attempt.read()
            finally:  # a wait that brought nothing was one for the provider too
                now_s = self._clock()
                if watchdog.state != _DOWNSTREAM:  # nor was it one for a client that is poured to
                    self.timeline.gap(now_s - watchdog.since_s, now_s)
        except asyncio.CancelledError:
            if not await self._close_cancelled():
                raise
            await self._booked()
            raise StopAsyncIteration from None
        except RelayError as error:
            await self._finish(error)
            await self._booked()
            raise StopAsyncIteration from None
        except Exception as error:  # noqa: BLE001 - a bug must still give its one end
            await self._finish(self._bug(error))
            await self._booked()
            raise StopAsyncIteration from None
        watchdog.enter(_DOWNSTREAM, now_s)
        if not events:
            if (
                self.speculation is not None
                and self.speculation.is_holding
                and not await self.until_committed()
            ):
                raise StopAsyncIteration
            await self._finish(None)
            await self._booked()
            raise StopAsyncIteration
        self._account(events)
        return events

    def pour_text_into(self, sink: TextSink) -> None:
        """Hand plain text to `sink` from now on, in the task that iterates, in place of returning
        it in batches: a token then costs no coroutine. The iteration gives all the rest, in order.

        For who withholds nothing. Begins after `released`.

        Args:
            sink: takes a piece; what it returns, if anything, is awaited before the next.
        """
        if self.speculation is None and not self._looks_at_events:
            self._text_sink = sink

    async def _pour(self, source: TextSource, sink: TextSink, watchdog: Watchdog) -> None:
        """Text to the sink until something else comes, for which the watchdog then waits."""
        read_next, text_of, put_back = source
        clock, timeline, begun = self._clock, self.timeline, self._begun
        while True:
            try:
                chunk = await read_next()
            except Exception as error:  # noqa: BLE001 - the engine knows what it means
                put_back(error)
                return
            delta = text_of(chunk) if type(chunk) is memoryview and chunk else None
            if delta is None:
                put_back(chunk)
                return
            now_s = clock()
            timeline.gap(now_s - watchdog.since_s, now_s)
            self._output_bytes += count_bytes(delta.text)
            begun.add(delta.choice)
            waiting = sink(delta)
            if waiting is not None:
                watchdog.enter(_DOWNSTREAM, now_s)
                await waiting
                now_s = clock()
            watchdog.enter(_UPSTREAM, now_s)

    async def until_committed(self) -> bool:
        """Wait for the client to want what is withheld. False: `end` is set, it will not."""
        speculation, watchdog = self.speculation, self._watchdog
        if speculation is None or speculation.is_committed:
            return True
        if watchdog is not None:  # neither the provider nor a slow client is waited for
            watchdog.enter(_HELD, self._clock())
        if self._attempt is not None and self._attempt.is_over and self._attempt_timer is not None:
            self._attempt_timer.stop()
        timer = Timer(self._scope, LONGEST_S, _not_committed)
        try:
            await speculation.until_committed()
        except asyncio.CancelledError:
            if not await self._close_cancelled():
                raise
            return False
        finally:
            timer.stop()
        if watchdog is not None:
            watchdog.enter(_DOWNSTREAM, self._clock())
        return True

    def wanted(self) -> Events:
        """The client commits to the answer: hedges may start, and what was withheld is returned,
        to be sent before what the iteration gives next. Nothing where nothing was withheld."""
        if self._wanted_s is None:
            self._wanted_s = self._elapsed_s()
        self._progress.is_wanted = True
        if self._progress.plan is not None:
            self._progress.plan.wanted()
        return self.speculation.commit() if self.speculation is not None else ()

    def released(self) -> None:
        """The frontend's first write is done: `relay_out` is over. Later calls do nothing."""
        if not self._is_released:
            self._is_released = True
            self.timeline.close("relay_out")

    @property
    def _is_whole(self) -> bool:
        """Whether every choice that began is finished, and at least as many as were asked for."""
        finished = self._finish_of.keys()
        return len(finished) >= (self.request.sampling.choices or 1) and self._begun <= finished

    def _account(self, events: Events) -> None:
        """Note what the end will say; text is only counted."""
        if self._looks_at_events:
            self._look_at(events)
        for event in events:
            if type(event) is TextDelta:
                self._output_bytes += count_bytes(event.text)
                self._begun.add(event.choice)
                continue
            if isinstance(event, _OF_A_CHOICE):
                self._begun.add(event.choice)
            if isinstance(event, ReasoningDelta | RefusalDelta):
                self._output_bytes += count_bytes(event.text)
            elif isinstance(event, ToolArgumentsDelta):
                self._output_bytes += count_bytes(event.fragment)
            elif isinstance(event, ToolCallStart):
                self._output_bytes += count_bytes(event.name)
            elif isinstance(event, Usage):
                if self._usage is None or self._usage.is_estimated or not event.is_estimated:
                    self._usage, self._is_usage_doubted = event, False
                else:  # one that cannot be takes back none that can, but makes it an estimate
                    self._is_usage_doubted = True
            elif isinstance(event, ChoiceFinished):
                self._finish_of[event.choice] = event
            elif isinstance(event, ResponseInfo):
                self.info = event

    def _look_at(self, events: Events) -> None:
        """For who waits for the first segment, or keeps the answer."""
        if self._recorder is not None:
            self._recorder.take(events)
        if self._first_segment is not None and self._first_segment.is_in(events):
            self._first_segment = None
            if self._segment_timer is not None:
                self._segment_timer.stop()

    # --- the end ----------------------------------------------------------------------------

    @property
    def rate_state(self) -> RateState | None:
        """Where the caller stands with his limits; None where there is none."""
        entry = self._progress.entry
        if entry is not None:
            return entry.rate_state
        error = self.end.error if self.end is not None else None
        state = error.rate_state if isinstance(error, LimitReached) else None
        return state if isinstance(state, RateState) else None

    async def _booked(self) -> None:
        """Before the client is told of the end, it is in the books: a crash after that loses
        nothing that was delivered."""
        entry = self._progress.entry
        if entry is not None:
            await entry.booked()

    async def _close_cancelled(self) -> bool:
        """After `CancelledError`: close with our own cause (True), or as torn down (False)."""
        cause = self._scope.caught()
        await self._finish(cause or ClientCancelled("the client went away"))
        return cause is not None

    async def _finish(self, error: RelayError | None) -> None:
        """Close it, once nothing of it runs any more: what its legs have cost is in its end.

        Cancelled: it is closed all the same.
        """
        crew = self._progress.crew
        if crew is None:
            self._close(error)
            return
        try:
            self._let_go(error)
            await crew.aclose()
        finally:
            self._close(error)

    def _let_go(self, error: RelayError | None) -> None:
        """Stop what is read, at once."""
        attempt = self._attempt
        if attempt is not None:
            # What one client has no patience for says nothing of the target to all others.
            if isinstance(error, UpstreamError) and not self._is_impatience:
                attempt.fail(error)
            else:
                attempt.abort()

    def _bug(self, error: BaseException) -> InternalError:
        _log.error(
            "generation_bug",
            generation_id=self.generation_id,
            error=type(error).__name__,
            exc_info=error,
        )
        return InternalError("the relay failed; the request id is in its log")

    def _was_left_asking(self) -> bool:
        """It was ended while a provider had the prompt and had answered nothing: the prompt was
        spent."""
        return any(
            record.outcome is AttemptOutcome.IGNORED and "request_sent" in record.phases_us
            for record in self.attempts
        )

    def _close(self, error: RelayError | None) -> None:
        """Release the upstream, fix the end, book and log it. Once."""
        attempt, progress = self._attempt, self._progress
        self._let_go(error)
        if attempt is None and (last := self._progress.last) is not None:
            # Nobody won: where the time went is what the last one to try was waiting for.
            self.timeline.adopt(last)
        heard_s, cancel_us = self._cancel_heard_s, None
        if heard_s is not None and isinstance(error, ClientCancelled):
            cancel_us = round((self._clock() - heard_s) * 1e6)
        if isinstance(error, _BROKEN_OFF) and self._is_whole:
            error = None
        usage, output_bytes = self._usage, self._output_bytes
        if attempt is not None and attempt.output_bytes is not None:
            output_bytes = attempt.output_bytes
        if usage is not None and self._is_usage_doubted:
            usage = msgspec.structs.replace(usage, is_estimated=True)
        is_final = usage is not None and error is None
        if usage is None and (attempt is not None or self._was_left_asking()):
            usage = estimate_usage(self.request, output_bytes)
        elif usage is not None and (usage.is_estimated or not is_final):
            usage = mended(usage, self.request, output_bytes)
        if usage is not None and attempt is not None:
            attempt.spent(usage)
        finish, plan = self._finish_of, progress.plan
        decision = progress.decision
        self.end = end = GenerationEnd(
            error=error,
            finish_reasons={choice: event.reason for choice, event in finish.items()},
            raw_finish_reasons={choice: event.raw_reason for choice, event in finish.items()},
            usage=usage,
            is_usage_final=is_final,
            attempts=tuple(self.attempts),
            phases_us=self.timeline.finish(),
            stall_count=self.timeline.stall_count,
            longest_gap_us=round(self.timeline.longest_gap_s * 1e6),
            provider=attempt.provider if attempt else "",
            model=attempt.model if attempt else "",
            response_id=self.info.response_id if self.info else "",
            has_output=self._has_output,
            hedge=plan.hedge if plan is not None else self._hedge_of_legs(),
            service_tier=(usage.service_tier if usage else "")
            or (self.info.service_tier if self.info else ""),
            cancel_us=cancel_us,
            decision=None if decision is None or decision.is_plain else decision,
        )
        try:
            for closed in progress.on_closed:
                closed()
            if plan is not None:
                plan.ended(end)
        finally:  # a bug in one of them must not keep the next from hearing of it
            try:
                if self._progress.entry is not None:
                    self._progress.entry.settle(end)
            finally:
                self._tell(end, plan)

    def _hedge_of_legs(self) -> HedgeRecord | None:
        crew = self._progress.crew
        return None if crew is None else merged(crew.hedges)

    def _tell(self, end: GenerationEnd, plan: RacePlan | None) -> None:
        """Those who only watch, each whatever becomes of the others."""
        progress = self._progress
        if progress.of is not None:
            self._close_leg(end)
            return
        ended = Ended(
            end,
            progress.request or self.request,
            self.generation_id,
            self._frontend,
            plan is not None or progress.prompt_tokens is not None,
            self.client_id,
            plan.prompt_tokens if plan is not None else progress.prompt_tokens,
            self.committed_s,
            self.info.model if self.info is not None else "",
            self._recorder,
        )
        for listener in self._services.on_ended:
            try:
                listener(ended)
            except Exception as error:  # noqa: BLE001 - nor may it harm the answer
                _log.error(
                    "listener_bug",
                    generation_id=self.generation_id,
                    error=type(error).__name__,
                    exc_info=error,
                )

    @staticmethod
    def _close_leg(end: GenerationEnd) -> None:
        """What is told of it is in the records of its attempts."""
        for record in end.attempts:
            if record.is_winner:
                record.usage, record.is_usage_final = end.usage, end.is_usage_final

    @property
    def plan(self) -> RacePlan | None:
        """What the race might do; None before it was planned."""
        return self._progress.plan

    @property
    def winner(self) -> Answer | None:
        """What answers: the attempt that won the race, as a rule; None before the commit."""
        return self._attempt

    @property
    def committed_s(self) -> float | None:
        """When the client committed to a speculation, seconds since receipt; None if it did not."""
        return self._wanted_s if self.speculation is not None else None

    @property
    def attempts_started(self) -> int:
        """How many attempts have started so far."""
        return len(self.attempts)

    @property
    def attempts(self) -> Sequence[AttemptRecord]:
        """Those that have started so far, each filled while it runs; those of its legs too."""
        progress = self._progress
        return progress.records if progress.crew is None else progress.crew.records

    @property
    def decision(self) -> Decision | None:
        """What policies made of it so far; None where there are none."""
        return self._progress.decision


def _over(limit_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"the generation's {limit_s:g} s are over")


def _no_content(budget_s: float | None) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"no content within the generation's {budget_s or 0:g} s",
        reason=Reason.FIRST_TOKEN_TIMEOUT,
    )


def _no_segment(budget_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"nothing that can be spoken whole within the generation's {budget_s:g} s",
        reason=Reason.FIRST_SEGMENT_TIMEOUT,
    )


def _not_committed() -> DeadlineExceeded:
    return DeadlineExceeded(f"the speculation was not committed within {LONGEST_S:g} s")
