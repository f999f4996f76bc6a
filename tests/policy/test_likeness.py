from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.likeness import MAX_CHARS, likeness
from tests.fakes.properties import examples


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("", "", 1.0),
        ("Yes.", "yes", 1.0),
        ("Yes.", "No.", 0.0),
        ("", "No.", 0.0),
        ("The cat sat down.", "the  cat sat, down", 1.0),
        ("a b c d", "a b c e", 2 / 3),
        ("a b c d", "d c b a", 0.0),
    ],
)
def test_it_is_of_words_in_their_order(one: str, other: str, expected: float) -> None:
    assert likeness(one, other) == pytest.approx(expected)


@given(st.text(), st.text())
@examples(50)
def test_it_is_even_handed_and_bounded(one: str, other: str) -> None:
    assert 0.0 <= likeness(one, other) == likeness(other, one) <= 1.0
    assert likeness(one, one) == 1.0


def test_no_more_is_read_than_so_much() -> None:
    assert likeness("a b " * MAX_CHARS, "a b " * MAX_CHARS + "c") == 1.0
