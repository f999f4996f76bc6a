"""An English turn as what must be the same for two of them to mean the same."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from relay.cache import guard_words as data
from relay.cache.guard_lists import listed
from relay.cache.guard_numbers import counted, is_number
from relay.cache.guard_stems import stem
from relay.cache.guard_text import Word

_POLITE: Final = re.compile(
    r"(?:(?:please|hi|hello|hey|ok|okay|so|well|um|uh|now|thanks|sorry|and|but|also|just|then)\b"
    r"|(?:can|could|would|will) (?:you|someone|anyone|anybody)(?: (?:please|kindly|just|quickly))?"
    r"(?= (?!be\b|have\b))"
    r"|(?:do|does|would) (?:you|anyone|anybody)(?: happen to)? know\b"
    r"|(?:i would|i'd|id) (?:like|love|want) to (?:know|learn|understand|find out)\b"
    r"|i (?:just |really )?(?:want|need|wish|wanted|needed) to (?:know|understand|find out|ask)\b"
    r"|i (?:was|am|'m) (?:just )?(?:wondering|curious)(?: about)?\b|i wonder\b"
    r"|(?:any|have you any|do you have any) (?:idea|clue)(?: about| of)?\b"
    r"|(?:tell|remind|teach|inform|show|explain|describe|clarify|help)(?: to)?(?: me| us)?"
    r"(?: understand| know)?(?: about)?(?= )"
    r"|(?:give|get)(?: me| us) (?:information|details|info)(?: about| on| of)?\b"
    r"|would you say(?: that)?\b|name(?= the\b)|let me know\b|let us know\b"
    r"|(?:i have|i've got|i got) a (?:quick )?question(?: about)?\b"
    r"|quick question\b|excuse me\b|(?:be|being) (?:so )?(?:kind|able) (?:enough )?to\b"
    r"|(?:me|us)\b)\s*"
)
"""What opens a turn and says nothing."""
_HOW: Final = re.compile(
    r"what (?:do|should|must|can|could|would|shall) i (?:need to |have to )?do (?:in order )?to\b"
    r"|how (?:do|would|can|could|should) i go about\b"
)
"""Longer ways to ask how."""
_HOW_MANY: Final = re.compile(r"what is the (?:total )?(?:number|amount|count) of\b")
_ASKED: Final = ("when", "where", "why", "who", "whom", "whose", "how", "what", "which")
_AUXILIARIES: Final = frozenset(
    listed(
        """
    is are was were am do does did can could will would shall should may might must has have
    had isn't aren't
    """
    )
)
_MEASURES: Final = {
    "how-tall": "tall", "how-high": "tall", "how-old": "old", "how-far": "far",
    "how-heavy": "heavy", "how-deep": "deep", "how-fast": "fast", "how-big": "big",
}  # fmt: skip
"""Questions that "what is the ..." asks too, and by which word."""
_MODALS: Final = {
    "must": "must", "need": "must", "needed": "must", "required": "must", "require": "must",
    "mandatory": "must", "should": "should", "ought": "should", "can": "can", "could": "can",
    "may": "can", "might": "can", "allowed": "can", "possible": "can", "able": "can",
    "permitted": "can", "want": "want", "wanted": "want", "wish": "want",
}  # fmt: skip
_IS_SHORT: Final = frozenset(
    listed(
        """
    what who where when how why it that there here let he she which this
    """
    )
)
"""Before 's: "is" and no owner."""
_OWNING: Final = frozenset(("have", "has", "had"))
"""Where nothing is asked of a thing, having it is what is said."""
_MONTH_BEFORE: Final = frozenset(
    listed(
        """
    in of until till since by last next this from during early late
    """
    )
)


class English(NamedTuple):
    """See the module."""

    question: str
    tense: str
    modal: str
    hard: tuple[str, ...]
    """Words that must be the same, and in the same order: numbers, names, negations, opposites,
    things that have siblings, small words that matter."""
    soft: tuple[str, ...]
    """The other words with content, in order."""
    both: tuple[str, ...]
    """`hard` and `soft` as they stand."""


@lru_cache(maxsize=1)
def _tables() -> tuple[dict[str, str], frozenset[str], frozenset[str]]:
    """Representatives of words, the words of opposites, and those of siblings."""
    same: dict[str, str] = {}
    for group in data.SAME.replace("\n", " / ").split(" / "):
        words = [stem(word) for word in group.split()]
        for word in words:
            same.setdefault(word, same.get(words[0], words[0]))
    opposites = frozenset(
        same.get(stem(word), stem(word)) for word in data.OPPOSITES.replace("/", " ").split()
    )
    siblings = frozenset(same.get(stem(word), stem(word)) for word in data.SIBLINGS.split())
    return same, opposites, siblings


def read(found: list[Word]) -> English:
    """What an English turn comes to. Some tens of microseconds."""
    same, opposites, siblings = _tables()
    names = {word.text.removesuffix("'s") for word in found if word.is_name}
    words = _joined(_polite(_expanded(found)))
    question, words = _question(words)
    hard: list[str] = []
    soft: list[str] = []
    both: list[str] = []
    numbered = counted(words)
    owns = question in ("", "if") and "been" not in words
    for at, word in enumerate(numbered):
        following = numbered[at + 1] if at + 1 < len(numbered) else ""
        before = numbered[at - 1] if at else ""
        if word == "may" and (
            before in _MONTH_BEFORE
            or is_number(before or " ")
            or (following and is_number(following))
        ):
            term = "may-month"
        elif is_number(word):
            term = word
        elif word in data.NEGATIONS:
            term = data.NEGATIONS[word]
        elif word[0] == "¬":
            term = word
        elif word in data.ALWAYS:
            term = same.get(stem(word), word)
        elif word in data.BEFORE_TERMS:
            base = same.get(stem(following), stem(following)) if following else ""
            is_term = (
                base in siblings or following in names or (bool(following) and is_number(following))
            )
            if not is_term or _is_told(before):
                continue
            term = word
        elif word in names and word not in ("i", "ok"):
            term = same.get(stem(word), stem(word))
        elif word in data.FILLERS and not (owns and word in _OWNING):
            continue
        elif compared := _compared(word):
            term = compared
        else:
            base = stem(word)
            base = same.get(base, base)
            if (
                base not in opposites
                and base not in siblings
                and any(one.isalpha() for one in base)
            ):
                soft.append(base)
                both.append(base)
                continue
            term = base
        hard.append(term)
        both.append(term)
    if question == "how":
        modal = ""
    else:
        modal = next((_MODALS[word] for word in words if word in _MODALS), "")
        if (
            "have" in words
            and "to" in words
            and words.index("have") + 1 < len(words)
            and words[words.index("have") + 1] == "to"
        ):
            modal = "must"
    if question != "how" and "you" in words:
        hard.append("you")
        both.append("you")
    return English(question, _tense(words), modal, tuple(hard), tuple(soft), tuple(both))


def _is_told(before: str) -> bool:
    return before in (
        "tell",
        "know",
        "information",
        "question",
        "info",
        "details",
        "ask",
        "talk",
        "me",
    )


def _expanded(found: list[Word]) -> list[str]:
    """Short forms written out, and `X's Y` turned into `Y X`."""
    words: list[str] = []
    names = {word.text for word in found if word.is_name}
    at = 0
    while at < len(found):
        word = found[at].text
        at += 1
        base, apostrophe, ending = word.partition("'")
        if not apostrophe:
            words.append(word)
            continue
        if word.endswith("n't"):
            words += [{"ca": "can", "wo": "will", "sha": "shall"}.get(word[:-3], word[:-3]), "not"]
        elif ending == "s" and base not in _IS_SHORT:
            owned: list[str] = []
            while at < len(found) and len(owned) < 3 and _is_owned(found[at].text):
                owned.append(found[at].text)
                at += 1
            owner = [base]
            while words and word in names and words[-1] in names:
                owner.insert(0, words.pop())
            words += [*owned, *owner]
        elif ending in ("s", "re", "ll", "ve", "m", "d"):
            words.append(base)
            words.append(
                {"s": "is", "re": "are", "ll": "will", "ve": "have", "m": "am", "d": "would"}[
                    ending
                ]
            )
        else:
            words.append(word)
    return words


def _is_owned(word: str) -> bool:
    return word not in data.FILLERS and word not in data.ALWAYS and word.isalpha()


def _polite(words: list[str]) -> list[str]:
    text = " ".join(words)
    while found := _POLITE.match(text):
        if not found.end() or found.end() == len(text):
            break
        text = text[found.end() :]
    text = _HOW.sub("how do i", text, 1)
    return _HOW_MANY.sub("how many", text, 1).split()


def _joined(words: list[str]) -> list[str]:
    words = _turned(words)
    found: list[str] = []
    at = 0
    while at < len(words):
        for length in (3, 2):
            phrase = "-".join(words[at : at + length])
            if phrase in _PHRASES and at + length <= len(words):
                found.append(data.REWORDED.get(phrase, phrase))
                at += length
                break
        else:
            found.append(words[at])
            at += 1
    return found


def _turned(words: list[str]) -> list[str]:
    """`turn the light on` as `turn on the light`."""
    for at, word in enumerate(words):
        if word in ("turn", "switch"):
            for far in range(at + 2, min(at + 7, len(words))):
                if words[far] in ("on", "off") and (
                    far + 1 == len(words) or words[far + 1] in ("in", "at", "for", "please", "now")
                ):
                    return [*words[: at + 1], words[far], *words[at + 1 : far], *words[far + 1 :]]
    return words


_PHRASES: Final = frozenset("-".join(phrase.split()) for phrase in data.PHRASES.split("/"))


def _question(words: list[str]) -> tuple[str, list[str]]:
    """What is asked, and the words with the measure of a "how tall" among them."""
    if words and words[0] in ("if", "whether"):
        return "if", words
    for at, word in enumerate(words):
        if word in _MEASURES:
            return "what", [*words[:at], _MEASURES[word], *words[at + 1 :]]
        if word.startswith("how-") or word == "when-year":
            if word == "how-much" and any(one in ("cost", "costs", "price") for one in words):
                return "what", words[:at] + words[
                    at + 1 :
                ] if "cost" not in words and "costs" not in words else _cost_first(words, at)
            return word, words[:at] + words[at + 1 :]
        if word in _ASKED:
            if at and words[0] in _AUXILIARIES:
                break
            if word in ("what", "which"):
                if "way" in words or "steps" in words or "step" in words:
                    return "how", [
                        one for one in words if one not in ("way", "steps", "step", "take")
                    ]
                return "what", words
            return {"whom": "who"}.get(word, word), words
    if words and words[0] in _AUXILIARIES:
        return "if", words
    return "", words


def _cost_first(words: list[str], at: int) -> list[str]:
    """`how much does X cost` as `cost X`, which is how `the price of X` reads."""
    return [
        "cost",
        *(one for index, one in enumerate(words) if index != at and one not in ("cost", "costs")),
    ]


def _tense(words: list[str]) -> str:
    for at, word in enumerate(words):
        if word in ("was", "were", "did", "had", "yesterday"):
            return "past"
        if word in ("will", "shall") or (word == "going" and words[at + 1 : at + 2] == ["to"]):
            return "future"
    return ""


def _compared(word: str) -> str:
    """`cheaper` as `cheap+er`; "" for a word that is no such form."""
    for ending in ("er", "est"):
        if word.endswith(ending):
            base = word[: -len(ending)]
            for one in (base, base + "e", base[:-1], base[:-1] + "y"):
                if one in data.COMPARED:
                    return f"{one}+{ending}"
    return ""
