"""A value inside a JSON answer, made comparable."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from relay.policy.panel_text import MAX_FOLDED_CHARS, normalised

MAX_JSON_CHARS: Final = 256 * 1024
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 5_000
"""Of one compared value, all levels together."""

_FENCE: Final = "```"
_STEPS: Final = re.compile(r"[^.\[\]]+")


class NotComparable(Exception):
    """It is no JSON, the field is missing, or there is too much of it."""


def pointer_steps(path: str) -> tuple[str, ...]:
    """A pointer (RFC 6901), or names and indices with points between them, as its steps."""
    if not path:
        return ()
    if path.startswith("/"):
        return tuple(step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/"))
    return tuple(_STEPS.findall(path))


def _unfenced(text: str) -> str:
    """What stands between the lines of a fence, or the text; in linear time, since a model may be
    asked to answer with anything."""
    inner = text.strip()
    if not (inner.startswith(_FENCE) and inner.endswith(_FENCE)):
        return text
    opening, has_lines, rest = inner.removeprefix(_FENCE).partition("\n")
    language = opening.strip()
    if not has_lines or not (not language or (language.isascii() and language.isalpha())):
        return text
    body, has_end, closing = rest.rpartition("\n")
    return body if has_end and closing.strip() == _FENCE else text


def parsed(text: str) -> Any:
    """The JSON of an answer, which may stand in a fence of Markdown.

    Raises:
        NotComparable: see there.
    """
    if len(text) > MAX_JSON_CHARS:
        raise NotComparable
    text = _unfenced(text)
    try:
        return msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        raise NotComparable from None


def field_of(value: Any, steps: tuple[str, ...]) -> Any:
    """
    Raises:
        NotComparable: it is missing.
    """
    for step in steps:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif (
            isinstance(value, list)
            and step.isascii()
            and step.isdecimal()
            and (step == "0" or step[0] != "0")
            and len(step) < 10
            and int(step) < len(value)
        ):
            value = value[int(step)]
        else:
            raise NotComparable
    return value


def comparable(value: Any, *, folds_text: bool) -> Hashable:
    """Equal for values that say the same: the order of an object's fields does not count, 1 is 1.0,
    true is not 1.

    Args:
        folds_text: strings as `panel_text` folds them.

    Raises:
        NotComparable: it is too deep or too large.
    """
    return _comparable(value, 0, _Left(MAX_VALUES, MAX_FOLDED_CHARS if folds_text else 0))


@dataclass(slots=True)
class _Left:
    """What one comparison may still take."""

    values: int
    folded_chars: int


def _comparable(value: Any, depth: int, left: _Left) -> Hashable:
    left.values -= 1
    if depth > MAX_DEPTH or left.values < 0:
        raise NotComparable
    if isinstance(value, bool) or value is None:
        return ("const", value)
    if isinstance(value, str):
        if len(value) > left.folded_chars:
            return ("text", value)
        left.folded_chars -= len(value)
        return ("text", normalised(value) or value.strip())
    if isinstance(value, int):
        return ("number", Decimal(value))
    if isinstance(value, float):
        try:
            return ("number", Decimal(repr(value)))
        except InvalidOperation:  # pragma: no cover - JSON has no such numbers
            raise NotComparable from None
    if isinstance(value, list):
        return ("list", tuple(_comparable(one, depth + 1, left) for one in value))
    return (
        "object",
        frozenset((name, _comparable(one, depth + 1, left)) for name, one in value.items()),
    )
