"""Tables of the commands."""

from __future__ import annotations

from rich.table import Column, Table


def table(title: str, *headers: str) -> Table:
    """Cells that are too wide go on in the next line: nobody can ask for a name cut short."""
    return Table(*(Column(header, overflow="fold") for header in headers), title=title)
