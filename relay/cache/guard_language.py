"""Which language a text is in, as far as the meaning guard needs to know, and its small words.

English is read closely. Of a handful of others the words that say nothing alone and the number
words are known, and everything else must be the same, word for word: their negations too, since
they are words like any other there. Of all others every word must be the same.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from relay.cache.guard_lists import listed


class Language(NamedTuple):
    """Small words of one language."""

    marks: frozenset[str]
    """By which it is known."""
    fillers: frozenset[str]
    """That may be there or not."""
    numbers: dict[str, str]


def _numbers(words: str) -> dict[str, str]:
    """Words for 0, 1, ... ; several for one by `/`, a dash for none."""
    return {
        word: f"#{value}"
        for value, row in enumerate(words.split())
        for word in row.split("/")
        if word != "-"
    }


ENGLISH: Final = "en"
_ENGLISH_MARKS: Final = frozenset(
    listed(
        """
    the is are what how who where when why which do does did can could i my you your of to
    and for with it this that not please a an in on was were will would should have has me
    from or if about there no yes by he she we they our be been
    """
    )
)
LANGUAGES: Final = {
    "de": Language(
        frozenset(
            listed(
                """
    der die das den dem des ein eine einen ist sind war wie wer wo wann warum welche welcher
    welches ich mein meine sie mir und nicht kein keine mit von zu auf für im am kann kannst
    können bitte wird hat haben gibt man viel viele
    """
            )
        ),
        frozenset(
            listed(
                """
    der die das den dem des ein eine einen einem einer bitte denn mal doch
    """
            )
        )
        - {"einer"},
        _numbers(
            "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn "
            "fünfzehn sechzehn siebzehn achtzehn neunzehn zwanzig"
        ),
    ),
    "fr": Language(
        frozenset(
            listed(
                """
    le la les un une des du de est sont était comment quel quelle quels quelles qui où quand
    pourquoi que je mon ma mes vous votre et ne pas avec pour dans sur au aux ce cette
    puis-je peux combien il y a-t-il faut
    """
            )
        ),
        frozenset(["le", "la", "les", "un", "une", "des", "du", "svp", "stp"]),
        _numbers(
            "zéro - deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze "
            "quinze seize - - - vingt"
        ),
    ),
    "es": Language(
        frozenset(
            listed(
                """
    el la los las un una unos de del es son era cómo como qué que quién dónde donde cuándo
    cuando por cuál cuánto cuánta cuántos mi mis su y no con para en al puedo puede hay está
    están
    """
            )
        ),
        frozenset(["el", "la", "los", "las", "un", "una", "unos", "unas"]),
        _numbers(
            "cero - dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce "
            "quince dieciséis diecisiete dieciocho diecinueve veinte"
        ),
    ),
    "it": Language(
        frozenset(
            listed(
                """
    il lo la gli le un una di del della è sono era come che cosa chi dove quando perché
    quale quanto quanti mio mia e non con per in nel al posso può c'è
    """
            )
        ),
        frozenset(["il", "lo", "la", "gli", "le", "un", "una"]),
        _numbers(
            "zero - due tre quattro cinque sei sette otto nove dieci undici dodici tredici "
            "quattordici quindici sedici diciassette diciotto diciannove venti"
        ),
    ),
    "pt": Language(
        frozenset(
            listed(
                """
    o a os as um uma de do da dos das é são era como que quem onde quando porque qual quanto
    quantos meu minha e não com para em no na posso pode há está por
    """
            )
        ),
        frozenset(["o", "a", "os", "as", "um", "uma"]),
        _numbers(
            "zero - dois/duas três quatro cinco seis sete oito nove dez onze doze treze "
            "catorze/quatorze quinze dezasseis/dezesseis dezassete/dezessete dezoito "
            "dezanove/dezenove vinte"
        ),
    ),
    "nl": Language(
        frozenset(
            listed(
                """
    de het een zijn hoe wat wie waar wanneer waarom welke ik mijn u uw jij je en niet geen
    met van voor op in kan kunnen wordt heb heeft er veel
    """
            )
        ),
        frozenset(["de", "het", "een"]),
        _numbers(
            "nul - twee drie vier vijf zes zeven acht negen tien elf twaalf dertien veertien "
            "vijftien zestien zeventien achttien negentien twintig"
        ),
    ),
}
"""By their codes. Words that are articles too ("un", "uno") are not numbers here."""


def language_of(words: list[str], script: str) -> str:
    """A code of `LANGUAGES`, `en`, or "" where it cannot be told."""
    if script not in ("LATIN", ""):
        return ""
    scores = {code: sum(word in one.marks for word in words) for code, one in LANGUAGES.items()}
    best = max(scores, key=scores.__getitem__)
    english = sum(word in _ENGLISH_MARKS for word in words)
    if english > scores[best]:
        return ENGLISH
    if english == scores[best]:  # a few bare words, or small ones of several languages
        return ENGLISH if all(word.isascii() or not word.isalpha() for word in words) else ""
    return best if list(scores.values()).count(scores[best]) == 1 else ""
