"""Asking the doors in turn, within a bound of money.

In each round every door is asked once, in an order that is drawn anew, with prompts of one length:
what changes with the minute changes for all of them. Requests go one after another, over warm
connections, as attempts of a worker do: same transport, same codecs, same credentials; the limits
of a row (`rpm`, `tpm`) and a provider's `retry-after` are waited for.

No request is sent that could take what is spent over the bound. All doors stop there together, so
that none has more samples than the others.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

from relay.attempt import Attempt
from relay.content import Events, Usage
from relay.deadline import Clock
from relay.errors import Reason, RelayError, Retry
from relay.measuring.prompts import Question, Shape, lengths, question
from relay.measuring.samples import Door, DoorResult, Sample
from relay.outcome import AttemptRole
from relay.prices import Price
from relay.reaper import Reaper
from relay.routing.catalog import Catalog
from relay.routing.route import Timeouts
from relay.target_state import TargetStates
from relay.tokens import is_plausible
from relay.transport.base import Origin, Transport

WARM_WAIT_S: Final = 5.0
FAULTS_IN_A_ROW: Final = 3
"""Then a door is left: the same would come again, and some of it costs money."""
MAX_WAIT_S: Final = 30.0
"""A door that wants a longer pause is left, since all others wait with it."""
MAX_SHOWN_CHARS: Final = 300

_HOPELESS: Final = frozenset(
    {
        Reason.UNSUPPORTED_FEATURE,
        Reason.PERMISSION_DENIED,
        Reason.UPSTREAM_MISCONFIGURED,
        Reason.UPSTREAM_MODEL_NOT_FOUND,
        Reason.UPSTREAM_PERMISSION_DENIED,
        Reason.UPSTREAM_QUOTA_EXHAUSTED,
        Reason.UPSTREAM_REJECTED,
        Reason.UPSTREAM_TLS,
    }
)
"""Asked again, it would be answered likewise."""

Ended = Literal["complete", "bound", "stopped"]


class Bound(NamedTuple):
    """How much is asked."""

    samples: int
    """Of each door; every second has a long prompt."""
    max_micro: float
    """USD 1e-6; requests without a known price cannot be counted."""


class Dials:
    """When the last connection to each origin was made: the transport's `on_dial`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ended_s: dict[Origin, float] = {}

    def __call__(self, origin: Origin, took_s: float) -> None:
        self._ended_s[origin] = self._clock()

    def was_within(self, origin: Origin, from_s: float, to_s: float) -> bool:
        """Whether one ended between these."""
        return from_s <= self._ended_s.get(origin, -1.0) <= to_s


def worst_micro(door: Door, asked: Question, shape: Shape) -> float:
    """What one request can cost, USD 1e-6; 0 where the price is not known."""
    if door.price is None:
        return 0.0
    return door.price.of(asked.most_tokens, 0, shape.output_tokens)


def worst_of(door: Door, samples: int, shape: Shape) -> float:
    """What all requests to a door can cost, USD 1e-6."""
    # The length of the words hardly varies; these are as good as any.
    rng = random.Random(0)  # noqa: S311 - not a secret
    both = [question(shape, rng, is_long=is_long) for is_long in (False, True)]
    return sum(worst_micro(door, both[is_long], shape) for is_long in lengths(samples))


class Rounds:
    """One measuring. `run` it once; `results` hold what there is, also if it was cancelled.

    Args:
        catalog: that the targets are of.
        dials: told by the transport.
        is_stopped: asked before each request.
        say: told before each round how far it is, for people.
    """

    def __init__(
        self,
        doors: Sequence[Door],
        catalog: Catalog,
        shape: Shape,
        bound: Bound,
        *,
        transport: Transport,
        dials: Dials,
        clock: Clock,
        rng: random.Random,
        is_stopped: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.results = [DoorResult(door) for door in doors]
        self._catalog = catalog
        self._shape = shape
        self._bound = bound
        self._transport = transport
        self._dials = dials
        self._clock = clock
        self._rng = rng
        self._is_stopped = is_stopped
        self._say = say
        self._reaper = Reaper()
        # None of a worker's: what is learnt here is told by samples, and no breaker keeps away.
        self._states = TargetStates()

    @property
    def spent_micro(self) -> float:
        """USD 1e-6, as far as prices are known."""
        return sum(result.spent_micro for result in self.results)

    async def run(self) -> Ended:
        """Ask; returns why it ended. Errors of doors are in the results, none is raised.

        Cancelled: the request that runs is withdrawn.
        """
        try:
            await self._warm()
            for number, is_long in enumerate(lengths(self._bound.samples)):
                here = [result for result in self.results if not result.left]
                if not here:
                    break
                self._say(
                    f"round {number + 1} of {self._bound.samples},"
                    f" ${self.spent_micro / 1e6:.4f} spent"
                )
                self._rng.shuffle(here)
                for result in here:
                    if self._is_stopped():
                        return "stopped"
                    asked = question(self._shape, self._rng, is_long=is_long)
                    worst = worst_micro(result.door, asked, self._shape)
                    if self.spent_micro + worst > self._bound.max_micro:
                        return "bound"
                    await self._ask(result, asked, worst)
            return "complete"
        finally:
            await self._reaper.aclose()

    async def _warm(self) -> None:
        """Connect to all of them, as a worker does before it serves; a door that cannot be reached
        is told by its first request."""
        endpoints = {
            result.door.target.endpoint.origin: result.door.target.endpoint
            for result in self.results
        }
        warming = [
            asyncio.create_task(
                self._transport.warm(
                    origin, 1, probe_path=endpoint.probe_path, max_streams=endpoint.max_streams
                )
            )
            for origin, endpoint in endpoints.items()
        ]
        try:
            await asyncio.wait(warming, timeout=WARM_WAIT_S)
        finally:
            for task in warming:
                task.cancel()
            await asyncio.gather(*warming, return_exceptions=True)

    async def _ask(self, result: DoorResult, asked: Question, worst: float) -> None:
        """Put one question to one door, and note what came of it."""
        target = result.door.target
        state = self._states.of(target, self._clock())
        wait_s = state.headroom.wait_s(self._clock())
        if wait_s > MAX_WAIT_S:
            result.left = f"it wants a pause of {wait_s:.0f} s"
            return
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        result.asked += 1
        # As a race does: once more over a connection that had gone stale, or with a newer token.
        answer = await self._attempt(result, asked, worst, AttemptRole.PRIMARY)
        if answer.error is not None and answer.error.retry is Retry.IF_REUSED:
            answer = await self._attempt(result, asked, worst, AttemptRole.RETRY)
        if answer.sample is not None:
            result.samples.append(answer.sample)
            result.vain_in_a_row = 0
        else:
            result.vain_in_a_row += 1
        if answer.fault:
            result.faults[answer.fault] += 1
        if answer.error is not None and answer.error.reason in _HOPELESS:
            result.left = "asked again it would be answered likewise"
        elif result.vain_in_a_row >= FAULTS_IN_A_ROW:
            result.left = f"{FAULTS_IN_A_ROW} requests in a row were in vain"

    async def _attempt(
        self, result: DoorResult, asked: Question, worst: float, role: AttemptRole
    ) -> _Answer:
        door = result.door
        state = self._states.of(door.target, self._clock())
        limits = self._catalog.resolve(door.target.place).timeouts_for(asked.request)
        attempt = Attempt(
            door.target,
            asked.request,
            limits,
            transport=self._transport,
            reaper=self._reaper,
            clock=self._clock,
            received_s=self._clock(),
            state=state,
            role=role,
            estimated_prompt_tokens=asked.estimated_tokens,
            is_forced=True,
        )
        usage: Usage | None = None
        error: RelayError | None = None
        fault = ""
        try:
            usage = await _read_whole(attempt, limits)
        except RelayError as failure:
            error, fault = failure, _words(failure)
        except TimeoutError:
            fault = f"its answer did not end within {limits.total_s:g} s"
        finally:
            attempt.abort()
        if usage is not None and not is_plausible(usage, asked.estimated_tokens):
            usage = None
        if usage is not None:
            attempt.spent(usage)
        result.spent_micro += _cost(door.price, attempt, usage, worst)
        came_s = _first_token_s(attempt)
        if came_s is None:
            silent = (
                f"it answered without a word in {self._shape.output_tokens} tokens (a model that"
                " thinks first? --effort, --output-tokens)"
            )
            return _Answer(None, error, fault or silent)
        started_s = attempt.marks.started_s
        sent_s = attempt.marks.at_s.get("request_sent", came_s)
        sample = Sample(
            came_s - started_s,
            usage.prompt_tokens if usage else asked.estimated_tokens,
            (usage.cached_tokens or 0) if usage else 0,
            is_long=asked.is_long,
            is_cold=self._dials.was_within(door.target.endpoint.origin, started_s, sent_s),
            at_s=came_s,
        )
        return _Answer(sample, error, fault)


class _Answer(NamedTuple):
    """What came of one attempt."""

    sample: Sample | None
    error: RelayError | None
    fault: str
    """What went wrong, in words; empty if nothing did."""


def _words(error: RelayError) -> str:
    name = error.reason.name.lower().removeprefix("upstream_").replace("_", " ")
    return f"{name}: {error.public_message[:MAX_SHOWN_CHARS]}"


def _cost(price: Price | None, attempt: Attempt, usage: Usage | None, worst: float) -> float:
    """USD 1e-6: by the provider's own account, else the most that it can be."""
    if price is None:
        return 0.0
    if usage is not None:
        return price.of(usage.prompt_tokens, usage.cached_tokens or 0, usage.completion_tokens)
    return 0.0 if attempt.record.is_free else worst


async def _read_whole(attempt: Attempt, limits: Timeouts) -> Usage | None:
    """Run an attempt to the end of its answer, which says what it cost.

    Raises:
        RelayError: it failed.
        TimeoutError: its end did not come within the limit of the whole.
    """
    usage: Usage | None = None
    async with asyncio.timeout(limits.total_s):
        await attempt.run_until_ready()
        events: Events = attempt.prelude
        while True:
            usage = next((e for e in reversed(events) if type(e) is Usage), usage)
            events = await attempt.read()
            if not events:
                return usage


def _first_token_s(attempt: Attempt) -> float | None:
    """When the first content came; None where none did, though the answer may have ended."""
    if not any(event.is_content for event in attempt.prelude):
        return None
    return attempt.marks.at_s.get("first_content")
