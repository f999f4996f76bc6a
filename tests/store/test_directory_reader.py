"""Who may call, read from real databases: whole, what is new, and from another copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from relay.governance.directory import Directory
from relay.store import schema
from relay.store.base import StoreUnavailable
from relay.store.directory_reader import DirectoryReader
from relay.store.directory_rows import (
    ORDER,
    BudgetEntry,
    CertificateRow,
    CredentialRow,
    KeyRow,
    OrganisationRow,
    TeamRow,
)
from relay.store.engine import engine_for, writing
from tests.fakes.keys import NOW_US, PEPPER, PEPPERS, KeyDesk

DATABASES = ["sqlite", "postgresql"]


@pytest.fixture(params=DATABASES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        made = engine_for(f"sqlite:///{tmp_path / 'relay.db'}")
        schema.metadata.create_all(made)
    else:
        made = engine_for(request.getfixturevalue("postgres_url"))
    yield made
    made.dispose()


@pytest.fixture
def desk(engine: Engine) -> KeyDesk:
    return KeyDesk(engine)


def test_everything_first_then_what_is_new(engine: Engine, desk: KeyDesk) -> None:
    reader = DirectoryReader(engine)
    assert reader.changes(None).rows == ()
    desk.found()
    minted = desk.key(scopes={"models": ["fast"]}, tags=("eu",))
    desk.certificate("DNS:agent.test")
    desk.add(
        schema.budgets,
        id="bud_1",
        scope="key",
        scope_id="key_1",
        organisation_id="org_1",
        period="day",
        limit_micro=2**40,
        created_at_us=NOW_US,
    )
    found = reader.changes(None)
    assert (found.revision, found.is_whole) == (6, True)
    assert found.rows == (
        BudgetEntry("bud_1", "key", "key_1", "org_1", "day", "UTC", 2**40, True, "[]", False, 6),
        OrganisationRow("org_1", "{}", False, 1),
        TeamRow("team_1", "org_1", "{}", False, 2),
        KeyRow("key_1", "team_1", '{"models": ["fast"]}', '["eu"]', "{}", None, False, 3),
        CertificateRow("DNS:agent.test", "key_1", False, 5),
        CredentialRow(
            minted.id,
            "key_1",
            PEPPER.mac("virtual key", minted.signed),
            PEPPER.id,
            None,
            False,
            4,
        ),
    )
    assert [type(row) for row in found.rows] == list(ORDER)
    assert reader.changes(6).rows == ()
    desk.change(schema.keys, "key_1", revoked_at_us=NOW_US)
    desk.change(schema.credentials, minted.id, expires_at_us=NOW_US + 1)
    new = reader.changes(6)
    assert (new.revision, new.is_whole) == (8, False)
    key, credential = new.rows
    assert isinstance(key, KeyRow)
    assert (key.is_revoked, key.changed) == (True, 7)
    assert isinstance(credential, CredentialRow)
    assert (credential.expires_at_us, credential.is_revoked) == (NOW_US + 1, False)


def test_a_directory_takes_up_what_was_read(engine: Engine, desk: KeyDesk) -> None:
    reader, directory = DirectoryReader(engine), Directory(PEPPERS, lambda: 1.0)
    desk.found()
    minted = desk.key()
    directory.apply(reader.changes(directory.revision), 1.0)
    assert directory.identify(minted.text, NOW_US).key_id == "key_1"


def test_a_copy_that_is_older_is_read_as_a_whole(engine: Engine, desk: KeyDesk) -> None:
    reader = DirectoryReader(engine)
    desk.found()
    desk.key()
    with writing(engine) as connection:
        connection.execute(update(schema.revision).values(changed=2))
    found = reader.changes(4)
    assert (found.revision, found.is_whole, len(found.rows)) == (2, True, 4)


def test_a_database_without_tables_is_no_answer(tmp_path: Path) -> None:
    engine = engine_for(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(StoreUnavailable, match=r"OperationalError|no such table") as caught:
        DirectoryReader(engine).changes(None)
    assert "SELECT" not in str(caught.value)
    engine.dispose()


def test_nobody_at_the_address_is_no_answer_and_shows_no_password() -> None:
    engine = engine_for("postgresql://relay:canary-secret@127.0.0.1:1/relay")
    with pytest.raises(StoreUnavailable) as caught:
        DirectoryReader(engine).changes(None)
    assert "canary-secret" not in f"{caught.value!r} {caught.value.__cause__!r}"
    engine.dispose()
