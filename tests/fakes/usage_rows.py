"""Generations and attempts to read: written as they are found in the tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, insert

from relay.store import schema
from relay.store.engine import writing

DAY_US = 86_400_000_000
NOW_US = 1_780_000_000_000_000

GENERATION: dict[str, Any] = {
    "state": "settled",
    "instance_id": "inst_1",
    "organisation_id": "org_1",
    "team_id": "team_1",
    "key_id": "key_1",
    "alias": "fast",
    "surface": "chat",
    "tags": "[]",
    "labels": "{}",
    "session_id": "",
    "turn_id": "",
    "trace_id": "",
    "admitted_at_us": NOW_US,
    "lease_until_us": NOW_US + 1,
    "holds": "[]",
    "reserved_micro": 0,
    "settled_micro": 0,
    "ended_at_us": NOW_US + 500_000,
    "reason": "",
    "provider": "openai",
    "model": "gpt",
    "is_usage_final": 1,
    "ttft_us": 1000,
    "wall_us": 2000,
    "phases": "{}",
}
ATTEMPT: dict[str, Any] = {
    "state": "actual",
    "provider": "openai",
    "model": "gpt",
    "role": "primary",
    "outcome": "success",
    "reason": "",
    "http_status": 200,
    "is_winner": 1,
    "started_us": 100,
    "ended_us": 900,
    "prompt_tokens": 10,
    "cached_tokens": 4,
    "cache_write_tokens": 1,
    "output_tokens": 5,
    "reasoning_tokens": 2,
    "price_version": "p 1",
    "cost_micro": 70,
    "upper_micro": 70,
    "phases": "{}",
}
LOSER: dict[str, Any] = {
    "role": "hedge",
    "outcome": "ignored",
    "is_winner": 0,
    "state": "estimated",
    "cost_micro": 30,
    "upper_micro": 90,
    "provider": "anthropic",
    "model": "claude",
}
"""What makes an attempt one that lost."""


def generation(
    number: int | str, attempts: Sequence[dict[str, Any]] = ({},), **values: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A row and those of its attempts; lists and mappings become JSON."""
    rows = [
        {**ATTEMPT, **given, "generation_id": f"gen_{number}", "ordinal": ordinal}
        for ordinal, given in enumerate(attempts)
    ]
    row = {**GENERATION, "settled_micro": sum(one["cost_micro"] or 0 for one in rows)}
    row |= {"id": f"gen_{number}"}
    for name, value in values.items():
        row[name] = json.dumps(value) if isinstance(value, list | dict) else value
    if row["state"] == "open":
        ended = ("ended_at_us", "settled_micro", "reason", "provider", "model", "ttft_us")
        row |= dict.fromkeys((*ended, "wall_us", "is_usage_final"))
        rows = [{**one, "state": "open", "cost_micro": None} for one in rows]
    return row, rows


def write(engine: Engine, *given: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    """Put them into the tables."""
    with writing(engine) as connection:
        connection.execute(insert(schema.generations), [one for one, _ in given])
        attempts = [row for _, rows in given for row in rows]
        if attempts:
            connection.execute(insert(schema.attempts), attempts)
