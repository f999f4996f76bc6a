from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from relay.errors import InvalidRequest, LimitReached, StoreDown
from relay.governance.feedback import (
    MOST_KNOWN,
    MOST_OF_ONE,
    MOST_WAITING,
    Feedback,
    FeedbackDesk,
    checked,
)
from relay.store.base import StoreUnavailable
from relay.store.feedback_rows import FeedbackRow, Rated
from tests.policy.worlds import ended

NOW_US = 1_800_000_000_000_000


class Books:
    """Of one generation, `gen_kept`."""

    def __init__(self, decision: str = "", *, is_down: bool = False) -> None:
        self.rows: list[FeedbackRow] = []
        self._decision = decision
        self._is_down = is_down

    def rated(self, generation_id: str) -> Rated | None:
        if self._is_down:
            raise StoreUnavailable("away")
        return Rated("t", self._decision) if generation_id == "gen_kept" else None

    def write(self, row: FeedbackRow) -> None:
        self.rows.append(row)


def desk(books: Books | None = None) -> tuple[FeedbackDesk, list[Any]]:
    one = FeedbackDesk(books, lambda: NOW_US)
    felt: list[Any] = []
    one.felt = lambda *what: felt.append(what)
    return one, felt


def heard(one: FeedbackDesk, unit: str = "u1") -> str:
    """A generation of an experiment that has just ended; its id."""
    end = ended("new", unit)
    one.heard(end)
    return end.generation_id


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ((None, 1, None, None), "request_id"),
        (("", 1, None, None), "request_id"),
        ((7, 1, None, None), "request_id"),
        (("x" * 65, 1, None, None), "request_id"),
        (("r", None, None, "nice"), "score"),
        (("r", 1.1, None, None), "score"),
        (("r", -0.1, None, None), "score"),
        (("r", float("nan"), None, None), "score"),
        (("r", True, None, None), "score"),
        (("r", "1", None, None), "score"),
        (("r", 1, "x" * 65, None), "label"),
        (("r", 1, "a\nb", None), "label"),
        (("r", 1, 5, None), "label"),
        (("r", 1, None, "x" * 2001), "comment"),
        (("r", 1, None, "\x00"), "comment"),
        (("r", 1, None, "\ud800"), "comment"),
        (("r", 1, None, ["x"]), "comment"),
    ],
)
def test_what_is_wrong_is_named(given: tuple[object, ...], field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        checked(*given)
    assert raised.value.metadata["field"] == field


def test_what_is_right() -> None:
    assert checked("r", 1, None, None) == Feedback("r", 1.0, "", "")
    assert checked("r", None, "thumbs_up", "nice\nindeed") == Feedback(
        "r", None, "thumbs_up", "nice\nindeed"
    )


async def test_without_a_store_answers_of_this_worker_are_known() -> None:
    one, felt = desk()
    request_id = heard(one)
    with structlog.testing.capture_logs() as lines:
        given = await one.give(Feedback(request_id, 0.2, "bad", "my name is Anna"), "t", "key_1")
    assert given.counts_for_experiment
    assert felt == [("ab", "new", "u1", 0.2)]
    assert lines[0]["event"] == "feedback"
    assert {name: lines[0][name] for name in ("id", "score", "label", "experiment", "arm")} == {
        "id": request_id,
        "score": 0.2,
        "label": "bad",
        "experiment": "ab",
        "arm": "new",
    }
    assert "Anna" not in str(lines)


async def test_a_request_without_a_unit_is_its_own() -> None:
    one, felt = desk()
    request_id = heard(one, "")
    await one.give(Feedback(request_id, 1.0, "", ""), "t", "")
    assert felt == [("ab", "new", request_id, 1.0)]


async def test_a_label_alone_judges_no_arm() -> None:
    one, felt = desk()
    request_id = heard(one)
    given = await one.give(Feedback(request_id, None, "odd", ""), "t", "")
    assert given.counts_for_experiment
    assert felt == []


@pytest.mark.parametrize("books", [None, Books()])
async def test_of_anothers_answer_nothing_is_told(books: Books | None) -> None:
    one, felt = desk(books)
    request_id = heard(one)
    told = []
    for word in (request_id, "gen_unknown", "gen_kept"):
        with pytest.raises(InvalidRequest) as raised:
            await one.give(Feedback(word, 1.0, "", ""), "another", "")
        told.append(str(raised.value).replace(word, "X"))
    assert len(set(told)) == 1
    assert felt == []
    assert books is None or books.rows == []


async def test_with_a_store_it_is_written_and_others_answers_are_found_there() -> None:
    books = Books('{"experiment": "ab", "arm": "new", "unit": "u7"}')
    one, felt = desk(books)
    given = await one.give(Feedback("gen_kept", 0.0, "bad", "why"), "t", "key_1")
    assert given.counts_for_experiment
    assert felt == [("ab", "new", "u7", 0.0)]
    assert books.rows == [FeedbackRow("gen_kept", NOW_US, "t", "key_1", 0.0, "bad", "why")]


@pytest.mark.parametrize("decision", ["", "{", "[]", '{"rule": "x"}'])
async def test_answers_of_no_experiment(decision: str) -> None:
    books = Books(decision)
    one, felt = desk(books)
    given = await one.give(Feedback("gen_kept", 0.0, "", ""), "t", "")
    assert not given.counts_for_experiment
    assert (felt, len(books.rows)) == ([], 1)


async def test_a_store_that_is_away_is_told() -> None:
    one, _ = desk(Books(is_down=True))
    with pytest.raises(StoreDown):
        await one.give(Feedback("gen_kept", 1.0, "", ""), "t", "")


async def test_too_many_at_once_are_refused() -> None:
    one, _ = desk(Books())
    word = Feedback("gen_kept", 1.0, "", "")
    words = [one.give(word, f"t{number}", "") for number in range(MOST_WAITING + 3)]
    found = await asyncio.gather(*words, return_exceptions=True)
    assert sum(isinstance(each, LimitReached) for each in found) == 3
    assert not (await one.give(word, "t", "")).counts_for_experiment


async def test_one_team_leaves_room_for_the_words_of_others() -> None:
    one, _ = desk(Books())
    strange = Feedback("gen_none", 1.0, "", "")
    loud = [asyncio.ensure_future(one.give(strange, "loud", "")) for _ in range(200)]
    await asyncio.sleep(0)
    assert not (await one.give(Feedback("gen_kept", 1.0, "", ""), "t", "")).counts_for_experiment
    found = await asyncio.gather(*loud, return_exceptions=True)
    assert sum(isinstance(each, LimitReached) for each in found) == 200 - MOST_OF_ONE


def test_answers_are_remembered_within_a_bound() -> None:
    one, _ = desk()
    end = ended("new")
    for number in range(MOST_KNOWN + 5):
        one.heard(end._replace(generation_id=f"gen_{number}"))
    assert len(one._known) == MOST_KNOWN
    assert "gen_4" not in one._known
