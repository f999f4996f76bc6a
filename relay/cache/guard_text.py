"""A user's turn as words: what both embeddings and the meaning guard look at.

Some texts are not read at all, and so never looked up: those that hide something (invisible or
unassigned characters, letters of two scripts in one word), since a reader would take them for
another text than an embedding does.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final, NamedTuple

_SPACES: Final = frozenset("\t\n\r\x0b\x0c ")
_HIDDEN: Final = frozenset(("Cc", "Cf", "Co", "Cn", "Cs"))
_SCRIPTS: Final = (
    "LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "BENGALI", "TAMIL", "TELUGU",
    "THAI", "HANGUL", "HIRAGANA", "KATAKANA", "CJK", "ARMENIAN", "GEORGIAN", "ETHIOPIC", "KHMER",
    "GUJARATI", "GURMUKHI", "KANNADA", "MALAYALAM", "SINHALA", "LAO", "MYANMAR", "CHEROKEE",
)  # fmt: skip
_ONE_WRITING: Final = frozenset(("HIRAGANA", "KATAKANA", "CJK"))
"""Scripts that one word of one language mixes."""

_WORD: Final = re.compile(
    r"""
      (?P<code>[\w.+-]+@[\w-]+(?:\.[\w-]+)+          # an address
        | https?://\S+ | www\.\S+ )
    | (?P<number>(?<!\w)[-−]?\d+(?:[.,:/\-–]\d+)*)(?P<unit>[^\W\d_]+[23]?)?(?![\w])
    | (?P<word>[^\W_]+(?:['\u2019\u02bc_-][^\W_]+)*(?:\+\+|\#)?)
    | (?P<symbol>[^\w\s])
    """,
    re.VERBOSE,
)
_SILENT: Final = frozenset(".,;:!?\"'()…“”‘’«»„`_¿¡-–—~[]{}")
"""Punctuation that carries no meaning of its own in a sentence."""
_BRACKETS: Final = frozenset("()[]{}-–—_~")
_FORMULA: Final = frozenset("=<>^*/+|\\{}[]")
"""With one of these a text may be a formula or a program, where brackets and dashes count too."""
_QUOTED: Final = re.compile(r"\"([^\"]+)\"|“([^”]+)”|«([^»]+)»|`([^`]+)`")


class Word(NamedTuple):
    """One word, number or symbol."""

    text: str
    """Case folded."""
    is_name: bool
    """Written as names are: a capital that does not open a sentence, capitals or digits inside."""
    opens: bool
    """The first of a sentence, so that its capital says nothing."""


def readable(text: str, *, max_chars: int) -> str | None:
    """The text as it is compared: NFKC, its spaces single; None where it must not be compared.

    Args:
        max_chars: of the text as it came; a longer one is not compared.
    """
    if len(text) > max_chars:
        return None
    if text.isascii():
        return _plain(text)
    found = unicodedata.normalize("NFKC", text)
    if len(found) > 4 * max_chars:  # NFKC makes up to 18 characters of one
        return None
    for character in found:
        if unicodedata.category(character) in _HIDDEN and character not in _SPACES:
            return None
        if unicodedata.combining(character) and unicodedata.category(character) == "Me":
            return None
    if any(_is_mixed(word) for word in re.findall(r"[^\W\d_]+", found)):
        return None
    return _plain(found)


def _plain(text: str) -> str | None:
    if any(
        (character < " " and character not in _SPACES) or character == "\x7f" for character in text
    ):
        return None
    return " ".join(text.split()) or None


def script_of(text: str) -> str:
    """The script of most letters; "" without any."""
    counts: dict[str, int] = {}
    for character in text:
        if character.isalpha():
            script = _script(character)
            counts[script] = counts.get(script, 0) + 1
    return max(counts, key=counts.__getitem__) if counts else ""


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    name = unicodedata.name(character, "")
    script = next((one for one in _SCRIPTS if name.startswith(one)), "OTHER")
    return "CJK" if script in _ONE_WRITING else script


def _is_mixed(word: str) -> bool:
    return not word.isascii() and len({_script(one) for one in word if one.isalpha()}) > 1


def words_of(text: str) -> list[Word]:
    """The words of a text that `readable` gave, in order; silent punctuation is left out."""
    is_loud = text.isupper()
    silent = _SILENT if _FORMULA.isdisjoint(text) else _SILENT - _BRACKETS
    found: list[Word] = []
    opens = True
    for match in _WORD.finditer(text):
        kind = match.lastgroup
        if kind == "symbol":
            symbol = match.group()
            if symbol in ".!?…":
                opens = True
            if symbol not in silent:
                found.append(Word(symbol, False, False))
            continue
        if match.group("number") is not None:
            found.append(
                Word(match.group("number").replace("–", "-").replace("−", "-"), False, opens)
            )
            if match.group("unit"):
                found.append(Word(match.group("unit").casefold(), False, False))
        elif kind == "code":
            code = match.group().rstrip(".,;:!?)\"'")
            found.append(Word(code.casefold(), True, opens))
        else:
            raw = match.group().replace("\u2019", "'").replace("\u02bc", "'")
            found.append(Word(raw.casefold(), not is_loud and _is_name(raw, opens=opens), opens))
        opens = False
    return found


def _is_name(raw: str, *, opens: bool) -> bool:
    rest = raw[1:]
    if any(one.isupper() or one.isdigit() for one in rest) and "'" not in raw[:2]:
        return True
    return raw[0].isupper() and not opens and raw != "I" and not raw.startswith("I'")


def quotations(text: str) -> tuple[str, ...]:
    """What stands in quotation marks, case folded."""
    if not any(mark in text for mark in '"“«`'):
        return ()
    return tuple(
        " ".join(next(part for part in found if part).casefold().split())
        for found in _QUOTED.findall(text)
    )
