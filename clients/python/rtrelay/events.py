"""What comes of a generation, one small immutable object a piece.

Offsets count Unicode code points, as `len` does. `choice` is the alternative answer, from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rtrelay.v1 import Delta, Notice, ToolCallDone
    from rtrelay.v1 import Segment as SegmentMessage
    from rtrelay.v1 import ToolCall as ToolCallMessage


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text of the answer."""

    text: str
    char_offset: int
    """Where it begins in the choice's text; without a gap."""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """Reasoning text, if `OutputOptions.reasoning` asks for it."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """Text of a refusal."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolArgumentsDelta:
    """A piece of the arguments of a call, if `OutputOptions.tool_arguments` asks for it."""

    index: int
    """Which call of the choice, from 0."""
    fragment: str
    """JSON text that follows what came before."""
    call_id: str = ""
    """In the first piece only."""
    name: str = ""
    """In the first piece only."""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class AudioDelta:
    """A piece of spoken answer."""

    audio_id: str
    data: bytes
    transcript: str
    expires_at_s: int
    """Seconds since 1970 until which the provider knows `audio_id`; 0 if it does not say."""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Extra:
    """A provider field that the relay does not read, if `OutputOptions.extras` asks for them."""

    key: str
    value_json: bytes
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A whole tool call."""

    call: ToolCallMessage
    """Goes unchanged into `Message.tool_calls` of the next prompt."""
    index: int
    """Which call of the choice, from 0."""
    is_partial: bool
    """The limit of tokens cut its arguments off."""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A speakable piece of text, if `OutputOptions.text_mode` asks for it."""

    text: str
    """With the white space that follows it; may be empty in the last one."""
    char_offset: int
    index: int
    """Its number in the choice, from 0."""
    is_last: bool
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Retract:
    """A guardrail withdraws text that was delivered: not to be spoken where it was not yet, and to
    be taken back where it can be. The end follows."""

    from_chars: int
    """From where on the choice's text is withdrawn."""
    message: str
    """For people and logs."""
    choice: int = 0


Event: TypeAlias = (
    TextDelta
    | ReasoningDelta
    | RefusalDelta
    | ToolArgumentsDelta
    | AudioDelta
    | Extra
    | ToolCall
    | Segment
    | Retract
)


def from_delta(delta: Delta) -> list[Event]:
    """The pieces of a delta. A delta holds several kinds only if pieces were merged; between kinds
    the order is not told."""
    choice = delta.choice
    found: list[Event] = []
    if delta.reasoning:
        found.append(ReasoningDelta(delta.reasoning, choice))
    if delta.text:
        found.append(TextDelta(delta.text, delta.char_offset, choice))
    if delta.refusal:
        found.append(RefusalDelta(delta.refusal, choice))
    found.extend(
        ToolArgumentsDelta(part.index, part.fragment, part.call_id, part.name, choice)
        for part in delta.tool_arguments
    )
    if delta.HasField("audio"):
        audio = delta.audio
        found.append(
            AudioDelta(audio.audio_id, audio.data, audio.transcript, audio.expires_at_s, choice)
        )
    found.extend(Extra(extra.key, extra.value_json, choice) for extra in delta.extras)
    return found


def from_tool_call(done: ToolCallDone) -> ToolCall:
    """The event of a `tool_call` frame."""
    return ToolCall(done.call, done.index, done.is_partial, done.choice)


def from_segment(segment: SegmentMessage) -> Segment:
    """The event of a `segment` frame."""
    return Segment(
        segment.text, segment.char_offset, segment.index, segment.is_last, segment.choice
    )


def from_retract(notice: Notice) -> Retract:
    """The event of a `notice` frame that withdraws text."""
    return Retract(notice.retract_from_chars, notice.message, notice.choice)


def size_of(event: Event) -> int:
    """What it weighs, about: characters of text, bytes of sound and of JSON."""
    match event:
        case ToolArgumentsDelta():
            return len(event.fragment)
        case AudioDelta():
            return len(event.data) + len(event.transcript)
        case ToolCall():
            return len(event.call.arguments)
        case Extra():
            return len(event.value_json)
        case Retract():
            return len(event.message)
        case _:
            return len(event.text)


def merged(events: Iterable[Event]) -> list[Event]:
    """The same output in fewer events: pieces of the same text become one, where the first was.

    Within a kind and choice the order stays; between kinds it does not, as in a merged delta.
    Cost is linear in the text.
    """
    groups: dict[object, list[Event]] = {}
    for number, event in enumerate(events):
        groups.setdefault(_merge_key(event, number), []).append(event)
    return list(_joined(groups.values()))


def _merge_key(event: Event, number: int) -> object:
    match event:
        case TextDelta() | ReasoningDelta() | RefusalDelta():
            return (type(event), event.choice)
        case ToolArgumentsDelta():
            return (ToolArgumentsDelta, event.choice, event.index)
        case AudioDelta():
            return (AudioDelta, event.choice, event.audio_id)
        case _:
            return number


def _joined(groups: Iterable[list[Event]]) -> Iterator[Event]:
    for group in groups:
        first = group[0]
        if len(group) == 1:
            yield first
            continue
        match first:
            case TextDelta():
                text = "".join(event.text for event in group if isinstance(event, TextDelta))
                yield TextDelta(text, first.char_offset, first.choice)
            case ReasoningDelta():
                text = "".join(event.text for event in group if isinstance(event, ReasoningDelta))
                yield ReasoningDelta(text, first.choice)
            case RefusalDelta():
                text = "".join(event.text for event in group if isinstance(event, RefusalDelta))
                yield RefusalDelta(text, first.choice)
            case ToolArgumentsDelta():
                pieces = [event for event in group if isinstance(event, ToolArgumentsDelta)]
                text = "".join(piece.fragment for piece in pieces)
                yield ToolArgumentsDelta(first.index, text, first.call_id, first.name, first.choice)
            case AudioDelta():
                sounds = [event for event in group if isinstance(event, AudioDelta)]
                yield AudioDelta(
                    first.audio_id,
                    b"".join(sound.data for sound in sounds),
                    "".join(sound.transcript for sound in sounds),
                    sounds[-1].expires_at_s,
                    first.choice,
                )
            case _:
                yield from group
