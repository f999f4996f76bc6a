"""Lists of words are written as one text, which is how they are read and mended."""

from __future__ import annotations


def listed(text: str) -> list[str]:
    """The words of a text, between spaces and line ends."""
    return text.split()
