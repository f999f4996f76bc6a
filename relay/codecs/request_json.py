"""JSON that passes through a request: checked, and spliced in as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from relay.errors import InvalidRequest


def read_object(text: bytes, field: str) -> dict[str, Any]:
    """The value of a JSON object given as text.

    Args:
        field: where it stands, for the message.

    Raises:
        InvalidRequest: it is not JSON, or no object.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidRequest(f"{field} is not JSON", field=field) from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"{field} must be a JSON object", field=field)
    return value


def spliced(text: bytes, field: str) -> orjson.Fragment:
    """JSON text to be written as it is, once it is known to be one JSON object.

    Raises:
        InvalidRequest: as `read_object`.
    """
    read_object(text, field)
    return orjson.Fragment(text)


def dump_body(body: Mapping[str, Any]) -> bytes:
    """A request's body.

    Raises:
        InvalidRequest: something in it cannot be written as JSON.
    """
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        # Half a surrogate pair in a text, most likely: no provider could read it either.
        raise InvalidRequest(f"the request cannot be written as JSON: {error}") from None
