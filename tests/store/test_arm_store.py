from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from relay.store.arm_rows import ArmRow
from relay.store.arm_store import ArmStore, delete_in
from relay.store.base import StoreUnavailable
from relay.store.engine import engine_for, migrate, writing

ROW = ArmRow("ab", "new", 1, "other", "error_share", 12, 1, 9.5, 7)


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


def test_the_last_row_of_an_arm_stays(engine: Engine) -> None:
    store = ArmStore(engine)
    store.write(ROW)
    later = ROW._replace(edition=2, use="another", at_us=8, in_arm=1 << 40)
    store.write(later)
    store.write(ROW._replace(arm="third"))
    assert sorted(store.all()) == [later, ROW._replace(arm="third")]


def test_what_is_taken_out_is_gone(engine: Engine) -> None:
    store = ArmStore(engine)
    store.write(ROW)
    with writing(engine) as connection:
        assert not delete_in(connection, "ab", "other")
        assert delete_in(connection, "ab", "new")
        assert not delete_in(connection, "ab", "new")
    assert store.all() == []


def test_a_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    store = ArmStore(engine_for(f"sqlite:///{tmp_path / 'none' / 'relay.db'}"))
    with pytest.raises(StoreUnavailable):
        store.all()
