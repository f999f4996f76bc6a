"""Generations out of the relay's log: what `relay serve` writes to standard error.

One JSON line a generation (`relay.generation_log`). The log knows no teams, and a generation is of
the moment that its line was written, less its own length. Money is by the attempts' estimates.

Of a log that is sampled each line says the share that it was chosen by (`share`): it stands for
1/share generations. Parts of one are carried on to the next line of that share, so that sums stay
whole numbers and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Final

import orjson

from relay.observability.report.rows import Generation, SourceNotes, Tried
from relay.timeline import PHASES

_UNTIL_CONTENT: Final = PHASES[: PHASES.index("first_content") + 1]
_FAULTS: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError)

Wanted = Callable[[dict[str, Any]], bool]


def generations_of(
    lines: Iterable[bytes],
    notes: SourceNotes,
    *,
    since_us: int | None,
    until_us: int | None,
    wanted: Wanted | None = None,
) -> Iterator[Generation]:
    """
    Args:
        notes: told of lines that could not be read.
        wanted: of the parsed lines; all without it.

    Raises:
        OSError: by whoever gives the lines.
    """
    notes.has_teams = False
    carried: dict[float, float] = {}
    for line in lines:
        if b'"generation"' not in line:
            _count_other(line, notes)
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            notes.unreadable += 1
            continue
        if not isinstance(row, dict) or row.get("event") != "generation":
            _count_other(line, notes)
            continue
        try:
            found = _generation(row)
        except _FAULTS:
            notes.unreadable += 1
            continue
        notes.readable += 1
        if since_us is not None and found.received_us < since_us:
            continue
        if until_us is not None and found.received_us >= until_us:
            continue
        if wanted is not None and not wanted(row):
            continue
        share = row.get("share")
        if isinstance(share, int | float) and 0 < share < 1:
            stands_for = carried.get(share, 0.0) + 1 / share
            times = int(stands_for + 1e-9)
            carried[share] = stands_for - times
            notes.sampled += 1
            notes.stand_for += times
            found = found._replace(times=times)
        yield found


def _count_other(line: bytes, notes: SourceNotes) -> None:
    """A line of no generation, which is not parsed: the log has many of them."""
    text = line.strip()
    if text.startswith(b"{") and text.endswith(b"}") and b'"event"' in text:
        notes.readable += 1
    elif text:
        notes.unreadable += 1


def _generation(row: dict[str, Any]) -> Generation:
    wall_us = int(row["wall_us"])
    ended_s = datetime.fromisoformat(row["timestamp"]).timestamp()
    winner = f"{row['provider']}/{row['model']}" if row["provider"] else ""
    reason = row.get("reason") or ("" if row.get("status", "OK") == "OK" else "UNKNOWN")
    tried = tuple(_tried(one, winner, wall_us) for one in row["attempts"])
    tried = _one_winner(tried)
    return Generation(
        received_us=round(ended_s * 1e6) - wall_us,
        alias=str(row["asked"]),
        team="",
        key=str(row.get("key") or ""),
        reason=str(reason),
        ttft_us=_ttft_us(row["timeline_us"], tried),
        wall_us=wall_us,
        tried=tried,
    )


def _tried(one: dict[str, Any], winner: str, wall_us: int) -> Tried:
    provider, _, model = one["target"].partition("/")
    first_us, ended_us = one["first_content_us"], one["ended_us"]
    is_lost = one["outcome"] == "lost"
    outcome = "ignored" if is_lost else str(one["outcome"])
    cost = one.get("cost_micro_usd")
    if cost is None and outcome in ("failure", "overload"):
        cost = 0.0  # it failed before anything was billed
    upper = one.get("cost_upper_micro_usd")
    return Tried(
        provider=provider,
        model=model,
        role=str(one["role"]),
        outcome=outcome,
        reason=one.get("reason") or "",
        http_status=int(one.get("status") or 0),
        is_winner=one["target"] == winner and first_us is not None and not is_lost,
        started_us=int(one["started_us"]),
        ended_us=int(ended_us or wall_us),
        first_us=None if first_us is None else int(first_us),
        cost_micro=None if cost is None else round(cost),
        upper_micro=None if upper is None else round(upper),
        is_estimated=True,
    )


def _one_winner(tried: tuple[Tried, ...]) -> tuple[Tried, ...]:
    """The last that can have been: a target may be asked twice, and one answer was whole."""
    winners = [index for index, one in enumerate(tried) if one.is_winner]
    return tuple(
        one._replace(is_winner=False) if one.is_winner and index != winners[-1] else one
        for index, one in enumerate(tried)
    )


def _ttft_us(timeline: dict[str, Any], tried: tuple[Tried, ...]) -> int | None:
    """By the timeline, whose phases are consecutive; lines that have not got them all say it by
    their winner."""
    winner = next((one for one in tried if one.is_winner), None)
    if winner is None or winner.first_us is None:
        return None
    if all(phase in timeline for phase in _UNTIL_CONTENT):
        return int(sum(timeline[phase] for phase in _UNTIL_CONTENT))
    return winner.started_us + winner.first_us
