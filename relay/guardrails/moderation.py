"""Asks a provider's `/moderations` (OpenAI's, and those who speak like it).

    {"model", "input": [text, ...]} -> {"results": [{"flagged", "categories", "category_scores"}]}

As many results as texts must come, in their order; one that lacks would let a text pass unseen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from relay.guardrails.asking import CannotTell, Opinion, Question

PATH: Final = "/moderations"
MOST_TEXTS: Final = 32
"""In one question; further ones are joined, the shortest way that loses none."""

Ask = Callable[[bytes, frozenset[str] | None], Awaitable[bytes]]
"""Posts a JSON body to the provider's `/moderations`, and returns the body of a 200.

Args:
    zones: data zones that it may be sent to; None for anywhere.

Raises:
    CannotTell: there was none.
"""


class ModerationAsker:
    """An `Asker`.

    Args:
        ask: reaches the provider.
        model: as the provider calls it.
        categories: from which score on one counts; empty: what the provider flags.
    """

    def __init__(self, ask: Ask, model: str, categories: Mapping[str, float]) -> None:
        self._ask = ask
        self._model = model
        self._categories = categories

    async def ask(self, question: Question) -> Opinion:
        """See `Asker`."""
        texts = [shown.text for shown in question.texts]
        if len(texts) > MOST_TEXTS:
            texts = [*texts[: MOST_TEXTS - 1], "\n".join(texts[MOST_TEXTS - 1 :])]
        body = orjson.dumps({"model": self._model, "input": texts})
        return opinion_of(await self._ask(body, question.zones), len(texts), self._categories)

    async def aclose(self) -> None:
        """Nothing is held here."""


def opinion_of(said: bytes, count: int, categories: Mapping[str, float]) -> Opinion:
    """What an answer says of so many texts.

    Raises:
        CannotTell: it does not say something of each.
    """
    try:
        document = orjson.loads(said)
    except orjson.JSONDecodeError:
        raise CannotTell("its answer is no JSON") from None
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, list) or len(results) != count:
        raise CannotTell("its answer does not say something of each text")
    for result in results:
        opinion = _of_one(result, categories)
        if opinion.is_bad:
            return opinion
    return Opinion(is_bad=False)


def _of_one(result: Any, categories: Mapping[str, float]) -> Opinion:
    if not isinstance(result, dict) or not isinstance(result.get("flagged"), bool):
        raise CannotTell("its answer has a result without a verdict")
    scores = result.get("category_scores")
    if not categories:
        if not result["flagged"]:
            return Opinion(is_bad=False)
        flags = result.get("categories")
        known = flags if isinstance(flags, dict) else {}
        names = [name for name, is_on in known.items() if is_on is True]
        return Opinion(is_bad=True, label=str(names[0])[:64] if names else "flagged")
    for name, least in categories.items():
        score = scores.get(name) if isinstance(scores, dict) else None
        if not isinstance(score, int | float) or isinstance(score, bool):
            raise CannotTell("its answer lacks a category")
        if score >= least:
            return Opinion(is_bad=True, label=name)
    return Opinion(is_bad=False)
