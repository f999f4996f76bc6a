"""A configuration of ours that is being put together: what every format is read into."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

_MAX_NAME_CHARS: Final = 60


class Target(NamedTuple):
    """A model at a provider."""

    provider: str
    model: str


@dataclass
class Row:
    """One of `providers`."""

    name: str
    fields: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    """Comments for the reader, one line each."""


@dataclass
class Alias:
    """One of `models`."""

    name: str
    candidates: list[Target] = field(default_factory=list)
    fallbacks: list[Target] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    timeouts: dict[str, int] = field(default_factory=dict)
    choose: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class Draft:
    """The whole."""

    rows: dict[str, Row] = field(default_factory=dict)
    aliases: dict[str, Alias] = field(default_factory=dict)
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The other sections of the file, by name."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Comments for the reader, by section; "" for the file."""

    def note(self, section: str, text: str) -> None:
        """Add a comment, once."""
        notes = self.notes.setdefault(section, [])
        if text not in notes:
            notes.append(text)

    def section(self, name: str) -> dict[str, Any]:
        """The section, made where it is not there yet."""
        return self.sections.setdefault(name, {})


def name_of(text: str, taken: Collection[str], fallback: str) -> str:
    """A name that our file takes, as near to theirs as it can be; `-2` and so on where it is
    taken."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:_MAX_NAME_CHARS] or fallback
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}-{number}", number + 1
    return name


def without_doubles(targets: Iterable[Target], before: Collection[Target] = ()) -> list[Target]:
    """Each once, and none of those that are asked before."""
    return [target for target in dict.fromkeys(targets) if target not in before]
