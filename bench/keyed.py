"""A relay that wants keys, for cases: its pepper, and a key that it lets in."""

from __future__ import annotations

from sqlalchemy import insert

from relay.governance import token_text
from relay.governance.pepper import Pepper
from relay.store import schema
from relay.store.engine import engine_for, writing

PEPPER = "pepper-of-the-bench-0123456789abcdef"
VARIABLE = "RTRELAY_BENCH_PEPPER"
"""Of the environment, which holds it."""


def make_key(url: str) -> str:
    """A key with budgets of its own, its team and its organisation, in a store that is ready."""
    pepper, minted = Pepper(PEPPER), token_text.mint("virtual key")
    engine = engine_for(url)
    with writing(engine) as connection:
        made = {"created_at_us": 1, "changed": 1}
        connection.execute(insert(schema.organisations).values(id="org_1", name="o", **made))
        connection.execute(
            insert(schema.teams).values(id="team_1", organisation_id="org_1", name="t", **made)
        )
        connection.execute(
            insert(schema.keys).values(
                id="key_1", team_id="team_1", name="k", created_by="bench", **made
            )
        )
        connection.execute(
            insert(schema.credentials).values(
                id=minted.id,
                key_id="key_1",
                mac=pepper.mac("virtual key", minted.signed),
                pepper_id=pepper.id,
                last4=minted.last4,
                **made,
            )
        )
        for scope, scope_id in (("key", "key_1"), ("team", "team_1"), ("organisation", "org_1")):
            connection.execute(
                insert(schema.budgets).values(
                    id=f"bud_{scope}",
                    scope=scope,
                    scope_id=scope_id,
                    organisation_id="org_1",
                    period="month",
                    limit_micro=10**15,
                    **made,
                )
            )
    engine.dispose()
    return minted.text
