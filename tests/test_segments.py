"""Sentences out of a stream of text, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.segments import MAX_CHARS, Segmenter
from tests.fakes.properties import examples


def segments_of(text: str, size: int = 0) -> list[str]:
    segmenter = Segmenter()
    pieces = [text] if not size else [text[at : at + size] for at in range(0, len(text), size)]
    found = [segment for piece in pieces for segment in segmenter.feed(piece)]
    rest = segmenter.flush()
    return [*found, rest] if rest else found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello there. How are you?", ["Hello there. ", "How are you?"]),
        ("Sure! Let me look.", ["Sure! ", "Let me look."]),
        ("It costs 3.14 dollars. Fine.", ["It costs 3.14 dollars. ", "Fine."]),
        ("See example.com for v1.2 now. Yes.", ["See example.com for v1.2 now. ", "Yes."]),
        ("Dr. Smith met Mr. Jones. Good.", ["Dr. Smith met Mr. Jones. ", "Good."]),
        ("Use tools, e.g. a hammer. Ok.", ["Use tools, e.g. a hammer. ", "Ok."]),
        ("J. S. Bach wrote it. Nice.", ["J. S. Bach wrote it. ", "Nice."]),
        ("Apples, pears, etc. They help.", ["Apples, pears, etc. ", "They help."]),
        ("Apples, pears, etc. are good. Ok.", ["Apples, pears, etc. are good. ", "Ok."]),
        ("He said \u201cno.\u201d Then left.", ["He said \u201cno.\u201d ", "Then left."]),
        ("Wait... what?! Really.", ["Wait... ", "what?! ", "Really."]),
        ("First line\nsecond line\n", ["First line\n", "second line\n"]),
        ("1. Take it.\n2. Go.\n", ["1. Take it.\n", "2. Go.\n"]),
        ("你好。今天怎么样？很好！", ["你好。", "今天怎么样？", "很好！"]),
        ("「はい。」と言った。次。", ["「はい。」", "と言った。", "次。"]),
        ("... Well. Yes.", ["... Well. ", "Yes."]),
        ("*** \nHi. Yes.", ["*** \nHi. ", "Yes."]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert segments_of(text) == expected
    for size in (1, 2, 3, 7):
        assert segments_of(text, size) == expected, f"{size} characters at a time"


def test_an_end_is_told_as_soon_as_it_is_one() -> None:
    segmenter = Segmenter()
    assert segmenter.feed("Sure") == []
    assert segmenter.feed("!") == [], "it could be the first of three"
    assert segmenter.feed(" ") == ["Sure! "]
    assert segmenter.feed("你好。") == ["你好。"]


def test_a_text_without_an_end_is_cut_at_a_comma_or_a_space() -> None:
    text = "word " * 50 + "and, then " + "word " * 60
    first, *rest = segments_of(text)
    assert first.endswith("and, ")
    assert all(len(segment) <= MAX_CHARS for segment in [first, *rest])
    assert [len(segment) for segment in segments_of("x" * 1000)] == [300, 300, 300, 100]


@examples(300)
@given(st.text(alphabet="ab .!?,\n\"'1。？Dr", max_size=120), st.integers(1, 9))
def test_however_it_is_cut_the_segments_are_the_text(text: str, size: int) -> None:
    whole = segments_of(text)
    assert "".join(whole) == text
    assert "".join(segments_of(text, size)) == text
    assert all(len(segment) <= MAX_CHARS + 120 for segment in whole)


@examples(50)
@given(st.text(max_size=2000))
def test_what_is_kept_is_bounded(text: str) -> None:
    segmenter = Segmenter()
    for at in range(0, len(text), 16):
        segmenter.feed(text[at : at + 16])
        assert segmenter.held_chars <= MAX_CHARS + 16
