"""Days and months of usage are those of budgets, in zones with every kind of change."""

from __future__ import annotations

from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, literal, select
from sqlalchemy.types import BigInteger

from relay.governance import periods
from relay.store.usage_time import TimeColumns
from tests.fakes.properties import examples

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe",
    "America/Sao_Paulo", "Asia/Beirut", "America/Havana", "Pacific/Apia", "Pacific/Chatham",
    "America/Scoresbysund", "America/St_Johns",
)  # fmt: skip


@pytest.fixture(scope="module")
def database() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@examples(200)
# Put back at a minute past midnight, and at midnight itself.
@example(where="America/St_Johns", at_s=1_257_042_660 + 600, before_s=200_000, after_s=200_000)
@example(where="America/Sao_Paulo", at_s=1_518_919_200 + 600, before_s=200_000, after_s=200_000)
# Put forward over midnight; a day that never was.
@example(where="Asia/Beirut", at_s=1_648_332_000 + 600, before_s=200_000, after_s=200_000)
@example(where="Pacific/Apia", at_s=1_325_239_200 + 600, before_s=200_000, after_s=200_000)
@given(
    where=st.sampled_from(ZONES),
    at_s=st.integers(1_200_000_000, 1_900_000_000),
    before_s=st.integers(0, 100_000_000),
    after_s=st.integers(0, 40_000_000),
)
def test_as_budgets_count(
    database: Connection, where: str, at_s: int, before_s: int, after_s: int
) -> None:
    columns = TimeColumns(
        ZoneInfo(where), (at_s - before_s) * 1_000_000, (at_s + after_s) * 1_000_000
    )

    def shown(unit: str, moment_s: int) -> str:
        at_us = literal(moment_s * 1_000_000, BigInteger)
        number = database.execute(select(columns.column(unit, at_us))).scalar_one()
        return columns.label(unit, number)

    for unit in ("day", "month"):
        first_s, end_s = periods.bounds_s(unit, where, at_s * 1_000_000)
        name = shown(unit, at_s)
        if first_s >= at_s - before_s:
            assert shown(unit, first_s) == name
            if first_s - 1 >= at_s - before_s:
                assert shown(unit, first_s - 1) < name
        if end_s <= at_s + after_s:
            assert shown(unit, end_s - 1) == name
            assert shown(unit, end_s) > name
    assert shown("hour", at_s)[:4] == shown("day", at_s)[:4] or shown("day", at_s)[5:] == "01-01"
