"""Rows of the Messages API: checked key by key; what is known of models by their names."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from relay.codecs.anthropic_quirks import AnthropicQuirks
from relay.codecs.registry import BUILDERS
from relay.config import known_providers


def test_empty_row_is_the_default() -> None:
    assert AnthropicQuirks.from_mapping({}, "p") == AnthropicQuirks()


def test_every_quirk_has_its_check() -> None:
    for entry in fields(AnthropicQuirks):
        with pytest.raises(ValueError, match="must "):
            AnthropicQuirks.from_mapping({entry.name: object()}, "p")


@pytest.mark.parametrize(
    ("quirks", "message"),
    [
        ({"beta": []}, "'beta' is unknown; did you mean 'betas'"),
        ({"path": "v1"}, "begin with '/'"),
        ({"version": ""}, "a text"),
        ({"betas": "a"}, "a list of names"),
        ({"thinking": "manual"}, "one of adaptive, enabled, none"),
        ({"cache": "on"}, "one of auto, off"),
        ({"default_max_tokens": 0}, "a whole number from 1 to 1000000"),
        ({"default_max_tokens": True}, "a whole number"),
        ({"refuses": ["image part"]}, "unknown field 'image part'; did you mean 'image parts'"),
    ],
)
def test_wrong_rows_are_refused_by_name(quirks: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BUILDERS["anthropic_messages"](quirks, "p")


@pytest.mark.parametrize(
    ("model", "style"),
    [
        ("claude-haiku-4-5", "enabled"),
        ("claude-haiku-4-5-20251001", "enabled"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "enabled"),
        ("anthropic/claude-haiku-4.5", "enabled"),
        ("claude-opus-4-20250514", "enabled"),
        ("claude-opus-4-1-20250805", "enabled"),
        ("claude-3-7-sonnet-20250219", "enabled"),
        ("claude-sonnet-4-6", "adaptive"),
        ("claude-opus-4-7", "adaptive"),
        ("claude-opus-4-8", "adaptive"),
        ("claude-sonnet-5", "adaptive"),
        ("claude-fable-5", "adaptive"),
    ],
)
def test_thinking_of_known_models(model: str, style: str) -> None:
    row = known_providers()["anthropic"]
    quirks = AnthropicQuirks.from_mapping(row["quirks"], "anthropic")
    assert quirks.thinking_of(model) == style
    assert AnthropicQuirks.from_mapping({"thinking": "none"}, "p").thinking_of(model) == "none"
