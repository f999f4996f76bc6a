"""What a guardrail is said to be worth."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config.guardrails import GuardrailConfig

DENIED = {"kind": "denied", "terms": ["a"]}
JUDGE = {"kind": "judge", "model": "m", "rule": "r"}
MODERATION = {"kind": "moderation", "provider": "p"}


def hook(monkeypatch: pytest.MonkeyPatch, **more: Any) -> dict[str, Any]:
    monkeypatch.setenv("RELAY_TEST_SECRET", "s" * 40)
    url = "https://guard.test/"
    return {"kind": "webhook", "url": url, "secret": "${RELAY_TEST_SECRET}", **more}


def worth(**row: Any) -> str:
    config = GuardrailConfig.model_validate(row)
    assert config.meaning.why
    assert config.is_barrier == (config.meaning.kind == "barrier")
    return config.meaning.kind


@pytest.mark.parametrize(
    "scan",
    [
        DENIED,
        {"kind": "patterns", "patterns": {"a": "x"}},
        {"kind": "secrets"},
        {"kind": "pii"},
    ],
)
def test_what_is_known_by_its_letters_is_a_barrier(scan: dict[str, Any]) -> None:
    for action in ("block", "redact", "mask"):
        assert worth(scan=scan, action=action, means="barrier") == "barrier"
    assert worth(scan=scan, action="flag") == "signal"
    assert worth(scan=scan, fail="open") == "signal"
    assert worth(scan=scan, tools=False) == "signal"
    assert worth(scan=scan, reasoning=False) == "signal"


@pytest.mark.parametrize("scan", [JUDGE, MODERATION, {"kind": "injection"}, {"kind": "presidio"}])
def test_opinions_are_signals(scan: dict[str, Any]) -> None:
    assert worth(scan=scan) == "signal"
    with pytest.raises(ValueError, match="it can be no barrier"):
        GuardrailConfig.model_validate({"scan": scan, "means": "barrier"})


def test_a_webhook_is_one_where_nothing_goes_on_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worth(scan=hook(monkeypatch)) == "barrier"
    assert worth(scan=hook(monkeypatch), fail="open") == "signal"
    assert worth(scan=hook(monkeypatch, when="after")) == "signal"
    assert worth(scan=hook(monkeypatch, when="after"), sides=["input"]) == "barrier"
    assert worth(scan=hook(monkeypatch, messages="new")) == "signal"
    assert worth(scan=hook(monkeypatch), tools=False) == "signal"


def test_a_barrier_may_be_declared_as_less() -> None:
    config = GuardrailConfig.model_validate({"scan": DENIED, "means": "signal"})
    assert not config.is_barrier


@pytest.mark.parametrize("scan", [JUDGE, MODERATION, {"kind": "injection"}])
def test_those_who_judge_a_whole_text_take_nothing_out_of_it(scan: dict[str, Any]) -> None:
    for action in ("redact", "mask"):
        with pytest.raises(ValueError, match="block or flag is expected"):
            GuardrailConfig.model_validate({"scan": scan, "action": action})
