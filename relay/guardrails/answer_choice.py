"""One choice of a guarded answer: its texts, and what waits in which order."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import orjson

from relay.content import (
    AudioDelta,
    ChoiceFinished,
    OpaqueDelta,
    ReasoningDelta,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
)
from relay.errors import GuardrailBlocked
from relay.guardrails.json_texts import changed_bytes, changed_text
from relay.guardrails.lane import Lane
from relay.guardrails.notes import Notes
from relay.guardrails.rail import NAME, REASONING, TEXT, TOOL, Kind, Rail
from relay.guardrails.rails import Rails
from relay.guardrails.windows import Window

AskAll = Callable[[Sequence[Rail], str], Awaitable[Rail | None]]
"""Asks those rails about a text. Returns who blocks it."""

REPEATS: Final = frozenset({"logprobs"})
"""Opaque fields that have the text again, cut in another way."""
_REASONING_KEYS: Final = frozenset({"reasoning_details", "reasoning"})


class _Run:
    """Text of one lane between other things; `end` is None while it goes on."""

    __slots__ = ("end", "lane", "make")

    def __init__(self, lane: Lane, make: Callable[[str], StreamEvent]) -> None:
        self.lane = lane
        self.make = make
        self.end: int | None = None


class _Behind:
    """An opaque field that a text is held in front of, which goes on."""

    __slots__ = ("event",)

    def __init__(self, event: OpaqueDelta) -> None:
        self.event = event


class _Call:
    """A tool call; `events` is None until it is whole and was looked at."""

    __slots__ = ("events", "fragments", "start")

    def __init__(self, start: ToolCallStart | None) -> None:
        self.start = start
        self.fragments: list[str] = []
        self.events: list[StreamEvent] | None = None


class AnswerChoice:
    """See the module. Where a method returns a rail, that one blocks the answer."""

    def __init__(self, number: int, rails: Rails, notes: Notes) -> None:
        self.number = number
        self._rails = rails
        self._notes = notes
        self._lanes: dict[type[StreamEvent], Lane] = {}
        self._open: dict[type[StreamEvent], _Run] = {}
        self._queue: deque[_Run | _Call | _Behind | StreamEvent] = deque()
        self._last: _Run | None = None
        """The run that the latest text belongs to."""
        self._calls: dict[int, _Call] = {}
        self._call_chars = 0
        self._tails: dict[tuple[str, str], str] = {}
        self.has_begun = False
        self.is_finished = False
        self._most_held_chars = 0

    # --- what comes ---------------------------------------------------------------------------

    def text(self, event: TextDelta | RefusalDelta | ReasoningDelta) -> Rail | None:
        """A piece of text."""
        kind = type(event)
        run = self._last
        if run is None or self._open.get(kind) is not run:
            if kind is ReasoningDelta and not self._rails.looks_at_reasoning:
                return self.other(event)
            if (blocked := self._close_run()) is not None:
                return blocked
            run = self._run_of(kind, lambda text: kind(text, self.number))
        lane = run.lane
        lane.feed(event.text)
        return lane.blocked_by

    def audio(self, event: AudioDelta) -> Rail | None:
        """Sound goes out; what is said of it is a text."""
        self.has_begun = True
        if event.data_base64 or not event.transcript:
            sound = msgspec.structs.replace(event, transcript="")
            last = self._last
            if last is not None and self._open.get(AudioDelta) is last and last is self._tail:
                self._queue.insert(len(self._queue) - 1, sound)
            else:
                if (blocked := self._close_run()) is not None:
                    return blocked
                self._queue.append(sound)
        if not event.transcript:
            return None
        run = self._last
        if run is None or self._open.get(AudioDelta) is not run:
            if (blocked := self._close_run()) is not None:
                return blocked
            audio_id = event.audio_id
            run = self._run_of(
                AudioDelta,
                lambda text: AudioDelta(audio_id=audio_id, transcript=text, choice=self.number),
            )
        run.lane.feed(event.transcript)
        return run.lane.blocked_by

    def call_start(self, event: ToolCallStart) -> Rail | None:
        """A call opens: it waits until it is whole."""
        if not self._rails.looks_at_tools:
            return self.other(event)
        try:
            self._rails.texts[NAME].change(event.name, self._notes)
        except GuardrailBlocked as error:
            return self._rail_of(error)
        if (blocked := self._close_run()) is not None:
            return blocked
        self.has_begun = True
        call = self._calls[event.index] = _Call(event)
        self._queue.append(call)
        return None

    def call_arguments(self, event: ToolArgumentsDelta) -> Rail | None:
        """A piece of a call's arguments."""
        call = self._calls.get(event.index)
        if call is None:
            return self.other(event)
        call.fragments.append(event.fragment)
        self._call_chars += len(event.fragment)
        return None

    async def call_done(self, event: ToolCallDone, ask: AskAll) -> Rail | None:
        """A call is whole."""
        call = self._calls.pop(event.index, None)
        if call is None:
            if not self._rails.looks_at_tools:
                return self.other(event)
            if (blocked := self._close_run()) is not None:
                return blocked
            call = _Call(None)
            self._queue.append(call)
        self._call_chars -= sum(map(len, call.fragments))
        try:
            arguments = self._arguments(event.arguments)
            extra = self._state(event.extra_json)
        except GuardrailBlocked as error:
            return self._rail_of(error)
        if (blocked := await self._ask(arguments, ask)) is not None:
            return blocked
        if arguments is not event.arguments or extra is not event.extra_json:
            event = msgspec.structs.replace(event, arguments=arguments, extra_json=extra)
        call.events = self._begun(call, event.index, arguments)
        call.events.append(event)
        return None

    async def calls_left(self, ask: AskAll) -> Rail | None:
        """Nothing more comes: of calls that never became whole, what has come."""
        for index, call in list(self._calls.items()):
            try:
                arguments = self._arguments("".join(call.fragments))
            except GuardrailBlocked as error:
                return self._rail_of(error)
            if (blocked := await self._ask(arguments, ask)) is not None:
                return blocked
            call.events = self._begun(call, index, arguments)
            del self._calls[index]
        self._call_chars = 0
        return None

    def opaque(self, event: OpaqueDelta) -> Rail | None:
        """A field that is passed on, unless there is something in it.

        Raises:
            GuardrailBlocked: something that may not go out.
        """
        if event.key in REPEATS and self._rails.stops:
            return None
        kind: Kind = REASONING if event.key in _REASONING_KEYS else TEXT
        rules = self._rails.texts[kind]
        try:
            document = orjson.loads(event.value_json)
        except orjson.JSONDecodeError:
            return None  # nobody could read it
        data = changed_bytes(
            event.value_json, lambda text: rules.change(text, self._notes), self._unread
        )
        if data is not event.value_json or not self._goes_on(event.key, document, kind):
            return None
        if self._rails.unreadable is not None and self._rails.asking_of(kind):
            self._unread("opaque")  # nobody is asked about it
        self._beside_text(event)
        return None

    def finished(self, event: ChoiceFinished) -> Rail | None:
        """The choice has ended; text may follow."""
        return self.other(event)

    def other(self, event: StreamEvent) -> Rail | None:
        """Anything that goes out as it is, in its place."""
        if (blocked := self._close_run()) is not None:
            return blocked
        self.has_begun = self.has_begun or event.is_content
        self._queue.append(event)
        return None

    # --- what goes ----------------------------------------------------------------------------

    def release(self, found: list[StreamEvent], *, may_finish: bool) -> int:
        """Add what may go out by now. Returns how many characters may not."""
        queue = self._queue
        while queue:
            head = queue[0]
            if type(head) is _Run:
                lane = head.lane
                cleared = lane.cleared
                if head.end is not None and cleared > head.end:
                    cleared = head.end
                if text := lane.take(cleared):
                    found.append(head.make(text))
                if head.end is None or lane.taken < head.end:
                    break
            elif type(head) is _Call:
                if head.events is None:
                    break
                found += head.events
            elif type(head) is _Behind:
                self._call_chars -= len(head.event.value_json)
                found.append(head.event)
            elif type(head) is ChoiceFinished:
                if not may_finish:
                    break
                self.is_finished = True
                found.append(head)
            else:
                found.append(head)  # type: ignore[arg-type]
            queue.popleft()
        held = self._call_chars
        for lane in self._lanes.values():
            held += lane.held_chars
        if held > self._most_held_chars:
            self._most_held_chars = held
        return held

    @property
    def is_empty(self) -> bool:
        """Nothing waits."""
        queue = self._queue
        return not queue or (len(queue) == 1 and type(queue[0]) is _Run)

    @property
    def is_slow(self) -> bool:
        """`end` takes long: call it in a thread."""
        return any(lane.is_slow for lane in self._lanes.values())

    @property
    def most_held_chars(self) -> int:
        """The most that was held back at once."""
        return self._most_held_chars

    def end(self) -> Rail | None:
        """Nothing more comes: look at what was held back."""
        for kind, run in list(self._open.items()):
            run.lane.settle(is_end=True)
            if run.lane.blocked_by is not None:
                return run.lane.blocked_by
            run.end = run.lane.length
            del self._open[kind]
        for lane in self._lanes.values():
            lane.settle(is_end=True)
            if lane.blocked_by is not None:
                return lane.blocked_by
        self._last = None
        return None

    def tell(self) -> None:
        """The answer is over: note what was found so far."""
        for lane in self._lanes.values():
            lane.tell()

    def drop(self) -> None:
        """Nothing more goes out."""
        self._queue.clear()

    def due(self, *, is_end: bool) -> list[Window]:
        """What is to be asked now."""
        found: list[Window] = []
        for lane in self._lanes.values():
            if lane.windows is not None:
                found += lane.windows.due(is_end=is_end)
        return found

    # --- inside -------------------------------------------------------------------------------

    @property
    def _tail(self) -> object:
        return self._queue[-1] if self._queue else None

    def _run_of(self, kind: type[StreamEvent], make: Callable[[str], StreamEvent]) -> _Run:
        """The run that goes on or begins now."""
        self.has_begun = True
        lane = self._lanes.get(kind)
        if lane is None:
            of: Kind = REASONING if kind is ReasoningDelta else TEXT
            lane = self._lanes[kind] = Lane(
                self._rails.texts[of],
                self._rails.asking_of(of),
                self._notes,
                of,
                is_text=kind is TextDelta,
            )
        run = self._open.get(kind)
        if run is None:
            run = self._open[kind] = _Run(lane, make)
            self._queue.append(run)
        self._last = run
        return run

    def _beside_text(self, event: OpaqueDelta) -> None:
        """Some hosts send a field with each piece of a text: it ends no run."""
        run = self._last
        if run is None:
            self._queue.append(event)
        elif run.lane.is_quiet and run is self._tail:
            run.end = run.lane.length
            self._forget(run)
            self._last = None
            self._queue.append(event)
        else:
            self._call_chars += len(event.value_json)
            self._queue.append(_Behind(event))

    def _forget(self, run: _Run) -> None:
        """No more text belongs to it."""
        for kind, other in list(self._open.items()):
            if other is run:
                del self._open[kind]

    def _close_run(self) -> Rail | None:
        """Something else comes."""
        run, self._last = self._last, None
        if run is None or run.lane.is_whole:
            return None  # that one goes on, and all else waits for its end
        run.lane.settle()
        if run.lane.blocked_by is not None:
            return run.lane.blocked_by
        run.end = run.lane.length
        if run.lane.windows is not None:
            run.lane.windows.run_over()
        self._forget(run)
        return None

    def _arguments(self, arguments: str) -> str:
        rules = self._rails.texts[TOOL]
        if not rules:
            return arguments
        return changed_text(arguments, lambda text: rules.change(text, self._notes), self._unread)

    def _state(self, extra_json: bytes) -> bytes:
        """Provider state beside a call: none, where something is in it."""
        rules = self._rails.texts[TOOL]
        if not rules or not extra_json:
            return extra_json
        data = changed_bytes(extra_json, lambda text: rules.change(text, self._notes), self._unread)
        return data if data is extra_json else b""

    async def _ask(self, arguments: str, ask: AskAll) -> Rail | None:
        rails = self._rails.asking_of(TOOL)
        return await ask(rails, arguments) if rails and arguments else None

    def _begun(self, call: _Call, index: int, arguments: str) -> list[StreamEvent]:
        events: list[StreamEvent] = [] if call.start is None else [call.start]
        if call.fragments and arguments:
            events.append(ToolArgumentsDelta(index, arguments, self.number))
        return events

    def _goes_on(self, key: str, document: Any, kind: Kind) -> bool:
        """Whether nothing is found over the pieces of a field: some hosts stream them so."""
        rules = self._rails.texts[kind]
        most = rules.context_chars
        if not most:
            return True
        is_clean = True
        for name, text in _named("", document):
            before = self._tails.get((key, name), "")
            joined = before + text
            if before and rules.change(joined, self._notes) is not joined:
                is_clean = False  # it does not go out, so what comes next stands behind `before`
            else:
                self._tails[key, name] = joined[-most:]
        return is_clean

    def _unread(self, what: str) -> None:
        rail = self._rails.unreadable
        if rail is not None:
            self._notes.add(rail.name, f"unreadable.{what}", "block")
            raise rail.blocked("output")

    def _rail_of(self, error: GuardrailBlocked) -> Rail:
        return next(rail for rail in self._rails.all if rail.name == error.guardrail)


def _named(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text of a JSON value with the key that it is under."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _named(key, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(name, inner)
