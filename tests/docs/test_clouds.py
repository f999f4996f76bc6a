"""docs/clouds.md: every example is a configuration, and every door and class is on the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from relay.config import known_providers, parse, same_models
from relay.config.credentials import KINDS
from relay.config.doors import FIELDS
from relay.config_warnings import warnings
from relay.routing.catalog import Catalog
from tests.credentials.certificates import certificate, pem, rsa_key
from tests.credentials.token_world import SERVICE_ACCOUNT

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "clouds.md").read_text(encoding="utf-8")
EXAMPLES: list[dict[str, Any]] = [
    yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(number: int, tmp_path: Path) -> None:
    names = re.findall(r"\$\{(\w+)\}", str(EXAMPLES[number]))
    environment = dict.fromkeys(names, "some-secret")
    key = rsa_key()
    leaf = certificate(key, from_days=-1000, to_days=10_000)
    # A password is given to the one that the page says to be encrypted.
    password = "some-secret" if "certificate_password" in str(EXAMPLES[number]) else ""
    (tmp_path / "relay-app.pem").write_bytes(pem(key, leaf, password=password))
    (tmp_path / "corp.pem").write_bytes(pem(key, leaf))
    (tmp_path / "google.json").write_bytes(orjson.dumps(SERVICE_ACCOUNT))
    config = parse(EXAMPLES[number], environment, folder=tmp_path)
    assert config.providers
    Catalog(config)
    # The example of zones shows one that is left out.
    assert [line for line in warnings(config) if not line.endswith("it is never asked")] == []


def test_every_door_has_an_example() -> None:
    doors = {
        name
        for name, row in known_providers().items()
        if "credential" in row or any(f"{{{field}}}" in str(row) for field in FIELDS)
    } | {"vertex_express"}
    shown = {
        row.get("door", name) for example in EXAMPLES for name, row in example["providers"].items()
    }
    assert doors <= shown


def test_every_class_and_kind_is_on_the_page() -> None:
    for name in same_models():
        assert f"`{name}`" in PAGE
    for name in KINDS.keys() - {"static"}:
        assert f"| `{name}` |" in PAGE
