"""Models as Anthropic's API lists them: for clients that say which version of it they speak."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from relay.frontends.asgi import Scope, header


def is_of_anthropic(scope: Scope) -> bool:
    """Whether a request comes from a client of Anthropic's API."""
    return bool(header(scope, b"anthropic-version"))


def anthropic_row(name: str, created_s: int) -> dict[str, Any]:
    """One model.

    Args:
        created_s: shown as its date; what is known of when a model was made is nothing.
    """
    created = datetime.fromtimestamp(created_s, UTC).isoformat().replace("+00:00", "Z")
    return {"type": "model", "id": name, "display_name": name, "created_at": created}


def anthropic_list(names: Iterable[str], created_s: int) -> dict[str, Any]:
    """All models, in one page."""
    rows = [anthropic_row(name, created_s) for name in names]
    return {
        "data": rows,
        "has_more": False,
        "first_id": rows[0]["id"] if rows else None,
        "last_id": rows[-1]["id"] if rows else None,
    }
