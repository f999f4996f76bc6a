"""Every table of the relay, for SQLite and PostgreSQL alike.

Money is whole micro-dollars, moments are whole microseconds since 1970 (`_at_us`), beginnings of
periods whole seconds (`_s`). Lists and mappings are JSON as text, so that both databases and every
export show the same. What is created or changed by an administrator carries `changed`: the number
of the change that touched it last, by which workers take up no more than what is new.

The hot path writes `generations`, `attempts` and `budget_periods` by the drivers themselves
(`relay.store.sqlite_ledger`, `relay.store.postgres_ledger`); everybody else asks through these.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

NAMES: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Of constraints, so that migrations can name them."""

metadata: Final = MetaData(naming_convention=NAMES)

BIG: Final = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up by itself only in a column whose type is INTEGER, which there has 64 bits."""

# --- who ------------------------------------------------------------------------------------

revision = Table(
    "revision",
    metadata,
    Column("id", Integer, primary_key=True),  # one row, 1
    Column("changed", BIG, nullable=False),
)
"""The number of the last change. A change takes the next one in its own transaction, whose lock on
this row it holds to the end: whoever has seen a number has seen all before it."""

organisations = Table(
    "organisations",
    metadata,
    Column("id", String(32), primary_key=True),  # org_...
    Column("name", String(128), nullable=False, unique=True),
    Column("limits", Text, nullable=False, server_default="{}"),
    Column("created_at_us", BigInteger, nullable=False),
    Column("archived_at_us", BigInteger),
    Column("changed", BigInteger, nullable=False, index=True),
)

teams = Table(
    "teams",
    metadata,
    Column("id", String(32), primary_key=True),  # team_...
    Column("organisation_id", ForeignKey("organisations.id"), nullable=False, index=True),
    Column("name", String(128), nullable=False),
    Column("limits", Text, nullable=False, server_default="{}"),
    Column("created_at_us", BigInteger, nullable=False),
    Column("archived_at_us", BigInteger),
    Column("changed", BigInteger, nullable=False, index=True),
    UniqueConstraint("organisation_id", "name"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(32), primary_key=True),  # key_...
    Column("team_id", ForeignKey("teams.id"), nullable=False, index=True),
    Column("name", String(128), nullable=False),
    Column("scopes", Text, nullable=False, server_default="{}"),
    Column("tags", Text, nullable=False, server_default="[]"),
    Column("limits", Text, nullable=False, server_default="{}"),
    Column("created_at_us", BigInteger, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("expires_at_us", BigInteger),
    Column("revoked_at_us", BigInteger),
    Column("changed", BigInteger, nullable=False, index=True),
)
"""What a caller is: its limits and budgets stay when its secret is changed."""

credentials = Table(
    "credentials",
    metadata,
    Column("id", String(32), primary_key=True),  # the part of the token before the dot
    Column("key_id", ForeignKey("keys.id"), nullable=False, index=True),
    Column("mac", LargeBinary(32), nullable=False),
    Column("pepper_id", String(16), nullable=False),
    Column("last4", String(4), nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger),
    Column("revoked_at_us", BigInteger),
    Column("changed", BigInteger, nullable=False, index=True),
)
"""The secrets of a key: two of them while one takes the other's place."""

certificates = Table(
    "certificates",
    metadata,
    Column("subject", String(255), primary_key=True),  # a subject alternative name, `DNS:...`
    Column("key_id", ForeignKey("keys.id"), nullable=False, index=True),
    Column("created_at_us", BigInteger, nullable=False),
    Column("revoked_at_us", BigInteger),
    Column("changed", BigInteger, nullable=False, index=True),
)
"""Client certificates that stand for a key."""

administrators = Table(
    "administrators",
    metadata,
    Column("id", String(32), primary_key=True),  # the part of the token before the dot
    Column("name", String(128), nullable=False),
    Column("role", String(16), nullable=False),
    Column("organisation_id", ForeignKey("organisations.id")),  # None: all of them
    Column("team_id", ForeignKey("teams.id")),  # None: all of the organisation's
    Column("mac", LargeBinary(32), nullable=False),
    Column("pepper_id", String(16), nullable=False),
    Column("last4", String(4), nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("expires_at_us", BigInteger),
    Column("revoked_at_us", BigInteger),
    Column("changed", BigInteger, nullable=False, index=True),
)

# --- money ----------------------------------------------------------------------------------

budgets = Table(
    "budgets",
    metadata,
    Column("id", String(32), primary_key=True),  # bud_...
    Column("scope", String(16), nullable=False),  # key, team, organisation, tag
    Column("scope_id", String(128), nullable=False),  # the id, or the tag
    Column("organisation_id", ForeignKey("organisations.id"), index=True),
    Column("period", String(8), nullable=False),  # day, month, total
    Column("time_zone", String(64), nullable=False, server_default="UTC"),
    Column("limit_micro", BigInteger, nullable=False),
    Column("is_hard", SmallInteger, nullable=False, server_default="1"),
    Column("alert_percents", Text, nullable=False, server_default="[]"),
    Column("created_at_us", BigInteger, nullable=False),
    Column("archived_at_us", BigInteger),
    Column("changed", BigInteger, nullable=False, index=True),
    CheckConstraint("limit_micro >= 0", name="limit"),
    Index("ix_budgets_scope_scope_id", "scope", "scope_id"),
)
"""`organisation_id` is whose it is; of a tag None means the tag of anybody."""

budget_periods = Table(
    "budget_periods",
    metadata,
    Column("budget_id", String(32), primary_key=True),
    Column("period_start_s", BigInteger, primary_key=True),  # 0 of `total`
    Column("settled_micro", BigInteger, nullable=False, server_default="0"),
    Column("reserved_micro", BigInteger, nullable=False, server_default="0"),
    Column("overrun_micro", BigInteger, nullable=False, server_default="0"),
    Column("alerted_percent", Integer, nullable=False, server_default="0"),
    CheckConstraint("reserved_micro >= 0", name="reserved"),
)
"""What was spent and is put aside of a budget in one period: always the sum over `generations`,
with `deleted_sums`. `overrun_micro` is the part of what was spent that no reservation covered."""

deleted_sums = Table(
    "deleted_sums",
    metadata,
    Column("budget_id", String(32), primary_key=True),
    Column("period_start_s", BigInteger, primary_key=True),
    Column("settled_micro", BigInteger, nullable=False),
    Column("overrun_micro", BigInteger, nullable=False),
    Column("generations", BigInteger, nullable=False),
)
"""What generations that are deleted had of each: added in the transaction that deletes them."""

instances = Table(
    "instances",
    metadata,
    Column("id", String(48), primary_key=True),
    Column("place", String(128), nullable=False, index=True),
    Column("started_at_us", BigInteger, nullable=False),
    Column("lease_until_us", BigInteger, nullable=False),
)
"""Workers that run, each with its lease: what one leaves open is settled by the others after it.
`place` is host, address and number of the worker: its successor there knows at once that it is
gone."""

generations = Table(
    "generations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("state", String(12), nullable=False),  # open, settled, estimated, void
    Column("instance_id", String(48), nullable=False),
    Column("organisation_id", String(32), nullable=False),
    Column("team_id", String(32), nullable=False),
    Column("key_id", String(32), nullable=False),
    Column("alias", String(255), nullable=False),
    Column("surface", String(32), nullable=False),
    Column("tags", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("session_id", String(255), nullable=False),
    Column("turn_id", String(255), nullable=False),
    Column("trace_id", String(32), nullable=False),
    Column("admitted_at_us", BigInteger, nullable=False),
    Column("lease_until_us", BigInteger, nullable=False),
    Column("holds", Text, nullable=False),  # [[budget_id, period_start_s], ...]
    Column("reserved_micro", BigInteger, nullable=False),
    Column("settled_micro", BigInteger),
    Column("ended_at_us", BigInteger),
    Column("reason", String(48)),  # of its failure; "" for a clean end
    Column("provider", String(64)),  # the winner's
    Column("model", String(255)),
    Column("is_usage_final", SmallInteger),
    Column("ttft_us", BigInteger),
    Column("wall_us", BigInteger),
    Column("phases", Text),  # the timeline
    Column("decision", Text),  # of policies, JSON; empty where there was none
    Column("saved_micro", BigInteger),  # by caches
    Index("ix_generations_admitted_at_us", "admitted_at_us"),
    Index("ix_generations_key_id_admitted_at_us", "key_id", "admitted_at_us"),
)
"""One row a generation: its reservation while it is open, its account afterwards."""

Index(
    "ix_generations_open",
    generations.c.instance_id,
    sqlite_where=generations.c.state == "open",
    postgresql_where=generations.c.state == "open",
)

attempts = Table(
    "attempts",
    metadata,
    Column("generation_id", String(64), primary_key=True),
    Column("ordinal", Integer, primary_key=True),  # in the order of their starts, from 0
    Column("state", String(12), nullable=False),  # open, actual, estimated, free, unpriced
    Column("provider", String(64), nullable=False),
    Column("model", String(255), nullable=False),
    Column("role", String(12), nullable=False),
    Column("outcome", String(12)),
    Column("reason", String(48)),
    Column("http_status", Integer),
    Column("is_winner", SmallInteger),
    Column("started_us", BigInteger, nullable=False),  # after the generation was received
    Column("ended_us", BigInteger),
    Column("prompt_tokens", BigInteger),  # cached ones and written ones included
    Column("cached_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("output_tokens", BigInteger),  # reasoning included
    Column("reasoning_tokens", BigInteger),
    Column("price_version", String(64)),
    Column("cost_micro", BigInteger),
    Column("upper_micro", BigInteger),
    Column("phases", Text),
    Column("leg", String(64)),  # of a cascade or panel
)
"""One row an attempt. `state` says what `cost_micro` is: by the provider's count, by an estimate,
nothing, or unknown since there is no price; `upper_micro` is the most that it can have been."""

feedback = Table(
    "feedback",
    metadata,
    Column("generation_id", String(64), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("team_id", String(32), nullable=False),
    Column("key_id", String(32), nullable=False),
    Column("score", Float(53)),  # 0 to 1
    Column("label", String(64), nullable=False),
    Column("comment", Text, nullable=False),
)
"""What clients have said of answers: the last word on each. It goes with its generation."""

stopped_arms = Table(
    "stopped_arms",
    metadata,
    Column("experiment", String(64), primary_key=True),
    Column("arm", String(64), primary_key=True),
    Column("edition", Integer, nullable=False),
    Column("use", String(255), nullable=False),
    Column("respect", String(16), nullable=False),
    Column("in_arm", BigInteger, nullable=False),
    Column("in_control", BigInteger, nullable=False),
    Column("log_evidence", Float(53), nullable=False),
    Column("at_us", BigInteger, nullable=False),
)
"""Arms of experiments that do not run, and why; each for the edition and `use` it had then."""

outbox = Table(
    "outbox",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("kind", String(32), nullable=False),
    Column("dedupe", String(128), nullable=False, unique=True),
    Column("payload", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("due_at_us", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("delivered_at_us", BigInteger),
    Column("given_up_at_us", BigInteger),
)
"""What is to be told outside, at least once: alerts of budgets."""

Index(
    "ix_outbox_due",
    outbox.c.due_at_us,
    sqlite_where=outbox.c.delivered_at_us.is_(None) & outbox.c.given_up_at_us.is_(None),
    postgresql_where=outbox.c.delivered_at_us.is_(None) & outbox.c.given_up_at_us.is_(None),
)

# --- limits, where workers of one machine share them without Redis --------------------------

rate_levels = Table(
    "rate_levels",
    metadata,
    Column("bucket", String(192), primary_key=True),
    Column("level_milli", BigInteger, nullable=False),  # thousandths of what is counted
    Column("at_us", BigInteger, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("bucket", String(192), primary_key=True),
    Column("instance_id", String(48), primary_key=True),
    Column("held", Integer, nullable=False),
    Column("until_us", BigInteger, nullable=False),
)

# --- proof ----------------------------------------------------------------------------------

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", String(160), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("organisation_id", String(32), nullable=False),
    Column("outcome", String(16), nullable=False),  # done, denied, failed
    Column("detail", Text, nullable=False),  # canonical JSON
    Column("previous", LargeBinary(32), nullable=False),
    Column("mac", LargeBinary(32), nullable=False),
    Index("ix_audit_at_us", "at_us"),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True),  # one row, 1
    Column("seq", BigInteger, nullable=False),
    Column("mac", LargeBinary(32), nullable=False),
)
"""The end of the chain; locked by whoever adds to it."""
