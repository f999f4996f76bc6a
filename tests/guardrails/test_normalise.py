"""Folding: what becomes what, where it came from, and that a cut changes nothing."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.guardrails.normalise import (
    MAX_INVISIBLE_RUN,
    PLAIN,
    InvisibleRuns,
    folded,
    seen_from_end,
)
from relay.guardrails.scan import Fold
from tests.fakes.properties import examples

odd = st.text(st.sampled_from("aé\u0301\u200b\U000e0041ﬁﷺＡ \n\ud83d👍\ufe0f\x00ß"), max_size=40)


@pytest.mark.parametrize(
    ("fold", "text", "wanted"),
    [
        ("plain", "ｓｋ－１２", "sk-12"),
        ("plain", "𝟒𝟏𝟏𝟏 ④", "4111 4"),
        ("plain", "٤١١١", "4111"),
        ("plain", "a\u200bb\u00adc\U000e0041d\ufe0fe\u202ef", "abcdef"),
        ("plain", "s\u0336k\u0336", "sk"),
        ("plain", "“x” ‘y’ – —", "\"x\" 'y' - -"),
        ("plain", "Café", "Café"),
        ("plain", "Привет", "Привет"),
        ("plain", "\u00a0\u3000\u2028", "  \n"),
        ("plain", "\ud83d", "\ufffd"),
        ("plain", "ﬁ", "fi"),
        ("skeleton", "Café NAÏVE Straße", "cafe naive strasse"),
        ("skeleton", "ѕесrеt pаssword", "secret password"),
        ("skeleton", "ρ αlpha", "p alpha"),
        ("skeleton", "🅰🅱 ᴀʙ", "ab ab"),
        ("raw", "Ａ\u200b", "Ａ\u200b"),
    ],
)
def test_folded(fold: Fold, text: str, wanted: str) -> None:
    assert folded(text, fold).text == wanted


def test_terms_of_other_scripts_fold_as_texts_do() -> None:
    for one, other in [("ПРОЕКТ", "проект"), ("ΣΟΦΟΣ", "σοφοσ"), ("Ёлка", "елка")]:
        assert folded(one, "skeleton").text == folded(other, "skeleton").text


@examples(150, full=3000)
@given(odd, st.sampled_from(["raw", "plain", "skeleton"]))
def test_every_character_knows_where_it_came_from(text: str, fold: Fold) -> None:
    view = folded(text, fold)
    alone = [folded(one, fold).text for one in text]
    assert view.text == "".join(alone)
    assert [view.origin(at) for at in range(len(view.text))] == [
        at for at, one in enumerate(alone) for _ in one
    ]


def test_what_can_be_seen_is_never_left_out() -> None:
    """Windows count on it: a character of the text is at least one of the folded one."""
    for code in range(sys.maxunicode + 1):
        one = chr(code)
        if (code < 0x3400 or 0xE000 <= code < 0x11000) and PLAIN[one] == "":
            assert seen_from_end(f"{one}a", 1) == 1
            assert seen_from_end(f"a{one}", 1) == 0


@examples(150, full=3000)
@given(odd, st.lists(st.integers(0, 40)))
def test_runs_are_cut_alike_in_chunks(text: str, places: list[int]) -> None:
    text = text.replace("a", "\u200b" * 20)
    whole = InvisibleRuns().feed(text)
    runs = InvisibleRuns()
    at, out = 0, ""
    for place in [*sorted(places), len(text)]:
        if place >= at:
            out += runs.feed(text[at:place])
            at = place
    assert out == whole


def test_runs() -> None:
    runs = InvisibleRuns()
    most = MAX_INVISIBLE_RUN
    assert runs.feed("a" + "\u200b" * (most + 5) + "b") == "a" + "\u200b" * most + "b"
    assert runs.feed("\u200b" * most) == "\u200b" * most
    assert runs.feed("\u200b") == ""
    assert runs.feed("c\u200b") == "c\u200b"
    text = "👨‍👩‍👧 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    assert InvisibleRuns().feed(text) is text


@examples(100, full=2000)
@given(odd, st.integers(0, 45))
def test_seen_from_end(text: str, count: int) -> None:
    at = seen_from_end(text, count)
    seen = sum(1 for one in text[at:] if PLAIN[one])
    assert seen >= min(count, sum(1 for one in text if PLAIN[one]))
    assert at == 0 or len(text[at:]) == count or seen == count
