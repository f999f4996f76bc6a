"""Moments as people write them on a command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_AGO: Final = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment_us(text: str, now_us: int) -> int:
    """Microseconds since 1970 of `2026-11-27`, `2026-11-27T08:30`, with or without an offset (UTC),
    or of a time ago: `90s`, `30m`, `24h`, `7d`, `2w`.

    Raises:
        ValueError: it is none of these.
    """
    if ago := _AGO.fullmatch(text.strip()):
        return now_us - int(ago[1]) * _UNIT_S[ago[2]] * 1_000_000
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is no moment: 2026-11-27T08:30 (UTC), or a time ago like 24h"
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return round(found.timestamp() * 1_000_000)


def length_s(text: str) -> float:
    """Seconds of `90s`, `30m`, `24h`, `7d`, `2w`.

    Raises:
        ValueError: it is none of these.
    """
    found = _AGO.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no length of time such as 30d or 12h")
    return float(int(found[1]) * _UNIT_S[found[2]])
