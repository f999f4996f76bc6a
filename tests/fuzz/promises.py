"""What every target is held to that reads what a caller sends."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import orjson

from relay.codecs.base import CodecFactory
from relay.codecs.registry import BUILDERS, EMBEDDERS
from relay.content import GenerateRequest
from relay.errors import DownstreamError, InvalidRequest, RelayError

T = TypeVar("T")

NEVER_SENT_ON = {"base_url", "api_base", "api_key", "api_version", "extra_headers"}
"""Written out once more: what would name another host or key."""
MAX_MESSAGE_CHARS = 1000
"""Of an error's text: it names a field, and does not hand the body back."""
FATTENING = 24
"""Bytes sent on for each byte that came, at most, beyond a few kilobytes: what tells a provider of
one message in its own words."""


def refused_by_name(read: Callable[[], T]) -> T | None:
    """What it returns; None where it refuses, which must say why in few words.

    Raises:
        AssertionError: a refusal without a field, or with a text that is no one-liner.
    """
    try:
        return read()
    except InvalidRequest as error:
        assert error.public_message, "a refusal without a word"
        assert len(error.public_message) <= MAX_MESSAGE_CHARS, "a refusal as long as a body"
        assert len(error.field) <= 400, "a field's path as long as a body"
        assert error.field or "body" in error.public_message or "JSON" in error.public_message, (
            f"which field? {error.public_message}"
        )
        error.public_message.encode()
        return None
    except DownstreamError:
        return None


@cache
def _writers(is_for_vectors: bool) -> dict[str, CodecFactory]:
    builders = EMBEDDERS if is_for_vectors else BUILDERS
    return {wire: build({}, "p") for wire, build in builders.items()}


def sent_on(request: GenerateRequest, came_bytes: int) -> None:
    """Write it as every wire: JSON that names no other host or key, and not many times as long.

    Raises:
        AssertionError: it is not.
    """
    for wire, make in _writers(request.embedding is not None).items():
        try:
            encoded = make().encode_request(request, "m")
        except RelayError:
            continue
        document = orjson.loads(encoded.body)
        assert isinstance(document, dict), wire
        assert not document.keys() & NEVER_SENT_ON, f"{wire}: {document.keys()}"
        assert len(encoded.body) <= FATTENING * came_bytes + 16_384, f"{wire}: {encoded.body!r}"
        assert "\n" not in encoded.path, wire
        assert "\r" not in encoded.path, wire


def texts_within(value: Any) -> list[str]:
    """Every text of a JSON value, keys too."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
    return found
