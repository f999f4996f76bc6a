"""Tables that are read by people and searched by programs: no id and no amount is ever cut."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

MAX_WIDTH = 8_192
"""Characters a line: an entry of the audit log has at most 4 KiB of detail."""


def print_whole(console: Console, table: Table) -> None:
    """Print a table of plain cells, each on one line, however narrow the terminal is.

    A terminal breaks what is too long for it; in a pipe, where there is no width to keep to, a row
    is a line. Give it tables without a box: blanks at the ends of lines are left out.
    """
    for column in table.columns:
        column.no_wrap = True
    wide = Console(width=MAX_WIDTH, color_system=None, highlight=False)
    needed = Measurement.get(wide, wide.options, table).maximum
    with wide.capture() as text:
        wide.print(table, width=needed)
    for line in text.get().splitlines():
        console.out(line.rstrip(), highlight=False)
