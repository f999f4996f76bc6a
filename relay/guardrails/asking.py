"""Asking somebody else whether a text is right: what is asked, and what may come of it."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from relay.guardrails.base import GuardScope
from relay.policy.base import Legs


class CannotTell(Exception):
    """There is no opinion; the message says why in a few words, and nothing of the text."""


class NotAsked(CannotTell):
    """As `CannotTell`, and it is nobody's fault: it says nothing of who would be asked."""


OF_THE_TEXTS: Final = frozenset({400, 413, 422})
"""Statuses by which somebody refuses what he was asked, and not to be asked: whoever may choose the
texts could else have him left alone for everybody."""


class Shown(NamedTuple):
    """A text that is asked about."""

    role: str
    """Of a request: `user`, `system`, ...; of an answer `assistant`; `tool` for calls as well."""
    text: str


class Question(NamedTuple):
    """All that is asked about at once."""

    side: str
    """`input` or `output`."""
    texts: tuple[Shown, ...]
    scope: GuardScope
    legs: Legs | None = None
    """To ask models, under the generation's account; None where there is no generation."""
    zones: frozenset[str] | None = None
    """Data zones that the texts may be sent to; None for anywhere."""

    @property
    def chars(self) -> int:
        return sum(len(shown.text) for shown in self.texts)


class Opinion(NamedTuple):
    """What was said."""

    is_bad: bool
    label: str = ""
    """Why, in one word, for the decision: a category."""


class Asker(Protocol):
    """Somebody who is asked."""

    async def ask(self, question: Question) -> Opinion:
        """
        Raises:
            CannotTell: there is no answer, or none that says anything.

        Cancelled: the question is given up.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what it holds. Idempotent."""
        ...
