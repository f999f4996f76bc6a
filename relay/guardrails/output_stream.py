"""Guardrails over one answer: what goes in event by event comes out in order, or does not.

Each choice has a queue of runs of text, tool calls and other events; its first entry goes out as
far as it is cleared, and what stands behind waits for it. A tool call goes out when its arguments
are whole. What repeats the text in another form (`logprobs`) is left out where something may be
taken out of the text; other opaque fields are read as JSON, and left out if something is in them.

Questions to others are asked where a batch of events ends, all that are due at once; the answer is
not read on meanwhile. Those that need not be answered before a release run beside it, in tasks that
`close` cancels and the guardrails' owner awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from relay.content import (
    AudioDelta,
    ChoiceFinished,
    Embeddings,
    Events,
    FinishReason,
    OpaqueDelta,
    ProviderFailed,
    ReasoningDelta,
    RefusalDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from relay.decision import Decision
from relay.errors import GuardrailBlocked
from relay.guardrails.answer_choice import AnswerChoice
from relay.guardrails.asking import Question, Shown
from relay.guardrails.base import GuardScope
from relay.guardrails.input_check import asked
from relay.guardrails.notes import Notes
from relay.guardrails.rail import Rail
from relay.guardrails.rails import Rails
from relay.guardrails.windows import Window
from relay.policy.base import Legs

Spawn = Callable[["asyncio.Task[None]"], None]
"""Takes over a task: whoever owns the guardrails awaits it."""

TOO_LONG: Final = "too_long"
MOST_AT_ONCE: Final = 8
"""Questions of one answer: a long one that comes at once leaves room for others."""


class GuardedOutput:
    """An `OutputGuard`.

    Args:
        rails: of the output side.
        legs: to ask models.
        zones: data zones that texts may be sent to; None for anywhere.
        max_held_chars: more held back at once is a block.
        clock: seconds, monotonic.
        adopt: takes over tasks.
    """

    def __init__(
        self,
        rails: Rails,
        scope: GuardScope,
        decision: Decision,
        legs: Legs | None,
        zones: frozenset[str] | None,
        *,
        max_held_chars: int,
        clock: Callable[[], float],
        adopt: Spawn,
    ) -> None:
        self._rails = rails
        self._scope = scope
        self._decision = decision
        self._legs = legs
        self._zones = zones
        self._max_held_chars = max_held_chars
        self._clock = clock
        self._adopt = adopt
        self._notes = Notes(decision, "output")
        self._choices: dict[int, AnswerChoice] = {}
        self._holds_end = any(
            rail.stops and rail.asking is not None and not rail.asking.is_before
            for rail in rails.asking
        )
        """Whoever is asked behind the release may take the answer back until its end is out."""
        self._usage: Usage | None = None
        self._has_released = False
        self._is_over = False
        self._beside: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)
        self._fault: tuple[Rail, int, int] | None = None
        """Of a question that was answered after the release: whose, of which choice, from where."""
        self.is_blocked = False
        self.retract_from: int | None = None
        self.retract_choice = 0

    # --- `OutputGuard` ------------------------------------------------------------------------

    async def feed(self, events: Events) -> Events:
        """See `OutputGuard`."""
        if self._is_over:
            return ()
        if self._has_released:
            return await self._fed(events)
        began_s = self._clock()
        try:
            return await self._fed(events)
        finally:
            self._decision.guard_us += round((self._clock() - began_s) * 1e6)

    async def finish(self) -> Events:
        """See `OutputGuard`."""
        if self._is_over:
            return ()
        found: list[StreamEvent] = []
        blocked = await self._ended()
        if blocked is not None:
            return self._blocked(blocked, found)
        self._collect(found, is_end=True)
        if self._usage is not None:
            found.append(self._usage)
        self._end()
        return found

    def close(self) -> None:
        """See `OutputGuard`."""
        for task in self._beside:
            task.cancel()
        self._end()

    # --- what comes ---------------------------------------------------------------------------

    async def _fed(self, events: Events) -> Events:
        found: list[StreamEvent] = []
        blocked: Rail | None = None
        for event in events:
            kind = type(event)
            if kind is TextDelta:
                choice = self._choices.get(event.choice) or self._choice(event.choice)  # type: ignore[attr-defined]
                blocked = choice.text(event)  # type: ignore[arg-type]
            elif kind is ResponseInfo or kind is Embeddings:
                found.append(event)
                self._has_released = self._has_released or event.is_content
            elif kind is Usage:
                self._usage = event  # type: ignore[assignment]
            elif kind is ProviderFailed:
                blocked = await self._ended()
                if blocked is None:
                    self._collect(found, is_end=True)
                    found.append(event)
                    self._end()
                    return found
            else:
                blocked = await self._take(event)
            if blocked is not None:
                for rest in events:
                    if type(rest) is Usage:  # what it cost is told whatever becomes of it
                        self._usage = rest
                break
        # Also before a block: what was whole by then goes out however the answer came.
        blocked = await self._asked(self._due()) or blocked
        if self._fault is not None:
            return self._retracted(found)
        if blocked is not None:
            return self._blocked(blocked, found)
        held = self._collect(found)
        if held > self._decision.held_chars:
            self._decision.held_chars = held
            if held > self._max_held_chars:
                return self._blocked(self._too_long(), found)
        if not held and self._usage is not None and self._is_empty():
            found.append(self._usage)
            self._usage = None
        return found

    async def _take(self, event: StreamEvent) -> Rail | None:
        """Any event of a choice but text. Returns who blocks the answer."""
        match event:
            case RefusalDelta() | ReasoningDelta():
                return self._choice(event.choice).text(event)
            case AudioDelta():
                if event.data_base64 and self._rails.unreadable is not None:
                    return self._unreadable("audio")
                return self._choice(event.choice).audio(event)
            case ToolCallStart():
                return self._choice(event.choice).call_start(event)
            case ToolArgumentsDelta():
                return self._choice(event.choice).call_arguments(event)
            case ToolCallDone():
                return await self._choice(event.choice).call_done(event, self._shown_to_all)
            case OpaqueDelta():
                return self._opaque(event)
            case ChoiceFinished():
                return self._choice(event.choice).finished(event)
        self._choice(getattr(event, "choice", 0)).other(event)
        return None

    def _choice(self, number: int) -> AnswerChoice:
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = AnswerChoice(number, self._rails, self._notes)
        return choice

    def _opaque(self, event: OpaqueDelta) -> Rail | None:
        try:
            return self._choice(event.choice).opaque(event)
        except GuardrailBlocked as error:
            return next(rail for rail in self._rails.all if rail.name == error.guardrail)

    def _unreadable(self, what: str) -> Rail | None:
        rail = self._rails.unreadable
        if rail is not None:
            self._notes.add(rail.name, f"unreadable.{what}", "block")
        return rail

    def _too_long(self) -> Rail:
        rail = next(rail for rail in self._rails.all if rail.stops)
        self._notes.add(rail.name, TOO_LONG, "block")
        return rail

    # --- what goes ----------------------------------------------------------------------------

    def _collect(self, found: list[StreamEvent], *, is_end: bool = False) -> int:
        """Everything that may go out now. Returns how many characters may not."""
        held = 0
        for choice in self._choices.values():
            held += choice.release(found, may_finish=is_end or not self._holds_end)
        if not self._has_released:
            self._has_released = any(event.is_content for event in found)
        return held

    def _is_empty(self) -> bool:
        return all(choice.is_empty for choice in self._choices.values())

    async def _ended(self) -> Rail | None:
        """Nothing more comes: look at all that was held back. Returns who blocks the answer."""
        for choice in self._choices.values():
            if choice.is_slow:
                blocked = await asyncio.to_thread(choice.end)
            else:
                blocked = choice.end()
            if blocked is None:
                blocked = await choice.calls_left(self._shown_to_all)
            if blocked is not None:
                return blocked
        blocked = await self._asked(self._due(is_end=True))
        if blocked is None and self._beside:
            await asyncio.wait(self._beside)
            if self._fault is not None:
                return self._retraction()
        return blocked

    def _blocked(self, rail: Rail, found: list[StreamEvent]) -> Events:
        """The end of an answer that may not go on, behind what may.

        Raises:
            GuardrailBlocked: nothing of it is out, and nothing may be.
        """
        self._collect_before_block(found)
        self.is_blocked = True
        self._end()
        if not self._has_released:
            raise rail.blocked("output")
        for number, choice in sorted(self._choices.items()):
            if choice.has_begun and not choice.is_finished:
                reason = f"guardrail:{rail.name}"
                is_withdrawn = self.retract_from is not None and number == self.retract_choice
                found.append(
                    ChoiceFinished(FinishReason.CONTENT_FILTER, reason, number, is_withdrawn)
                )
        if self._usage is not None:
            found.append(self._usage)
        return found

    def _collect_before_block(self, found: list[StreamEvent]) -> None:
        for choice in self._choices.values():
            choice.release(found, may_finish=False)
        if not self._has_released:
            self._has_released = any(event.is_content for event in found)

    def _retracted(self, found: list[StreamEvent]) -> Events:
        return self._blocked(self._retraction(), found)

    def _retraction(self) -> Rail:
        if self._fault is None:
            raise AssertionError("there is a fault")
        rail, self.retract_choice, self.retract_from = self._fault
        for choice in self._choices.values():
            choice.drop()
        return rail

    def _end(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        for choice in self._choices.values():
            choice.tell()
            self._decision.held_chars = max(self._decision.held_chars, choice.most_held_chars)
        self._notes.write()

    # --- who is asked -------------------------------------------------------------------------

    def _due(self, *, is_end: bool = False) -> list[Window]:
        """Of all lanes, by whoever need not be waited for in tasks; the others are returned."""
        if not self._rails.asking:
            return []
        found: list[Window] = []
        for choice in self._choices.values():
            for window in choice.due(is_end=is_end):
                asking = window.rail.asking
                if asking is not None and asking.is_before and window.rail.stops:
                    found.append(window)
                else:
                    self._ask_beside(window, choice.number)
        return found

    async def _asked(self, due: list[Window]) -> Rail | None:
        """Ask about all of them, so many at once. Returns who blocks the answer: what is behind a
        bad window does not go out."""
        for at in range(0, len(due), MOST_AT_ONCE):
            windows = due[at : at + MOST_AT_ONCE]
            if len(windows) == 1:
                blocks = [await self._ask(windows[0])]
            else:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._ask(window)) for window in windows]
                blocks = [task.result() for task in tasks]
            bad: set[tuple[int, str]] = set()
            blocked = None
            for window, is_block in zip(windows, blocks, strict=True):
                lane = (id(window.windows), window.rail.name)
                if is_block:
                    blocked = blocked or window.rail
                    bad.add(lane)
                elif lane not in bad:
                    window.windows.answered(window)
            if blocked is not None:
                return blocked
        return None

    async def _ask(self, window: Window) -> bool:
        question = self._question(window.text)
        return await asked(window.rail, question, self._notes) is not None

    def _question(self, text: str, role: str = "assistant") -> Question:
        return Question("output", (Shown(role, text),), self._scope, self._legs, self._zones)

    def _ask_beside(self, window: Window, choice: int) -> None:
        async def ask() -> None:
            async with self._turns:
                if self._fault is not None:
                    return
                is_bad = await self._ask(window)
            if is_bad:
                self._found_late(window, choice)

        task = asyncio.get_running_loop().create_task(ask(), name="guardrail beside an answer")
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        self._adopt(task)

    def _found_late(self, window: Window, choice: int) -> None:
        """Something bad is out; the earliest of it counts."""
        start = window.start if window.windows.is_text else 0
        if self._fault is None or self._fault[1:] > (choice, start):
            self._fault = (window.rail, choice, start)

    async def _shown_to_all(self, rails: Iterable[Rail], text: str) -> Rail | None:
        """Ask about a tool call, which has not gone out: whatever `when` says, it waits."""
        question = self._question(text, "tool")
        rails = list(rails)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asked(rail, question, self._notes)) for rail in rails]
        return next(
            (rail for rail, task in zip(rails, tasks, strict=True) if task.result() is not None),
            None,
        )
