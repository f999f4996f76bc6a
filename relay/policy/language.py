"""Which language a text is in: cheap, deterministic, and silent where it cannot tell.

The script decides where it is one language's own (Hangul, Thai, Georgian, ...), or together with
letters that only one of its languages has (`ї`, `پ`, kana). Languages that share the Latin or the
Cyrillic script are told apart by their commonest words and some letters: the one with the highest
score, and those beside it that are as likely (Danish and Norwegian often are). Words and letters
are plain tables, so that an outcome can be explained; a trained model would be better on single
words and could not be.

Only the beginning is read: a caller does not change languages within a turn, and the cost is
bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from relay.policy.languages import LANGUAGES, WORDS

MAX_CHARS: Final = 200
"""Of a text, that are looked at."""
MAX_WORDS: Final = 24
MIN_SCORE: Final = 0.5
"""One common word of its own, or two that another language has as well."""
MIN_LEAD: Final = 1.1
"""How much better than another it must be to be it alone."""
_LETTER: Final = 0.7
"""What a letter that is telling counts, once a text, beside words."""

__all__ = ["LANGUAGES", "MAX_CHARS", "language_of", "languages_of"]

_SCRIPTS: Final[tuple[tuple[int, int, str], ...]] = (
    (0x0370, 0x03FF, "el"),
    (0x0400, 0x052F, "Cyrl"),
    (0x0530, 0x058F, "hy"),
    (0x0590, 0x05FF, "he"),
    (0x0600, 0x077F, "Arab"),
    (0x0900, 0x097F, "Deva"),
    (0x0980, 0x09FF, "bn"),
    (0x0A00, 0x0A7F, "pa"),
    (0x0A80, 0x0AFF, "gu"),
    (0x0B80, 0x0BFF, "ta"),
    (0x0C00, 0x0C7F, "te"),
    (0x0C80, 0x0CFF, "kn"),
    (0x0D00, 0x0D7F, "ml"),
    (0x0D80, 0x0DFF, "si"),
    (0x0E00, 0x0E7F, "th"),
    (0x0E80, 0x0EFF, "lo"),
    (0x1000, 0x109F, "my"),
    (0x10A0, 0x10FF, "ka"),
    (0x1100, 0x11FF, "ko"),
    (0x1200, 0x139F, "am"),
    (0x1780, 0x17FF, "km"),
    (0x1F00, 0x1FFF, "el"),
    (0x3040, 0x30FF, "ja"),
    (0x31F0, 0x31FF, "ja"),
    (0x3400, 0x4DBF, "Hani"),
    (0x4E00, 0x9FFF, "Hani"),
    (0xAC00, 0xD7AF, "ko"),
    (0xF900, 0xFAFF, "Hani"),
    (0xFF66, 0xFF9D, "ja"),
)

_FOREIGN: Final = re.compile("[\u0370-\u1dff\u1f00-\u1fff\u3040-\u9fff\uac00-\ufaff\uff66-\uff9d]+")
"""Runs of letters that are not Latin."""
_KANA: Final = re.compile("[\u3040-\u30ff\uff66-\uff9d]")
_LATIN: Final = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+")
_AROUND_WORDS: Final = (
    ".,;:!?()[]{}\"'`*_/\u00bf\u00a1\u00ab\u00bb\u201c\u201d\u201e\u2026\u2013\u2014-"
)

_LETTERS: Final[Mapping[str, tuple[str, ...]]] = {
    "ß": ("de",),
    "ü": ("de", "tr", "hu"),
    "ä": ("de", "sv", "fi"),
    "ö": ("de", "sv", "fi", "tr", "hu"),
    "å": ("sv", "da", "nb"),
    "ø": ("da", "nb"),
    "æ": ("da", "nb"),
    "ñ": ("es",),
    "¿": ("es",),
    "¡": ("es",),
    "ã": ("pt", "vi"),
    "õ": ("pt", "vi"),
    "ç": ("fr", "pt", "tr"),
    "œ": ("fr",),
    "ê": ("fr", "pt", "vi"),
    "ò": ("it", "vi"),
    "ù": ("it", "fr", "vi"),
    "ł": ("pl",),
    "ą": ("pl",),
    "ę": ("pl",),
    "ż": ("pl",),
    "ź": ("pl",),
    "ś": ("pl",),
    "ć": ("pl",),
    "ř": ("cs",),
    "ě": ("cs",),
    "ů": ("cs",),
    "ý": ("cs", "vi"),
    "ő": ("hu",),
    "ű": ("hu",),
    "ă": ("ro", "vi"),
    "ș": ("ro",),
    "ț": ("ro",),
    "ţ": ("ro",),
    "ş": ("tr", "ro"),
    "ı": ("tr",),
    "ğ": ("tr",),
    "đ": ("vi",),
    "ơ": ("vi",),
    "ư": ("vi",),
    "ạ": ("vi",),
    "ế": ("vi",),
    "ộ": ("vi",),
    "і": ("uk",),
    "ї": ("uk",),
    "є": ("uk",),
    "ґ": ("uk",),
    "ы": ("ru",),
    "э": ("ru",),
    "ё": ("ru",),
    "ђ": ("sr",),
    "ј": ("sr",),
    "љ": ("sr",),
    "њ": ("sr",),
    "ћ": ("sr",),
    "џ": ("sr",),
}
_CYRILLIC: Final = ("ru", "uk", "bg", "sr")

_FA: Final = frozenset("پچژگ")
_UR: Final = frozenset("ٹڈڑںےہھ")
_FA_FORMS: Final = frozenset("یک")
"""Letters that Arabic writes as others."""
_MR: Final = re.compile(
    r"(?:^|\s)(?:आहे|आहेत|आणि|मला|नाही|नाहीत|काय|कसे|तुम्ही|माझे|हे|हा|किंवा|असणे|पाहिजे|करा|साठी|च्या)(?=\s|$|[.,?!।])|ळ"
)


def _weights() -> dict[str, tuple[tuple[str, float], ...]]:
    found: dict[str, list[str]] = {}
    for language, words in WORDS.items():
        for word in dict.fromkeys(words.split()):
            found.setdefault(word, []).append(language)
    return {
        word: tuple((language, 1 / len(languages)) for language in languages)
        for word, languages in found.items()
    }


_WEIGHTS: Final = _weights()
_LETTER_WEIGHTS: Final = {
    letter: tuple((language, _LETTER / len(languages)) for language in languages)
    for letter, languages in _LETTERS.items()
}


def language_of(text: str) -> str:
    """The ISO 639-1 code of one of `LANGUAGES`; empty where it cannot be told, and where there are
    two that it may be."""
    found = languages_of(text)
    return found[0] if len(found) == 1 else ""


def languages_of(text: str) -> tuple[str, ...]:
    """Each of `LANGUAGES` that it may be in, the likeliest first: mostly one. None for too little
    text, and for a language that is not among them."""
    text = text[:MAX_CHARS]
    if text.isascii():
        return _by_words(text, None)
    counts: dict[str, int] = {}
    for run in _FOREIGN.findall(text):
        script = _script_of(ord(run[len(run) // 2]))
        if script == "Hani" and _KANA.search(run):
            script = "ja"
        counts[script] = counts.get(script, 0) + len(run)
    if not counts:
        return _by_words(text, None)
    latin = sum(map(len, _LATIN.findall(text)))
    script = max(counts, key=counts.__getitem__)
    # A character of Chinese or Hangul says about as much as two letters.
    if counts[script] * (2 if script in ("Hani", "ja", "ko") else 1) < latin:
        return _by_words(_FOREIGN.sub(" ", text), None)
    if script == "Cyrl":
        return _by_words(text, _CYRILLIC)
    if script == "Arab":
        script = _of_arabic_script(text)
    elif script == "Deva":
        script = "mr" if _MR.search(text) else "hi"
    elif script == "Hani":
        script = "ja" if "ja" in counts else "zh"
    return (script,) if script else ()


@lru_cache(maxsize=4096)
def _script_of(code: int) -> str:
    for first, last, script in _SCRIPTS:
        if first <= code <= last:
            return script
    return ""


def _of_arabic_script(text: str) -> str:
    letters = frozenset(text)
    if letters & _UR:
        return "ur"
    return "fa" if letters & _FA or letters & _FA_FORMS else "ar"


def _by_words(text: str, among: tuple[str, ...] | None) -> tuple[str, ...]:
    lower = text.lower().replace("\u2019", "'")
    scores: dict[str, float] = {}
    for word in lower.split(None, MAX_WORDS)[:MAX_WORDS]:
        word = word.strip(_AROUND_WORDS)
        found = _WEIGHTS.get(word)
        if found is None and "'" in word:  # l'homme, dell'anno
            found = _WEIGHTS.get(word[: word.index("'") + 1])
        for language, weight in found or ():
            scores[language] = scores.get(language, 0.0) + weight
    if not lower.isascii():
        for letter in frozenset(lower) & _LETTER_WEIGHTS.keys():
            for language, weight in _LETTER_WEIGHTS[letter]:
                scores[language] = scores.get(language, 0.0) + weight
    if among is not None:
        scores = {language: scores[language] for language in among if language in scores}
    best = max(scores.values(), default=0.0)
    if best < MIN_SCORE:
        return ()
    likely = [language for language, score in scores.items() if score * MIN_LEAD > best]
    return tuple(sorted(likely, key=lambda language: -scores[language]))
