"""README.md shows the matrix as its tests are."""

from __future__ import annotations

from tests.surfaces.cells import CELLS
from tests.surfaces.table import BEGIN, END, PAGE, claimed, table


def test_readme_has_the_matrix_as_it_is() -> None:
    shown = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert shown == table(claimed()), "run `python -m tests.surfaces.table`"


def test_a_cell_that_fails_is_seen() -> None:
    some = next(iter(claimed()))
    assert table(claimed() - {some}) != table(claimed())


def test_ids_of_cells_are_their_own() -> None:
    assert len({cell.id for cell in CELLS}) == len(CELLS)
