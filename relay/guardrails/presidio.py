"""Microsoft Presidio as a scanner, for names, places and what else needs a language model.

An extra: `presidio-analyzer` brings spaCy, and fetches a model of hundreds of megabytes at its
first start unless one is installed. It needs the whole text and takes 10 to 100 ms, so nothing is
released before the end, and it is called in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from relay.guardrails.scan import Match, Shape

ENTITIES: Final = (
    "PERSON",
    "LOCATION",
    "NRP",
    "DATE_TIME",
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "CREDIT_CARD",
    "IBAN_CODE",
    "IP_ADDRESS",
    "MEDICAL_LICENSE",
    "CRYPTO",
    "URL",
)
"""Of presidio's, those that are no single country's."""


class Result(Protocol):
    """`presidio_analyzer.RecognizerResult`, as far as we read it."""

    start: int
    end: int
    entity_type: str
    score: float


class Analyzer(Protocol):
    """`presidio_analyzer.AnalyzerEngine`, as far as we call it."""

    def analyze(
        self, text: str, language: str, *, entities: list[str], score_threshold: float
    ) -> Sequence[Any]:
        """Returns results; see `Result`."""
        ...


class PresidioScanner:
    """What an analyzer finds; labels are `presidio.` and the entity in small letters.

    Args:
        entities: that are looked for, as presidio calls them.
        language: two letters, one that the analyzer has a model of.
        least_score: results below are dropped, 0 to 1.
        analyzer: None: presidio's own with its defaults.

    Raises:
        ModuleNotFoundError: `presidio-analyzer` is not installed.
    """

    name = "presidio"
    fold: Final = "raw"
    window_chars = None
    context_chars = 0
    shapes: Sequence[Shape] = ()
    is_slow = True

    def __init__(
        self,
        entities: Sequence[str] = ENTITIES,
        *,
        language: str = "en",
        least_score: float = 0.5,
        analyzer: Analyzer | None = None,
    ) -> None:
        self.classes = tuple(_label(entity) for entity in entities)
        self._entities = list(entities)
        self._language = language
        self._least_score = least_score
        self._analyzer = analyzer or _own_analyzer()

    def find(self, text: str, start: int = 0) -> list[Match]:
        results = self._analyzer.analyze(
            text, self._language, entities=self._entities, score_threshold=self._least_score
        )
        found = []
        for one in sorted(results, key=lambda each: (each.start, -each.score, -each.end)):
            label = _label(one.entity_type)
            if one.start >= start and one.end > one.start and label in self.classes:
                found.append(Match(one.start, one.end, label))
                start = one.end
        return found


def _label(entity: str) -> str:
    return f"presidio.{entity.lower()}"


def _own_analyzer() -> Analyzer:
    try:
        from presidio_analyzer import AnalyzerEngine  # late: an extra, and seconds of import
    except ModuleNotFoundError as error:
        if error.name != "presidio_analyzer":
            raise
        raise ModuleNotFoundError(
            "not installed: presidio-analyzer; pip install 'rtrelay[presidio]'", name=error.name
        ) from error

    engine: Analyzer = AnalyzerEngine()
    return engine
