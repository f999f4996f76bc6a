"""What the hot path says to SQLite, each prepared once a connection, and the rows it is said of.

Columns are those of `relay.store.schema`.
"""

from __future__ import annotations

from typing import Final

import orjson

from relay.store.base import ClosedAttempt, OpenedAttempt, OpenedGeneration, SettledGeneration

BEGIN: Final = "BEGIN IMMEDIATE"
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"

INSERT_GENERATION: Final = """
INSERT INTO generations (
    id, state, instance_id, organisation_id, team_id, key_id, alias, surface, tags, labels,
    session_id, turn_id, trace_id, admitted_at_us, lease_until_us, holds, reserved_micro
) VALUES (?, 'open', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""

RESERVED_BY: Final = "SELECT state, reserved_micro, holds FROM generations WHERE id = ?"

EXTEND_GENERATION: Final = """
UPDATE generations SET reserved_micro = reserved_micro + ? WHERE id = ? AND state = 'open'
"""

SETTLE_GENERATION: Final = """
UPDATE generations SET
    state = ?, settled_micro = ?, ended_at_us = ?, reason = ?, provider = ?, model = ?,
    is_usage_final = ?, ttft_us = ?, wall_us = ?, phases = ?, decision = ?, saved_micro = ?
WHERE id = ? AND state = 'open'
RETURNING reserved_micro, holds
"""

OPEN_ATTEMPT: Final = """
INSERT INTO attempts (
    generation_id, ordinal, state, provider, model, role, started_us, upper_micro
)
SELECT ?1, ?2, 'open', ?3, ?4, ?5, ?6, ?7
WHERE EXISTS (SELECT 1 FROM generations WHERE id = ?1 AND state = 'open')
ON CONFLICT (generation_id, ordinal) DO UPDATE SET
    provider = excluded.provider, model = excluded.model, role = excluded.role,
    started_us = excluded.started_us, upper_micro = excluded.upper_micro
    WHERE state = 'open' AND started_us < 0
"""
"""Of a generation that is over nothing is noted any more. What was noted before it began, with a
moment below 0 (`OpenedGeneration.first`), is written over; anything else stays as it was."""

DROP_FIRST: Final = (
    "DELETE FROM attempts WHERE generation_id = ? AND state = 'open' AND started_us < 0"
)
"""Of a generation that ended before the attempt that was noted with it began."""

CLOSE_ATTEMPT: Final = """
INSERT INTO attempts (
    generation_id, ordinal, state, provider, model, role, outcome, reason, http_status, is_winner,
    started_us, ended_us, prompt_tokens, cached_tokens, cache_write_tokens, output_tokens,
    reasoning_tokens, price_version, cost_micro, upper_micro, phases, leg
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (generation_id, ordinal) DO UPDATE SET
    state = excluded.state, provider = excluded.provider, model = excluded.model,
    role = excluded.role, outcome = excluded.outcome, reason = excluded.reason,
    http_status = excluded.http_status, is_winner = excluded.is_winner,
    started_us = excluded.started_us, ended_us = excluded.ended_us,
    prompt_tokens = excluded.prompt_tokens, cached_tokens = excluded.cached_tokens,
    cache_write_tokens = excluded.cache_write_tokens, output_tokens = excluded.output_tokens,
    reasoning_tokens = excluded.reasoning_tokens, price_version = excluded.price_version,
    cost_micro = excluded.cost_micro, upper_micro = excluded.upper_micro, phases = excluded.phases,
    leg = excluded.leg
"""

DATA_VERSION: Final = "PRAGMA data_version"
"""Another number once another connection has written (https://sqlite.org/pragma.html)."""

READ_PERIOD: Final = """
SELECT settled_micro, reserved_micro, overrun_micro FROM budget_periods
WHERE budget_id = ? AND period_start_s = ?
"""

PERIODS_AT_ONCE: Final = 8

_WRITE_PERIODS: Final = """
INSERT INTO budget_periods (
    budget_id, period_start_s, settled_micro, reserved_micro, overrun_micro
) VALUES %s
ON CONFLICT (budget_id, period_start_s) DO UPDATE SET
    settled_micro = excluded.settled_micro, reserved_micro = excluded.reserved_micro,
    overrun_micro = excluded.overrun_micro
"""

WRITE_PERIODS: Final = tuple(
    _WRITE_PERIODS % ", ".join(["(?, ?, ?, ?, ?)"] * rows) for rows in range(PERIODS_AT_ONCE + 1)
)
"""By how many rows."""

FORGET_PREDECESSORS: Final = "DELETE FROM instances WHERE place = ? AND id <> ?"

TAKE_LEASE: Final = """
INSERT INTO instances (id, place, started_at_us, lease_until_us) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET lease_until_us = excluded.lease_until_us
"""

LEAVE: Final = "DELETE FROM instances WHERE id = ?"

TOUCH: Final = "UPDATE instances SET lease_until_us = lease_until_us WHERE id = ?"
"""A write that changes nothing, to see whether writing works again."""

ABANDONED: Final = """
SELECT left_open.id, left_open.reserved_micro, left_open.holds, count(attempts.ordinal),
    coalesce(sum(coalesce(attempts.cost_micro, attempts.upper_micro)), 0)
FROM (
    SELECT generations.id, generations.reserved_micro, generations.holds
    FROM generations LEFT JOIN instances ON instances.id = generations.instance_id
    WHERE generations.state = 'open' AND (
        instances.id IS NULL OR instances.lease_until_us <= ?1 OR generations.lease_until_us <= ?1
    )
    LIMIT ?2
) AS left_open
LEFT JOIN attempts ON attempts.generation_id = left_open.id
GROUP BY left_open.id
"""

ABANDON_GENERATION: Final = """
UPDATE generations SET
    state = ?, settled_micro = ?, ended_at_us = ?, reason = 'ABANDONED', is_usage_final = 0
WHERE id = ?
"""

ABANDON_ATTEMPTS: Final = """
UPDATE attempts SET
    state = CASE WHEN upper_micro IS NULL THEN 'unpriced' ELSE 'estimated' END,
    outcome = 'abandoned', is_winner = 0, cost_micro = upper_micro
WHERE generation_id = ? AND state = 'open'
"""

FORGET_INSTANCES: Final = """
DELETE FROM instances WHERE lease_until_us <= ? AND NOT EXISTS (
    SELECT 1 FROM generations WHERE generations.instance_id = instances.id AND state = 'open'
)
"""

Row = tuple[object, ...]


def generation_row(opened: OpenedGeneration, reserved_micro: int) -> Row:
    """Of INSERT_GENERATION."""
    holds = opened.holds
    return (
        opened.id,
        opened.instance_id,
        opened.organisation_id,
        opened.team_id,
        opened.key_id,
        opened.alias,
        opened.surface,
        opened.tags,
        opened.labels,
        opened.session_id,
        opened.turn_id,
        opened.trace_id,
        opened.admitted_at_us,
        opened.lease_until_us,
        orjson.dumps([one[:2] for one in holds]).decode() if holds else "[]",
        reserved_micro,
    )


def settled_row(settled: SettledGeneration) -> Row:
    """Of SETTLE_GENERATION."""
    return (
        settled.state,
        settled.settled_micro,
        settled.ended_at_us,
        settled.reason,
        settled.provider,
        settled.model,
        settled.is_usage_final,
        settled.ttft_us,
        settled.wall_us,
        settled.phases,
        settled.decision,
        settled.saved_micro,
        settled.id,
    )


def opened_row(generation_id: str, opened: OpenedAttempt) -> Row:
    """Of OPEN_ATTEMPT."""
    return (
        generation_id,
        opened.ordinal,
        opened.provider,
        opened.model,
        opened.role,
        opened.started_us,
        opened.upper_micro,
    )


def closed_row(generation_id: str, closed: ClosedAttempt) -> Row:
    """Of CLOSE_ATTEMPT."""
    return (
        generation_id,
        closed.ordinal,
        closed.state,
        closed.provider,
        closed.model,
        closed.role,
        closed.outcome,
        closed.reason,
        closed.http_status,
        closed.is_winner,
        closed.started_us,
        closed.ended_us,
        closed.prompt_tokens,
        closed.cached_tokens,
        closed.cache_write_tokens,
        closed.output_tokens,
        closed.reasoning_tokens,
        closed.price_version,
        closed.cost_micro,
        closed.upper_micro,
        closed.phases,
        closed.leg,
    )
