"""Which texts are the same words, and above all which are not."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.panel_text import MAX_FOLDED_CHARS, normalised, unicode_folded
from tests.fakes.properties import examples


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", "paris."),
        ("The Eiffel Tower", "eiffel  tower"),
        ("\u201cParis\u201d", '"Paris"'),
        ("**Paris**", "Paris"),
        ("- Paris", "Paris!"),
        ("(Paris)", "paris"),
        ("in Paris (the capital)", "in paris the capital"),
        ("\uff30\uff41\uff52\uff49\uff53", "Paris"),
        ("Pa\u200bris", "Paris"),
        ("cafe\u0301", "caf\u00e9"),
        ("Stra\u00dfe", "STRASSE"),
        ("-5", "\u22125"),
        ("well\u2011known", "well-known"),
        ("It is 42.", "it is 42"),
        ("yes \n", "Yes"),
    ],
)
def test_the_same_words(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5", "-5"),
        ("5", ".5"),
        ("1.5", "15"),
        ("5", "5%"),
        ("$5", "5"),
        ("5\u00b2", "52"),
        ("1\u00bd", "11/2"),
        ("5!", "5"),
        ("C++", "C"),
        ("C#", "C"),
        ("<5", ">5"),
        ("x = []", "x = {}"),
        ("f(x)", "fx"),
        ("A, B", "B"),
        ("A B", "B"),
        ("yes", "no"),
        ("is", "is not"),
        ("can't", "cant"),
        ("\u7532", "\u4e59"),
        ("H\u2082O", "H2O is"),
    ],
)
def test_what_differs_stays_different(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


def test_punctuation_alone_is_nothing() -> None:
    assert normalised(" ... ?! ") == ""
    assert normalised("") == ""


@examples(200, full=5000)
@given(st.text(max_size=60))
def test_it_is_stable(text: str) -> None:
    once = normalised(text)
    assert normalised(text) == once
    assert normalised(f"  {text}\n") == once
    assert once == " ".join(once.split())


def test_hostile_texts_take_linear_time() -> None:
    for text in ("(" * 20_000, "\u00b2" * 20_000, "\u00bd" * 20_000, "*_" * 10_000):
        normalised(text)


def test_long_texts_are_compared_as_they_are() -> None:
    long = "A " * MAX_FOLDED_CHARS
    assert normalised(f" {long}") == normalised(long)
    assert normalised(long) != normalised(long.lower())


def test_every_invisible_character_is_left_out() -> None:
    invisible = {chr(c) for c in range(sys.maxunicode) if unicodedata.category(chr(c)) == "Cf"}
    assert unicode_folded(f"a{''.join(sorted(invisible))}b") == "ab"
