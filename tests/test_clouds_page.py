"""The examples of docs/clouds.md: each is taken as it stands, and nothing is to be warned of."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
import yaml

from relay.config import parse
from relay.config_warnings import warnings
from relay.routing.catalog import Catalog
from tests.credentials.certificates import certificate, pem, rsa_key
from tests.credentials.token_world import SERVICE_ACCOUNT

PAGE = Path(__file__).parents[1] / "docs" / "clouds.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
TOLD = {"models.fast.candidates[1]: openai/gpt-4o-mini is in us, and `zones` are eu"}
"""Beginnings of what the page itself says is warned of."""


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_is_taken(text: str, tmp_path: Path) -> None:
    key = rsa_key()
    leaf = certificate(key, from_days=-1000, to_days=10_000)
    # A password is given to the one that the page says to be encrypted.
    password = "secret" if "certificate_password" in text else ""
    (tmp_path / "relay-app.pem").write_bytes(pem(key, leaf, password=password))
    (tmp_path / "corp.pem").write_bytes(pem(key, leaf))
    (tmp_path / "google.json").write_bytes(orjson.dumps(SERVICE_ACCOUNT))
    environment = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "secret")
    config = parse(yaml.safe_load(text), environment, folder=tmp_path)
    Catalog(config)
    found = warnings(config)
    assert [line for line in found if not line.startswith(tuple(TOLD))] == []


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 10
