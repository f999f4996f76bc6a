"""Whether a text opens as a refusal: phrases of several languages, a signal and no proof.

Only the opening is looked at: who refuses says so at once, and further on the same words mostly
mean something else. Phrases name the help that is refused ("I can't help with"), since "I can't
wait to hear it" is none; the bare "I cannot ..." counts with the exceptions of `_NOT_REFUSALS`.
A text is folded first: case, apostrophes, blanks, width.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

OPENING_CHARS: Final = 160
"""Of an answer that are looked at."""

_NOT_REFUSALS: Final = (
    r"(?! (?:wait|help but|believe|imagine|stress|thank|recommend (?:it|this|that) (?:highly )?"
    r"enough|agree more|complain|overstate|emphasi[sz]e|tell you how|say enough|remember the last))"
)

_ENGLISH: Final = (
    r"(?:i(?:'m| am) (?:so |very |really |deeply )?(?:sorry|afraid)[^a-z0-9]{1,4}"
    r"(?:but )?(?:that )?)?"
    r"(?:unfortunately[^a-z0-9]{1,3}|(?:apologies|sorry)[^a-z0-9]{1,3}(?:but )?)?"
    r"i(?: ?(?:can't|cannot|can not|won't be able to|will not be able to)"
    r"|(?:'m| am) (?:not able|unable|not allowed|not permitted|not in a position) to"
    r"|(?:'m| am) not (?:comfortable|going to)|(?: must| have to| need to)? ?decline"
    r"|(?: do not|n't| don't) (?:have (?:access|the ability)|feel comfortable)"
    r"|(?:'m| am) just an? (?:ai|language model))" + _NOT_REFUSALS
)

_OTHERS: Final = (
    # an introduction that refuses in any language that says it in English
    r"as an? (?:ai|artificial intelligence)(?: language)?(?: model| assistant)?[^.!?]{0,40}"
    r"(?:can't|cannot|not able|unable|don't have|do not have)",
    r"(?:that's|this is|that is) (?:not )?something i (?:can't|cannot|can not|am not able)",
    # German
    r"(?:(?:es |das )?tut mir (?:sehr |wirklich )?leid[^a-z0-9]{1,3}(?:aber )?|leider "
    r"|entschuldigung, )"
    r"(?:(?:dabei |damit |hierbei |das |dies |da )?(?:kann|darf) ich (?:(?:dir|ihnen|das|dies|dabei"
    r"|damit|hierbei|diese[rs]?|auf|keine|nicht)\b)|ich (?:kann|darf|bin nicht))",
    r"(?:dabei|damit|hierbei) (?:kann|darf) ich (?:(?:dir|ihnen|euch) )?(?:leider )?nicht",
    r"ich (?:kann|darf) (?:(?:dir|ihnen|das|dies|diese[rs]?|dabei|damit) )*(?:leider )?nicht"
    r"(?! (?:warten|klagen|genug))",
    r"ich bin (?:leider )?nicht in der lage",
    # French
    r"(?:(?:je suis |vraiment )*désolée?[^a-z0-9]{1,3}(?:mais )?|malheureusement[^a-z0-9]{1,3})"
    r"je ne (?:peux|suis|puis)",
    r"je ne (?:peux|puis) (?:malheureusement )?pas(?! (?:attendre|m'empêcher))",
    r"je ne suis pas en mesure|je suis dans l'incapacité",
    # Spanish
    r"(?:lo siento(?: mucho)?|lamentablemente|desafortunadamente|perdona|disculpa)[^a-z0-9]{1,3}"
    r"(?:pero )?no (?:puedo|me es posible|estoy)",
    r"no (?:puedo|me es posible) (?:ayudar|proporcionar|responder|cumplir|asistir|ofrecer|dar)",
    # Italian
    r"(?:mi dispiace|purtroppo|spiacente)[^a-z0-9]{1,3}(?:ma )?non (?:posso|sono|mi è)",
    r"non (?:posso|sono in grado di) (?:aiutar|fornir|risponder|assister|dar)",
    # Portuguese
    r"(?:sinto muito|desculpe|lamento|infelizmente)[^a-z0-9]{1,3}(?:mas )?não (?:posso|consigo)",
    r"não (?:posso|consigo) (?:ajudar|fornecer|responder|atender|oferecer)",
    # Dutch
    r"(?:het spijt me|sorry|helaas)[^a-z0-9]{1,3}(?:maar )?(?:(?:daar|hier)(?:mee|bij)? )?"
    r"(?:ik kan|kan ik)",
    r"ik kan (?:je|u) (?:daar|hier)(?:mee|bij)? (?:helaas )?niet",
    # Polish
    r"(?:przepraszam|niestety|przykro mi)[^a-z0-9]{1,3}(?:ale )?nie mogę",
    r"nie mogę (?:ci |panu |pani )?(?:w tym )?(?:pomóc|udzielić|odpowiedzieć)",
    # Turkish
    r"(?:üzgünüm|maalesef)[^.!?]{0,60}(?:yardımcı olamam|yapamam|veremem|edemem)",
    # Russian, Ukrainian
    r"(?:извините|простите|к сожалению|мне жаль)[^а-я]{1,3}(?:но )?(?:я )?не (?:могу|смогу)",
    r"я не (?:могу|смогу) (?:вам |тебе )?(?:в этом |с этим )?(?:помочь|ответить|предоставить)",
    r"(?:вибачте|на жаль)[^а-яіїє]{1,3}(?:але )?(?:я )?не можу",
    # Chinese, Japanese, Korean
    r"(?:很?抱歉|对不起|對不起)[^。!?]{0,12}(?:无法|無法|不能|没办法|沒辦法)",
    r"我(?:无法|無法|不能)(?:帮助|幫助|协助|協助|提供|回答|满足|滿足)",
    r"(?:申し訳(?:ありません|ございません)|すみません)[^。]{0,40}(?:できません|できかねます|お答えできません)",
    r"(?:죄송합니다|죄송하지만|미안하지만)[^.]{0,40}(?:수 없|어렵습니다)",
    # Arabic, Hindi
    r"(?:عذرا|آسف|للأسف|أعتذر)[^.]{0,20}(?:لا (?:أستطيع|يمكنني)|لن أتمكن)",
    r"(?:क्षमा करें|माफ़ करें|मुझे खेद है)[^।]{0,60}नहीं (?:कर|दे) सकत",
)

_LEAD: Final = r"^[\W_]{0,8}(?:(?:hi|hello|hey|well|hmm|oh|thank you|thanks)[^.!?]{0,40}[.!?,] )?"
_REFUSAL: Final = re.compile(_LEAD + "(?:" + "|".join((_ENGLISH, *_OTHERS)) + ")")

_APOLOGY: Final = re.compile(
    r"^[\W_]{0,8}(?:i(?:'m| am)\b.{0,8}(?:sorry|afraid)|sorry|unfortunately|apologies|as an? ai"
    r"|(?:es |das )?tut mir|leider|(?:je suis )?désolé|malheureusement|lo siento|lamentablemente"
    r"|mi dispiace|purtroppo|sinto muito|desculpe|infelizmente|het spijt|helaas|niestety"
    r"|przepraszam|üzgünüm|maalesef|извините|к сожалению|вибачте|на жаль|很?抱歉|对不起|對不起"
    r"|申し訳|すみません|죄송|미안|عذرا|آسف|للأسف|क्षमा|माफ़)"
)

_FOLDED: Final = {ord(mark): "'" for mark in "\u2019\u2018\u02bc\u0060\u00b4"}


def folded(text: str) -> str:
    """For comparing openings: NFKC, case-folded, one kind of apostrophe and of blank."""
    text = unicodedata.normalize("NFKC", text).translate(_FOLDED).casefold()
    return " ".join(text.replace("\u0307", "").split())


class Refusals:
    """What counts as one.

    Args:
        phrases: further ones, anywhere in the opening, in any case.
    """

    def __init__(self, phrases: Sequence[str] = ()) -> None:
        self._phrases = tuple(folded(phrase) for phrase in phrases)

    def is_one(self, opening: str) -> bool:
        """Whether a text opens as a refusal, as far as it has come."""
        text = folded(opening[: 2 * OPENING_CHARS])[:OPENING_CHARS]
        return _REFUSAL.search(text) is not None or any(one in text for one in self._phrases)

    @staticmethod
    def may_become_one(opening: str) -> bool:
        """Whether it begins with an apology whose reason has not come yet."""
        if len(opening) >= OPENING_CHARS:
            return False
        return _APOLOGY.search(folded(opening)) is not None


@lru_cache(maxsize=64)
def refusals_of(phrases: tuple[str, ...]) -> Refusals:
    """The same object for the same phrases."""
    return Refusals(phrases)
