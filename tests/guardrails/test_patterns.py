"""Own patterns: their widths, what is refused and with what words, and matches in any script."""

from __future__ import annotations

import pytest

from relay.guardrails.patterns import OwnPattern


@pytest.mark.parametrize(
    ("pattern", "window_chars"),
    [
        (r"ORD-\d{6,8}", 12),
        (r"(?i)invoice\s#\d{3}\b", 12),
        (r"(?:ab|c{2,5}|x?)y", 6),
        (r"\\pq", 3),
        (r"[]a]{3}", 3),
        (r"é{2}", 2),
        (r"(?P<name>a)b$", 2),
    ],
)
def test_window(pattern: str, window_chars: int) -> None:
    assert OwnPattern("p", pattern).window_chars == window_chars


@pytest.mark.parametrize(
    ("pattern", "most", "window_chars"),
    [
        ("sk-[a-z]+", 20, 23),
        ("a*b", 3, 4),
        (r"a{2,}?b", 5, 6),
        (r"[+*]{1}\+x+", 4, 6),
        ("(?:ab)+c", 10, 21),
        ("a{30,}", 10, 30),
    ],
)
def test_repeats_without_end(pattern: str, most: int, window_chars: int) -> None:
    with pytest.raises(ValueError, match="set max_chars"):
        OwnPattern("p", pattern)
    assert OwnPattern("p", pattern, max_chars=most).window_chars == window_chars
    assert OwnPattern("p", pattern, whole_text=True).window_chars is None


@pytest.mark.parametrize(
    ("pattern", "most", "message"),
    [
        ("(", None, "missing"),
        ("a(?=b)", None, r"\(\?="),
        (r"(a)\1", None, "escape"),
        (r"\b", None, "empty text"),
        ("a?", None, "empty text"),
        ("a{0,3}", None, "empty text"),
        (r"\p{Greek}x", None, r"`\\p` at character 1.*set whole_text"),
        ("x[[:alpha:]]", None, r"`\[:alpha:\]` at character 3"),
        ("a{,3}", None, r"`\{,3\}`"),
        ("a+", 2000, "1 to 1000"),
        ("(?:(?:a{100}){10}){10}", None, "repetition"),
        ("(?:[ab]+c){9}", 1000, "max_chars smaller|repetition"),
    ],
)
def test_refused(pattern: str, most: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OwnPattern("p", pattern, max_chars=most)


def test_matches_by_characters() -> None:
    text = "größe ORD-123456 und ORD-7654321 — ok"
    found = OwnPattern("order", r"ORD-\d{6,8}").find(text)
    assert [text[one.start : one.end] for one in found] == ["ORD-123456", "ORD-7654321"]
    assert OwnPattern("order", r"ORD-\d{6,8}").find(text, 10) == found[1:]


def test_only_re2_knows_it() -> None:
    assert OwnPattern("g", r"\p{Greek}{2}", whole_text=True).find("ab αβγ")[0][:2] == (3, 5)
