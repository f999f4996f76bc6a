"""What a door says about a model that is asked there: in which zone it answers.

A door is a row of `providers.yaml`: the surface of a vendor or a cloud through which models are
reached. Where prompts are processed is the operator's word (`data_zone`), save where the name of
the model says otherwise.
"""

from __future__ import annotations

import re

_ZONE_PREFIX = re.compile(r"(global|apac|[a-z]{2}(?:-[a-z]+)?)\.(?=[a-z0-9-]+\.)")
"""Of a cross-region inference profile of Bedrock; vendors' own names are longer than two letters.
Source: AWS's page on inference profiles, mid 2026 (global, us, eu, apac, jp, au, us-gov, ca)."""


def is_bedrock(door: str) -> bool:
    """Whether model names there are those of Bedrock."""
    return door == "bedrock" or door.startswith("bedrock_")


def profile_zone(model: str) -> str:
    """The zone that the name of a Bedrock model claims for itself; empty for none.

    The ARN of a profile that AWS made ends in such a name; one of the operator's own tells nothing.
    """
    found = _ZONE_PREFIX.match(model.rpartition("/")[2] if model.startswith("arn:") else model)
    return found[1] if found else ""


def zone_of(door: str, data_zone: str, model: str) -> str:
    """Where a model's prompts are processed, by all that is known; empty for unknown.

    A profile of Bedrock sends requests to regions of its own choice, whatever its row says.
    """
    return (profile_zone(model) if is_bedrock(door) else "") or data_zone
