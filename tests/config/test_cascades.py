"""`policies.cascades`: what is taken, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config import ConfigError, parse
from tests.policy.cascades import faults


def document(**cascade: Any) -> dict[str, Any]:
    return {
        "providers": {"p": {"wire": "openai_chat", "base_url": "https://p.test", "auth": "none"}},
        "models": {
            name: {"candidates": [{"provider": "p", "model": name}]}
            for name in ("fast", "accurate")
        },
        "policies": {"cascades": {"smart": {"small": "fast", "large": "accurate", **cascade}}},
    }


def test_the_least_of_it() -> None:
    found = parse(document()).policies.cascades["smart"]
    assert found.commit_after_tokens == 16
    assert found.on_large_failure == "small"
    assert found.escalate.refusal
    assert found.escalate.schema_
    assert not found.escalate.length


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"small": "fsat"},
            "policies.cascades.smart.small: there is no alias 'fsat'; did you mean",
        ),
        ({"large": "q/x"}, "policies.cascades.smart.large: there is no provider 'q'"),
        ({"large": "smart"}, "'smart' is a cascade; a tier is an alias or provider/model"),
        ({"large": "fast"}, "small and large are the same model"),
        (
            {"escalate": {"classifier": {"model": "x"}}},
            "smart.escalate.classifier.model: there is no",
        ),
        (
            {"escalate": {"self_check": {"model": "x"}}},
            "smart.escalate.self_check.model: there is no",
        ),
        ({"escalate": {"logprobs": {}}}, "set mean_below, min_below or both"),
        ({"escalate": {"logprobs": {"mean_below": 0.5}}}, "logprobs.mean_below"),
        ({"escalate": {"logprobs": {"mean_below": -1, "tokens": 0}}}, "from 1 to 4096, or all"),
        ({"escalate": {"rules": [{}]}}, "a rule needs a condition"),
        ({"escalate": {"rules": [{"words": [" "]}]}}, "words: 1 to 200 characters each"),
        ({"escalate": {"phrases": [""]}}, "1 to 200 characters each"),
        ({"escalate": {"classifier": {"model": "fast", "stay_on": ["Large"]}}}, "'large' is in"),
        ({"escalate": {"classifier": {"model": "fast", "stay_on": ["a b"]}}}, "not one word"),
        ({"speculate": {}}, "set after_ms, unsure_below or both"),
        ({"speculate": {"unsure_below": -0.1}}, "needs escalate.logprobs"),
        ({"speculate": {"after_ms": 0, "max_share": 2}}, "speculate.max_share"),
        ({"commit_after_tokens": 0}, "from 1 to 4096, or all"),
        ({"commit_after_tokens": True}, "commit_after_tokens"),
        ({"first_token_share": 1.0}, "first_token_share"),
        ({"escalte": {}}, "escalte"),
    ],
)
def test_faults_name_the_field(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=r"policies\.cascades") as caught:
        parse(document(**more))
    assert said in str(caught.value)


def test_a_cascade_is_no_alias() -> None:
    wrong = document()
    wrong["models"]["smart"] = wrong["models"]["fast"]
    with pytest.raises(ConfigError, match="an alias of `models` has this name"):
        parse(wrong)


def test_models_of_providers_are_tiers_too() -> None:
    found = parse(document(large="p/any")).policies.cascades["smart"]
    assert found.asked == {"small": "fast", "large": "p/any"}


def test_fields_by_themselves() -> None:
    assert faults() == ""
    assert "escalate.self_check.below" in faults(escalate={"self_check": {"below": 0}})
