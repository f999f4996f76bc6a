"""Accounts read out row by row, in the order they were admitted, in constant memory.

Two shapes: an attempt a row, with the generation that it is of (`ATTEMPT_COLUMNS`; a generation
without attempts is a row whose attempt is empty), or a generation a row with its attempts in it
(`GENERATION_COLUMNS`). Columns keep their order; new ones are added at the end.

Rows are read a page at a time, each in a short transaction: an export of hours holds nothing that
others wait for. What is settled while it runs may be missing, so give a range that is over.

Blocking: called in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Final, Literal

import orjson
from sqlalchemy import Connection, Engine, and_, or_, select

from relay.governance.money import MICRO
from relay.store.engine import reading
from relay.store.schema import attempts, generations
from relay.store.usage_fields import (
    Selection,
    UsageError,
    attempt_conditions,
    generation_conditions,
)

Shape = Literal["generations", "attempts"]
PAGE_ROWS: Final = 1000

_TEXT, _INTEGER, _DECIMAL, _FLAG = "text", "integer", "decimal", "flag"
Kind = str

_GENERATION: Final[dict[str, Kind]] = {
    "id": _TEXT,
    "state": _TEXT,
    "organisation_id": _TEXT,
    "team_id": _TEXT,
    "key_id": _TEXT,
    "alias": _TEXT,
    "surface": _TEXT,
    "tags": _TEXT,
    "labels": _TEXT,
    "session_id": _TEXT,
    "turn_id": _TEXT,
    "trace_id": _TEXT,
    "admitted_at_us": _INTEGER,
    "ended_at_us": _INTEGER,
    "reason": _TEXT,
    "provider": _TEXT,
    "model": _TEXT,
    "is_usage_final": _FLAG,
    "ttft_us": _INTEGER,
    "wall_us": _INTEGER,
    "reserved_micro": _INTEGER,
    "settled_micro": _INTEGER,
    "settled_usd": _DECIMAL,
    "saved_micro": _INTEGER,
    "decision": _TEXT,
}
_ATTEMPT: Final[dict[str, Kind]] = {
    "ordinal": _INTEGER,
    "state": _TEXT,
    "provider": _TEXT,
    "model": _TEXT,
    "role": _TEXT,
    "outcome": _TEXT,
    "reason": _TEXT,
    "http_status": _INTEGER,
    "is_winner": _FLAG,
    "started_us": _INTEGER,
    "ended_us": _INTEGER,
    "prompt_tokens": _INTEGER,
    "cached_tokens": _INTEGER,
    "cache_write_tokens": _INTEGER,
    "output_tokens": _INTEGER,
    "reasoning_tokens": _INTEGER,
    "price_version": _TEXT,
    "cost_micro": _INTEGER,
    "cost_usd": _DECIMAL,
    "upper_micro": _INTEGER,
    "phases": _TEXT,
    "leg": _TEXT,
}
GENERATION_COLUMNS: Final[Mapping[str, Kind]] = {
    **{("generation_id" if name == "id" else name): kind for name, kind in _GENERATION.items()},
    "attempts": _TEXT,
    "phases": _TEXT,
}
"""Of an export of generations: name and kind. Tags, labels, attempts and phases (the timeline,
microseconds by phase) are JSON."""
ATTEMPT_COLUMNS: Final[Mapping[str, Kind]] = {
    **{
        ("generation_id" if name == "id" else f"generation_{name}"): kind
        for name, kind in _GENERATION.items()
    },
    **_ATTEMPT,
    "generation_phases": _TEXT,
}
"""Of an export of attempts."""
_USD: Final = {"settled_usd": "settled_micro", "cost_usd": "cost_micro"}


def columns(shape: Shape) -> Mapping[str, Kind]:
    """Names and kinds, in order."""
    return GENERATION_COLUMNS if shape == "generations" else ATTEMPT_COLUMNS


def export_rows(
    engine: Engine,
    selection: Selection,
    shape: Shape,
    *,
    has_open: bool = False,
    page_rows: int = PAGE_ROWS,
) -> Iterator[list[dict[str, Any]]]:
    """Pages of rows: integers, texts, booleans, None. `attempts` of a generation is a list; other
    JSON stays as text.

    Args:
        has_open: those that are not over are there too.

    Raises:
        UsageError: of a generation's export attempts are selected, or a dimension is not there.
        StoreUnavailable: also in the midst of it.
    """
    if shape == "generations" and attempt_conditions(selection):
        raise UsageError(
            "where: provider, model, role, outcome and charge are of attempts; export attempts"
        )
    after: tuple[int, str] | None = None
    while True:
        with reading(engine) as connection:
            owners = _owners(connection, selection, has_open, after, page_rows)
            page = list(_rows(connection, owners, selection, shape))
        if page:
            yield page
        if len(owners) < page_rows:
            return
        after = owners[-1]["admitted_at_us"], owners[-1]["id"]


def _owners(
    connection: Connection,
    selection: Selection,
    has_open: bool,
    after: tuple[int, str] | None,
    page_rows: int,
) -> list[dict[str, Any]]:
    of = generations.c
    query = (
        select(*(of[name] for name in _GENERATION if name not in _USD), of.phases)
        .where(*generation_conditions(connection, selection))
        .order_by(of.admitted_at_us, of.id)
        .limit(page_rows)
    )
    if not has_open:
        query = query.where(of.state != "open")
    if after is not None:
        at_us, id_ = after
        is_later = or_(of.admitted_at_us > at_us, and_(of.admitted_at_us == at_us, of.id > id_))
        # The first says what the second does, in a form that an index is used for.
        query = query.where(of.admitted_at_us >= at_us, is_later)
    return [dict(row) for row in connection.execute(query).mappings()]


def _rows(
    connection: Connection,
    owners: list[dict[str, Any]],
    selection: Selection,
    shape: Shape,
) -> Iterator[dict[str, Any]]:
    of = attempts.c
    wanted = attempt_conditions(selection)
    query = (
        select(of.generation_id, *(of[name] for name in _ATTEMPT if name not in _USD))
        .where(of.generation_id.in_([owner["id"] for owner in owners]), *wanted)
        .order_by(of.generation_id, of.ordinal)
    )
    found = {
        id_: [_shown(dict(zip(_KEPT, row[1:], strict=True)), _ATTEMPT) for row in rows]
        for id_, rows in groupby(connection.execute(query), key=lambda row: row[0])
    }
    for owner in owners:
        owner_id = owner["id"]
        mine = found.get(owner_id, [])
        shown = _shown(owner, _GENERATION)
        if shape == "generations":
            whole = [nested(one) for one in mine]
            yield {
                "generation_id": shown.pop("id"),
                **shown,
                "attempts": whole,
                "phases": owner["phases"],
            }
            continue
        if not mine and not wanted:
            mine = [dict.fromkeys(_ATTEMPT)]
        above = {
            ("generation_id" if name == "id" else f"generation_{name}"): value
            for name, value in shown.items()
        }
        for one in mine:
            yield above | one | {"generation_phases": owner["phases"]}


_KEPT: Final = tuple(name for name in _ATTEMPT if name not in _USD)


def _shown(row: dict[str, Any], kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """In the order of the columns, with what is made of others."""
    shown: dict[str, Any] = {}
    for name, kind in kinds.items():
        if name in _USD:
            shown[name] = usd(row[_USD[name]])
        elif kind == _FLAG:
            shown[name] = None if row[name] is None else bool(row[name])
        else:
            shown[name] = row[name]
    return shown


def usd(micro: int | None) -> str | None:
    """Dollars with six digits after the point."""
    if micro is None:
        return None
    whole, part = divmod(abs(micro), MICRO)
    return f"{'-' if micro < 0 else ''}{whole}.{part:06d}"


_JSON: Final = (
    "tags",
    "labels",
    "phases",
    "generation_tags",
    "generation_labels",
    "generation_phases",
    "decision",
    "generation_decision",
)


def nested(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose JSON is a part of it, not a text: for JSON lines."""
    found = dict(row)
    for name in _JSON:
        text = found.get(name)
        if isinstance(text, str):
            try:
                found[name] = orjson.loads(text)
            except orjson.JSONDecodeError:
                found[name] = text
    return found
