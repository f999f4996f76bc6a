"""Generations out of the accounts, on either database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert

from relay.observability.report.from_store import generations_of
from relay.observability.report.rows import ABANDONED, SourceNotes
from relay.store import schema
from relay.store.engine import engine_for, migrate, writing
from relay.store.usage_fields import Selection, UsageError
from tests.fakes.usage_rows import LOSER, NOW_US, generation, write

PHASES = {"pool_wait": 100, "request_sent": 50, "response_headers": 20_000, "first_content": 5_000}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.sockets)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'relay.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    engine = engine_for(url)
    migrate(engine)
    yield engine
    engine.dispose()


def test_rows_are_read_whole_and_in_order(engine: Engine) -> None:
    write(
        engine,
        generation(2, [{"phases": '{"pool_wait": 1}'}, LOSER], admitted_at_us=NOW_US + 5),
        generation(1, [{"phases": str(PHASES).replace("'", '"')}], admitted_at_us=NOW_US),
        generation(3, [], state="open", admitted_at_us=NOW_US),
        generation(4, [{"state": "unpriced", "cost_micro": None, "phases": None}],
                   admitted_at_us=NOW_US + 6, alias="smart"),
        generation(5, [{"outcome": "abandoned", "ended_us": None}], reason=ABANDONED, wall_us=None,
                   ttft_us=None, admitted_at_us=NOW_US + 7),
    )  # fmt: skip
    with writing(engine) as connection:
        connection.execute(
            insert(schema.organisations).values(id="org_1", name="o", created_at_us=1, changed=1)
        )
        row = {"id": "team_1", "organisation_id": "org_1", "name": "voice", "created_at_us": 1}
        connection.execute(insert(schema.teams).values(**row, changed=1))
    notes = SourceNotes()
    first, raced, unpriced, dead = generations_of(engine, Selection(), notes, page_rows=2)
    assert (first.received_us, first.alias, first.team, first.key) == (
        NOW_US, "fast", "team_1", "key_1"
    )  # fmt: skip
    assert (first.ttft_us, first.wall_us, first.reason) == (1000, 2000, "")
    (tried,) = first.tried
    assert tried.first_us == sum(PHASES.values())
    assert (tried.target, tried.is_winner, tried.is_estimated) == ("openai/gpt", True, False)
    winner, loser = raced.tried
    assert winner.first_us is None
    assert (loser.role, loser.outcome, loser.is_winner, loser.is_estimated) == (
        "hedge", "ignored", False, True
    )  # fmt: skip
    assert (loser.cost_micro, loser.upper_micro) == (30, 90)
    assert unpriced.tried[0].cost_micro is None
    assert (dead.reason, dead.ttft_us, dead.wall_us) == (ABANDONED, None, 0)
    assert (notes.open, notes.names) == (1, {"team_1": "voice (team_1)"})
    assert notes.has_teams


def test_what_is_chosen(engine: Engine) -> None:
    write(
        engine,
        generation(1, labels={"user": "u1"}, tags=["prod"]),
        generation(2, team_id="team_2"),
        generation(3, admitted_at_us=NOW_US + 100),
        generation(4, surface="shadow"),  # a copy, whose answer nobody sees
    )

    def count(selection: Selection) -> int:
        return len(list(generations_of(engine, selection, SourceNotes())))

    assert count(Selection(where={"team": ("team_2",)})) == 1
    assert count(Selection(where={"label:user": ("u1",)})) == 1
    assert count(Selection(where={"tag": ("prod",)})) == 1
    assert count(Selection(since_us=NOW_US + 1)) == 1
    assert count(Selection(until_us=NOW_US + 1)) == 2
    with pytest.raises(UsageError, match="scorecard"):
        count(Selection(where={"provider": ("openai",)}))
