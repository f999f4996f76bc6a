"""The legs of one generation: further requests of its own, each raced by itself, all of them paid
for by its account.

A leg is a `Generation` in a task of its own, which is told to nobody: what it asked and cost is in
the records of its attempts, which are told with the end of the generation it belongs to. It reads
on as its provider answers, into memory, until somebody takes its stream (`Leg.answer`); from then
on no further than `lane_bytes` ahead of whoever reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from relay.answer import Answer, TextSource
from relay.content import (
    ChoiceFinished,
    Embeddings,
    Events,
    FinishReason,
    GenerateRequest,
    OpaqueDelta,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ToolCallDone,
    Usage,
)
from relay.decision import Decision
from relay.dispatch import Progress, Services
from relay.errors import (
    ClientCancelled,
    EventTooLarge,
    InternalError,
    RelayError,
    UnknownModel,
    UpstreamError,
)
from relay.event_size import held_bytes
from relay.generation import Generation
from relay.outcome import AttemptRecord, HedgeRecord
from relay.policy.base import Whole
from relay.prelude import MAX_PRELUDE_BYTES
from relay.routing.route import Timeouts
from relay.timeline import AttemptMarks
from relay.tokens import estimate_prompt_tokens

_log = structlog.get_logger("relay.leg")

CLOSING_S: Final = 2.0
"""How long legs that were stopped may take to end: they only close their books."""
_CANCELLED: Final = "cancelled"
_LEFT: Final = "nobody needs this leg any more"


class RunningLeg:
    """A `Leg`; made by `RunningLegs`, runs from its construction."""

    def __init__(self, services: Services, generation: Generation, label: str, model: str) -> None:
        self.label = label
        self.model = model
        self.entry: dict[str, Any] = {"label": label, "model": model}
        self.generation = generation
        self._lane_bytes = services.lane_bytes
        self.clock = services.clock
        self._began_s = services.clock()
        self._events: list[StreamEvent] = []
        """What has come and nobody has taken: all of it, until `answer` gives it away."""
        self._read = 0
        """So many of them `read` has returned."""
        self._held_bytes = 0
        self._news: list[asyncio.Future[None]] = []
        self._room: asyncio.Future[None] | None = None
        self._is_given = False
        self._is_over = False
        self._cancelled_as = ""
        self._whole: Whole | None = None
        self.task = asyncio.get_running_loop().create_task(
            self._run(), name=f"leg {generation.generation_id}"
        )

    async def _run(self) -> None:
        generation = self.generation
        try:
            async with generation:
                if await generation.commit():
                    async for events in generation:
                        generation.released()
                        await self._hold(events)
        except EventTooLarge:
            pass  # the generation's end says so
        finally:
            self._is_over = True
            self._tell()
            self._wake()

    async def _hold(self, events: Events) -> None:
        """
        Raises:
            EventTooLarge: more than may wait for somebody to decide about it.
        """
        self._events.extend(events)
        self._held_bytes += sum(map(held_bytes, events))
        self._wake()
        if self._held_bytes > MAX_PRELUDE_BYTES and not self._is_given:
            raise EventTooLarge(f"the answer of {self.model} is too long to be held")
        while self._is_given and self._held_bytes > self._lane_bytes:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def _wake(self) -> None:
        news, self._news = self._news, []
        for waiter in news:
            if not waiter.done():
                waiter.set_result(None)

    async def _next(self) -> None:
        """Wait for something to happen."""
        waiter = asyncio.get_running_loop().create_future()
        self._news.append(waiter)
        await waiter

    @property
    def error(self) -> RelayError | None:
        """How it failed; None if it has not, or not yet."""
        end = self.generation.end
        if end is not None:
            return end.error
        return InternalError("a leg ended without an end") if self._is_over else None

    # --- `Leg` ------------------------------------------------------------------------------

    async def ready(self) -> None:
        while not self._events and not self._is_over:
            await self._next()
        if not self._events and (error := self.error) is not None:
            raise error

    @property
    def cost(self) -> float | None:
        return _cost(self.generation.attempts)

    async def read(self) -> Events:
        while self._read == len(self._events) and not self._is_over:
            await self._next()
        if self._read == len(self._events) and (error := self.error) is not None:
            raise error
        events = tuple(self._events[self._read :])
        self._read = len(self._events)
        return events

    async def whole(self) -> Whole:
        while not self._is_over:
            await self._next()
        if (error := self.error) is not None:
            raise error
        if self._whole is None:
            self._whole = self._collected()
        return self._whole

    def answer(self) -> Answer:
        self._is_given = True
        return LegAnswer(self)

    def cancel(self, outcome: str = _CANCELLED) -> None:
        self.stop(ClientCancelled(_LEFT), outcome)

    # --- for whoever owns it ----------------------------------------------------------------

    def stop(self, cause: RelayError, outcome: str) -> None:
        """End it with this cause; of one that has come to its end it is said what became of it, if
        the outcome is more than that nobody reads it any more."""
        if self._is_over and outcome == _CANCELLED:
            return
        self._cancelled_as = self._cancelled_as or outcome
        if not self._is_over:
            self.generation.cancel(cause)
        elif self.entry.get("outcome") == "ok" and not self._is_given:
            self.entry["outcome"] = self._cancelled_as

    def take(self) -> Events:
        """Everything that has come; the leg then goes on if it had waited for room."""
        events = tuple(self._events)
        self._events.clear()
        self._held_bytes = 0
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return events

    async def read_on(self) -> Events:
        """As `Answer.read`.

        Raises:
            RelayError: it broke.
        """
        while not self._events and not self._is_over:
            await self._next()
        if self._events:
            return self.take()
        if (error := self.error) is not None:
            raise error
        return ()

    @property
    def is_given(self) -> bool:
        """Somebody has taken its answer."""
        return self._is_given

    @property
    def is_over(self) -> bool:
        """Nothing more comes."""
        return self._is_over

    @property
    def events(self) -> Sequence[StreamEvent]:
        """What has come and was not taken."""
        return self._events

    def _collected(self) -> Whole:
        end = self.generation.end
        texts: dict[int, list[str]] = {}
        refusals: dict[int, list[str]] = {}
        finish: dict[int, FinishReason] = {}
        calls: list[ToolCallDone] = []
        logprobs: list[bytes] = []
        for event in self._events:
            if isinstance(event, TextDelta):
                texts.setdefault(event.choice, []).append(event.text)
            elif isinstance(event, RefusalDelta):
                refusals.setdefault(event.choice, []).append(event.text)
            elif isinstance(event, ToolCallDone):
                calls.append(event)
            elif isinstance(event, ChoiceFinished):
                finish[event.choice] = event.reason
            elif isinstance(event, OpaqueDelta) and event.key == "logprobs":
                logprobs.append(event.value_json)
        return Whole(
            texts={choice: "".join(pieces) for choice, pieces in texts.items()},
            tool_calls=tuple(calls),
            refusals={choice: "".join(pieces) for choice, pieces in refusals.items()},
            finish=finish,
            usage=None if end is None else end.usage,
            logprobs_json=tuple(logprobs),
            cost=_cost(self.generation.attempts),
            took_s=self.clock() - self._began_s,
        )

    def vectors_json(self) -> bytes:
        """Of a leg that asked for embeddings, after `whole`: OpenAI's `data`; empty for none."""
        return next((e.data_json for e in self._events if isinstance(e, Embeddings)), b"")

    def _tell(self) -> None:
        """Fill its entry in the decision."""
        end, row = self.generation.end, self.entry
        if end is None:
            return
        if end.error is None:
            row["outcome"] = "ok"
        elif self._cancelled_as and isinstance(end.error, ClientCancelled):
            row["outcome"] = self._cancelled_as
        else:
            row["outcome"] = end.error.reason.name.lower()
        if end.provider:
            row["target"] = f"{end.provider}/{end.model}"
        if (cost := _cost(end.attempts)) is not None:
            row["cost_micro"] = round(cost)
        if end.usage is not None:
            row["prompt_tokens"] = end.usage.prompt_tokens
            row["output_tokens"] = end.usage.completion_tokens
        row["took_ms"] = round((self.clock() - self._began_s) * 1000, 1)


def _cost(records: Sequence[AttemptRecord]) -> float | None:
    """Micro-dollars; None where no attempt's is known."""
    known = [record.cost for record in records if record.cost is not None]
    return sum(known) if known else None


class LegAnswer:
    """The stream of a leg; see `relay.answer.Answer`."""

    def __init__(self, leg: RunningLeg) -> None:
        winner = leg.generation.winner
        if winner is None:
            raise InternalError("a leg was taken before it had an answer")
        self._leg = leg
        self._winner = winner
        self.provider = winner.provider
        self.model = winner.model
        self.name = winner.name
        self.prelude: Events = leg.take()
        # What was waited for between its first content and now was other legs, and not the relay.
        self._marks = marks = AttemptMarks(winner.marks.started_s)
        marks.at_s = {**winner.marks.at_s, "first_content": leg.clock()}

    @property
    def timeouts(self) -> Timeouts:
        return self._winner.timeouts

    @property
    def marks(self) -> AttemptMarks:
        return self._marks

    @property
    def is_over(self) -> bool:
        return self._leg.is_over

    @property
    def output_bytes(self) -> None:
        return None

    async def read(self) -> Events:
        return await self._leg.read_on()

    def text_source(self) -> TextSource | None:
        return None

    def spent(self, usage: Usage) -> None:
        """The leg's own end has said so."""

    def abort(self) -> None:
        self._leg.cancel()

    def fail(self, error: UpstreamError) -> None:
        self._leg.stop(error, "failed")


class RunningLegs:
    """`Legs` and `dispatch.Crew` of one generation."""

    def __init__(
        self,
        services: Services,
        progress: Progress,
        generation_id: str,
        decision: Decision,
        received_s: float,
        surface: str,
    ) -> None:
        """
        Args:
            progress: of the generation, whose account pays.
            surface: the frontend it came by.
        """
        self.clock = services.clock
        self.decision = decision
        self._services = services
        self._progress = progress
        self._generation_id = generation_id
        self.received_s = received_s
        self._surface = surface
        self._legs: list[RunningLeg] = []
        self._is_closed = False
        progress.crew = self

    def estimate(self, model: str, request: GenerateRequest) -> float | None:
        try:
            route = self._services.catalog.resolve(model)
        except UnknownModel:
            return None
        return self._services.planner.estimate(route, request, estimate_prompt_tokens(request))

    def start(
        self, label: str, model: str, request: GenerateRequest, *, is_hedged: bool = True
    ) -> RunningLeg:
        if self._is_closed:
            raise ClientCancelled(_LEFT)
        own = self._progress.request or request
        policy, owner = request.policy, own.policy
        hedge = policy.hedge
        if not is_hedged or policy.speculative:
            hedge = replace(hedge, mode="off")
        generation = Generation(
            self._services,
            replace(
                request,
                model=model,
                asked_as=own.asked_as or own.model,  # whatever it asks, it was asked for by that
                policy=replace(
                    policy,
                    speculative=False,
                    hold_until_commit=False,
                    hedge=hedge,
                    # Here and nowhere else: whoever puts a question may forget to say for whom.
                    tenant=owner.tenant,
                    key_id=owner.key_id,
                    zones=owner.zones,
                    tags=owner.tags,
                    tags_of_rules=owner.tags_of_rules,
                ),
            ),
            generation_id=f"{self._generation_id}.{len(self._legs)}",
            frontend=self._surface,
            received_s=self.received_s,
            of=self._progress,
            leg=label,
        )
        leg = RunningLeg(self._services, generation, label, model)
        self._legs.append(leg)
        self.decision.legs.append(leg.entry)
        return leg

    def keep_given(self) -> None:
        """Stop every leg whose answer nobody has taken; the rest goes on."""
        for leg in self._legs:
            if not leg.is_given:
                leg.cancel()

    # --- `Crew` -----------------------------------------------------------------------------

    @property
    def records(self) -> Sequence[AttemptRecord]:
        own = self._progress.records
        return [*own, *(record for leg in self._legs for record in leg.generation.attempts)]

    @property
    def hedges(self) -> Sequence[HedgeRecord]:
        ends = [leg.generation.end for leg in self._legs]
        return [end.hedge for end in ends if end is not None and end.hedge is not None]

    async def aclose(self) -> None:
        self._is_closed = True
        for leg in self._legs:
            leg.cancel()
        running = [leg.task for leg in self._legs if not leg.task.done()]
        try:
            if running:
                _, late = await asyncio.wait(running, timeout=CLOSING_S)
                if late:
                    _log.error("legs_did_not_end", id=self._generation_id, legs=len(late))
        finally:  # interrupted, or too late: somebody waits for them all the same
            if left := [leg.task for leg in self._legs if not leg.task.done()]:
                self._services.reaper.take(_ended(left))
            self._tell_of_bugs_and_losers()

    def _tell_of_bugs_and_losers(self) -> None:
        for leg in self._legs:
            if leg.task.done() and not leg.task.cancelled() and (bug := leg.task.exception()):
                _log.error(
                    "leg_bug", id=self._generation_id, error=type(bug).__name__, exc_info=bug
                )
            if not leg.is_given:
                for record in leg.generation.attempts:
                    record.is_winner = False


async def _ended(tasks: Collection[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
