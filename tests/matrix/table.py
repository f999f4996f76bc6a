"""The matrix as a page.

python -m tests.matrix.table        # writes docs/faults.md
"""

from __future__ import annotations

from pathlib import Path

from tests.matrix.row import Part, Row, Without
from tests.matrix.rows import ROWS
from tests.matrix.weakened import WEAKNESSES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"

HEAD = """\
# What breaks, and what the relay does

Written by `python -m tests.matrix.table` from the tests in `tests/matrix`: each row is a fault that
is injected for real, with what clients see, what is booked, what is tried again. Each *part* runs
with several draws, and fails where its *defence* is taken away, which is tested too. `U` are faults
of providers and of the way to them, `C` of clients, `P` of the process, its disk, its stores and
its clock.

"Estimated" is booked by what had come until then and marked; "void" costs nothing.
"""

COLUMNS = (
    "",
    "what goes wrong",
    "what the client sees",
    "what is booked",
    "what is tried again",
    "parts and their defences",
)

GROUPS = {
    "U": "Providers and the way to them",
    "C": "Clients",
    "P": "The process, its disk, its stores, its clock",
}


def _words(without: Without) -> str:
    (line, *_) = (without.__doc__ or "").strip().splitlines()
    return line.rstrip(".")


def defence(part: Part) -> str:
    """What is taken away from a part, in words."""
    if part.undefended:
        return f"none of ours: {part.undefended}"
    return _words(part.without or WEAKNESSES[part.weakness])


def _lines(row: Row) -> list[str]:
    parts = "; ".join(f"*{part.name.replace('_', ' ')}*: {defence(part)}" for part in row.parts)
    also = ", ".join(f"`{name}`" for name in row.also)
    further = f". Deeper: {also}" if also else ""
    cells = (row.id, row.inject, row.client, row.accounting, row.retry, parts + further)
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"]


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for letter, title in GROUPS.items():
        lines += [
            f"### {title}",
            "",
            "| " + " | ".join(COLUMNS) + " |",
            "|" + "---|" * len(COLUMNS),
        ]
        for row in ROWS:
            if row.id.startswith(letter):
                lines += _lines(row)
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
