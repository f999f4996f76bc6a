"""Answers of experiments out of the relay's log, with what users said of them in later lines."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson

from relay.observability.experiments.rows import Notes, Observed
from relay.timeline import PHASES

_UNTIL_CONTENT = PHASES[: PHASES.index("first_content") + 1]
_FAULTS = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


def observed_in(
    lines: Iterable[bytes], since_us: int | None, until_us: int | None, notes: Notes
) -> dict[str, list[Observed]]:
    """By experiment, in the order of the log.

    Args:
        notes: told of lines that cannot be read.

    Raises:
        OSError: by whoever gives the lines.
    """
    found: dict[str, list[Observed]] = {}
    by_id: dict[str, Observed] = {}
    for line in lines:
        is_end, is_word = b'"generation"' in line, b'"feedback"' in line
        if not (is_end and b'"experiment"' in line) and not is_word:
            continue
        try:
            row = orjson.loads(line)
            event = row.get("event")
            if event == "feedback":
                _hear(row, by_id)
            elif event == "generation":
                _take(row, since_us, until_us, found, by_id, notes)
        except _FAULTS:
            notes.unreadable += 1
    return found


def _hear(row: dict[str, Any], by_id: dict[str, Observed]) -> None:
    one, score = by_id.get(row["id"]), row.get("score")
    if one is not None and score is not None:
        one.score = min(1.0, max(0.0, float(score)))


def _take(
    row: dict[str, Any],
    since_us: int | None,
    until_us: int | None,
    found: dict[str, list[Observed]],
    by_id: dict[str, Observed],
    notes: Notes,
) -> None:
    decision = row.get("decision") or {}
    name = decision.get("experiment")
    if not name:
        return
    wall_us = int(row["wall_us"])
    at_us = round(datetime.fromisoformat(row["timestamp"]).timestamp() * 1e6) - wall_us
    if (since_us is not None and at_us < since_us) or (until_us is not None and at_us >= until_us):
        return
    share = float(row.get("share") or 1.0)
    if not 1e-6 <= share <= 1:
        raise ValueError("share")
    notes.sampled += share < 1
    timeline = row["timeline_us"]
    costs = [one.get("cost_micro_usd") for one in row["attempts"]]
    reason = row.get("reason") or ""
    one = Observed(
        generation_id=str(row["id"]),
        arm=str(decision.get("arm", "")),
        unit=str(decision.get("unit") or row["id"]),
        at_us=at_us,
        reason=str(reason),
        ttft_us=sum(int(timeline.get(phase, 0)) for phase in _UNTIL_CONTENT)
        if "first_content" in timeline
        else None,
        wall_us=wall_us,
        cost_micro=None if None in costs else float(sum(costs)),
        finish=str(row.get("finish") or ""),
        weight=1 / share,
    )
    found.setdefault(str(name), []).append(one)
    by_id[one.generation_id] = one
