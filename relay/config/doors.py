"""What a door says: which fields its row needs, and of a model that is asked there, in which zone
it answers and which one it is.

A door is a row of `providers.yaml`: the surface of a vendor or a cloud through which models are
reached. Where prompts are processed is the operator's word (`data_zone`), save where the name of
the model or the location says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any, NamedTuple

FIELDS = ("resource", "region", "project", "api_version")
"""Fields of a row that stand in the texts of its door."""

_FIELD = re.compile(r"\{(" + "|".join((*FIELDS, "host")) + r")\}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
"""What may be put into a host name or a path: project ids of an organisation hold colons."""

GLOBAL = "global"
DEFAULT = "default"

_ZONE_PREFIX = re.compile(r"(global|apac|[a-z]{2}(?:-[a-z]+)?)\.(?=[a-z0-9-]+\.)")
"""Of a cross-region inference profile of Bedrock; vendors' own names are longer than two letters.
Names of both kinds: AWS's page on inference profiles, and genai-prices (us, eu, au, jp, in, apac,
us-gov, global)."""

_AWS_ROUTER = ":default-prompt-router"
"""In an ARN: routes each request to one of several cross-region profiles (AWS, "Understanding
intelligent prompt routing in Amazon Bedrock")."""


class SameModel(NamedTuple):
    """Names that are one model: an entry of `same_models`."""

    name: str
    looked_up: str
    """The day, as ISO 8601 has it."""
    source: str
    doors: Mapping[str, tuple[str, ...]]
    """By family of doors."""


def filled(row: dict[str, Any], given: Mapping[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """A known row with the operator's fields in its texts, and what is missing or wrong.

    What the operator gives himself needs no field: an address of his own has no resource in it.
    """
    values: dict[str, str] = {}
    faults: dict[str, None] = {}
    for name in FIELDS:
        value = text_of(given.get(name))
        if value is not None and not isinstance(value, str):
            # Told once: that the door lacks it would be true, and of no help.
            faults[f"{name}: must be text"] = None
            values[name] = ""
        elif value:
            values[name] = value
            if not _WORD.fullmatch(value):
                faults[f"{name}: letters, digits, '.', '_', ':' and '-' are expected"] = None
            elif name == "resource" and "." in value and "base_url" not in given:
                # Azure's names have no dots: it is a part of its address.
                faults[f"{name}: the name alone is expected, {value.partition('.')[0]!r}"] = None
    row, hosts = dict(row), row.get("hosts")
    if hosts is not None:
        region = values.get("region", "")
        row["base_url"] = row["base_url"].replace("{host}", _host_at(region, hosts))
        if region == GLOBAL and GLOBAL in hosts and given.get("data_zone") not in (None, GLOBAL):
            faults["data_zone: region `global` answers from anywhere, so it is `global`"] = None
    own_quirks = given.get("quirks")
    quirks = {
        name: value
        for name, value in row.get("quirks", {}).items()
        if not isinstance(own_quirks, dict) or name not in own_quirks
    }

    def put(text: Any) -> Any:
        return _FIELD.sub(field, text) if isinstance(text, str) else text

    def field(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            faults[f"{name}: is required by this door"] = None
        return values.get(name, "")

    if "base_url" not in given:
        row["base_url"] = put(row["base_url"])
    if "probe_path" in row and "probe_path" not in given:
        # Asked only to keep a connection warm: what it lacks is not worth a fault by itself.
        lacks = any(name not in values for name in _FIELD.findall(row["probe_path"]))
        row["probe_path"] = "/" if lacks else put(row["probe_path"])
    row["quirks"] = {name: put(value) for name, value in quirks.items()}
    return row, [*faults]


def _host_at(region: str, hosts: Mapping[str, str]) -> str:
    """The first whose regions (`cn-*`) this one is among."""
    return next((host for name, host in hosts.items() if fnmatchcase(region, name)), hosts[DEFAULT])


def text_of(value: object) -> object:
    """What YAML reads as a day was meant as a version: `2024-10-21`."""
    return value.isoformat() if type(value) is date else value


def zone_of_region(door: str, region: str, data_zone: str | None) -> str:
    """The zone of a row as a whole; empty for unknown. Google's location `global` is one, whatever
    is said, and so is its door that takes no location."""
    is_global = door == "vertex_express" or (
        family_of(door).startswith("vertex") and region == GLOBAL
    )
    return GLOBAL if is_global else data_zone or ""


def family_of(door: str) -> str:
    """By what `same_models` calls a door."""
    if door == "bedrock" or door.startswith("bedrock_"):
        return "bedrock"
    return "vertex" if door == "vertex_express" else door


def _bedrock_name(model: str) -> str:
    """Of an ARN that ends in a name the name: of models and of the profiles that AWS made."""
    return model.rstrip("/").rpartition("/")[2] if model.startswith("arn:") else model


def profile_zone(model: str) -> str:
    """The zone that the name of a Bedrock model claims for itself; empty for none.

    A profile that the operator made tells nothing.
    """
    found = _ZONE_PREFIX.match(_bedrock_name(model).lower())
    return found[1] if found else ""


def zone_of(door: str, data_zone: str, model: str) -> str:
    """Where a model's prompts are processed, by all that is known; empty for unknown.

    A profile of Bedrock sends requests to regions of its own choice, whatever its row says; so does
    a router that AWS made, whose models are profiles, but its name does not say which.

    Args:
        door: by whose rules (`ProviderConfig.zoned_as`).
    """
    if family_of(door) != "bedrock":
        return data_zone
    if _AWS_ROUTER in model.lower():
        return ""
    return profile_zone(model) or data_zone


def zones_of_path(
    door: str, region: str, data_zone: str, segments: Sequence[str]
) -> frozenset[str]:
    """The zones that the segments of a path claim, beside the row's own: names of models do at
    Bedrock, and at Vertex locations, of which another than the row's is in no zone that is known.

    Args:
        door: as of `zone_of`.
        region, data_zone: of the row.
    """
    zones = {zone_of(door, data_zone, name) for name in segments}
    if family_of(door).startswith("vertex"):
        places = {after for before, after in pairwise(segments) if before == "locations"}
        zones |= {GLOBAL if place == GLOBAL else "" for place in places - {region}}
    return frozenset(zones - {data_zone})


def plain_name(door: str, model: str) -> str:
    """As `same_models` calls a model: without the prefix of a profile of Bedrock."""
    if family_of(door) != "bedrock":
        return model
    return _ZONE_PREFIX.sub("", _bedrock_name(model), count=1)
