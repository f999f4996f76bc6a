"""Folds a codec's events into what they say, checking the promises of `relay.content` on the way.

`run` feeds a body in given pieces; `collect` adds the events up. Two ways of cutting the same
body must give equal results, so `Collected` leaves out how the text was cut into deltas.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from relay.codecs.base import Codec
from relay.content import (
    AudioDelta,
    ChoiceFinished,
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
from relay.errors import RelayError


@dataclass
class CollectedCall:
    """One tool call."""

    call_id: str
    name: str
    kind: str
    arguments: str = ""
    is_done: bool = False
    is_partial: bool = False
    extra: Any = None


@dataclass
class CollectedChoice:
    """One alternative, its deltas joined."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: list[CollectedCall] = field(default_factory=list)
    finish: FinishReason | None = None
    raw_finish: str | None = None
    opaque: list[tuple[str, Any]] = field(default_factory=list)
    audio: list[AudioDelta] = field(default_factory=list)


@dataclass
class Collected:
    """All that a codec said of one response."""

    info: ResponseInfo | None = None
    choices: dict[int, CollectedChoice] = field(default_factory=dict)
    usage: Usage | None = None
    error: tuple[str, str] | None = None
    """Class and public text of the failure, which compares where exceptions do not."""
    failure: RelayError | None = field(default=None, compare=False)

    @property
    def text(self) -> str:
        return self.choices[0].text if 0 in self.choices else ""


def pieces_of(body: bytes, size: int) -> list[bytes]:
    """The body in pieces of `size` bytes."""
    return [body[at : at + size] for at in range(0, len(body), size)]


def run(
    codec: Codec,
    pieces: Iterable[bytes],
    *,
    status: int = 200,
    headers: Sequence[tuple[str, str]] = (("content-type", "text/event-stream"),),
) -> list[StreamEvent]:
    """Every event of a response whose body comes in these pieces."""
    codec.decode_headers(status, list(headers))
    events: list[StreamEvent] = []
    for piece in pieces:
        events += codec.feed(piece)
        if events and isinstance(events[-1], ProviderFailed):
            return events
    events += codec.end()
    return events


def collect(events: Iterable[StreamEvent]) -> Collected:
    """Add the events up; asserts what `relay.content` promises of their order."""
    result = Collected()
    for event in events:
        assert result.error is None, f"{event} after a failure"
        if isinstance(event, ProviderFailed):
            result.failure = event.error
            result.error = (type(event.error).__name__, event.error.public_message)
        elif isinstance(event, Usage):
            result.usage = event
        elif isinstance(event, ResponseInfo):
            assert result.info is None, "a second ResponseInfo"
            assert not result.choices, "ResponseInfo after output"
            result.info = event
        else:
            _add(result.choices.setdefault(_choice_of(event), CollectedChoice()), event)
    return result


def _choice_of(event: StreamEvent) -> int:
    choice = getattr(event, "choice", None)
    assert isinstance(choice, int), event
    return choice


def _add(choice: CollectedChoice, event: StreamEvent) -> None:
    calls = choice.tool_calls
    match event:
        case TextDelta():
            assert event.text, "an empty text"
            choice.text += event.text
        case ReasoningDelta():
            assert event.text, "an empty reasoning"
            choice.reasoning += event.text
        case RefusalDelta():
            assert event.text, "an empty refusal"
            choice.refusal += event.text
        case ToolCallStart():
            assert event.index == len(calls), "tool calls with a gap"
            assert all(call.is_done for call in calls), "a call starts inside another"
            assert event.call_id, "a call without an id"
            assert event.name, "a call without a name"
            calls.append(CollectedCall(event.call_id, event.name, event.kind))
        case ToolArgumentsDelta():
            assert event.fragment, "an empty fragment"
            assert not calls[event.index].is_done, "a fragment after the call was done"
            calls[event.index].arguments += event.fragment
        case ToolCallDone():
            call = calls[event.index]
            assert not call.is_done, "a call done twice"
            assert (event.call_id, event.name, event.kind, event.arguments) == (
                call.call_id,
                call.name,
                call.kind,
                call.arguments,
            ), "a call that ends as another"
            call.is_done = True
            call.is_partial = event.is_partial
            call.extra = orjson.loads(event.extra_json) if event.extra_json else None
        case ChoiceFinished():
            assert choice.finish is None, "a choice finished twice"
            assert all(call.is_done for call in calls), "finished with an open call"
            choice.finish, choice.raw_finish = event.reason, event.raw_reason
        case OpaqueDelta():
            choice.opaque.append((event.key, orjson.loads(event.value_json)))
        case AudioDelta():
            choice.audio.append(event)
        case _:
            raise AssertionError(f"unknown event {event}")
