"""All rows, in order."""

from __future__ import annotations

from tests.matrix.bodies import rows as bodies
from tests.matrix.client import rows as client
from tests.matrix.links import rows as links
from tests.matrix.process import rows as process
from tests.matrix.row import Part, Row

ROWS: tuple[Row, ...] = (*links.ROWS, *bodies.ROWS, *client.ROWS, *process.ROWS)

PARTS: tuple[tuple[Row, Part], ...] = tuple((row, part) for row in ROWS for part in row.parts)


def named(row: Row, part: Part) -> str:
    """Of a test: `U9-mid_stream`."""
    return f"{row.id}-{part.name}"
