"""Streams of events as a codec may yield them, for property tests of what is made of them.

`streams` draws legal sequences: the response's facts first, each choice's pieces in order, its
tool calls one after another, its end once. `batches` cuts a sequence anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from hypothesis import strategies as st

from relay.content import (
    ChoiceFinished,
    Events,
    FinishReason,
    OpaqueDelta,
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

T = TypeVar("T")

INFO = ResponseInfo("chatcmpl-1", "upstream-model", 1_700_000_000)

words = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("日本語😀👩‍🚀é\n\r\u2028\x85"),
    min_size=1,
    max_size=6,
)


@st.composite
def _tool_calls(draw: st.DrawFn, choice: int, *, is_cut: bool) -> list[StreamEvent]:
    events: list[StreamEvent] = []
    count = draw(st.integers(0, 3))
    for index in range(count):
        name = draw(st.sampled_from(["find_slot", "hang_up"]))
        events.append(ToolCallStart(index, f"call_{choice}_{index}", name, choice))
        pieces = draw(st.lists(words, max_size=3))
        events += [ToolArgumentsDelta(index, piece, choice) for piece in pieces]
        extra = draw(st.sampled_from([b"", b"", b'{"extra_content":{"google":{"s":"x"}}}']))
        events.append(
            ToolCallDone(
                index,
                f"call_{choice}_{index}",
                name,
                "".join(pieces),
                choice,
                is_partial=is_cut and index == count - 1,
                extra_json=extra,
            )
        )
    return events


@st.composite
def _choice(draw: st.DrawFn, choice: int, *, with_opaque: bool) -> list[StreamEvent]:
    kinds = [TextDelta, TextDelta, ReasoningDelta, RefusalDelta]
    spoken = st.builds(lambda kind, text: kind(text, choice), st.sampled_from(kinds), words)
    if with_opaque:
        opaque = st.sampled_from(
            [("reasoning_details", b'[{"index":0,"text":"x"}]'), ("logprobs", b'{"content":[]}')]
        )
        spoken |= st.builds(lambda pair: OpaqueDelta(pair[0], pair[1], choice), opaque)
    events: list[StreamEvent] = list(draw(st.lists(spoken, max_size=6)))
    reason = draw(st.sampled_from(FinishReason))
    is_cut = reason is FinishReason.LENGTH and draw(st.booleans())
    events += draw(_tool_calls(choice, is_cut=is_cut))
    return [*events, ChoiceFinished(reason, reason.name.lower(), choice)]


@st.composite
def streams(
    draw: st.DrawFn, *, max_choices: int = 3, with_opaque: bool = False
) -> list[StreamEvent]:
    """A whole, clean answer."""
    count = draw(st.integers(1, max_choices))
    choices = [draw(_choice(index, with_opaque=with_opaque)) for index in range(count)]
    events: list[StreamEvent] = [INFO]
    while pending := [choice for choice in choices if choice]:
        events.append(draw(st.sampled_from(pending)).pop(0))
    if draw(st.booleans()):
        events.append(Usage(7, 5, 12, cached_tokens=3, reasoning_tokens=2))
    return events


def cut(items: Sequence[T], at: Sequence[int]) -> Iterator[Sequence[T]]:
    """Pieces of a sequence, none of them empty."""
    begin = 0
    for end in [*sorted(set(at)), len(items)]:
        if begin < end <= len(items):
            yield items[begin:end]
            begin = end


@st.composite
def batches(draw: st.DrawFn, *, max_choices: int = 3, with_opaque: bool = False) -> list[Events]:
    """A whole, clean answer, cut into batches."""
    events = draw(streams(max_choices=max_choices, with_opaque=with_opaque))
    return list(cut(events, draw(st.lists(st.integers(1, len(events)), max_size=8))))
