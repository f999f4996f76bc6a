"""A judge's reply, and what two of them say together."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.judge_verdict import (
    NoChoice,
    Verdict,
    by_wins,
    mark_of,
    preferred,
    together,
)
from tests.fakes.properties import examples

TIE, GARBAGE = NoChoice.TIE, NoChoice.GARBAGE


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("A", 0),
        (" b\n", 1),
        ("**B**", 1),
        ("(A).", 0),
        ("TIE", TIE),
        ("Tie.", TIE),
        ("C", GARBAGE),
        ("", GARBAGE),
        ("A B", GARBAGE),
        ("The best answer is A", GARBAGE),
        ("A, because it is right", GARBAGE),
        ("Answer A", GARBAGE),
        ("\u0410", GARBAGE),  # Cyrillic
        ("AA", GARBAGE),
    ],
)
def test_a_choice_is_one_word(reply: str, choice: int | NoChoice) -> None:
    assert preferred(reply, 2) == choice


@pytest.mark.parametrize(
    ("reply", "mark"),
    [
        ("7", 7),
        ("10", 10),
        (" 7/10 ", 7),
        ("**8**", 8),
        ("0", None),
        ("11", None),
        ("7.5", None),
        ("seven", None),
        ("7 out of 10", None),
        ("7/9", None),
        ("", None),
    ],
)
def test_a_mark_is_a_whole_number(reply: str, mark: int | None) -> None:
    assert mark_of(reply) == mark


def test_replies_that_differ_are_a_tie_between_them() -> None:
    assert together([1, 1], 3) == Verdict((1,), True)
    assert together([0, 2], 3) == Verdict((0, 2), True)
    assert together([TIE, 2], 3) == Verdict((0, 1, 2), True)
    assert together([TIE, TIE], 3) == Verdict((0, 1, 2), True)
    assert together([None, 2], 3) == Verdict((0, 1, 2), False)
    assert together([GARBAGE, 2], 3) == Verdict((0, 1, 2), False)
    assert together([1], 2) == Verdict((1,), True)


replies = st.none() | st.sampled_from([TIE, GARBAGE]) | st.integers(0, 2)


@examples(200)
@given(st.lists(replies, min_size=1, max_size=2))
def test_the_order_of_asking_does_not_matter(given_replies: list[int | NoChoice | None]) -> None:
    assert together(given_replies, 3) == together(given_replies[::-1], 3)


@examples(200)
@given(st.data())
def test_names_of_answers_do_not_matter(data: st.DataObject) -> None:
    """Whatever the answers are called, the same ones are best."""
    count = data.draw(st.integers(2, 4))
    pairs = {
        pair: together([data.draw(st.none() | st.integers(0, 1) | st.just(TIE))] * 2, 2)
        for pair in itertools.combinations(range(count), 2)
    }
    other_name = data.draw(st.permutations(range(count)))
    renamed = {
        (other_name[one], other_name[other]): verdict for (one, other), verdict in pairs.items()
    }
    best = {other_name[index] for index in by_wins(pairs, count).best}
    assert best == set(by_wins(renamed, count).best)


def test_wins_are_counted() -> None:
    won, drawn = Verdict((0,), True), Verdict((0, 1), True)
    assert by_wins({(0, 1): won, (0, 2): won, (1, 2): won}, 3).best == (0,)
    assert by_wins({(0, 1): drawn, (0, 2): drawn, (1, 2): drawn}, 3).best == (0, 1, 2)
    assert by_wins({(0, 1): won, (0, 2): Verdict((1,), True), (1, 2): won}, 3).best == (0, 1, 2)
    assert not by_wins({(0, 1): Verdict((0, 1), False)}, 2).has_word
