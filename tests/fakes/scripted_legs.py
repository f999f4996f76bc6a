"""Legs on a virtual clock that do what a test has written: `relay.policy.base.Legs` without a race.

    legs = ScriptedLegs(small=[Script(words("Hello", first_s=0.2))], large=[Script(words("Hi"))])

Each label's scripts are used one after the other, the last one again and again. What has been
started, cancelled and given away can be looked at; `check` holds what every composition promises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from relay.answer import TextSource
from relay.content import (
    ChoiceFinished,
    Events,
    FinishReason,
    GenerateRequest,
    OpaqueDelta,
    RefusalDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from relay.deadline import Clock
from relay.decision import Decision
from relay.errors import ClientCancelled, RelayError, StreamReset, UpstreamError
from relay.policy.base import Whole
from relay.routing.route import Timeouts
from relay.timeline import AttemptMarks
from tests.fakes.virtual_time import now_s

Step = tuple[float, Sequence[StreamEvent]]
"""So many seconds after the step before, these events."""

TIMEOUTS = Timeouts(connect_s=1.0, first_token_s=10.0, inter_token_s=10.0, total_s=60.0)


def words(
    *pieces: str,
    first_s: float = 0.1,
    gap_s: float = 0.0,
    logprob: float | Sequence[float] | None = None,
    finish: FinishReason | None = FinishReason.STOP,
) -> list[Step]:
    """A text answer: its first piece after `first_s`, the others `gap_s` apart."""
    steps: list[Step] = []
    for number, piece in enumerate(pieces):
        events: list[StreamEvent] = [] if number else [ResponseInfo("r", "m", 0)]
        events.append(TextDelta(piece))
        if logprob is not None:
            value = logprob if isinstance(logprob, int | float) else logprob[number]
            events.append(logprobs(piece, value))
        steps.append((gap_s if number else first_s, events))
    if finish is not None:
        steps.append((0.0 if pieces else first_s, [ChoiceFinished(finish, finish.name)]))
    return steps


def logprobs(token: str, value: float, **others: float) -> OpaqueDelta:
    """Of one token, and of what it might have been instead."""
    entry: dict[str, Any] = {"token": token, "logprob": value}
    if others:
        entry["top_logprobs"] = [{"token": k, "logprob": v} for k, v in others.items()]
    return OpaqueDelta("logprobs", orjson.dumps({"content": [entry]}))


def refusal(text: str = "No.", first_s: float = 0.1) -> list[Step]:
    """As structured output refuses."""
    return [
        (first_s, [RefusalDelta(text)]),
        (0.0, [ChoiceFinished(FinishReason.STOP, "stop")]),
    ]


def calls(
    name: str, arguments: str, first_s: float = 0.1, *, is_partial: bool = False
) -> list[Step]:
    """A tool call."""
    finish = FinishReason.LENGTH if is_partial else FinishReason.TOOL_CALLS
    return [
        (first_s, [ToolCallStart(0, "c", name)]),
        (0.1, [ToolCallDone(0, "c", name, arguments, is_partial=is_partial)]),
        (0.0, [ChoiceFinished(finish, finish.name)]),
    ]


@dataclass
class Script:
    """What one leg does."""

    steps: Sequence[Step] = ()
    error: RelayError | None = None
    """That it ends with, after its steps."""
    error_after_s: float = 0.0
    start_error: RelayError | None = None
    """That `Legs.start` raises."""
    cost: float | None = 0.0
    """Micro-dollars of a whole answer; what it costs grows with what has come."""
    never: bool = False
    """It waits for ever after its steps."""


FAILED = StreamReset("it broke")


class ScriptedLeg:
    """A `relay.policy.base.Leg`."""

    def __init__(self, label: str, model: str, request: GenerateRequest, script: Script) -> None:
        self.label = label
        self.model = model
        self.request = request
        self.script = script
        self.entry: dict[str, Any] = {"label": label, "model": model}
        self.started_s = now_s()
        self.outcome = ""
        self.cancelled_s: float | None = None
        self.is_given = False
        self.is_over = False
        self.shown: list[StreamEvent] = []
        """What was read of it, by whomever."""
        self._gone = asyncio.Event()
        self._step = 0
        self._due_s = self.started_s
        self._reading = False

    async def _wait(self, due_s: float | None) -> None:
        """Until then, or until it is cancelled.

        Raises:
            ClientCancelled: it was.
        """
        if not self._gone.is_set():
            timeout_s = None if due_s is None else max(0.0, due_s - now_s())
            try:
                async with asyncio.timeout(timeout_s):
                    await self._gone.wait()
            except TimeoutError:
                return
        raise ClientCancelled("nobody needs this leg")

    async def _next(self) -> Events:
        steps = self.script.steps
        if self.is_over and self.cancelled_s is None and self.script.error is None:
            return ()
        if self._step < len(steps):
            delay_s, events = steps[self._step]
            await self._wait(self._due_s + delay_s)
            self._step += 1
            self._due_s += delay_s
            self.shown += events
            return events
        if self.script.never:
            await self._wait(None)
        if self.script.error is not None:
            await self._wait(self._due_s + self.script.error_after_s)
            self.is_over = True
            raise self.script.error
        await self._wait(self._due_s)
        self.is_over = True
        return ()

    async def ready(self) -> None:
        if self.shown or self.is_over:
            return
        steps = self.script.steps
        if steps:
            await self._wait(self._due_s + steps[0][0])
        elif self.script.never:
            await self._wait(None)
        elif self.script.error is not None:
            await self._wait(self._due_s + self.script.error_after_s)
            self.is_over = True
            raise self.script.error

    @property
    def cost(self) -> float | None:
        steps = self.script.steps
        if self.script.cost is None or not steps:
            return self.script.cost
        until_s = now_s() if self.cancelled_s is None else self.cancelled_s
        due_s, come = self.started_s, 0
        for delay_s, _ in steps:  # it reads on by itself, as a real one does
            due_s += delay_s
            come += due_s <= until_s
        return self.script.cost * come / len(steps)

    async def read(self) -> Events:
        assert not self._reading, f"{self.label} is read by two"
        assert not self.is_given, f"{self.label} is read after it was given away"
        self._reading = True
        try:
            return await self._next()
        finally:
            self._reading = False

    async def whole(self) -> Whole:
        assert not self._reading, f"{self.label} is read by two"
        self._reading = True
        try:
            while await self._next():
                pass
        finally:
            self._reading = False
        return self._collected()

    def _collected(self) -> Whole:
        texts: dict[int, str] = {}
        refusals: dict[int, str] = {}
        for event in self.shown:
            if isinstance(event, TextDelta):
                texts[event.choice] = texts.get(event.choice, "") + event.text
            elif isinstance(event, RefusalDelta):
                refusals[event.choice] = refusals.get(event.choice, "") + event.text
        return Whole(
            texts=texts,
            tool_calls=tuple(e for e in self.shown if isinstance(e, ToolCallDone)),
            refusals=refusals,
            finish={e.choice: e.reason for e in self.shown if isinstance(e, ChoiceFinished)},
            usage=None,
            logprobs_json=tuple(e.value_json for e in self.shown if isinstance(e, OpaqueDelta)),
            cost=self.cost,
            took_s=now_s() - self.started_s,
        )

    def answer(self) -> ScriptedAnswer:
        assert not self.is_given, f"{self.label} was given away twice"
        assert self.cancelled_s is None, f"{self.label} was cancelled, and is given away"
        self.is_given = True
        return ScriptedAnswer(self)

    def vectors_json(self) -> bytes:
        return b""

    def cancel(self, outcome: str = "cancelled") -> None:
        assert not self.is_given, f"{self.label} was given away, and is cancelled"
        if self.cancelled_s is None:
            self.cancelled_s = now_s()
            self.outcome = outcome
            self._gone.set()

    def left(self) -> None:
        """Its owner has stopped reading it."""
        self.cancelled_s = now_s()
        self._gone.set()


class ScriptedAnswer:
    """The stream of a leg."""

    provider, timeouts, output_bytes = "p", TIMEOUTS, None

    def __init__(self, leg: ScriptedLeg) -> None:
        self._leg = leg
        self.model = self.name = leg.model
        self.marks = AttemptMarks(leg.started_s)
        self.prelude: Events = tuple(leg.shown)
        self.usage: Usage | None = None
        self.failed: UpstreamError | None = None

    @property
    def is_over(self) -> bool:
        return self._leg.is_over

    async def read(self) -> Events:
        return await self._leg._next()  # its own stream

    def text_source(self) -> TextSource | None:
        return None

    def spent(self, usage: Usage) -> None:
        self.usage = usage

    def abort(self) -> None:
        self._leg.left()

    def fail(self, error: UpstreamError) -> None:
        self.failed = error
        self._leg.left()


@dataclass
class ScriptedLegs:
    """See the module."""

    scripts: dict[str, list[Script]]
    price: float | None = 0.0
    """Of a whole answer of any model, as it is estimated."""
    decision: Decision = field(default_factory=Decision)
    started: list[ScriptedLeg] = field(default_factory=list)
    received_s: float = 0.0

    def __post_init__(self) -> None:
        self.clock: Clock = now_s
        self.received_s = now_s()
        self._used: dict[str, int] = {}

    def estimate(self, model: str, request: GenerateRequest) -> float | None:
        return self.price

    def start(
        self, label: str, model: str, request: GenerateRequest, *, is_hedged: bool = True
    ) -> ScriptedLeg:
        number = self._used.get(label, 0)
        self._used[label] = number + 1
        rows = self.scripts[label]
        script = rows[min(number, len(rows) - 1)]
        if script.start_error is not None:
            raise script.start_error
        leg = ScriptedLeg(label, model, request, script)
        self.started.append(leg)
        self.decision.legs.append(leg.entry)
        return leg

    def of(self, label: str) -> list[ScriptedLeg]:
        """The legs that were started under a label."""
        return [leg for leg in self.started if leg.label == label]

    def check(self, *, given: int = 1) -> None:
        """So many legs were given away, and every other one is over or was cancelled."""
        assert sum(leg.is_given for leg in self.started) == given
        left = [leg.label for leg in self.started if not (leg.is_given or _is_done(leg))]
        assert not left, f"legs that nobody stopped: {left}"


def _is_done(leg: ScriptedLeg) -> bool:
    return leg.is_over or leg.cancelled_s is not None
