"""Paths that hold the model's name: Gemini's, Vertex's, Bedrock's, Azure's deployments."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from relay.codecs import quirk_checks
from relay.errors import InvalidRequest

_PLACE: Final = "{model}"


def fill(template: str, model: str) -> str:
    """The path for a model, whose name may come from a caller and stays one segment of it.

    `@`, which begins a version at Vertex, stands as it is, as Anthropic's own client has it. All
    else is percent-encoded, the `:` and `/` of Bedrock's names too, as boto3 does.

    Raises:
        InvalidRequest: a name of nothing but dots, which would be a step up.
    """
    if _PLACE not in template:
        return template
    if not model.strip("."):
        raise InvalidRequest("the name of the model is empty", field="model")
    return template.replace(_PLACE, quote(model, safe="@", errors="replace"))


def may_hold_model(value: Any, where: str) -> str:
    """Check of a quirk: a path that may hold the model's name, once."""
    template = quirk_checks.path(value, where)
    if template.count(_PLACE) > 1:
        raise ValueError(f"{where} must hold '{{model}}' once at most")
    return template


def must_hold_model(value: Any, where: str) -> str:
    """Check of a quirk: a path that holds the model's name, once."""
    template = quirk_checks.path(value, where)
    if template.count(_PLACE) != 1:
        raise ValueError(f"{where} must hold '{{model}}' once")
    return template
