"""Legs of a composition without races, transports or accounts: scripted answers at exact times.

    legs = FakeLegs({
        "fast": Says("four", whole_s=0.4),
        "slow": [Says("five", whole_s=2.0), Fails(StreamReset("cut"), at_s=0.1)],
        "judge": lambda request: Says("A"),
    })
    answer = await legs.run(composition, request)
    assert await text_of(answer) == "four"
    legs.check()

Time is the loop's, so on a virtual clock every recorded time is exact. A list plays one entry a
start, the last for all that follow; a function is given the request. `run` does what the seam does:
when the composition is over, what it has not given away is cancelled.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from relay.answer import Answer, TextSource
from relay.content import (
    ChoiceFinished,
    Events,
    FinishReason,
    GenerateRequest,
    OpaqueDelta,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from relay.deadline import Clock
from relay.decision import Decision
from relay.errors import ClientCancelled, RelayError, UpstreamError
from relay.policy.base import Composition, Leg, Whole
from relay.routing.route import Timeouts
from relay.timeline import AttemptMarks
from tests.fakes.virtual_time import START_S, now_s

NEVER_S = math.inf
USAGE = Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15)


@dataclass(frozen=True)
class Says:
    """An answer; times count from the leg's start."""

    text: str = ""
    first_s: float = 0.0
    """Of the first content."""
    whole_s: float | None = None
    """Of the clean end; None: with the first content, which comes by then at the latest."""
    calls: tuple[tuple[str, str], ...] = ()
    """Names and arguments of tool calls."""
    refusal: str = ""
    finish: FinishReason = FinishReason.STOP
    logprobs: Sequence[bytes] = ()
    cost: float | None = 100.0
    """Micro-dollars, once it is over."""
    usage: Usage | None = USAGE
    timed: Sequence[tuple[float, Events]] = ()
    """Batches after the first content and before the end, which then come in place of what the
    fields above make of the text: for who reads as it comes."""


@dataclass(frozen=True)
class Fails:
    """A failure, before any content or, with `after`, behind its first content."""

    error: RelayError
    at_s: float = 0.0
    after: Says | None = None
    cost: float | None = 0.0


@dataclass(frozen=True)
class Refuses:
    """`start` itself raises: it may not be paid."""

    error: RelayError


Script = Says | Fails | Refuses | Callable[[GenerateRequest], Says | Fails]


class FakeLeg:
    """One leg; see `relay.policy.base.Leg`. Needs a running loop."""

    def __init__(
        self,
        label: str,
        model: str,
        request: GenerateRequest,
        script: Says | Fails,
        entry: dict[str, Any],
        is_hedged: bool,
    ) -> None:
        self.label = label
        self.model = model
        self.request = request
        self.is_hedged = is_hedged
        self.entry = entry
        self.script = script
        self.started_s = now_s()
        self.cancelled_s: float | None = None
        """When it was cancelled while it ran; None where it was not, or was over."""
        self.ended_s: float | None = None
        """When it came to its end by itself."""
        self.is_given = False
        self.was_cancelled = False
        """Also after its end."""
        loop = asyncio.get_running_loop()
        self._first: asyncio.Future[None] = loop.create_future()
        self._whole: asyncio.Future[Whole] = loop.create_future()
        for future in (self._first, self._whole):
            future.add_done_callback(_seen)
        self._timers: list[asyncio.TimerHandle] = []
        says = script if isinstance(script, Says) else script.after
        self._come: list[Events] = []
        """Batches that have come."""
        self._read = 0
        """How many of them `read` has given."""
        self._news: asyncio.Event = asyncio.Event()
        self._batches = _batches(says) if says is not None else []
        for at_s, batch in self._batches[1:-1]:
            self._at(at_s, partial(self._bring, batch))
        if isinstance(script, Says):
            whole_s = script.first_s if script.whole_s is None else script.whole_s
            self._at(min(script.first_s, whole_s), self._begin)
            self._at(whole_s, self._end)
        else:
            if script.after is not None:
                self._at(script.after.first_s, self._begin)
            self._at(script.at_s, self._fail)

    def _at(self, delay_s: float, callback: Callable[[], None]) -> None:
        if delay_s != NEVER_S:
            loop = asyncio.get_running_loop()
            self._timers.append(loop.call_at(self.started_s + delay_s, callback))

    def _bring(self, batch: Events) -> None:
        self._come.append(batch)
        self._news.set()

    def _begin(self) -> None:
        if not self._first.done():
            self._first.set_result(None)
            self._bring(self._batches[0][1])

    def _end(self) -> None:
        assert isinstance(self.script, Says)
        self.ended_s = now_s()
        self._begin()
        if len(self._batches) > 1:
            self._bring(self._batches[-1][1])
        self._news.set()
        self._whole.set_result(_whole(self.script, self.ended_s - self.started_s))
        self._note("ok", self.script.cost)

    def _fail(self) -> None:
        assert isinstance(self.script, Fails)
        self.ended_s = now_s()
        for timer in self._timers:
            timer.cancel()
        self._whole.set_exception(self.script.error)
        if not self._first.done():
            self._first.set_exception(self.script.error)
        self._news.set()
        self._note(_reason(self.script.error), self.script.cost)

    def _note(self, outcome: str, cost: float | None) -> None:
        self.entry["outcome"] = outcome
        if cost is not None:
            self.entry["cost_micro"] = round(cost)

    @property
    def is_over(self) -> bool:
        """It asks nobody any more."""
        return self._whole.done()

    async def ready(self) -> None:
        await asyncio.shield(self._first)

    @property
    def cost(self) -> float | None:
        return self.script.cost if self.ended_s is not None else 0.0

    async def read(self) -> Events:
        events = await self.nth(self._read)
        self._read += 1
        return events

    def come(self, index: int) -> Events:
        """A batch that has come."""
        return self._come[index]

    async def nth(self, index: int) -> Events:
        """A batch, once it has come; empty behind the last."""
        while index >= len(self._come):
            if self._whole.done():
                self._whole.result()
                return ()
            self._news.clear()
            await self._news.wait()
        return self._come[index]

    async def whole(self) -> Whole:
        return await asyncio.shield(self._whole)

    def answer(self) -> Answer:
        assert not self.is_given, f"{self.label} was given away twice"
        assert self._first.done(), f"{self.label} was given away before it was ready"
        assert self.cancelled_s is None, f"{self.label} was cancelled and then given away"
        self.is_given = True
        return FakeAnswer(self)

    def vectors_json(self) -> bytes:
        return b""

    def cancel(self, outcome: str = "cancelled") -> None:
        if self.is_given or self.was_cancelled:
            return
        self.was_cancelled = True
        if not self.is_over:
            self.stop()
            self._note(outcome, None)
        elif self.entry["outcome"] == "ok" and outcome != "cancelled":
            self._note(outcome, None)

    def stop(self) -> None:
        """Upstream is reset."""
        if self.is_over:
            return
        self.cancelled_s = now_s()
        for timer in self._timers:
            timer.cancel()
        gone = ClientCancelled(f"leg {self.label} was cancelled")
        self._whole.set_exception(gone)
        if not self._first.done():
            self._first.set_exception(gone)
        self._news.set()


class FakeAnswer:
    """What `FakeLeg.answer` gives; see `relay.answer.Answer`."""

    def __init__(self, leg: FakeLeg) -> None:
        self.leg = leg
        self.provider = f"{leg.model}-provider"
        self.model = leg.model
        self.name = f"{self.provider}/{self.model}"
        self.timeouts = Timeouts(1.0, 10.0, 10.0, 120.0)
        self.marks = AttemptMarks(leg.started_s)
        self.prelude: Events = leg.come(0)
        self._next = 1
        self.spent_usage: Usage | None = None
        self.is_aborted = False
        self.failed_with: UpstreamError | None = None

    @property
    def is_over(self) -> bool:
        return self.leg.is_over

    @property
    def output_bytes(self) -> None:
        return None

    async def read(self) -> Events:
        events = await self.leg.nth(self._next)
        self._next += 1
        return events

    def text_source(self) -> TextSource | None:
        return None

    def spent(self, usage: Usage) -> None:
        assert self.spent_usage is None
        self.spent_usage = usage

    def abort(self) -> None:
        self.is_aborted = True
        self.leg.stop()

    def fail(self, error: UpstreamError) -> None:
        self.failed_with = error
        self.abort()


class FakeLegs:
    """See the module and `relay.policy.base.Legs`."""

    def __init__(
        self,
        scripts: Mapping[str, Any],
        *,
        received_s: float = START_S,
    ) -> None:
        """
        Args:
            scripts: by alias, a `Script` or a list of them.
        """
        self.clock: Clock = now_s
        self.received_s = received_s
        self.decision = Decision()
        self.started: list[FakeLeg] = []
        """Every leg, in the order of the starts."""
        self.estimates: dict[str, float] = {}
        """By alias, for `estimate`."""
        self._scripts = scripts
        self._starts: dict[str, int] = {}

    def start(
        self, label: str, model: str, request: GenerateRequest, *, is_hedged: bool = True
    ) -> Leg:
        given = self._scripts[model]
        nth = self._starts.get(model, 0)
        self._starts[model] = nth + 1
        script: Script = given[min(nth, len(given) - 1)] if isinstance(given, list) else given
        if isinstance(script, Refuses):
            raise script.error
        request = replace(request, model=model)
        if not isinstance(script, Says | Fails):
            script = script(request)
        entry: dict[str, Any] = {"label": label, "model": model}
        self.decision.legs.append(entry)
        leg = FakeLeg(label, model, request, script, entry, is_hedged)
        self.started.append(leg)
        return leg

    def estimate(self, model: str, request: GenerateRequest) -> float | None:
        return self.estimates.get(model)

    async def run(self, composition: Composition, request: GenerateRequest) -> Answer:
        """Compose as the seam does."""
        try:
            return await composition.compose(request, self)
        finally:
            for leg in self.started:
                leg.cancel()

    def leg(self, label: str) -> FakeLeg:
        """The one with this label."""
        (found,) = (leg for leg in self.started if leg.label == label)
        return found

    @property
    def given(self) -> list[FakeLeg]:
        """Legs whose answer was given away."""
        return [leg for leg in self.started if leg.is_given]

    def outcomes(self) -> dict[str, str]:
        """By label, as the decision's list says."""
        return {entry["label"]: entry["outcome"] for entry in self.decision.legs}

    def check(self, *, given: int = 1) -> None:
        """So many legs were given away, and nothing else runs."""
        assert len(self.given) == given, [leg.label for leg in self.given]
        running = [leg.label for leg in self.started if not leg.is_over and not leg.is_given]
        assert not running, f"legs run on: {running}"
        labels = [leg.label for leg in self.started]
        assert len(set(labels)) == len(labels), f"labels are not unique: {labels}"


async def text_of(answer: Answer) -> str:
    """Read to its end: the text of the first choice."""
    events = await events_of(answer)
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def events_of(answer: Answer) -> list[StreamEvent]:
    """Read to its end."""
    events = list(answer.prelude)
    while batch := await answer.read():
        events += batch
    return events


def given_leg(answer: Answer) -> FakeLeg:
    """Whose answer it is."""
    return cast(FakeAnswer, answer).leg


def _reason(error: BaseException) -> str:
    return error.reason.name.lower() if isinstance(error, RelayError) else "internal"


def _seen(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # nobody need wait for it


def _whole(says: Says, took_s: float) -> Whole:
    calls = tuple(
        ToolCallDone(index, f"call_{index}", name, arguments)
        for index, (name, arguments) in enumerate(says.calls)
    )
    return Whole(
        texts={0: says.text} if says.text else {},
        tool_calls=calls,
        refusals={0: says.refusal} if says.refusal else {},
        finish={0: says.finish},
        usage=says.usage,
        logprobs_json=tuple(says.logprobs),
        cost=says.cost,
        took_s=took_s,
    )


def _batches(says: Says) -> list[tuple[float, Events]]:
    """With their times: the first content, what is timed, the rest."""
    if says.timed:
        tail = _tail(says)
        return [*says.timed, (math.nan, tail)]
    middle = max(1, len(says.text) // 2)
    pieces: list[StreamEvent] = [
        TextDelta(part) for part in (says.text[:middle], says.text[middle:]) if part
    ]
    if says.refusal:
        pieces.append(RefusalDelta(says.refusal))
    for index, (name, arguments) in enumerate(says.calls):
        pieces.append(ToolCallStart(index, f"call_{index}", name))
        if arguments:
            pieces.append(ToolArgumentsDelta(index, arguments))
        pieces.append(ToolCallDone(index, f"call_{index}", name, arguments))
    pieces += [OpaqueDelta("logprobs", value) for value in says.logprobs]
    pieces += _tail(says)
    return [(math.nan, pieces[:1]), (math.nan, pieces[1:])]


def _tail(says: Says) -> list[StreamEvent]:
    end: list[StreamEvent] = [ChoiceFinished(says.finish, says.finish.name.lower())]
    return [*end, says.usage] if says.usage is not None else end
