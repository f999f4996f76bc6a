"""Every part of every row holds, whatever is drawn."""

from __future__ import annotations

import asyncio
import os
import re

import pytest

from tests.matrix.conftest import MakeStage
from tests.matrix.row import Part
from tests.matrix.rows import PARTS, ROWS, named
from tests.matrix.table import PAGE, page

pytestmark = pytest.mark.sockets

SEEDS = range(20 if os.environ.get("RELAY_FULL") == "1" else 2)

EACH = [
    pytest.param(part, id=named(row, part), marks=pytest.mark.timeout(part.timeout_s + 30))
    for row, part in PARTS
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("part", EACH)
async def test_holds(part: Part, seed: int, make_stage: MakeStage) -> None:
    async with asyncio.timeout(part.timeout_s):
        await part.play(make_stage(part, seed))


def test_every_row_is_there() -> None:
    wanted = [
        *(f"U{number}" for number in range(1, 33)),
        *(f"C{number}" for number in range(1, 18)),
        *(f"P{number}" for number in range(1, 14)),
    ]
    assert [row.id for row in ROWS] == wanted


def test_the_page_is_as_the_rows_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.matrix.table"


def test_what_goes_deeper_is_there() -> None:
    for row in ROWS:
        for named_test in row.also:
            path, _, name = named_test.partition("::")
            text = (PAGE.parents[1] / path).read_text(encoding="utf-8")
            assert not name or re.search(rf"^\s*(?:async )?(?:def|class) {name}\b", text, re.M), (
                named_test
            )
