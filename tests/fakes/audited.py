"""What a relay has written to the audit log of its SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

_SQL = "SELECT actor, subject, organisation_id, outcome, detail FROM audit WHERE action = ?"


async def audited(database: Path, action: str) -> list[dict[str, Any]]:
    """Entries of an action, as soon as there are any; one is written some 50 ms after it was told.
    None after three seconds."""
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        found: list[dict[str, Any]] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                while not found:
                    await asyncio.sleep(0.02)
                    found = [dict(row) for row in connection.execute(_SQL, (action,))]
    return found
