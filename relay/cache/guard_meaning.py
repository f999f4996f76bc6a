"""Whether two turns differ in what embeddings do not see: the guard behind the nearest neighbours.

Two sentences that differ in a "not", a number or a name are near each other in every embedding
(wordllama: "What is the capital of France?" and "What is not the capital of France?" 0.97). So a
neighbour is only taken when nothing of that differs. The guard never says that two texts mean the
same; it says where they cannot be told to. In doubt they differ, which costs a miss.

A text that was made to be near another (CacheAttack, arXiv 2601.23088; OWASP LLM09) has words that
the other has not, so it differs as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from relay.cache import guard_words as data
from relay.cache.guard_english import English, read
from relay.cache.guard_language import ENGLISH, LANGUAGES, language_of
from relay.cache.guard_numbers import is_number
from relay.cache.guard_text import quotations, script_of, words_of

Guard = Literal["strict", "loose"]
"""`strict`: every word with content must have its like on the other side. `loose`: one side may
have a word more."""

Difference = Literal[
    "", "language", "question", "tense", "modal", "quotation", "number", "negation", "name", "word",
    "order",
]  # fmt: skip
"""What differs first; "" for nothing."""


class Meaning(NamedTuple):
    """A turn as the guard compares it."""

    language: str
    script: str
    quotations: tuple[str, ...]
    words: tuple[str, ...]
    """Of other languages: all that must be the same."""
    english: English | None


def meaning_of(text: str) -> Meaning:
    """Of a text that `guard_text.readable` gave. Tens of microseconds for a sentence."""
    words = words_of(text)
    script = script_of(text)
    language = language_of([word.text for word in words], script)
    quoted = quotations(text)
    if language == ENGLISH:
        return Meaning(language, script, quoted, (), read(words))
    small = LANGUAGES.get(language)
    plain = [word.text for word in words]
    if small is not None:
        plain = [small.numbers.get(word, word) for word in plain if word not in small.fillers]
    return Meaning(language, script, quoted, tuple(_figures(plain)), None)


def _figures(words: Iterable[str]) -> Iterable[str]:
    """Figures as words for them are: 2 is `#2`."""
    return (f"#{word}" if word.isdigit() else word for word in words)


def difference(one: Meaning, other: Meaning, guard: Guard = "strict") -> Difference:
    """What tells two turns apart; symmetric. Some microseconds."""
    if one.language != other.language or one.script != other.script:
        return "language"
    if one.quotations != other.quotations:
        return "quotation"
    if one.english is None or other.english is None:
        return "" if one.words == other.words else _kind(one.words, other.words)
    return _of_english(one.english, other.english, guard)


def strict_key(meaning: Meaning) -> int | None:
    """A number that two meanings share where the strict guard finds no difference, and hardly ever
    otherwise; of this process alone. None where there is never none."""
    english = meaning.english
    if english is None:
        return hash((meaning.language, meaning.script, meaning.quotations, meaning.words))
    if not english.both:
        return None
    return hash(
        (
            meaning.script,
            meaning.quotations,
            english.question or "what",
            english.tense,
            english.modal,
            english.hard,
            english.both,
        )
    )


def _of_english(one: English, other: English, guard: Guard) -> Difference:
    if one.hard != other.hard:
        return _kind(one.hard, other.hard)
    if one.question != other.question and {one.question, other.question} != {"", "what"}:
        return "question"
    if one.tense != other.tense:
        return "tense"
    if one.modal != other.modal:
        return "modal"
    if one.both == other.both:
        return "" if one.both else "word"
    mine = Counter(one.soft) - Counter(other.soft)
    theirs = Counter(other.soft) - Counter(one.soft)
    if mine or theirs:
        if guard == "strict" or (mine and theirs) or (mine + theirs).total() > _LOOSE:
            return "word"
        if _is_turned(mine + theirs, one.both):
            return "word"
    left = mine + theirs
    if [word for word in one.both if word not in left] != [
        word for word in other.both if word not in left
    ]:
        return "order"
    return ""


_LOOSE: Final = 1


def _is_turned(left: Counter[str], words: tuple[str, ...]) -> bool:
    """A word more that is a word of both with another beginning: `install`, `uninstall`."""
    bare = {word.removesuffix("e") for word in words}
    return any(
        word.startswith(prefix) and word[len(prefix) :].removesuffix("e") in bare
        for word in left
        for prefix in data.PREFIXES
    )


def _kind(one: tuple[str, ...], other: tuple[str, ...]) -> Difference:
    """How to call what differs."""
    mine = Counter(one)
    theirs = Counter(other)
    left = (mine - theirs) + (theirs - mine)
    if any(is_number(word) for word in left):
        return "number"
    if any(word[0] == "¬" for word in left):
        return "negation"
    return "name" if left else "order"
