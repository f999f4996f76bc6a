"""Organisations, teams, keys and budgets, written into a store as administration does."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Engine, insert, update

from relay.governance import token_text
from relay.governance.pepper import Pepper
from relay.store import schema
from relay.store.engine import writing

PEPPER: Final = "pepper-of-the-tests-0123456789abcdef"
_count = itertools.count(1)


class Rows:
    """Writes rows, each with a change of its own.

    Args:
        engine: of a database with its tables; stays the caller's.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pepper = Pepper(PEPPER)

    def _insert(self, table: Any, **values: Any) -> None:
        with writing(self._engine) as connection:
            found = connection.execute(
                update(schema.revision)
                .values(changed=schema.revision.c.changed + 1)
                .returning(schema.revision.c.changed)
            ).scalar()
            if found is None:
                found = 1
                connection.execute(insert(schema.revision).values(id=1, changed=1))
            connection.execute(insert(table).values(changed=found, **values))

    def organisation(self, **more: Any) -> str:
        id_ = f"org_{next(_count)}"
        self._insert(schema.organisations, id=id_, name=id_, created_at_us=1, **_json(more))
        return id_

    def team(self, organisation_id: str, **more: Any) -> str:
        id_ = f"team_{next(_count)}"
        self._insert(
            schema.teams,
            id=id_,
            organisation_id=organisation_id,
            name=id_,
            created_at_us=1,
            **_json(more),
        )
        return id_

    def key(self, team_id: str, **more: Any) -> tuple[str, str]:
        """Id of a key, and its secret."""
        id_ = f"key_{next(_count)}"
        self._insert(
            schema.keys,
            id=id_,
            team_id=team_id,
            name=id_,
            created_at_us=1,
            created_by="test",
            **_json(more),
        )
        minted = token_text.mint("virtual key")
        self._insert(
            schema.credentials,
            id=minted.id,
            key_id=id_,
            mac=self._pepper.mac("virtual key", minted.signed),
            pepper_id=self._pepper.id,
            last4=minted.last4,
            created_at_us=1,
        )
        return id_, minted.text

    def budget(self, scope: str, scope_id: str, limit_micro: int, **more: Any) -> str:
        id_ = f"bud_{next(_count)}"
        values: dict[str, Any] = {"period": "total", "time_zone": "UTC", "is_hard": 1, **more}
        self._insert(
            schema.budgets,
            id=id_,
            scope=scope,
            scope_id=scope_id,
            limit_micro=limit_micro,
            created_at_us=1,
            **_json(values),
        )
        return id_

    def change(self, table: Any, id_: str, **values: Any) -> None:
        """Change a row by its id."""
        with writing(self._engine) as connection:
            found = connection.execute(
                update(schema.revision)
                .values(changed=schema.revision.c.changed + 1)
                .returning(schema.revision.c.changed)
            ).scalar_one()
            connection.execute(
                update(table).where(table.c.id == id_).values(changed=found, **_json(values))
            )


def _json(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value)
        if isinstance(value, Mapping | Sequence) and not isinstance(value, str | bytes)
        else value
        for name, value in values.items()
    }
