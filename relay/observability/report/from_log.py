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
from relay.outcome import COPIES
from relay.timeline import PHASES

_UNTIL_CONTENT: Final = PHASES[: PHASES.index("first_content") + 1]
_FAULTS: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
_MOST: Final = 1 << 53
_YEARS: Final = (1970, 2200)
_LEAST_SHARE: Final = 1e-6

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
        wanted: of the parsed lines; all without it. A line that it cannot look at is unreadable.

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
            found, share = _generation(row), _share(row)
            is_wanted = wanted is None or wanted(row)
        except _FAULTS:
            notes.unreadable += 1
            continue
        notes.readable += 1
        if row.get("frontend") == COPIES:
            continue
        if since_us is not None and found.received_us < since_us:
            continue
        if until_us is not None and found.received_us >= until_us:
            continue
        if not is_wanted:
            continue
        if share < 1:
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
    wall_us = _whole(row["wall_us"])
    ended = datetime.fromisoformat(row["timestamp"])
    if not _YEARS[0] <= ended.year <= _YEARS[1]:
        raise ValueError("timestamp")
    received_us = round(ended.timestamp() * 1e6) - wall_us
    if received_us < 0:
        raise ValueError("wall_us")
    provider, model = _text(row["provider"]), _text(row["model"])
    winner = f"{provider}/{model}" if provider else ""
    reason = _text(row.get("reason"))
    if not reason and row.get("status", "OK") != "OK":
        reason = "UNKNOWN"
    tags, labels = row.get("tags") or [], row.get("labels") or {}
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise TypeError("tags")
    if not isinstance(labels, dict):
        raise TypeError("labels")
    _text(row.get("frontend"))
    tried = _one_winner(tuple(_tried(one, winner, wall_us) for one in row["attempts"]))
    return Generation(
        received_us=received_us,
        alias=_text(row["asked"]),
        team="",
        key=_text(row.get("key")),
        reason=reason,
        ttft_us=_ttft_us(row["timeline_us"], tried),
        wall_us=wall_us,
        tried=tried,
    )


def _tried(one: dict[str, Any], winner: str, wall_us: int) -> Tried:
    provider, _, model = one["target"].partition("/")
    first_us, ended_us = _maybe(one["first_content_us"]), _maybe(one["ended_us"])
    is_lost = one["outcome"] == "lost"
    outcome = "ignored" if is_lost else _text(one["outcome"])
    cost = _maybe(one.get("cost_micro_usd"))
    if cost is None and outcome in ("failure", "overload"):
        cost = 0  # it failed before anything was billed
    return Tried(
        provider=provider,
        model=model,
        role=_text(one["role"]),
        outcome=outcome,
        reason=_text(one.get("reason")),
        http_status=_maybe(one.get("status")) or 0,
        is_winner=one["target"] == winner and first_us is not None and not is_lost,
        started_us=_whole(one["started_us"]),
        ended_us=ended_us or wall_us,
        first_us=first_us,
        cost_micro=cost,
        upper_micro=_maybe(one.get("cost_upper_micro_usd")),
        is_estimated=True,
    )


def _share(row: dict[str, Any]) -> float:
    """What the line was chosen by; 1 where the log is whole."""
    share = row.get("share")
    if share is None:
        return 1.0
    if isinstance(share, bool) or not isinstance(share, int | float):
        raise TypeError("share")
    if not _LEAST_SHARE <= share <= 1:
        raise ValueError("share")
    return float(share)


def _whole(value: object) -> int:
    """A number that sums stay exact with."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a number is expected")
    if not 0 <= value <= _MOST:  # no NaN either
        raise ValueError("out of range")
    return round(value)


def _maybe(value: object) -> int | None:
    return None if value is None else _whole(value)


def _text(value: object) -> str:
    """Empty where there is none."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("a text is expected")
    return value


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
        return sum(_whole(timeline[phase]) for phase in _UNTIL_CONTENT)
    return winner.started_us + winner.first_us
