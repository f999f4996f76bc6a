"""detect-secrets' plugins, where they are installed."""

from __future__ import annotations

import pytest

from relay.guardrails.secret_plugins import SecretPlugins
from tests.guardrails.secret_samples import SECRETS

pytest.importorskip("detect_secrets")


def test_finds_by_line() -> None:
    key = SECRETS["aws_access_key"][1]
    text = f"first\nkey {key} and\n{key}"
    found = SecretPlugins(["AWS Access Key"]).find(text)
    assert [text[one.start : one.end] for one in found] == [key, key]
    assert {one.label for one in found} == {"secret.aws_access_key"}


def test_prose_is_no_secret() -> None:
    assert SecretPlugins().find("The quick brown fox jumps over the lazy dog, twice.\n" * 3) == []


def test_unknown() -> None:
    with pytest.raises(KeyError):
        SecretPlugins(["nose"])
