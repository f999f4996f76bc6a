"""The rows of this folder, in order."""

from __future__ import annotations

from tests.matrix.bodies import (
    all_open,
    counts,
    endings,
    heads,
    letters,
    limits,
    losers,
    not_answers,
    order,
    our_key,
    statuses,
)
from tests.matrix.row import Row

ROWS: tuple[Row, ...] = (
    *letters.ROWS,
    *endings.ROWS,
    *not_answers.ROWS,
    *limits.ROWS,
    *statuses.ROWS,
    *our_key.ROWS,
    *heads.ROWS,
    *counts.ROWS,
    *order.ROWS,
    *losers.ROWS,
    *all_open.ROWS,
)
