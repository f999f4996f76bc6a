"""The labelled set, by the embedder that can be had here: the promise of the page."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("wordllama", reason="the extra `semantic` is not installed")

from bench.semantic.pairs import Pair, families, half_of, others_pairs, pairs
from bench.semantic.roc import Scored, rates, score
from relay.cache.embed_wordllama import WordllamaEmbedder
from relay.cache.guard_meaning import meaning_of, strict_key
from relay.cache.guard_text import readable


@pytest.fixture(scope="module")
def scored() -> list[Scored]:
    return score(pairs(), WordllamaEmbedder.load().embed)


def of(scored: list[Scored], half: str, *kinds: str) -> list[Scored]:
    return [
        row for row in scored if row.pair.half == half and (not kinds or row.pair.kind in kinds)
    ]


def test_the_set_is_large_and_halved() -> None:
    found = list(pairs())
    assert len(found) > 1300
    counts = Counter((pair.half, pair.kind) for pair in found)
    assert all(counts[half, kind] >= 50 for half in ("tuning", "held-out")
               for kind in ("same", "negation", "number", "name", "near"))  # fmt: skip
    firsts = {family.first: family.half for family in families()}
    assert all(half_of(first) == half for first, half in firsts.items())
    assert len(firsts) == len(families())


@pytest.mark.parametrize("half", ["tuning", "held-out"])
def test_no_false_hits_on_negations_numbers_and_names(scored: list[Scored], half: str) -> None:
    threshold = WordllamaEmbedder.default_threshold
    for kinds in (("negation",), ("number", "unit"), ("name",)):
        rows = of(scored, half, *kinds)
        assert len(rows) >= 50
        assert rates(rows, threshold, "strict").false == 0
        assert rates(rows, threshold, None).false > 0.2 * len(rows)  # else it would show nothing


@pytest.mark.parametrize("half", ["tuning", "held-out"])
def test_the_strict_guard_alone_has_none_of_any_kind(scored: list[Scored], half: str) -> None:
    wrong = [row.pair for row in of(scored, half) if not row.pair.is_same and not row.strict]
    assert wrong == []


def test_keys_say_what_the_guard_says(scored: list[Scored]) -> None:
    for row in scored:
        one, other = (
            strict_key(meaning_of(readable(text, max_chars=500) or ""))
            for text in (row.pair.kept, row.pair.asked)
        )
        assert (one == other) == (not row.strict), row.pair


def test_paraphrases_are_found(scored: list[Scored]) -> None:
    found = rates(of(scored, "held-out"), WordllamaEmbedder.default_threshold, "strict")
    assert found.hit_rate > 0.3


def test_a_line_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="line 2: '\\? what'"):
        families("What?\n? what\n")


def test_pairs_of_ones_own() -> None:
    (family,) = families("% a comment\n\nWhat?\n= What\n- Not what?\n")
    assert family.others == (("same", "What"), ("negation", "Not what?"))
    (pair,) = others_pairs('{"a": "x", "b": "y", "same_answer": true, "category": "near"}')
    assert pair == Pair("x", "y", "near", "held-out", True)
    with pytest.raises(ValueError, match="has no 'b'"):
        list(others_pairs('{"a": "x"}'))
