"""Providers that are known by name: wire, address and quirks come from `providers.yaml`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml


@cache
def known_providers() -> dict[str, dict[str, Any]]:
    """The rows of `providers.yaml` by name."""
    text = (Path(__file__).parent.parent / "providers.yaml").read_text(encoding="utf-8")
    rows: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return rows


_ROW_FIELDS = (
    "wire",
    "base_url",
    "auth",
    "models",
    "cancel_billing",
    "headers",
    "probe_path",
    "caches_prompts",
)


def with_known_rows(providers: object) -> object:
    """Fill a known provider's missing fields from its row; quirks merge one by one, the file wins.

    The name says whose dialect is spoken, `base_url` only where: a gateway in front of OpenAI
    still needs what OpenAI needs, so a row with another address keeps the quirks. When the row
    names another wire, whose codec does not know them, those of `other_wires` take their place, and
    what else is different there. A host that merely speaks OpenAI's wire gets a name of its own and
    no quirks.
    """
    if not isinstance(providers, dict):
        return providers
    filled: dict[object, object] = {}
    for name, given in providers.items():
        row = known_providers().get(name) if isinstance(name, str) else None
        if row is None or not isinstance(given, dict | None):
            filled[name] = given
            continue
        given = given or {}
        wire = given.get("wire", row["wire"])
        if wire != row["wire"]:
            others = row.get("other_wires", {})
            other = others.get(wire, {}) if isinstance(wire, str) else {}
            row = {**row, "quirks": {}, **other, "wire": wire}
        merged = {key: row[key] for key in _ROW_FIELDS if key in row}
        merged.update(given)
        quirks = given.get("quirks") or {}
        if isinstance(quirks, dict):
            merged["quirks"] = {**row.get("quirks", {}), **quirks}
        filled[name] = merged
    return filled
