"""What is spent against budgets, for the dashboard: looked up every few seconds while somebody
looks, in a thread, and kept in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from sqlalchemy import select

from relay.administration.budgets import budgets
from relay.administration.desk import Desk
from relay.administration.roles import VIEWER, Actor
from relay.store import schema
from relay.store.base import StoreUnavailable

_log = structlog.get_logger("relay.live")

EVERY_S: Final = 5.0
MAX_SHOWN: Final = 100
"""Budgets, those nearest to their ends first."""
_LOOKS: Final = Actor("dashboard", VIEWER)
"""The picture is for those that may see the state, who are bound to nothing and may see budgets."""
_SHOWN: Final = (
    "id",
    "scope",
    "period",
    "time_zone",
    "limit_micro",
    "settled_micro",
    "reserved_micro",
    "period_end_s",
)


class Spend:
    """Of one process.

    Args:
        desk: where budgets are looked up.
        clock: monotonic, seconds.
    """

    def __init__(self, desk: Desk, clock: Callable[[], float] = time.monotonic) -> None:
        self._desk = desk
        self._clock = clock
        self._looked_s = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._shown: dict[str, Any] = {"budgets": None, "budgets_why": "", "keys": {}}

    async def __call__(self) -> dict[str, Any]:
        """`budgets`, None while they are not known, with `budgets_why`; and `keys`, names by id.
        Waits for the store the first time alone."""
        now_s = self._clock()
        if self._looking is None and now_s - self._looked_s >= EVERY_S:
            self._looked_s = now_s
            self._looking = asyncio.create_task(self._look(), name="live budgets")
        if self._looking is not None and self._shown["budgets"] is None:
            await asyncio.wait([self._looking], timeout=1.0)
        return self._shown

    async def aclose(self) -> None:
        """Idempotent; a look that has begun goes on to its end in its thread."""
        task, self._looking = self._looking, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _look(self) -> None:
        try:
            found, names = await asyncio.to_thread(_found, self._desk)
            self._shown = {"budgets": found, "budgets_why": "", "keys": names}
        except StoreUnavailable as error:
            self._shown = {**self._shown, "budgets_why": str(error)}
        except Exception as error:  # noqa: BLE001 - the next look may go well
            _log.error("live_bug", error=type(error).__name__, exc_info=error)
            self._shown = {**self._shown, "budgets_why": "they cannot be read"}
        finally:
            self._looking = None


def _found(desk: Desk) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """
    Raises:
        StoreUnavailable
    """
    rows = [row for row in budgets(desk, _LOOKS) if row["archived_at_us"] is None]
    rows.sort(key=_share, reverse=True)
    names: dict[str, dict[str, str]] = {}
    tables = (("key", schema.keys), ("team", schema.teams), ("organisation", schema.organisations))
    with desk.look() as connection:
        for scope, table in tables:
            query = select(table.c.id, table.c.name).limit(1000)
            names[scope] = {row.id: row.name for row in connection.execute(query)}
    shown = [
        {
            **{field: row[field] for field in _SHOWN},
            "is_hard": bool(row["is_hard"]),
            "name": _name(names, row["scope"], row["scope_id"]),
        }
        for row in rows[:MAX_SHOWN]
    ]
    return shown, names["key"]


def _name(names: dict[str, dict[str, str]], scope: str, scope_id: str) -> str:
    return f"{scope} {names.get(scope, {}).get(scope_id, scope_id)}"


def _share(row: Any) -> float:
    used = row["settled_micro"] + row["reserved_micro"]
    return used / row["limit_micro"] if row["limit_micro"] else 1.0
