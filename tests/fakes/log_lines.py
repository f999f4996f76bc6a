"""Lines of the relay's log, as `relay replay` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

BEGIN_S = 1_790_000_000.0


def attempt(
    target: str,
    role: str = "primary",
    outcome: str = "success",
    *,
    started_us: int = 0,
    first_us: int | None = None,
    ended_us: int = 0,
    reason: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One attempt of a line."""
    return {
        "target": target,
        "role": role,
        "outcome": outcome,
        "reason": reason,
        "status": 200,
        "mended": None,
        "started_us": started_us,
        "ended_us": ended_us,
        "first_content_us": first_us,
        "cached_tokens": None,
        "cost_micro_usd": None,
        "cost_upper_micro_usd": None,
        **more,
    }


def line(
    attempts: Sequence[dict[str, Any]],
    *,
    received_s: float,
    asked: str = "fast",
    stream_us: int = 0,
    status: str = "OK",
    wall_us: int | None = None,
    prompt_tokens: int = 0,
    completion_tokens: int = 1,
    wish: dict[str, Any] | None = None,
    **more: Any,
) -> bytes:
    """One generation."""
    winner = next(
        (one for one in attempts if one["outcome"] == "success" and one["first_content_us"]), None
    )
    if wall_us is None:
        ends = [one["started_us"] + (one["first_content_us"] or 0) for one in attempts]
        ends += [one["ended_us"] for one in attempts]
        wall_us = max(ends, default=0) + stream_us
    provider, _, model = winner["target"].partition("/") if winner else ("", "", "")
    ended = datetime.fromtimestamp(BEGIN_S + received_s + wall_us / 1e6, tz=UTC)
    return orjson.dumps(
        {
            "event": "generation",
            "level": "info",
            "timestamp": ended.isoformat().replace("+00:00", "Z"),
            "id": "gen_1",
            "asked": asked,
            "provider": provider or None,
            "model": model or None,
            "status": status,
            "attempts": list(attempts),
            "hedge": None,
            "wish": wish,
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "wall_us": wall_us,
            "timeline_us": {"stream": stream_us, "stalls": 0},
            **more,
        }
    )
