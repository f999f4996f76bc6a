"""Providers that are known by name: wire, address and quirks come from `providers.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from relay.config.doors import SameModel, family_of, filled, plain_name
from relay.config.model import ConfigError, near

_CLASSES = "same_models"


@cache
def _file() -> dict[str, dict[str, Any]]:
    text = (Path(__file__).parent.parent / "providers.yaml").read_text(encoding="utf-8")
    rows: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return rows


@cache
def known_providers() -> dict[str, dict[str, Any]]:
    """The rows of `providers.yaml` by name."""
    return {name: row for name, row in _file().items() if name != _CLASSES}


@cache
def same_models() -> Mapping[str, SameModel]:
    """Which names are one model, by the class's name."""
    return {
        name: SameModel(
            name,
            str(row["date"]),
            row["source"],
            {door: tuple(names) for door, names in row["doors"].items()},
        )
        for name, row in _file()[_CLASSES].items()
    }


@cache
def _classes() -> Mapping[tuple[str, str], str]:
    return {
        (door, model): name
        for name, entry in same_models().items()
        for door, models in entry.doors.items()
        for model in models
    }


def class_of(door: str, model: str, same_as: Mapping[str, str]) -> str:
    """The class of names that are one model with this one: by the operator's word (`same_as` of the
    row), else by `same_models`; empty for none."""
    told = same_as.get(model)
    return told or _classes().get((family_of(door), plain_name(door, model)), "")


_ROW_FIELDS = (
    "wire",
    "base_url",
    "auth",
    "models",
    "cancel_billing",
    "headers",
    "probe_path",
    "caches_prompts",
    "service_tiers",
)


def with_known_rows(providers: object) -> object:
    """Fill a known provider's missing fields from its row; quirks merge one by one, the file wins.

    The row is the one that `door` names, else the one of the provider's own name. It says whose
    dialect is spoken, `base_url` only where: a gateway in front of OpenAI still needs what OpenAI
    needs, so a row with another address keeps the quirks. When the row names another wire, whose
    codec does not know them, those of `other_wires` take their place, and what else is different
    there. A host that merely speaks OpenAI's wire gets a name of its own and no quirks.

    Raises:
        ConfigError: a door that is not known, or that needs fields which are not given; one line
            each.
    """
    if not isinstance(providers, dict):
        return providers
    found: dict[object, object] = {}
    faults: list[str] = []
    for name, given in providers.items():
        door = given.get("door") if isinstance(given, dict) else None
        row = known_providers().get(door or name) if isinstance(door or name, str) else None
        if row is None or not isinstance(given, dict | None):
            if isinstance(door, str) and door and row is None:
                names = known_providers()
                hint = near(door, names) or f"; there are {', '.join(names)}"
                faults.append(f"providers.{name}.door: there is no door {door!r}{hint}")
            elif not door and isinstance(given, dict) and not given.keys() & {"wire", "base_url"}:
                faults.append(
                    f"providers.{name}.door: is required, as no door is called {name!r}; or `wire`"
                    " and `base_url`, for one that is not known"
                )
            found[name] = given
            continue
        found[name], wrong = _merged(row, given or {})
        faults += [f"providers.{name}.{fault}" for fault in wrong]
    if faults:
        raise ConfigError("\n".join(faults))
    return found


def _merged(row: dict[str, Any], given: dict[Any, Any]) -> tuple[dict[Any, Any], list[str]]:
    """The row of a file over a known one, and what is wrong with it."""
    wire = given.get("wire", row["wire"])
    if wire != row["wire"]:
        others = row.get("other_wires", {})
        other = others.get(wire, {}) if isinstance(wire, str) else {}
        row = {**row, "quirks": {}, **other, "wire": wire}
    row, faults = filled(row, given)
    merged = {key: row[key] for key in _ROW_FIELDS if key in row}
    merged.update(given)
    quirks = given.get("quirks") or {}
    if isinstance(quirks, dict):
        merged["quirks"] = {**row.get("quirks", {}), **quirks}
    credential = given.get("credential")
    if isinstance(credential, dict) and isinstance(kind := credential.get("kind"), str):
        merged["credential"] = {**row.get("credential", {}).get(kind, {}), **credential}
    return merged, faults
