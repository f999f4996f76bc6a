"""Presidio by a stand-in: its results in our terms, over whole texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest

from relay.guardrails.guard_plan import GuardPlan
from relay.guardrails.presidio import PresidioScanner
from relay.guardrails.scan import Match, Rule
from relay.guardrails.text_guard import TextGuard


@dataclass
class _Result:
    start: int
    end: int
    entity_type: str
    score: float


class _Names:
    """Knows two names, and one of them twice."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, list[str], float]] = []

    def analyze(
        self, text: str, language: str, *, entities: list[str], score_threshold: float
    ) -> Sequence[Any]:
        self.asked.append((text, language, entities, score_threshold))
        found = [
            _Result(text.find(name), text.find(name) + len(name), kind, score)
            for name, kind, score in [
                ("Berlin", "LOCATION", 0.9),
                ("Anna Schmidt", "PERSON", 0.85),
                ("Schmidt", "LOCATION", 0.6),
            ]
        ]
        return [one for one in found if one.start >= 0]


def test_results() -> None:
    names = _Names()
    scanner = PresidioScanner(["PERSON", "LOCATION"], language="de", analyzer=names)
    assert scanner.find("Anna Schmidt in Berlin") == [
        Match(0, 12, "presidio.person"),
        Match(16, 22, "presidio.location"),
    ]
    assert scanner.find("Anna Schmidt in Berlin", 3) == [
        Match(5, 12, "presidio.location"),
        Match(16, 22, "presidio.location"),
    ]
    assert names.asked[0] == ("Anna Schmidt in Berlin", "de", ["PERSON", "LOCATION"], 0.5)
    assert scanner.classes == ("presidio.person", "presidio.location")


def test_holds_back_everything() -> None:
    plan = GuardPlan([Rule(PresidioScanner(["PERSON"], analyzer=_Names()), "redact", "names")])
    guard = TextGuard(plan)
    assert guard.is_whole
    assert guard.is_slow
    assert plan.window_chars is None
    assert guard.feed("I am Anna ") == ""
    assert guard.feed("Schmidt.") == ""
    assert guard.held_chars == guard.most_held_chars == 18
    assert guard.finish() == "I am [PERSON]."


@pytest.mark.skipif(find_spec("presidio_analyzer") is not None, reason="it is installed")
def test_not_installed() -> None:
    with pytest.raises(
        ModuleNotFoundError, match=r"presidio-analyzer; pip install .rtrelay\[presidio\]"
    ):
        PresidioScanner()
