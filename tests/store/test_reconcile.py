"""Our side of an invoice, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from relay.governance.invoice import Ours, compare, mapping_of, read_invoice
from relay.store.engine import engine_for, migrate, reading
from relay.store.reconcile import ours, providers
from relay.store.usage_fields import Selection, UsageError
from tests.fakes.usage_rows import LOSER, generation, write


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'relay.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    engine = engine_for(url, pool_size=1)
    if request.param == "sqlite":
        migrate(engine)
    yield engine
    engine.dispose()


def us(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000


RANGE = Selection(us("2026-11-01"), us("2026-12-01"))


def some(engine: Engine) -> None:
    noon = us("2026-11-27T12:00")
    write(
        engine,
        generation(1, admitted_at_us=noon),
        generation(2, [{}, LOSER], admitted_at_us=noon),
        generation(3, [{"state": "free", "cost_micro": 0, "upper_micro": 0}], admitted_at_us=noon),
        generation(4, [{"state": "unpriced", "cost_micro": None, "upper_micro": None}],
                   admitted_at_us=noon),
        generation(5, admitted_at_us=noon, state="open"),
        generation(6, admitted_at_us=us("2026-11-28T00:30")),
        # Admitted a moment before midnight, sent after it.
        generation(7, [{"started_us": 2_000_000}], admitted_at_us=us("2026-11-30T23:59:59")),
        generation(8, [{"started_us": 2_000_000}], admitted_at_us=us("2026-10-31T23:59:59")),
    )  # fmt: skip


def test_by_day_and_model(engine: Engine) -> None:
    some(engine)
    with reading(engine) as connection:
        openai = ours(connection, "openai", RANGE)
        anthropic = ours(connection, "anthropic", RANGE)
        assert providers(connection, RANGE) == ["anthropic", "openai"]
    one = {"input_tokens": 10, "uncached_tokens": 5, "cached_tokens": 4, "output_tokens": 5}
    three = {name: 3 * count for name, count in one.items()}
    assert openai == {
        (date(2026, 11, 27), "gpt"): Ours(140, **three, requests=3, upper_micro=140, unpriced=1),
        (date(2026, 11, 28), "gpt"): Ours(70, **one, requests=1, upper_micro=70, edge_micro=70),
        (date(2026, 11, 1), "gpt"): Ours(70, **one, requests=1, upper_micro=70, edge_micro=70),
    }
    assert anthropic == {
        (date(2026, 11, 27), "claude"): Ours(30, **one, requests=1, upper_micro=90, estimated=1)
    }


def test_days_of_the_provider(engine: Engine) -> None:
    some(engine)
    selection = Selection(
        us("2026-11-27", "America/New_York"), us("2026-11-28", "America/New_York")
    )
    with reading(engine) as connection:
        found = ours(connection, "openai", selection, "America/New_York")
    assert {day: one.micro for (day, _), one in found.items()} == {date(2026, 11, 27): 210}


def test_against_an_invoice(engine: Engine) -> None:
    some(engine)
    lines = ["date,model,amount,requests", "2026-11-27,gpt-2025-01-01,0.00021,3"]
    with reading(engine) as connection:
        mine = ours(connection, "openai", Selection(us("2026-11-27"), us("2026-11-28")))
    found = compare(read_invoice(lines, mapping_of()), mine, tolerance_percent=Decimal(1))
    assert (found.status, found.difference_micro) == (1, 70)
    assert found.lines[0].reasons == ("1 attempts have no price here",)


def test_bad_questions(engine: Engine) -> None:
    with reading(engine) as connection:
        with pytest.raises(UsageError, match="time_zone"):
            ours(connection, "openai", RANGE, "Mars")
        with pytest.raises(UsageError, match="range"):
            ours(connection, "openai", Selection())
