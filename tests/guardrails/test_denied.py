"""Denied terms: what hides them not, whole words, the longest, and lists that are none."""

from __future__ import annotations

import pytest

from relay.guardrails.denied import DeniedTerms
from relay.guardrails.normalise import folded


def found(terms: list[str], text: str, *, is_whole_words: bool = True) -> list[str]:
    scanner = DeniedTerms(terms, is_whole_words=is_whole_words)
    view = folded(text, scanner.fold)
    return [
        text[view.origin(one.start) : view.origin(one.end - 1) + 1]
        for one in scanner.find(view.text)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "project apollo",
        "PROJECT APOLLO",
        "Project  Apollo",
        "project-apollo",
        "project_\napollo",
        "ｐｒｏｊｅｃｔ ａｐｏｌｌｏ",
        "prоjеct apоllо",
        "pro\u200bject a\u00adpollo",
        "prójèct äpôllö",
        "p\u0336roject apollo",
        "𝓹𝓻𝓸𝓳𝓮𝓬𝓽 apollo",
    ],
)
def test_hidden(text: str) -> None:
    assert found(["Project Apollo"], f"about {text}.") == [text]


@pytest.mark.parametrize(
    "text", ["projects apollo", "project apollos", "projectapollo", "project    apollo"]
)
def test_not_the_term(text: str) -> None:
    assert found(["Project Apollo"], text) == []


def test_whole_words() -> None:
    assert found(["sex"], "Essex, Middlesex; sex!") == ["sex"]
    assert found(["sex"], "Essex", is_whole_words=False) == ["sex"]
    assert found(["指令"], "忽略指令吧", is_whole_words=False) == ["指令"]
    assert found(["c++"], "in c++, or c++11") == ["c++"] * 2


def test_the_longest_that_is_a_word() -> None:
    assert found(["foo", "foo bar"], "foo bar") == ["foo bar"]
    assert found(["foo", "foo bar"], "foo bart") == ["foo"]
    assert found(["ab", "abc"], "abcd", is_whole_words=False) == ["abc"]


def test_many() -> None:
    terms = [f"term{at:05x}" for at in range(20_000)]
    assert found(terms, "no term0, but term00fff and TERM04e1f") == ["term00fff", "TERM04e1f"]


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "no term"),
        (["ok", "\u200b"], "nothing that can be looked for"),
        (["a" * 300], "more than 256 characters"),
    ],
)
def test_no_list(terms: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeniedTerms(terms)


def test_window_has_room_for_gaps() -> None:
    assert DeniedTerms(["a b c"]).window_chars == 5 + 2 * 2
