"""Segments of answers that came directly: none of the text is lost, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtrelay._sentences import SegmentedText
from rtrelay.events import Segment, TextDelta


def segmented(*pieces: str) -> list[Segment]:
    text = SegmentedText()
    found: list[Segment] = []
    offset = 0
    for piece in pieces:
        found.extend(text.feed(TextDelta(piece, offset)))
        offset += len(piece)
    return found + text.flush()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One. ", "Two! ", "Three?"]),
        (
            "Dr. Bach costs 3.14 at example.com. Yes.",
            ["Dr. Bach costs 3.14 at example.com. ", "Yes."],
        ),
        ("1. First\n2. Second", ["1. First\n", "2. Second"]),
        ("好。早上。", ["好。", "早上。", ""]),
        ("... Well", ["... Well"]),
        ("No. I can not. Nor can I. Ok.", ["No. ", "I can not. ", "Nor can I. ", "Ok."]),
        ("كيف حالك؟ جيد", ["كيف حالك؟ ", "جيد"]),
        ("", []),
    ],
)
def test_where_it_cuts(text: str, expected: list[str]) -> None:
    assert [segment.text for segment in segmented(text)] == (expected if text else [""])


def test_a_text_without_an_end_is_cut_too() -> None:
    segments = segmented(*["word "] * 200)
    assert len(segments) == 4
    assert max(len(segment.text) for segment in segments) <= 300
    assert segmented("x" * 700)[0].text == "x" * 300


def test_a_text_that_never_ends_is_cut_in_linear_time() -> None:
    segments = segmented("Mr. " * 20_000)  # its square would be minutes
    assert "".join(segment.text for segment in segments) == "Mr. " * 20_000
    assert max(len(segment.text) for segment in segments) <= 301


@given(st.lists(st.text(alphabet='aB1 .!?\n。"…,', max_size=40), max_size=12))
def test_nothing_is_lost(pieces: list[str]) -> None:
    segments = segmented(*pieces)
    text = "".join(pieces)
    assert "".join(segment.text for segment in segments) == text
    offset = 0
    for index, segment in enumerate(segments):
        assert (segment.char_offset, segment.index) == (offset, index)
        assert segment.is_last == (index == len(segments) - 1)
        offset += len(segment.text)


def test_choices_do_not_mix() -> None:
    text = SegmentedText()
    text.feed(TextDelta("One", 0))
    assert text.feed(TextDelta("Two. ", 0, choice=1)) == [
        Segment("Two. ", 0, 0, is_last=False, choice=1)
    ]
    assert [segment.choice for segment in text.flush()] == [0, 1]
