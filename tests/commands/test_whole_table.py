"""Tables of ids and amounts, on terminals that are too narrow for them and in pipes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relay.commands.whole_table import print_whole

CELLS = ("key_62c089482036b513", "$0.000363", "x" * 500, "[red]one two[/red]")


@pytest.mark.parametrize("width", [20, 80, 1000])
@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_row_is_a_line_and_whole(width: int, is_terminal: bool) -> None:
    file = io.StringIO()
    table = Table("id", "cost", "detail", "name", box=None, pad_edge=False)
    table.add_row(*(escape(cell) for cell in CELLS))
    table.add_row("k", "", "", "")
    print_whole(Console(file=file, width=width, force_terminal=is_terminal), table)
    head, row, short = file.getvalue().splitlines()
    assert head.split() == ["id", "cost", "detail", "name"]
    assert [cell for cell in row.split("  ") if cell] == list(CELLS)
    assert short == "k"  # no blanks that would fill lines of a terminal
