"""Keys and what is above them: rows for a directory, and the same in a database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, Table, delete, insert, select, update

from relay.governance.pepper import Pepper, Peppers
from relay.governance.token_text import Minted, mint
from relay.store import schema
from relay.store.directory_rows import (
    CertificateRow,
    Changes,
    CredentialRow,
    KeyRow,
    OrganisationRow,
    Row,
    TeamRow,
)
from relay.store.engine import writing

PEPPER_TEXT = "pepper-of-the-tests-which-is-0123456789-long-enough"
PEPPER = Pepper(PEPPER_TEXT)
PEPPERS = Peppers(PEPPER)
NOW_US = 1_700_000_000_000_000


def credential_row(minted: Minted, key_id: str = "key_1", **fields: Any) -> CredentialRow:
    """Of a secret, made with the pepper of the tests."""
    row = CredentialRow(
        minted.id,
        key_id,
        PEPPER.mac("virtual key", minted.signed),
        PEPPER.id,
        expires_at_us=None,
        is_revoked=False,
        changed=1,
    )
    return row._replace(**fields)


def organisation_row(id_: str = "org_1", **fields: Any) -> OrganisationRow:
    return OrganisationRow(id_, "{}", is_archived=False, changed=1)._replace(**fields)


def team_row(id_: str = "team_1", organisation_id: str = "org_1", **fields: Any) -> TeamRow:
    row = TeamRow(id_, organisation_id, "{}", is_archived=False, changed=1)
    return row._replace(**fields)


def key_row(id_: str = "key_1", team_id: str = "team_1", **fields: Any) -> KeyRow:
    row = KeyRow(id_, team_id, "{}", "[]", "{}", expires_at_us=None, is_revoked=False, changed=1)
    return row._replace(**fields)


def certificate_row(name: str, key_id: str = "key_1", **fields: Any) -> CertificateRow:
    return CertificateRow(name, key_id, is_revoked=False, changed=1)._replace(**fields)


def whole(*rows: Row, revision: int = 1) -> Changes:
    return Changes(revision, rows, is_whole=True)


@dataclass
class KeyDesk:
    """Writes keys to a database, each change in a transaction with the next number."""

    engine: Engine
    pepper: Pepper = field(default_factory=lambda: PEPPER)

    def add(self, table: Table, **values: Any) -> None:
        with writing(self.engine) as connection:
            connection.execute(insert(table), {**values, "changed": _next(connection)})

    def change(self, table: Table, id_: str, **values: Any) -> None:
        """Of the row with this primary key."""
        (key,) = table.primary_key
        with writing(self.engine) as connection:
            changed = {**values, "changed": _next(connection)}
            done = connection.execute(update(table).where(key == id_).values(changed))
            assert done.rowcount == 1

    def forget(self, table: Table, id_: str) -> None:
        """Delete a row, as nobody does but who restores a copy."""
        (key,) = table.primary_key
        with writing(self.engine) as connection:
            connection.execute(delete(table).where(key == id_))

    def found(self, organisation_id: str = "org_1", team_id: str = "team_1") -> None:
        """An organisation with one team."""
        self.add(
            schema.organisations, id=organisation_id, name=organisation_id, created_at_us=NOW_US
        )
        self.add(
            schema.teams,
            id=team_id,
            organisation_id=organisation_id,
            name=team_id,
            created_at_us=NOW_US,
        )

    def key(
        self,
        key_id: str = "key_1",
        team_id: str = "team_1",
        *,
        scopes: Mapping[str, Any] | None = None,
        tags: tuple[str, ...] = (),
    ) -> Minted:
        """A key with one credential."""
        self.add(
            schema.keys,
            id=key_id,
            team_id=team_id,
            name=key_id,
            scopes=json.dumps(scopes or {}),
            tags=json.dumps(tags),
            created_at_us=NOW_US,
            created_by="tests",
        )
        return self.credential(key_id)

    def credential(self, key_id: str = "key_1") -> Minted:
        """One more secret of a key."""
        minted = mint("virtual key")
        self.add(
            schema.credentials,
            id=minted.id,
            key_id=key_id,
            mac=self.pepper.mac("virtual key", minted.signed),
            pepper_id=self.pepper.id,
            last4=minted.last4,
            created_at_us=NOW_US,
        )
        return minted

    def certificate(self, subject: str, key_id: str = "key_1") -> None:
        self.add(schema.certificates, subject=subject, key_id=key_id, created_at_us=NOW_US)


def _next(connection: Any) -> int:
    """As of `schema.revision`."""
    table = schema.revision
    done = connection.execute(update(table).values(changed=table.c.changed + 1))
    if not done.rowcount:
        connection.execute(insert(table), {"id": 1, "changed": 1})
    number: int = connection.execute(select(table.c.changed)).scalar_one()
    return number
