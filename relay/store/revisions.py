"""The version of the tables: how a worker knows whether it can serve over what it finds.

A revision is `ERA_NUMBER`, like `1_0001`. Within an era revisions only add (tables, columns that
may be empty or have a default, indices), so that a worker serves over every later number: while an
upgrade rolls over machines, old workers go on beside new ones. What is not an addition begins a new
era, over which old workers refuse to start.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from relay.store.base import StoreUnavailable

HEAD: Final = "1_0005"
"""What this version of the relay works with; the newest file in `migrations/versions`."""

_FORM: Final = re.compile(r"(\d+)_(\d{4})")


class SchemaError(StoreUnavailable):
    """The database has tables that are not ours, or none; the message says what to do."""


class Standing(enum.Enum):
    """Of a database's revision against `HEAD`."""

    EMPTY = "empty"
    BEHIND = "behind"
    CURRENT = "current"
    AHEAD = "ahead"
    FOREIGN = "foreign"


def standing(revision: str | None, head: str = HEAD) -> Standing:
    """Where a database with this revision stands; None is one that has none."""
    if revision is None:
        return Standing.EMPTY
    if revision == head:
        return Standing.CURRENT
    theirs, ours = _FORM.fullmatch(revision), _FORM.fullmatch(head)
    if theirs is None or ours is None or int(theirs[1]) > int(ours[1]):
        return Standing.FOREIGN
    if theirs[1] == ours[1] and theirs[2] > ours[2]:
        return Standing.AHEAD
    return Standing.BEHIND


def require_usable(revision: str | None, head: str = HEAD) -> None:
    """Raise SchemaError where a worker cannot serve over this revision."""
    match standing(revision, head):
        case Standing.CURRENT | Standing.AHEAD:
            return
        case Standing.EMPTY:
            what = "the database has no tables of the relay yet; make them"
        case Standing.BEHIND:
            what = f"the database is at revision {revision}, this relay needs {head}; bring it up"
        case Standing.FOREIGN:
            raise SchemaError(
                f"the database is at revision {revision!r}, which this relay (at {head}) does not"
                " know and cannot serve over; use the version of the relay that made it, or restore"
                " a backup with `relay store restore`"
            )
    raise SchemaError(f"{what} with `relay store migrate`")
