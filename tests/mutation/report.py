"""The table: of each module and each group, what was killed of what."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.mutation.plan import Group, Mutant, Text

TARGET_PERCENT: Final = 80.0
_DEAD: Final = {"killed", "timeout"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of it. A mutant that ran out of its time is killed."""

    name: str
    is_group: bool
    killed: int
    survived: int
    equivalent: int
    cosmic_killed: int
    cosmic_mutants: int

    @property
    def mutants(self) -> int:
        """All."""
        return self.killed + self.survived + self.equivalent

    @property
    def percent(self) -> float:
        """Of those that are not equivalent."""
        return _percent(self.killed, self.killed + self.survived)

    @property
    def percent_of_all(self) -> float:
        """The equivalent ones counted as survivors."""
        return _percent(self.killed, self.mutants)

    @property
    def percent_cosmic(self) -> float:
        """Of cosmic-ray's own operators alone, the equivalent ones counted as survivors."""
        return _percent(self.cosmic_killed, self.cosmic_mutants)


def rows(
    group: Group,
    mutants: Iterable[Mutant],
    outcomes: Mapping[str, Mapping[str, Any]],
    equivalent: Collection[Text],
) -> list[Row]:
    """The group's, then its modules'."""
    known = list(mutants)
    per_module = [
        _row(module, False, [m for m in known if m.module == module], outcomes, equivalent)
        for module in group.modules
    ]
    return [_row(group.name, True, known, outcomes, equivalent), *per_module]


def _row(
    name: str,
    is_group: bool,
    mutants: Sequence[Mutant],
    outcomes: Mapping[str, Mapping[str, Any]],
    equivalent: Collection[Text],
) -> Row:
    dead = [m for m in mutants if outcomes[m.key]["outcome"] in _DEAD]
    alive = [m for m in mutants if outcomes[m.key]["outcome"] not in _DEAD]
    same = sum(m.text in equivalent for m in alive)
    return Row(
        name,
        is_group,
        len(dead),
        len(alive) - same,
        same,
        sum(not m.is_ours for m in dead),
        sum(not m.is_ours for m in mutants),
    )


def table(found: Iterable[Row]) -> str:
    """As Markdown."""
    lines = [
        "| group, module | mutants | killed | survived | equivalent | score | with the equivalent"
        " | cosmic-ray's alone, with them |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        name = f"**{row.name}**" if row.is_group else f"`{row.name}`"
        lines.append(
            f"| {name} | {row.mutants} | {row.killed} | {row.survived} | {row.equivalent}"
            f" | {row.percent:.1f} % | {row.percent_of_all:.1f} % | {row.percent_cosmic:.1f} % |"
        )
    return "\n".join(lines)


def survivors(
    mutants: Iterable[Mutant],
    outcomes: Mapping[str, Mapping[str, Any]],
    equivalent: Collection[Text],
) -> str:
    """What lives on, to look at; those that are known to be equivalent are not told."""
    lines: list[str] = []
    ours = sorted(mutants, key=lambda m: (m.module, m.start, m.operator))
    for mutant in ours:
        outcome = outcomes[mutant.key]["outcome"]
        if outcome in _DEAD or mutant.text in equivalent:
            continue
        _, _, before, after = mutant.text
        at = f"{mutant.module}:{mutant.start[0]}"
        lines += [f"{at} {mutant.definition} {outcome} {mutant.operator}", f"  - {before}"]
        lines += [f"  + {after}"]
    return "\n".join(lines) + "\n"


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 100.0
