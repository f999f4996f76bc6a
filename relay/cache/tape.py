"""What is taken down of one answer, and whether it is one to keep; see `recording`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from relay.cache.stored import Batch, Kept
from relay.content import (
    ChoiceFinished,
    Embeddings,
    Events,
    FinishReason,
    GenerateRequest,
    OpaqueDelta,
    ReasoningDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from relay.deadline import Clock
from relay.event_size import HEAD_BYTES, held_bytes

PIECE_CHARS: Final = 2048
"""About the longest that pieces of text become where they are joined."""

TextOf = Callable[[memoryview], TextDelta | None]

_GOOD_ENDS: Final = frozenset({FinishReason.STOP, FinishReason.TOOL_CALLS})
_OTHERS_TAKEN: Final = frozenset(
    {
        ResponseInfo,
        ReasoningDelta,
        ToolCallStart,
        ToolArgumentsDelta,
        ToolCallDone,
        OpaqueDelta,
        Embeddings,
        ChoiceFinished,
        Usage,
    }
)


class Tape:
    """The events of one answer, in order.

    Args:
        request: that it answers: how many choices, and how long they may be.
        max_bytes: of all of it, as it is held.
        clock: for the gaps between batches; None: they do not matter, and pieces are joined.
    """

    def __init__(self, request: GenerateRequest, max_bytes: int, clock: Clock | None) -> None:
        self._choices = request.sampling.choices or 1
        self._max_output_tokens = request.sampling.max_output_tokens
        self._left_bytes = max_bytes
        self._clock = clock
        self._events: list[StreamEvent] = []
        self._starts: list[tuple[float, int]] = []
        """Of each batch: when it came, and its first event's place."""

    def take(self, events: Events) -> bool:
        """Take down a batch. False: this answer cannot be kept."""
        if self._clock is not None and events:
            self._starts.append((self._clock(), len(self._events)))
        left = self._left_bytes
        for event in events:
            if type(event) is TextDelta:
                left -= len(event.text) + HEAD_BYTES
            elif type(event) in _OTHERS_TAKEN:
                left -= held_bytes(event)
            else:
                return False
        self._left_bytes = left
        self._events += events
        return left >= 0

    def over(self, text_of: TextOf, when_full: Callable[[], None]) -> TextOf:
        """The same function, with what it returns taken down; `when_full` is called once."""
        events, starts, clock = self._events, self._starts, self._clock

        def taken(chunk: memoryview) -> TextDelta | None:
            delta = text_of(chunk)
            if delta is not None and self._left_bytes >= 0:
                if clock is not None:
                    starts.append((clock(), len(events)))
                events.append(delta)
                self._left_bytes -= len(delta.text) + HEAD_BYTES
                if self._left_bytes < 0:
                    when_full()
            return delta

        return taken

    def erase(self) -> None:
        """Let go of everything; nothing more is taken down."""
        self._events.clear()
        self._starts.clear()
        self._left_bytes = -1

    def usage_if_whole(self) -> Usage | None:
        """At the clean end: what was used, where all this is an answer to keep; else None."""
        if self._left_bytes < 0:
            return None
        usage: Usage | None = None
        begun: set[int] = set()
        finished: dict[int, FinishReason] = {}
        has_content = False
        for event in self._events:
            if type(event) is TextDelta:
                begun.add(event.choice)
                has_content = True
                continue
            has_content = has_content or event.is_content
            if type(event) is Usage:
                usage = event
            elif type(event) is ChoiceFinished:
                finished[event.choice] = event.reason
            elif type(event) is ToolCallDone and event.is_partial:
                return None
            elif type(event) is not ResponseInfo and type(event) is not Embeddings:
                begun.add(event.choice)  # type: ignore[attr-defined]
        if usage is None or usage.is_estimated or not has_content:
            return None
        if len(finished) < self._choices or not begun <= finished.keys():
            return None
        if all(reason in _GOOD_ENDS for reason in finished.values()):
            return usage
        return usage if self._is_as_long_as_asked(finished, usage) else None

    def _is_as_long_as_asked(self, finished: dict[int, FinishReason], usage: Usage) -> bool:
        """It was cut where the request wanted it cut, and nowhere sooner."""
        most = self._max_output_tokens
        return (
            most is not None
            and len(finished) == 1
            and finished.popitem()[1] is FinishReason.LENGTH
            and usage.completion_tokens >= most
        )

    def batches(self) -> list[Batch]:
        """For keeping, after `usage_if_whole`."""
        if self._clock is None:
            return [Batch(0, joined(self._events))]
        found: list[Batch] = []
        ends = [first for _, first in self._starts[1:]] + [len(self._events)]
        last_s = self._starts[0][0]
        for (at_s, first), end in zip(self._starts, ends, strict=True):
            gap_us = max(0, round((at_s - last_s) * 1e6))
            found.append(Batch(gap_us, joined(self._events[first:end])))
            last_s = at_s
        return found


def joined(events: Sequence[StreamEvent]) -> list[Kept]:
    """The same, with neighbouring pieces of one text, thought or call as one."""
    found: list[Kept] = []
    pieces: list[str] = []
    chars = 0
    first: StreamEvent | None = None
    """Of the pieces that are being joined."""
    for event in events:
        if type(event) is TextDelta:
            text = event.text
            is_more = type(first) is TextDelta and first.choice == event.choice
        else:
            text = _text(event)
            is_more = first is not None and text != "" and _continues(first, event)
        if is_more and chars < PIECE_CHARS:
            pieces.append(text)
            chars += len(text)
            continue
        if first is not None:
            found.append(_one(first, pieces))
            first = None
        if text:
            first, pieces, chars = event, [text], len(text)
        else:
            found.append(event)  # type: ignore[arg-type]
    if first is not None:
        found.append(_one(first, pieces))
    return found


def _text(event: StreamEvent) -> str:
    """Of what comes in pieces beside text."""
    if type(event) is ReasoningDelta:
        return event.text
    return event.fragment if type(event) is ToolArgumentsDelta else ""


def _continues(first: StreamEvent, event: StreamEvent) -> bool:
    if type(first) is ToolArgumentsDelta and type(event) is ToolArgumentsDelta:
        return first.choice == event.choice and first.index == event.index
    if type(first) is ReasoningDelta and type(event) is ReasoningDelta:
        return first.choice == event.choice
    return False


def _one(first: StreamEvent, pieces: list[str]) -> Kept:
    text = "".join(pieces)
    if type(first) is ToolArgumentsDelta:
        return ToolArgumentsDelta(first.index, text, first.choice)
    if type(first) is ReasoningDelta:
        return ReasoningDelta(text, first.choice)
    return TextDelta(text, first.choice)  # type: ignore[attr-defined]
