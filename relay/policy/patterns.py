"""Names with `*` in them, as operators write them; the same as in the scopes of keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable


def is_pattern(text: str) -> bool:
    """Whether it stands for more than itself."""
    return "*" in text


def matcher(texts: Iterable[str]) -> Callable[[str], bool]:
    """Whether a name is one of these. `*` stands for any characters, for a `/` only in a pattern
    that has one itself or is nothing but `*`.

    Takes time that grows with the length of the name, never its powers: parts between stars are
    found once each (atomic groups), the first place being as good as any.
    """
    exact = frozenset(text for text in texts if not is_pattern(text))
    patterns = tuple(_compiled(text).fullmatch for text in texts if is_pattern(text))
    if not patterns:
        return exact.__contains__
    if not exact and len(patterns) == 1:
        only = patterns[0]
        return lambda name: only(name) is not None
    return lambda name: name in exact or any(fits(name) for fits in patterns)


def _compiled(text: str) -> re.Pattern[str]:
    any_char = "." if "/" in text or not text.strip("*") else "[^/]"
    begin, *inner, end = text.split("*")
    middle = "".join(f"(?>{any_char}*?{re.escape(part)})" for part in inner if part)
    return re.compile(f"{re.escape(begin)}{middle}{any_char}*{re.escape(end)}", re.DOTALL)
