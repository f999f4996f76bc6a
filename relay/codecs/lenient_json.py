"""JSON as providers write it: strict and fast first, then forgiving.

orjson refuses what a few hosts send once in a while: bytes that are not UTF-8, half a surrogate
pair as an escape, NaN. None of it may end a conversation, so such a text is read a second time
with the standard library and mended: what is no Unicode becomes U+FFFD.
"""

from __future__ import annotations

import json
from typing import Any

import orjson


def loads(data: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, even so.
    """
    return read(data)[0]


def read(data: bytes) -> tuple[Any, bool]:
    """The value of a JSON text, and whether anything in it was no Unicode and had to be replaced.

    Raises:
        ValueError: it is not JSON, even so.
    """
    try:
        return orjson.loads(data), False
    except orjson.JSONDecodeError:
        pass
    try:
        text, is_mended = data.decode(), False
    except UnicodeDecodeError:
        text, is_mended = data.decode("utf-8", "replace"), True
    try:
        value = json.loads(text)
        mended = _mended(value)
        is_mended = is_mended or [mended] != [value]  # in lists a NaN is equal to itself
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    return mended, is_mended


def dumps(value: Any) -> bytes:
    """JSON text of a value that `loads` gave; empty when there is no way to write it."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return b""


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value
