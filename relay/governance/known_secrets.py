"""A registry of the secrets that this process knows, by value, to keep them out of what is written.

Patterns miss what they have not seen, so what we know is looked for itself, in every form that
`relay.redaction` knows. Tokens of our own that we do not know (a caller's guess, a key that is
being made) are found by their form; what identifies one, the part before the dot, stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote, urlsplit

from relay.redaction import forms_of, without

_TOKEN: Final = re.compile(r"\b(rt[ka]_[A-Za-z0-9]{1,32})[._][A-Za-z0-9]{6,}")
_BEARER: Final = re.compile(r"(?i)\b(bearer\s+)[\w\-+/=.~*]{8,}")
_PIECE: Final = 4
_STEP: Final = 3
_SHORT: Final = 256
"""Characters of a text that is looked at piece by piece first. What is masked of a secret has at
least `MIN_SECRET_CHARS`, so one of the pieces that are known of it, four characters at every third
of its places, is in it whole: a text without such a piece has nothing of a secret."""
_MAX_CLEAN: Final = 2048
_PASSWORD: Final = re.compile(r"(\b\w+://[^\s/:@]*:)[^\s/@]+@")


class KnownSecrets:
    """Takes secrets out of texts. What was learnt once stays known: a secret that a reload took
    away is still one, and what waits to be written may hold it. Tokens that last an hour are
    another matter: each would make every line dearer for ever, so of those the newest are known.
    Any thread may use it.

    Args:
        secrets: values; of an address with a password, the password alone is a secret too.
    """

    __slots__ = ("_clean", "_forms", "_passing", "_pieces", "_steady")

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: list[str] = []
        self._steady: frozenset[str] = frozenset()
        self._passing: dict[str, frozenset[str]] = {}
        self._pieces: frozenset[str] = frozenset()
        self._clean: set[str] = set()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Know these as well; one thread at a time."""
        self._steady |= _all_forms(secrets)
        self._sort()

    def learn_passing(self, owner: str, secrets: Iterable[str]) -> None:
        """Know these in the place of those that were last told of this owner; one thread at a
        time, the same as of `learn`.

        Args:
            owner: stands for a credential whose secrets are replaced: it says itself which of them
                still count.
        """
        forms = _all_forms(secrets)
        if forms != self._passing.get(owner):
            self._passing[owner] = forms
            self._sort()

    def _sort(self) -> None:
        # Longest first, and put in place in one step: other threads read it meanwhile.
        forms = self._steady.union(*self._passing.values())
        self._forms = sorted(forms, key=len, reverse=True)
        self._pieces = frozenset(
            form[at : at + _PIECE] for form in forms for at in range(0, len(form) - 3, _STEP)
        )
        self._clean = set()

    def __repr__(self) -> str:
        return f"KnownSecrets({len(self._forms)} forms)"

    def hide(self, text: str) -> str:
        """The text with every secret masked; what is too short to be one stays."""
        if len(text) < 6:
            return text
        if len(text) > _SHORT:
            return self._searched(text)
        clean = self._clean
        if text in clean:
            return text
        hidden = self._searched(text) if self._is_suspect(text) else text
        if hidden == text:  # names of models, clients and targets come again and again
            if len(clean) >= _MAX_CLEAN:
                clean.clear()
            clean.add(text)
        return hidden

    def _is_suspect(self, text: str) -> bool:
        """Whether it may have something that `_searched` finds."""
        if _has_form(text):
            return True
        pieces = self._pieces
        return any(text[at : at + _PIECE] in pieces for at in range(len(text) - 3))

    def _searched(self, text: str) -> str:
        if self._forms:
            text = without(text, self._forms)
        if not _has_form(text):  # three searches through a long text are dear
            return text
        text = _TOKEN.sub(r"\1.***", text)
        text = _BEARER.sub(r"\1***", text)
        return _PASSWORD.sub(r"\1***@", text)


def _has_form(text: str) -> bool:
    """Whether something in it may be a secret by its form."""
    return "://" in text or "rtk_" in text or "rta_" in text or "bearer" in text.lower()


def _all_forms(secrets: Iterable[str]) -> frozenset[str]:
    values = {value for secret in secrets for value in _values(secret)}
    return frozenset(forms_of(("", value) for value in values))


def _values(secret: str) -> Iterable[str]:
    yield secret
    yield secret.partition(" ")[2]  # of a header's value, such as `Basic ...`, without its scheme
    if "://" in secret:
        try:
            password = urlsplit(secret).password
        except ValueError:
            return
        if password:
            yield password
            yield unquote(password)
