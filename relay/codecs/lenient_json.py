"""JSON as providers write it: strict and fast first, then forgiving.

orjson refuses what a few hosts send once in a while: bytes that are not UTF-8, half a surrogate
pair as an escape, NaN. None of it may end a conversation. The first two are mended in the text,
which is then read as fast as any other; what is no Unicode becomes U+FFFD. Only for the rest the
standard library reads, held to the numbers that orjson can write.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

_SURROGATE: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})?"
    r"|\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""A pair of escapes (then with the group), or half of one."""

_LEVELS: Final = 254
"""As many as orjson writes; it reads 1,024."""

_SPARE_LEVELS: Final = 16


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
    whole = _SURROGATE.sub(_whole_pair, text)
    if is_mended or whole != text:
        is_mended = True
        try:
            return orjson.loads(whole), True
        except orjson.JSONDecodeError:
            pass
    try:
        value = json.loads(whole, parse_int=_number)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    # Strings can hold a surrogate only through an escape, so that most need no second look.
    if _SURROGATE.search(whole) is not None:
        value, has_halves = _mended(value)
        is_mended = is_mended or has_halves
    return value, is_mended


def dumps(value: Any) -> bytes:
    """JSON text of a value that `loads` gave; empty when it is nested too deeply to be written.

    What it gives can be read again and written as part of another value, 16 levels down.
    """
    try:
        text = orjson.dumps(value)
        if text.count(b"[") + text.count(b"{") > _LEVELS - _SPARE_LEVELS:
            # Many brackets, perhaps one inside the other: try it where it may have to go.
            for _ in range(_SPARE_LEVELS):
                value = [value]
            orjson.dumps(value)
    except orjson.JSONEncodeError:
        return b""
    return text


def _whole_pair(match: re.Match[str]) -> str:
    """The match as it is, unless it is the escape of half a pair."""
    text, at = match.string, match.start()
    backslashes = 0
    while at > backslashes and text[at - backslashes - 1] == "\\":
        backslashes += 1
    is_escape = backslashes % 2 == 0
    return match[0] if match[1] or not is_escape else "\\ufffd"


def _number(digits: str) -> int | float:
    """An integer of 64 bits; a larger one becomes a float, as orjson reads it."""
    if len(digits) <= 20 and -(1 << 63) <= (value := int(digits)) < 1 << 64:
        return value
    return float(digits)


def _mended(value: Any) -> tuple[Any, bool]:
    """The value without halves of pairs, lists and objects changed in place; and if any was there.

    Without recursion, and with little to do for what holds no text: there may be a million items.
    """
    root = [value]
    is_mended = False
    todo: list[list[Any] | dict[str, Any]] = [root]
    while todo:
        node = todo.pop()
        if type(node) is dict:
            if any(_has_half(key) for key in node):
                is_mended = True
                items = [(_without_halves(key), item) for key, item in node.items()]
                node.clear()
                node.update(items)
            pairs: Any = list(node.items())
        else:
            pairs = enumerate(node)
        for key, item in pairs:
            kind = type(item)
            if kind is str:
                if _has_half(item):
                    is_mended = True
                    node[key] = _without_halves(item)
            elif item and (kind is list or kind is dict):
                todo.append(item)
    return root[0], is_mended


def _has_half(text: str) -> bool:
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _without_halves(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
