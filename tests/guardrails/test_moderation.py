"""What a provider's moderation says, and what a lying one does not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from relay.guardrails.asking import CannotTell, Opinion, Question, Shown
from relay.guardrails.moderation import MOST_TEXTS, ModerationAsker, opinion_of
from tests.guardrails.worlds import SCOPE


def answer(*results: Any) -> bytes:
    return orjson.dumps({"results": list(results)})


def result(**scores: float) -> dict[str, Any]:
    return {
        "flagged": any(score > 0.5 for score in scores.values()),
        "categories": {name: score > 0.5 for name, score in scores.items()},
        "category_scores": scores,
    }


def test_what_is_flagged_is_bad() -> None:
    assert opinion_of(answer(result(hate=0.1)), 1, {}) == Opinion(is_bad=False)
    found = opinion_of(answer(result(hate=0.1), result(hate=0.1, violence=0.9)), 2, {})
    assert found == Opinion(is_bad=True, label="violence")
    assert opinion_of(answer({"flagged": True}), 1, {}) == Opinion(is_bad=True, label="flagged")


def test_own_thresholds_take_the_place_of_the_flag() -> None:
    strict = {"hate": 0.05}
    assert opinion_of(answer(result(hate=0.1, violence=0.9)), 1, strict).label == "hate"
    assert not opinion_of(answer(result(hate=0.01, violence=0.9)), 1, strict).is_bad


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"no JSON",
        b"[]",
        b"{}",
        answer(),
        answer(result(hate=0.1), result(hate=0.1)),
        answer("fine"),
        answer({"flagged": "no"}),
        answer({"categories": {}}),
    ],
)
def test_anything_else_says_nothing(said: bytes) -> None:
    with pytest.raises(CannotTell):
        opinion_of(said, 1, {})


@pytest.mark.parametrize("categories", ["hate", ["hate"], 1, {"hate": "yes"}, None])
def test_what_is_flagged_is_bad_whatever_its_categories_are(categories: object) -> None:
    said = answer({"flagged": True, "categories": categories})
    assert opinion_of(said, 1, {}) == Opinion(is_bad=True, label="flagged")


@pytest.mark.parametrize("scores", [None, {}, {"hate": "0.1"}, {"hate": True}])
def test_a_category_that_lacks_says_nothing(scores: object) -> None:
    with pytest.raises(CannotTell):
        opinion_of(answer({"flagged": False, "category_scores": scores}), 1, {"hate": 0.5})


async def test_every_text_is_asked_about_however_many_there_are() -> None:
    bodies: list[dict[str, Any]] = []

    async def ask(body: bytes, zones: frozenset[str] | None) -> bytes:
        bodies.append(orjson.loads(body))
        assert zones == frozenset({"eu"})
        return answer(*[result(hate=0.0)] * len(bodies[-1]["input"]))

    texts = tuple(Shown("user", f"text {at}") for at in range(3 * MOST_TEXTS))
    made = ModerationAsker(ask, "omni", {})
    question = Question("input", texts, SCOPE, None, frozenset({"eu"}))
    assert not (await made.ask(question)).is_bad
    (body,) = bodies
    assert body["model"] == "omni"
    assert len(body["input"]) == MOST_TEXTS
    assert all(shown.text in "\n".join(body["input"]) for shown in texts)
