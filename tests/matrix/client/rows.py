"""The rows of this folder, in order."""

from __future__ import annotations

from tests.matrix.client import floods, heads, keys, leaving, shapes, standing, terms
from tests.matrix.row import Row

ROWS: tuple[Row, ...] = (
    *leaving.ROWS,
    *standing.ROWS,
    *shapes.ROWS,
    heads.C8,
    floods.C9,
    floods.C10,
    heads.C11,
    keys.C12,
    keys.C13,
    *terms.ROWS,
    floods.C17,
)
