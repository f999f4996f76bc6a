"""What a client has of an answer, in words of no vendor's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Choice:
    """One alternative."""

    text: str = ""
    refusal: str = ""
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    """Id, name, arguments as JSON (or as text where they are none)."""
    finish: str | None = None
    """As OpenAI calls it."""
    raw_finish: str | None = field(default=None, compare=False)
    """As the provider calls it."""


@dataclass
class Verdict:
    """An answer."""

    choices: dict[int, Choice] = field(default_factory=dict)
    usage: tuple[int, int, int] | None = None
    """Tokens as OpenAI counts them: prompt, completion, total."""


def arguments(text: str | None) -> Any:
    """The value of arguments."""
    try:
        return json.loads(text or "")
    except ValueError:
        return text or ""
