"""What is mutated, and by which tests: `groups.toml`, and the mutants that need no test."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]

Text = tuple[str, str, str, str]
"""Module, function, and the lines before and after."""


@dataclass(frozen=True, slots=True)
class Group:
    """One line of the table that is asked for: modules, and the tests that are to kill."""

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module: `before`, from `line` on, is `after`."""

    module: str
    operator: str
    occurrence: int
    definition: str | None
    start: tuple[int, int]
    line: int
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def key(self) -> str:
        """Names it, for as long as its lines are there as they are."""
        _, _, before, after = self.text
        return (
            f"{self.module} {self.definition} {self.operator} {self.start[1]}: {before} -> {after}"
        )

    @property
    def text(self) -> Text:
        """Names it also when the module changes elsewhere."""
        return self.module, self.definition or "", _one_line(self.before), _one_line(self.after)

    @property
    def is_ours(self) -> bool:
        """Whether it is of `operators.py`, and not of cosmic-ray."""
        return self.operator.startswith("ours/")

    def applied(self, source: str) -> str:
        """The module's text with it."""
        lines = source.splitlines(keepends=True)
        first = self.line - 1
        assert tuple(lines[first : first + len(self.before)]) == self.before, self.key
        lines[first : first + len(self.before)] = self.after
        return "".join(lines)

    @classmethod
    def read(cls, fields: dict[str, Any]) -> Mutant:
        """Of what `draw.py` wrote."""
        return cls(
            module=fields["module"],
            operator=fields["operator"],
            occurrence=fields["occurrence"],
            definition=fields["definition"],
            start=(fields["start"][0], fields["start"][1]),
            line=fields["line"],
            before=tuple(fields["before"]),
            after=tuple(fields["after"]),
        )


def groups() -> dict[str, Group]:
    """By name, in the order of the file."""
    read = tomllib.loads((HERE / "groups.toml").read_text())
    return {
        name: Group(name, tuple(of["modules"]), tuple(of["tests"])) for name, of in read.items()
    }


def equivalents() -> dict[Text, str]:
    """Why which mutants behave as the module does (`equivalent.toml`), by `Mutant.text`."""
    read = tomllib.loads((HERE / "equivalent.toml").read_text())
    found: dict[Text, str] = {}
    for entry in read.get("equivalent", ()):
        assert entry["why"].strip(), entry
        for after in entry["after"]:
            found[entry["module"], entry["where"], entry["before"], after] = entry["why"]
    return found


def _one_line(lines: tuple[str, ...]) -> str:
    return " ".join(" ".join(lines).split())
