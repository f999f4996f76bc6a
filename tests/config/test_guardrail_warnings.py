"""Guardrails that are accepted and may not be what was meant."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config.guardrail_warnings import guardrail_warnings
from relay.config.guardrails import GuardrailsConfig

JUDGE = {"kind": "judge", "model": "m", "rule": "r", "check_every_chars": 500}
DENIED = {"kind": "denied", "terms": ["a"]}
WHOLE = {"kind": "patterns", "patterns": {"a": "x"}, "whole_text": True}


def told(rail: dict[str, Any], **more: Any) -> str:
    section = GuardrailsConfig.model_validate({"rails": {"x": rail}, **more})
    return "\n".join(guardrail_warnings(section))


@pytest.mark.parametrize(
    ("rail", "words"),
    [
        (
            {"scan": {**JUDGE, "check_every_chars": 0}, "sides": ["output"]},
            "first token is its last",
        ),
        ({"scan": WHOLE}, "held back until it is whole"),
        ({"scan": {"kind": "presidio"}}, "held back until it is whole"),
        ({"scan": {"kind": "secrets", "detect_secrets": True}}, "held back until it is whole"),
        ({"scan": {**JUDGE, "overlap_chars": 500}, "sides": ["output"]}, "more than twice"),
        ({"scan": JUDGE, "sides": ["input"]}, "only counted"),
    ],
)
def test_what_is_told(rail: dict[str, Any], words: str) -> None:
    assert words in told(rail)


@pytest.mark.parametrize(
    "rail",
    [
        {"scan": DENIED},
        {"scan": WHOLE, "sides": ["input"]},
        {"scan": WHOLE, "action": "flag"},
        {"scan": JUDGE, "sides": ["output"]},
        {"scan": {**JUDGE, "check_every_chars": 0, "when": "after"}, "sides": ["output"]},
    ],
)
def test_what_is_not(rail: dict[str, Any]) -> None:
    assert told(rail) == ""


def test_a_way_past_a_barrier_is_told() -> None:
    assert "goes past x" in told({"scan": DENIED}, passthrough="allow")
    assert told({"scan": DENIED, "action": "flag"}, passthrough="allow") == ""
    assert guardrail_warnings(None) == []
