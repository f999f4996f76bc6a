"""A session of many generations, as callers hold it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias

from rtrelay._arguments import callback, made, set_prompt, texts
from rtrelay._flow import Flow, Misuse
from rtrelay._switchboard import Switchboard
from rtrelay._takeover import Via
from rtrelay.events import Event, Retract, Segment, TextDelta
from rtrelay.v1 import (
    Budgets,
    CacheMode,
    CancelReason,
    End,
    HedgePolicy,
    Message,
    OutputOptions,
    Prompt,
    PromptCache,
    Ready,
    Start,
)

Input: TypeAlias = (
    str | Prompt | Sequence[Message] | Sequence[Mapping[str, Any]] | Mapping[str, Any] | bytes
)
"""What a model is given: a question, a prompt, its messages (this contract's or OpenAI's), or the
body of an OpenAI chat completion as a mapping or as JSON."""


CLOSE_TIMEOUT_S = 1.0
"""How long a session that is closed waits for the ends of what ran."""


class Session:
    """Many generations over one stream, or over the next one when that breaks.

    Made by `Client.session`; use it in `async with`. Entering waits until the relay is ready;
    leaving cancels what runs (SESSION_END) and waits at most a second for it. Belongs to one event
    loop, and is not for several threads.
    """

    def __init__(self, switchboard: Switchboard, *, on_closed: Callable[[Session], object]) -> None:
        self._switchboard = switchboard
        self._on_closed = on_closed

    async def __aenter__(self) -> Self:
        """
        With `Client(direct=...)` it waits no longer than it takes to know that no relay answers.

        Raises:
            RelayError: no address gave a stream. Nothing is left open then, nor if it is cancelled.
        """
        try:
            await self._switchboard.open()
        except BaseException:
            await self.aclose()
            raise
        return self

    def prepare(self) -> None:
        """Begin to open a stream if there is none; waits for nothing.

        For who cannot use `async with`: `prepare`, `start` and `aclose` are enough. What keeps it
        from being opened is told by the generations that wait for it.
        """
        self._switchboard.prepare()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel what runs and end the session. Idempotent. If it is cancelled here, all is closed
        nevertheless, without waiting for the relay's ends."""
        try:
            await self._switchboard.aclose(CLOSE_TIMEOUT_S)
        finally:
            self._on_closed(self)

    @property
    def is_closed(self) -> bool:
        """It was closed, or is being."""
        return self._switchboard.is_closed

    @property
    def has_room(self) -> bool:
        """Another generation is within the relay's limit, as far as that is known."""
        return self._switchboard.has_room

    @property
    def ready(self) -> Ready | None:
        """What the relay said of itself and its limits; None while there is no stream."""
        link = self._switchboard.current
        return link.ready if link is not None else None

    @property
    def address(self) -> str | None:
        """Where new generations go; None while there is no stream."""
        link = self._switchboard.current
        return link.address if link is not None else None

    def start(
        self,
        prompt: Input,
        *,
        model: str = "",
        budgets: Budgets | None = None,
        output: OutputOptions | None = None,
        speculative: bool = False,
        hold_until_commit: bool = False,
        supersedes: Generation | Iterable[Generation] = (),
        turn_id: str = "",
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        hedge: HedgePolicy | None = None,
        prompt_cache: PromptCache.ValueType = PromptCache.PROMPT_CACHE_UNSPECIFIED,
        cache: CacheMode.ValueType = CacheMode.CACHE_MODE_UNSPECIFIED,
        traceparent: str = "",
        on_event: Callable[[Event], object] | None = None,
        on_end: Callable[[Generation], object] | None = None,
    ) -> Generation:
        """Start a generation; it is on its way when this returns, and nothing was waited for.

        The arguments are the fields of `Start` in the contract, whose comments hold. A failure is
        told by the generation, never here.

        Args:
            cache: whether an answer that the relay has kept will do; with CACHE_MODE_ONLY nothing
                else will, and the generation fails with CACHE_MISS where there is none.
            supersedes: generations that are cancelled before this one starts; those of other
                sessions at the same time.
            on_event: called with each event, in the loop, instead of iterating; it must not block.
                If it raises, the loop's exception handler is told and the generation is cancelled.
            on_end: called once when the generation is over, also after a cancel.

        Raises:
            RuntimeError: the session is closed, or the client belongs to another event loop.
            TypeError, ValueError: an argument cannot be right; the error names it.
        """
        callback("on_event", on_event)
        callback("on_end", on_end)
        start = made(
            Start,
            model=model,
            turn_id=turn_id,
            budgets=budgets,
            output=output,
            speculative=speculative,
            hold_until_commit=hold_until_commit,
            tags=texts("tags", tags),
            labels=labels,
            hedge=hedge,
            prompt_cache=prompt_cache,
            cache=cache,
            traceparent=traceparent,
        )
        set_prompt(start, prompt)
        superseded = _generations(supersedes)
        flow = Flow(
            start,
            on_event=on_event,
            on_end=None if on_end is None else lambda: on_end(generation),
        )
        generation = Generation(flow, self._switchboard)
        here = [one.flow for one in superseded if one.runs_on(self._switchboard)]
        self._switchboard.start(flow, here)
        for one in superseded:
            if one.flow not in here:  # of another session
                one.cancel(CancelReason.CANCEL_REASON_SUPERSEDED)
        return generation

    generate = start
    """The same, for who reads better with it: `async for event in session.generate(...)`."""


class Generation:
    """One answer in the making; made by `Session.start`.

        async with session.start("Why is the sky blue?") as answer:
            async for event in answer:
                if isinstance(event, TextDelta): ...

    It is cancelled by `cancel`, by leaving the block, by leaving the loop (`break`, an exception,
    `return`) and by the cancellation of the task that waits for an event. Each of them only puts
    a frame into a queue: nobody waits for the relay, and no event is delivered afterwards. The
    relay's word on it (usage, timeline) is there after `await generation.ended()`.

    One task may iterate at a time.
    """

    def __init__(self, flow: Flow, switchboard: Switchboard) -> None:
        self.flow = flow
        """For the session."""
        self.leave_reason: CancelReason.ValueType = CancelReason.CANCEL_REASON_UNSPECIFIED
        """What a cancel by leaving its loop or block gives as its reason; set it as soon as it is
        known."""
        self._switchboard = switchboard

    def runs_on(self, switchboard: Switchboard) -> bool:
        """For sessions: whether it is one of theirs."""
        return self._switchboard is switchboard

    def __repr__(self) -> str:
        state = "over" if self.is_over else "cancelled" if self.is_cancelled else "running"
        return f"<Generation {self.generation_id} {state}>"

    @property
    def generation_id(self) -> str:
        """Its id on the wire; another one once it was started again on another stream."""
        return self.flow.start.generation_id

    @property
    def via(self) -> Via:
        """Which way it goes: to the `relay`, or `direct` to the provider. Until it has output the
        first may become the second."""
        return self.flow.via

    @property
    def is_cancelled(self) -> bool:
        """It was cancelled on this side."""
        return self.flow.is_cancelled

    @property
    def is_over(self) -> bool:
        """Its end is known; events may still be unread."""
        return self.flow.over.is_set()

    @property
    def end(self) -> End | None:
        """How it ended, with usage, attempts and timeline; None until then, and for good if its
        stream was lost."""
        return self.flow.end

    @property
    def decision(self) -> Mapping[str, Any] | None:
        """What the operator's policies made of it: `rule`, `experiment`, `composition`, `legs`,
        `cache`, `guards`, ..., as `docs/logs.md` of the relay has them; empty where there was
        nothing to decide, and None until its end is known."""
        end = self.flow.end
        if end is None:
            return None
        found = json.loads(end.decision_json or b"{}")
        return found if isinstance(found, dict) else {}

    @property
    def error(self) -> Exception | None:
        """The RelayError that it failed with, if it did."""
        return self.flow.error

    def cancel(
        self, reason: CancelReason.ValueType = CancelReason.CANCEL_REASON_UNSPECIFIED
    ) -> None:
        """Stop it. Idempotent, and without effect on the relay's side once it is over."""
        self._switchboard.cancel(self.flow, reason)

    def commit(self) -> None:
        """The speculation is wanted. Idempotent."""
        self._switchboard.commit(self.flow)

    async def ended(self) -> End:
        """Wait for the end, whatever it is: completed, cancelled or failed.

        Events need not be read for it. If it is cancelled here, nothing happens to the generation.

        Raises:
            RelayError: there is no end: the stream was lost, or none was to be had.
        """
        await self.flow.over.wait()
        if self.flow.end is not None:
            return self.flow.end
        if self.flow.error is not None:
            raise self.flow.error
        raise AssertionError("over without end or error")

    async def text(self) -> str:
        """Read it to its end.

        Returns:
            The text of the first choice, without what a guardrail withdrew of it; what had come of
            it, if it was cancelled meanwhile.

        Raises:
            RelayError: it failed. The text so far is lost; iterate to keep it.
        """
        pieces: list[str] = []
        segments: list[str] = []  # for starts that ask for these alone
        until_chars: int | None = None
        async for event in self:
            if isinstance(event, TextDelta) and event.choice == 0:
                pieces.append(event.text)
            elif isinstance(event, Segment) and event.choice == 0:
                segments.append(event.text)
            elif isinstance(event, Retract) and event.choice == 0:
                until_chars = event.from_chars
        return "".join(pieces or segments)[:until_chars]

    def __aiter__(self) -> AsyncIterator[Event]:
        """
        Raises:
            RelayError: from the loop, after all that came before the failure.
        """
        return _Reading(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel it if it is not over; waits for nothing."""
        self.cancel(self.leave_reason)


class _Reading:
    """One loop over a generation. Python tells an iterator nothing when its loop is left, but
    CPython drops it in that moment, which is the cancel; elsewhere `async with` is."""

    def __init__(self, generation: Generation) -> None:
        self._generation: Generation | None = generation
        self._loop = asyncio.get_running_loop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        generation = self._generation
        if generation is None:
            raise StopAsyncIteration
        try:
            event = await generation.flow.next_event()
        except Misuse:  # which is not the generation's fault
            self._generation = None
            raise
        except BaseException:  # a CancelledError as a rule
            self._generation = None
            generation.cancel(generation.leave_reason)
            raise
        if event is None:
            self._generation = None
            raise StopAsyncIteration
        return event

    def __del__(self) -> None:
        if self._generation is None:
            return
        generation = self._generation
        if _is_running(self._loop):
            generation.cancel(generation.leave_reason)
        elif not self._loop.is_closed():  # in a thread whose turn it was to collect garbage
            self._loop.call_soon_threadsafe(generation.cancel, generation.leave_reason)


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is called by that loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _generations(given: object) -> list[Generation]:
    """Of one generation or of several.

    Raises:
        TypeError: they are none.
    """
    several = (given,) if isinstance(given, Generation) else given
    if not isinstance(several, Iterable):
        raise TypeError("supersedes: generations")
    found = list(several)
    if not all(isinstance(one, Generation) for one in found):
        raise TypeError("supersedes: generations")
    return found
