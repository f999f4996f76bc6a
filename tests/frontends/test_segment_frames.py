"""Text as segments: what a client gets, however the text was cut on its way."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtrelay.v1 import relay_pb2 as relay_pb

from relay.content import (
    ChoiceFinished,
    FinishReason,
    StreamEvent,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
)
from relay.errors import ClientCancelled, RelayError, StreamReset
from relay.frontends.proto_out import FrameEncoder
from relay.outcome import refused

TEXT = 'Dr. Bach has 3.14 pies. "Really?" Yes! 你好。再见。And so on'
SEGMENTS = ["Dr. Bach has 3.14 pies. ", '"Really?" ', "Yes! ", "你好。", "再见。", "And so on"]
STOP = ChoiceFinished(FinishReason.STOP, "stop", 0)


def encoder(mode: relay_pb.TextMode.ValueType = relay_pb.TEXT_MODE_SEGMENTS) -> FrameEncoder:
    return FrameEncoder("g", "gen", "", relay_pb.OutputOptions(text_mode=mode))


def frames_of(one: FrameEncoder, *events: StreamEvent) -> list[relay_pb.ConverseResponse]:
    return [relay_pb.ConverseResponse.FromString(data) for data in one.output(list(events))]


def check(segments: list[relay_pb.Segment], text: str) -> None:
    offset = 0
    for index, segment in enumerate(segments):
        assert (segment.index, segment.char_offset) == (index, offset)
        offset += len(segment.text)
    assert "".join(segment.text for segment in segments) == text
    assert [segment.is_last for segment in segments] == [False] * (len(segments) - 1) + [True]


@given(st.lists(st.integers(1, len(TEXT) - 1), max_size=12))
def test_segments_are_the_same_however_the_text_is_cut(cuts: list[int]) -> None:
    one, found = encoder(), []
    borders = [0, *sorted(set(cuts)), len(TEXT)]
    pieces = [TextDelta(TEXT[a:b]) for a, b in itertools.pairwise(borders)]
    for piece in pieces:
        found += frames_of(one, piece)
    found += frames_of(one, STOP)
    assert all(frame.HasField("segment") for frame in found), "no text in deltas"
    check([frame.segment for frame in found], TEXT)
    assert [frame.segment.text for frame in found] == SEGMENTS


CALL = ToolCallStart(index=0, call_id="c", name="f")
CALLED = ToolCallDone(index=0, call_id="c", name="f", arguments="{}")


@pytest.mark.parametrize("is_one_batch", [False, True])
@pytest.mark.parametrize("tool_events", [(CALL, CALLED), (CALLED,)])
def test_what_is_said_before_a_tool_call_comes_before_it(
    tool_events: tuple[StreamEvent, ...], *, is_one_batch: bool
) -> None:
    events = [TextDelta("Sure. Let me"), TextDelta(" look."), *tool_events, STOP]
    batches = [events] if is_one_batch else [[event] for event in events]
    one = encoder()
    found = [frame for batch in batches for frame in frames_of(one, *batch)]
    told = [frame.segment.text if frame.HasField("segment") else "call" for frame in found]
    assert told == ["Sure. ", "Let me look.", "call", ""]
    check([frame.segment for frame in found if frame.HasField("segment")], "Sure. Let me look.")


def test_what_is_said_before_a_tool_call_does_not_wait_for_its_arguments() -> None:
    one = encoder()
    found = frames_of(one, TextDelta("Let me look."))
    assert not found
    found = frames_of(one, CALL)
    assert [frame.segment.text for frame in found] == ["Let me look."]
    assert not frames_of(one, ToolArgumentsDelta(index=0, fragment="{"))


def test_white_space_before_a_tool_call_is_no_segment() -> None:
    one = encoder()
    found = [*frames_of(one, TextDelta("\n\n"), CALL), *frames_of(one, CALLED, STOP)]
    check([frame.segment for frame in found if frame.HasField("segment")], "\n\n")


def test_both_forms_beside_each_other() -> None:
    one = encoder(relay_pb.TEXT_MODE_DELTAS_AND_SEGMENTS)
    found = [frame for word in ("One. ", "Two") for frame in frames_of(one, TextDelta(word))]
    found += frames_of(one, STOP)
    kinds = [frame.WhichOneof("frame") for frame in found]
    assert kinds == ["delta", "segment", "delta", "segment"]
    assert "".join(frame.delta.text for frame in found) == "One. Two"
    check([frame.segment for frame in found if frame.HasField("segment")], "One. Two")


def test_each_choice_has_its_segments_and_calls_go_between() -> None:
    one = encoder()
    found = frames_of(one, TextDelta("Zero. ", 0), TextDelta("One. ", 1))
    call = ToolCallDone(index=0, call_id="c", name="f", arguments="{}")
    found += frames_of(one, call, STOP, replace_choice(STOP, 1))
    assert [frame.WhichOneof("frame") for frame in found] == [
        "segment",
        "segment",
        "tool_call",
        "segment",
        "segment",
    ]
    for choice, text in ((0, "Zero. "), (1, "One. ")):
        mine = [f.segment for f in found if f.HasField("segment") and f.segment.choice == choice]
        check(mine, text)


def replace_choice(event: ChoiceFinished, choice: int) -> ChoiceFinished:
    return ChoiceFinished(event.reason, event.raw_reason, choice)


@pytest.mark.parametrize(
    ("error", "rest"),
    [(StreamReset("gone"), ["And th"]), (ClientCancelled("enough"), [])],
    ids=["broken off", "not wanted any more"],
)
def test_what_broke_off_inside_a_sentence(error: RelayError, rest: list[str]) -> None:
    one = encoder()
    assert len(frames_of(one, TextDelta("One. And th"))) == 1
    end = replace(refused(error), has_output=True)
    found = [relay_pb.ConverseResponse.FromString(data).segment for data in one.rest(end)]
    assert [segment.text for segment in found] == rest
    assert one.end(end, None)


def test_the_end_counts_the_text_of_segments() -> None:
    one = encoder()
    frames_of(one, TextDelta("One. Two"), STOP)
    frame = relay_pb.ConverseResponse.FromString(one.end(refused(StreamReset("x")), None))
    assert [choice.text_chars for choice in frame.end.choices] == [8]
