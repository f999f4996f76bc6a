"""What was not carried over, by its path in their file, and what to do instead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

_STAND_IN: Final = "stands-for-a-secret-0123456789-ABCDEFGHIJKLMNOPQRSTUVWXYZ-abcdefghij"


@dataclass(frozen=True)
class Entry:
    """One thing of their file."""

    path: str
    told: str


@dataclass
class Report:
    """Filled while a file is read. No text in it holds a value that could be a secret."""

    left: list[Entry] = field(default_factory=list)
    """Not carried over: without the reader's doing it is not there."""
    differs: list[Entry] = field(default_factory=list)
    """Carried over, or done by the relay anyhow, in another way."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables that our file reads -> where their value is now."""
    addresses: set[str] = field(default_factory=set)
    """Those of them that hold the address of a Redis."""

    def stand_ins(self) -> dict[str, str]:
        """A value for each variable that the relay would take, to look the new file over with."""
        return {
            name: "redis://127.0.0.1" if name in self.addresses else _STAND_IN
            for name in self.variables
        }

    def leave(self, path: str, told: str) -> None:
        """Add to `left`, once."""
        _add(self.left, Entry(path, told))

    def differ(self, path: str, told: str) -> None:
        """Add to `differs`, once."""
        _add(self.differs, Entry(path, told))

    def to_text(self) -> str:
        """In Markdown: a list for each of the three, those alone that have something in them."""
        parts = [
            _list("Not carried over", self.left),
            _list("Carried over, but not quite the same", self.differs),
            _list(
                "Environment variables that the new file reads",
                [Entry(name, told) for name, told in self.variables.items()],
            ),
        ]
        return "\n".join(part for part in parts if part) or "Everything was carried over.\n"


def printable(text: str) -> str:
    """With an escape for each sign that a terminal could take for more than a sign."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )


def _add(entries: list[Entry], entry: Entry) -> None:
    if entry not in entries:
        entries.append(entry)


def _list(title: str, entries: list[Entry]) -> str:
    lines = [f"- `{printable(entry.path)}`: {printable(entry.told)}\n" for entry in entries]
    return f"## {title} ({len(entries)})\n\n{''.join(lines)}" if entries else ""
