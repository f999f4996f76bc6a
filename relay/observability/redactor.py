"""Texts of callers and providers on their way out: no secret that is known, nothing that the
operator's patterns find, and no more than is wanted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

MASK: Final = "***"
CUT: Final = "..."


class Redactor:
    """Any thread may use it.

    Args:
        hide: takes the secrets out that the process knows (`KnownSecrets.hide`).
        patterns: regular expressions of the operator's; what they find is masked.
    """

    __slots__ = ("_hide", "_patterns")

    def __init__(self, hide: Callable[[str], str], patterns: Iterable[str] = ()) -> None:
        self._hide = hide
        self._patterns = tuple(re.compile(pattern) for pattern in patterns)

    def clean(self, text: str, max_chars: int | None = None) -> str:
        """The text without secrets, then cut: a secret across the cut has gone by then. Always
        Unicode: half a surrogate pair becomes a question mark."""
        if not text.isascii():
            text = text.encode(errors="replace").decode()
        text = self._hide(text)
        for pattern in self._patterns:
            text = pattern.sub(MASK, text)
        if max_chars is not None and len(text) > max_chars:
            text = text[:max_chars] + CUT
        return text
