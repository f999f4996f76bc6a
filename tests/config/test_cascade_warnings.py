"""What `relay check` says of cascades that will not do what was meant."""

from __future__ import annotations

from typing import Any

from relay.config import parse
from relay.config_warnings import warnings

SURE = {"logprobs": {"mean_below": -0.5}}


def told(**cascade: Any) -> list[str]:
    document = {
        "providers": {
            "o": {"wire": "openai_chat", "base_url": "https://o.test", "auth": "none"},
            "a": {"wire": "anthropic_messages", "base_url": "https://a.test", "auth": "none"},
        },
        "models": {
            "fast": {
                "candidates": [{"provider": "o", "model": "m"}],
                "fallbacks": [{"provider": "a", "model": "m"}],
            },
            "plain": {"candidates": [{"provider": "o", "model": "m"}]},
        },
        "policies": {"cascades": {"smart": {"small": "plain", "large": "o/large", **cascade}}},
    }
    return [line for line in warnings(parse(document)) if line.startswith("policies.cascades")]


def test_nothing() -> None:
    assert told() == []
    assert told(escalate=SURE, speculate={"after_ms": 100}, small_within_ms=500) == []


def test_wires_without_log_probabilities() -> None:
    said = "a can give none, so that each answer there is escalated (on_missing is large)"
    path = "policies.cascades.smart.escalate.logprobs: "
    assert told(small="fast", escalate=SURE) == [path + said]
    assert told(small="a/m", escalate=SURE) == [path + said]
    kept = {"logprobs": {"mean_below": -0.5, "on_missing": "small"}}
    assert told(small="fast", escalate=kept) == []


def test_settings_that_undo_each_other() -> None:
    (line,) = told(escalate=SURE, commit_after_tokens="all")
    assert "the first 16 tokens decide, and the answer is held to its end nevertheless" in line
    (line,) = told(speculate={"after_ms": 500}, small_within_ms=500)
    assert "after_ms is not before small_within_ms (500)" in line
    (line,) = told(speculate={"after_ms": 500, "max_share": 0})
    assert "a share of 0 leaves nothing to start with" in line
