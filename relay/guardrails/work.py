"""How much there is to read in a request, roughly and quickly: whether it is read in a thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from relay.content import GenerateRequest

A_TEXT: Final = 16
"""Characters that a text of its own is worth: a schema is made of thousands of words."""
_WORD: Final = 8
"""Bytes of JSON to a word of it."""


def work_chars(request: GenerateRequest, enough: int) -> int:
    """Characters to read.

    Args:
        enough: where this is exceeded, counting stops.
    """
    found = 0
    for chars in _texts(request):
        found += chars
        if found > enough:
            break
    return found


def _texts(request: GenerateRequest) -> Iterator[int]:
    for message in request.messages:
        for part in message.parts:
            yield len(getattr(part, "text", "") or getattr(part, "data_base64", "")) + A_TEXT
        for call in message.tool_calls:
            yield _of_json(len(call.arguments))
        yield len(message.reasoning)
        if message.extra:
            yield from _of(message.extra)
        if message.native is not None:
            yield from _of(message.native.blocks)
    for tool in request.tools:
        yield len(tool.description) + _of_json(len(tool.parameters_json))
        if tool.opaque is not None:
            yield from _of(tool.opaque)
    if request.response_format is not None:
        yield _of_json(len(request.response_format.schema_json))
    if request.embedding is not None:
        yield from _of(request.embedding.texts)
    if request.extra:
        yield from _of(request.extra)
    if request.native:
        yield from _of(request.native)
    yield len(request.user) + sum(map(len, request.sampling.stop))


def _of_json(size: int) -> int:
    return size + size // _WORD * A_TEXT


def _of(value: Any) -> Iterator[int]:
    """Of parsed JSON."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield len(one) + A_TEXT
        elif isinstance(one, Mapping):
            left += one.values()
            yield sum(map(len, one)) + A_TEXT * len(one)
        elif isinstance(one, list | tuple):
            left += one
