"""Every text of a JSON value: strings wherever they stand, keys, long numbers.

What a provider hands out to get back unchanged (signatures, encrypted reasoning) is no text: it is
left alone where it looks like it. Of a signed thing whose text has to change, nothing is left, as
its signature would not fit.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from relay.errors import GuardrailBlocked

Change = Callable[[str], str]
"""What a text becomes: the same object where nothing is found. Raises GuardrailBlocked."""
Unread = Callable[[str], None]
"""Hears of what could not be read, by a word for it. Raises GuardrailBlocked."""

STATE_KEYS: Final = frozenset(
    {
        "encrypted_content",
        "data",
        "signature",
        "thought_signature",
        "thoughtSignature",
        "redactedContent",
    }
)
_SIGNED: Final = frozenset({"signature", "thought_signature", "thoughtSignature"})
_MEDIA_KEYS: Final = ("media_type", "mime_type", "mimeType")
_LEAST_STATE_CHARS: Final = 64
"""Shorter ones are read: a number of a card is base64 too."""
_LEAST_BLOB_CHARS: Final = 512
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_MOST_HEAD_CHARS: Final = 512
"""Of a data URL."""
_LEAST_NUMBER: Final = 10**11
"""Numbers of cards and accounts are; smaller ones are moments and counts as a rule."""
_MOST_LEVELS: Final = 200
"""Of a text that means to be JSON; what is deeper is nobody's arguments and somebody's attack."""
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_PLAIN: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def changed(value: Any, change: Change, unread: Unread) -> Any:
    """The value with every text in it changed; the same object where none is.

    Raises:
        GuardrailBlocked: as `change` and `unread`.
    """
    if isinstance(value, str):
        return _string("", value, change, unread)
    if isinstance(value, Mapping):
        return _mapping(value, change, unread)
    if isinstance(value, list | tuple):
        return _list(value, change, unread)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value, change)
    return value


def changed_text(text: str, change: Change, unread: Unread) -> str:
    """Of a text that is JSON, or means to be: a model's arguments of a call.

    What is no JSON, or nested deeper than `_MOST_LEVELS`, is looked at as it stands and without its
    escapes, since a reader that mends it would find what they hide.
    """
    if not text:
        return text
    value = _json_of(text)
    if value is None:
        plain = _ESCAPE.sub(_unescaped, text) if "\\" in text else text
        new = change(text)
        if plain is not text and (new_plain := change(plain)) is not plain:
            return new_plain
        return new
    if isinstance(value, str | Mapping | list):
        new_value = changed(value, change, unread)
        # A key that stands twice is one here and may be the other one elsewhere.
        if new_value is value and '"' in text and (new := change(text)) is not text:
            return new
        return text if new_value is value else orjson.dumps(new_value).decode()
    return change(text)


def _json_of(text: str) -> str | Mapping[str, Any] | list[Any] | float | bool | None:
    """None of what is no JSON (or says null, in which there is no text), or is nested too deeply:
    orjson reads more levels than it writes, and more than Python's stack has room for."""
    try:
        value: Any = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None
    if text.count("[") + text.count("{") <= _MOST_LEVELS:
        return value  # type: ignore[no-any-return]
    level = [value]
    for _ in range(_MOST_LEVELS + 1):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return value  # type: ignore[no-any-return]
    return None


def changed_bytes(data: bytes, change: Change, unread: Unread) -> bytes:
    """The same of a JSON document that was checked when it was read."""
    if not data:
        return data
    value = orjson.loads(data)
    new = changed(value, change, unread)
    return data if new is value else orjson.dumps(new)


def changed_file(data_base64: str, media_type: str, change: Change, unread: Unread) -> str:
    """Of a file in base64: its text, where its type says that it is one. What is no base64 is a
    text itself."""
    if not is_text(media_type):
        unread("file")
        return data_base64
    try:
        data = base64.b64decode(data_base64, validate=True)
    except (binascii.Error, ValueError):
        return change(data_base64)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        unread("file")
        return data_base64
    new = change(text)
    return data_base64 if new is text else base64.b64encode(new.encode()).decode()


def is_text(media_type: str) -> bool:
    """Whether a file of this type is readable as it is."""
    kind = media_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind.endswith(("json", "xml", "yaml", "javascript", "csv"))


def _string(key: str, text: str, change: Change, unread: Unread) -> str:
    if len(text) >= _LEAST_STATE_CHARS:
        if key in STATE_KEYS and _BASE64.fullmatch(text):
            return text
        if text[:5].lower() == "data:" and (comma := text.find(",", 0, _MOST_HEAD_CHARS)) > 0:
            head, rest = text[:comma], text[comma + 1 :]
            if head.lower().endswith(";base64"):
                new = changed_file(rest, head[5:].partition(";")[0], change, unread)
                return text if new is rest else f"{head},{new}"
        if len(text) >= _LEAST_BLOB_CHARS and _BASE64.fullmatch(text):
            unread("base64")
            return text
    return change(text)


def _mapping(value: Mapping[str, Any], change: Change, unread: Unread) -> Any:
    new: dict[str, Any] | None = None
    media_type = next((value[key] for key in _MEDIA_KEYS if key in value), None)
    for key, inner in value.items():
        if key == "data" and isinstance(inner, str) and isinstance(media_type, str):
            other: Any = changed_file(inner, media_type, change, unread)
        elif isinstance(inner, str):
            other = _string(key, inner, change, unread)
        else:
            other = changed(inner, change, unread)
        name = change(key)
        if new is None and (other is not inner or name is not key):
            new = dict(value)
        if new is not None:
            if name is not key:
                new.pop(key, None)
            new[name] = other
    return value if new is None else new


def _list(value: list[Any] | tuple[Any, ...], change: Change, unread: Unread) -> Any:
    new = []
    is_same = True
    for inner in value:
        other = changed(inner, change, unread)
        if other is not inner:
            is_same = False
            if isinstance(inner, Mapping) and not _SIGNED.isdisjoint(inner):
                continue
        new.append(other)
    if is_same:
        return value
    return tuple(new) if isinstance(value, tuple) else new


def _number(value: float, change: Change) -> Any:
    if abs(value) < _LEAST_NUMBER:
        return value
    text = str(int(value)) if value == value and value not in (_INF, -_INF) else ""
    return value if not text or (new := change(text)) is text else new


_INF: Final = float("inf")


def _unescaped(found: re.Match[str]) -> str:
    if found[1]:
        code = int(found[1], 16)
        return chr(code) if not 0xD800 <= code < 0xE000 else found[0]
    return _PLAIN.get(found[2], found[2])


__all__ = [
    "Change",
    "GuardrailBlocked",
    "Unread",
    "changed",
    "changed_bytes",
    "changed_file",
    "changed_text",
    "is_text",
]
