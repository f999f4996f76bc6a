"""Values of rules that may be written in more than one way, each with one message for a wrong
one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from relay.config.model import Model, near
from relay.policy.languages import LANGUAGES

Surface = Literal[
    "converse",
    "generate",
    "chat_completions",
    "completions",
    "responses",
    "messages",
    "embeddings",
]
"""The ways in, as ledger and metrics call them."""


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


_SURFACE: Final[dict[str, Any]] = {"type": "string", "enum": [*get_args(Surface)]}
Surfaces = Annotated[
    tuple[Surface, ...],
    BeforeValidator(_listed),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [_SURFACE, {"type": "array", "items": _SURFACE, "minItems": 1}]}),
]
"""One of these."""

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_TEXT_OR_LIST: Final = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
    ]
}
_FLAG_OR_TEXTS: Final = {"anyOf": [{"type": "boolean"}, *_TEXT_OR_LIST["anyOf"]]}


def _texts(value: object) -> tuple[str, ...]:
    """
    Raises:
        ValueError: neither a text nor a list of some.
    """
    found = (value,) if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not found:
        raise ValueError("one text, or a list of some, is expected")
    for one in found:
        if not isinstance(one, str) or not one:
            raise ValueError("one text, or a list of some, is expected")
    return tuple(dict.fromkeys(found))


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts), WithJsonSchema(_TEXT_OR_LIST)]
"""One of these."""


def _flag_or_texts(value: object) -> bool | tuple[str, ...]:
    """
    Raises:
        ValueError: neither.
    """
    if isinstance(value, bool):
        return value
    try:
        return _texts(value)
    except ValueError:
        raise ValueError("true, false, or a list of names is expected") from None


FlagOrTexts = Annotated[
    bool | tuple[str, ...], BeforeValidator(_flag_or_texts), WithJsonSchema(_FLAG_OR_TEXTS)
]
"""There are any, there are none, or there is one of these."""


def _language(code: str) -> str:
    if code not in LANGUAGES:
        raise ValueError(
            f"{code!r} is no language that is told apart{near(code, LANGUAGES)};"
            f" known are {', '.join(LANGUAGES)}"
        )
    return code


def _each(check: Callable[[str], str]) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    return lambda value: tuple(check(one) for one in value)


Languages = Annotated[Texts, AfterValidator(_each(_language))]


class Range(Model):
    """Bounds of a count, both included."""

    min: int | None = Field(None, ge=0, description="at least so many")
    max: int | None = Field(None, ge=0, description="at most so many; of both, one may be left out")

    def model_post_init(self, _context: Any) -> None:
        if self.min is None and self.max is None:
            raise ValueError("min, max or both are expected")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is over max {self.max}: nothing is in between")


class Hours(NamedTuple):
    """Of a day, minutes since midnight; where `until` is not after `since` it is the next day's."""

    since: int
    until: int


def hours_of(text: str) -> Hours:
    """Of `08:00-18:30`.

    Raises:
        ValueError: it is not of this form, or the span is empty.
    """
    found = re.fullmatch(r"(\d\d?):(\d\d)-(\d\d?):(\d\d)", text.replace(" ", ""))
    if found is None:
        raise ValueError(f"{text!r} are no hours such as 08:00-18:30")
    ends: list[int] = []
    for hour, minute in (found.group(1, 2), found.group(3, 4)):
        if int(minute) > 59 or int(hour) * 60 + int(minute) > 24 * 60:
            raise ValueError(f"{hour}:{minute} is no time of day")
        ends.append(int(hour) * 60 + int(minute))
    if ends[0] == ends[1]:
        raise ValueError(f"{text!r} is no time at all; leave it out for the whole day")
    return Hours(*ends)


def days_of(texts: tuple[str, ...]) -> tuple[int, ...]:
    """Numbers of weekdays, Monday 0, of `mon`, `sat` and spans as `mon-fri` and `fri-mon`.

    Raises:
        ValueError: a word is no day.
    """
    found: set[int] = set()
    for text in texts:
        ends = [_day(word.strip().lower()) for word in text.split("-", 1)]
        length = (ends[-1] - ends[0]) % 7
        found.update((ends[0] + step) % 7 for step in range(length + 1))
    return tuple(sorted(found))


def _day(word: str) -> int:
    if word not in DAYS:
        raise ValueError(f"{word!r} is no day: {', '.join(DAYS)}, or a span as mon-fri")
    return DAYS.index(word)


def zone_of_name(name: str) -> ZoneInfo:
    """
    Raises:
        ValueError: there is no such time zone on this machine.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # OSError: the name of a folder, or one too long for a file.
        raise ValueError(f"{name[:64]!r} is no time zone (Europe/Berlin, UTC, ...)") from None
