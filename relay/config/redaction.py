"""Patterns of what is masked, checked where they are written."""

from __future__ import annotations

import re
import time
from typing import Annotated, Final

from pydantic import AfterValidator, Field


def _compiles(value: str) -> str:
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from error
    if pattern.match(""):
        raise ValueError(f"{value!r} finds nothing everywhere: it would mask between all letters")
    _is_quick(pattern)
    return value


_PROBES: Final = ("a", "1", " ", "-", "a1", "a.", "a@", "a ", "1 ", "=", "a-", "A", "/")
_LENGTHS: Final = (
    *(6, 9, 12, 15, 18, 20, 22, 24, 26, 28, 30, 32),
    *(36, 40, 48, 56, 64, 80, 100, 128, 160, 200, 256, 320, 512, 4096),
)
"""Growing by so little each time that an expression whose time explodes is stopped before it
matters, on fast machines too: what is just quick enough at one length, and doubles its time with
every character, is four times as slow at the next and not sixteen thousand times."""
_LIMIT_S: Final = 0.02
"""What finds its way in one pass takes some 50 us for the longest."""


def _is_quick(pattern: re.Pattern[str]) -> None:
    """Texts come from callers, and while an expression runs nothing else does.

    Raises:
        ValueError: its time grows faster than the text.
    """
    for probe in _PROBES:
        for length in _LENGTHS:
            text = (probe * length)[:length] + "!"
            took_s = _took_s(pattern, text)
            if took_s > _LIMIT_S and (took_s := min(took_s, _took_s(pattern, text))) > _LIMIT_S:
                raise ValueError(
                    f"{pattern.pattern!r} takes {took_s * 1000:.0f} ms to look at {length}"
                    f" characters like {text[:6]!r}: it would stop the relay; bound its repeats"
                    r" (\w{1,64}) or begin with what is rare"
                )


def _took_s(pattern: re.Pattern[str], text: str) -> float:
    began_s = time.thread_time()
    pattern.sub("", text)
    return time.thread_time() - began_s


Pattern = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_compiles)]
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=64)]
