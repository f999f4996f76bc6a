"""docs/clouds.md: every example is a configuration, and every door and class is on the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.config import known_providers, parse, same_models
from relay.config.credentials import KINDS
from relay.config.doors import FIELDS
from relay.config_warnings import warnings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "clouds.md").read_text(encoding="utf-8")
EXAMPLES: list[dict[str, Any]] = [
    yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(number: int, tmp_path: Path) -> None:
    names = re.findall(r"\$\{(\w+)\}", str(EXAMPLES[number]))
    environment = dict.fromkeys(names, "some-secret")
    (tmp_path / "corp.pem").write_text("")
    config = parse(EXAMPLES[number], environment, folder=tmp_path)
    assert config.providers
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
