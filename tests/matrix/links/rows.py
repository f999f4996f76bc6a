"""The rows of this folder, in order."""

from __future__ import annotations

from tests.matrix.links import (
    frames,
    handshakes,
    reaching,
    resets,
    resolution,
    silence,
    sizes,
    stale,
)
from tests.matrix.row import Row

_THEMES = (reaching, resolution, handshakes, resets, stale, silence, frames, sizes)
_ALL = [row for theme in _THEMES for row in theme.ROWS.values()]

ROWS: tuple[Row, ...] = tuple(sorted(_ALL, key=lambda row: int(row.id[1:])))
