"""An answer with guardrails over it: what they hold back is not read, what they refuse never is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from relay.answer import Answer, TextSource
from relay.content import (
    Events,
    ReasoningDelta,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ToolArgumentsDelta,
    Usage,
)
from relay.decision import Decision
from relay.errors import UpstreamError
from relay.guardrails.base import OutputGuard
from relay.routing.route import Timeouts
from relay.timeline import AttemptMarks
from relay.tokens import count_bytes

AT_ONCE_BYTES: Final = 8192
"""Of a batch: reading more may stop everybody else for tens of milliseconds."""
PIECE_CHARS: Final = 4096

OnHeld = Callable[[Answer], Callable[[], None]]


class GuardedAnswer:
    """See the module and `relay.answer.Answer`. Made by `guarded`."""

    def __init__(self, answer: Answer, guard: OutputGuard, decision: Decision) -> None:
        self._decision = decision
        self.heard: Callable[[], None] | None = None
        """Called whenever something has come from upstream, whatever becomes of it."""
        self._answer = answer
        self._guard = guard
        self._is_over = False
        self._output_bytes = 0
        self.provider = answer.provider
        self.model = answer.model
        self.name = answer.name
        self.prelude: Events = ()

    @property
    def timeouts(self) -> Timeouts:
        return self._answer.timeouts

    @property
    def marks(self) -> AttemptMarks:
        return self._answer.marks

    @property
    def is_over(self) -> bool:
        return self._is_over or self._answer.is_over

    @property
    def output_bytes(self) -> int:
        inner = self._answer.output_bytes
        return self._output_bytes if inner is None else inner

    async def begin(self) -> None:
        """Read until there is something that may be released, or the end.

        Raises:
            GuardrailBlocked, RelayError
        """
        self.prelude = await self._passed(self._answer.prelude) or await self.read()

    async def read(self) -> Events:
        while not self._is_over:
            events = await self._answer.read()
            if self.heard is not None:
                self.heard()
            if not events:
                self._is_over = True
                rest = await self._guard.finish()
                self._retract()
                return rest
            if passed := await self._passed(events):
                return passed
        return ()

    async def _passed(self, events: Events) -> Events:
        before = self._output_bytes
        for event in events:
            if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
                self._output_bytes += count_bytes(event.text)
            elif isinstance(event, ToolArgumentsDelta):
                self._output_bytes += count_bytes(event.fragment)
        if self._output_bytes - before > AT_ONCE_BYTES:
            passed = await self._in_turns(events)
        else:
            passed = await self._guard.feed(events) if events else ()
        if self._guard.is_blocked:
            self._is_over = True
            self._answer.abort()
            self._retract()
        return passed

    async def _in_turns(self, events: Events) -> Events:
        """A long batch (a kept answer comes as one), between whose pieces others have their turn:
        what is released does not depend on how it comes."""
        found: list[StreamEvent] = []
        for at, event in enumerate(events):
            for piece in _pieces(event):
                found += await self._guard.feed((piece,))
                if self._guard.is_blocked:
                    # What it cost is told whatever becomes of it.
                    return found + [rest for rest in events[at + 1 :] if type(rest) is Usage]
                await asyncio.sleep(0)
        return found

    def _retract(self) -> None:
        """Say what ought not to have been released."""
        if self._guard.retract_from is not None:
            self._decision.retract_from = self._guard.retract_from
            self._decision.retract_choice = self._guard.retract_choice

    def text_source(self) -> TextSource | None:
        return None

    def spent(self, usage: Usage) -> None:
        self._answer.spent(usage)

    def abort(self) -> None:
        self._is_over = True
        self.heard = None  # it holds whoever holds us
        self._answer.abort()

    def fail(self, error: UpstreamError) -> None:
        self._is_over = True
        self.heard = None
        self._answer.fail(error)


def _pieces(event: StreamEvent) -> Iterator[StreamEvent]:
    if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
        for at in range(0, len(event.text), PIECE_CHARS):
            yield type(event)(event.text[at : at + PIECE_CHARS], event.choice)
    else:
        yield event


async def guarded(
    answer: Answer, guard: OutputGuard, decision: Decision, on_held: OnHeld | None = None
) -> GuardedAnswer:
    """The answer with the guard over it, from the first that may be released on.

    Args:
        on_held: as `relay.dispatch.Progress.on_held`: whoever owns the answer watches over its time
            limits from here on, and counts what was written of it if it is given up.

    Raises:
        GuardrailBlocked: nothing may be; the answer is given up.
        RelayError: it broke before.

    Cancelled: the answer is given up.
    """
    found = GuardedAnswer(answer, guard, decision)
    if on_held is not None:
        found.heard = on_held(found)
    try:
        await found.begin()
    except BaseException:
        answer.abort()
        raise
    return found
