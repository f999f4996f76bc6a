"""The rows of this folder, in order."""

from __future__ import annotations

from tests.matrix.process import (
    caches,
    changes,
    clocks,
    disks,
    files,
    guards,
    killing,
    outlets,
    postgres_away,
    redis_away,
    squeezes,
    stopping,
    tampering,
)
from tests.matrix.row import Row

ROWS: tuple[Row, ...] = (
    *stopping.ROWS,
    *killing.ROWS,
    *disks.ROWS,
    *files.ROWS,
    *redis_away.ROWS,
    *postgres_away.ROWS,
    *clocks.ROWS,
    *squeezes.ROWS,
    *changes.ROWS,
    *outlets.ROWS,
    *tampering.ROWS,
    *caches.ROWS,
    *guards.ROWS,
)
