"""Sentences out of a stream of text, however it is cut."""

from __future__ import annotations

import re
import unicodedata

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
        ("No. I can not.", ["No. ", "I can not."]),
        ("He said no. Then he sat. Ok.", ["He said no. ", "Then he sat. ", "Ok."]),
        ("Is it no. 5? No, No. 6. Ok.", ["Is it no. 5? ", "No, No. 6. ", "Ok."]),
        ("Come on Sat. at ten. Ok.", ["Come on Sat. at ten. ", "Ok."]),
        ("Since Jan. 5 I wait. Ok.", ["Since Jan. 5 I wait. ", "Ok."]),
        ("So am I. What now?", ["So am I. ", "What now?"]),
        ("I. Newton wrote it. Nice.", ["I. Newton wrote it. ", "Nice."]),
        ("كيف حالك؟ جيد. نعم", ["كيف حالك؟ ", "جيد. ", "نعم"]),
        ("यह एक है। यह दो है।", ["यह एक है। ", "यह दो है।"]),
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


@pytest.mark.parametrize("piece", ["! ", "Mr. ", "etc. a ", ". ", "\n ", "\u300c\u3002", "1. "])
def test_a_text_that_never_ends_a_sentence_is_cut_in_linear_time(piece: str) -> None:
    looked = 0

    class Counted(Segmenter):
        def _is_end(self, text: str, found: re.Match[str]) -> bool | None:
            nonlocal looked
            looked += 1
            return super()._is_end(text, found)

    text = piece * 2000
    segmenter = Counted()
    assert "".join([*segmenter.feed(text), segmenter.flush()]) == text
    assert looked <= len(text), "each mark is looked at about once"


@examples(100)
@given(
    st.lists(st.sampled_from(["a", "bcd,", "No.", "etc.", "Mr.", "5", "end.", "x" * 90, "-"])),
    st.integers(1, 40),
)
def test_where_it_cuts_does_not_depend_on_how_it_came(words: list[str], size: int) -> None:
    text = " ".join(words * 9)
    assert segments_of(text, size) == segments_of(text)


def test_a_cut_leaves_a_character_whole() -> None:
    for text in ("e\u0301" * 400, "\U0001f468\u200d\U0001f469" * 200, "x" + "\u0e02\u0e49" * 400):
        for segment in segments_of(text):
            assert not unicodedata.combining(segment[0])
            assert segment[0] != "\u200d"
            assert segment[-1] != "\u200d"


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
