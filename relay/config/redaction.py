"""Patterns of what is masked, checked where they are written."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field


def _compiles(value: str) -> str:
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from error
    if pattern.match(""):
        raise ValueError(f"{value!r} finds nothing everywhere: it would mask between all letters")
    return value


Pattern = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_compiles)]
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=64)]
