from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from relay.store import schema
from relay.store.base import StoreUnavailable
from relay.store.engine import engine_for, migrate, reading
from relay.store.feedback_rows import FeedbackRow, Rated
from relay.store.feedback_store import FeedbackStore
from tests.fakes.usage_rows import generation, write


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'relay.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    engine = engine_for(url)
    if request.param == "sqlite":
        migrate(engine)
    yield engine
    engine.dispose()


def test_the_last_word_stays(engine: Engine) -> None:
    store = FeedbackStore(engine)
    store.write(FeedbackRow("gen_1", 1, "team_1", "key_1", 0.25, "bad", "Œuvre ☹"))
    last = FeedbackRow("gen_1", 2, "team_1", "", None, "good", "")
    store.write(last)
    store.write(last._replace(generation_id="gen_2"))
    with reading(engine) as connection:
        rows = connection.execute(
            select(schema.feedback).order_by(schema.feedback.c.generation_id)
        ).all()
    assert [FeedbackRow(*row) for row in rows] == [last, last._replace(generation_id="gen_2")]


def test_what_is_known_of_a_generation(engine: Engine) -> None:
    write(engine, generation(1, decision='{"arm":"new"}'), generation(2, decision=None))
    store = FeedbackStore(engine)
    assert store.rated("gen_1") == Rated("team_1", '{"arm":"new"}')
    assert store.rated("gen_2") == Rated("team_1", "")
    assert store.rated("gen_3") is None


def test_a_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    store = FeedbackStore(engine_for(f"sqlite:///{tmp_path / 'none' / 'relay.db'}"))
    with pytest.raises(StoreUnavailable):
        store.rated("gen_1")
