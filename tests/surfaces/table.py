"""The matrix as a table: `python -m tests.surfaces.table` runs every cell and writes README.md's.

A cell of the table says over how many wires the tests of this column pass for this surface; what
cannot be has its reason below. Exits with 1, and writes nothing, if any test fails.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from tests.surfaces.cells import CELLS, COLUMNS, SURFACES, Cell
from tests.surfaces.wires import WIRES

PAGE: Final = Path(__file__).resolve().parents[2] / "README.md"
BEGIN: Final = "<!-- the matrix: python -m tests.surfaces.table -->\n"
END: Final = "<!-- the end of the matrix -->\n"

_ID: Final = re.compile(r"\[(.+)\]$")


def run() -> set[str]:
    """Run the tests; the ids of the cells that passed."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        options = ["-q", "-p", "no:cacheprovider", "--junitxml", str(report)]
        tests = Path(__file__).with_name("test_matrix.py")
        subprocess.run([sys.executable, "-m", "pytest", *options, str(tests)], check=False)
        cases = ElementTree.parse(report).iter("testcase")
        found = {case: _ID.search(case.get("name", "")) for case in cases}
        return {name[1] for case, name in found.items() if name and not len(case)}


def table(passed: Collection[str]) -> str:
    """Lines of Markdown.

    Args:
        passed: ids of the cells whose tests pass.
    """
    reasons: list[str] = []
    lines = [
        f"| {' | '.join(['', *COLUMNS])} |",
        f"|{'---|' * (len(COLUMNS) + 1)}",
    ]
    for surface in SURFACES:
        words = [surface.name]
        for column in COLUMNS:
            cells = [c for c in CELLS if c.surface is surface and c.column == column]
            words.append(_summary(cells, passed, reasons))
        lines.append(f"| {' | '.join(words)} |")
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join([*lines, "", *notes]) + "\n"


def _summary(cells: list[Cell], passed: Collection[str], reasons: list[str]) -> str:
    numbers = []
    for cell in cells:
        if cell.reason and cell.reason not in reasons:
            reasons.append(cell.reason)
        if cell.reason:
            numbers.append(reasons.index(cell.reason) + 1)
    count = sum(cell.id in passed for cell in cells)
    shown = f"{count} of {len(WIRES)}" if count else "none"
    return " ".join([shown, *(f"({number})" for number in sorted(set(numbers)))])


def claimed() -> set[str]:
    """Ids of all cells that are not empty."""
    return {cell.id for cell in CELLS if not cell.reason}


def main() -> int:
    passed = run()
    made = table(passed)
    print(made)
    if not claimed() <= passed:
        return 1
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{made}{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
