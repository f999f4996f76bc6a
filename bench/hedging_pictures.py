"""The pictures of docs/hedging.md.

    python -m bench.hedging_pictures record RELAY.LOG   keeps the first race that a hedge has won
    python -m bench.hedging_pictures                    draws all of them anew

`race.svg` is a race of a real relay, from its log (`docs/pictures/race.json`). `tail.svg` is made
of percentiles that somebody published (`RELAY_TTFT_DATA`; `bench/replay/data.py` says how a curve
is drawn through them). `breaker.svg` is the relay's own breaker on a simulated clock.
"""

from __future__ import annotations

import html
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.replay import svg
from bench.replay.data import Tail, published
from relay.resilience.breaker import Breaker, BreakerSettings

PICTURES: Final = Path(__file__).resolve().parents[1] / "docs" / "pictures"
_WIDTH: Final = 760
_WAIT, _SPEAK, _LOST, _MARK = "#bcd2ea", "#2ca02c", "#dddddd", "#c00"


# --- a race -------------------------------------------------------------------------------------


def first_race(log: Path) -> dict[str, Any]:
    """Of a relay's log: the first generation that a hedge has won, what a picture needs of it.

    Raises:
        SystemExit: there is none.
    """
    for line in log.read_text(encoding="utf-8").splitlines():
        row = json.loads(line) if line.startswith("{") else {}
        if row.get("event") == "generation" and (row.get("hedge") or {}).get("won"):
            names = ("target", "role", "outcome", "started_us", "ended_us", "first_content_us")
            attempts = [{name: one[name] for name in names} for one in row["attempts"]]
            return {"delay_us": row["hedge"]["delay_us"], "attempts": attempts}
    sys.exit(f"no hedge has won in {log}")


def race(record: Mapping[str, Any]) -> str:
    """A lane for each attempt, over the time since the request came."""
    attempts: Sequence[Mapping[str, Any]] = record["attempts"]
    end_ms: float = max(one["ended_us"] for one in attempts) / 1000
    left, top, lane, height = 130, 60, 60, 60 + 60 * len(attempts) + 40

    def x(at_us: float) -> float:
        return left + at_us / 1000 / end_ms * (_WIDTH - left - 30)

    lines = _opening("One race: who was asked when, and what became of it", height)
    for tick_ms in range(0, int(end_ms) + 1, 200):
        at = x(tick_ms * 1000)
        lines.append(_line(at, top - 14, at, height - 36, "#eee"))
        lines.append(_text(at, height - 20, f"{tick_ms}", "middle"))
    lines.append(_text(_WIDTH - 30, height - 4, "ms since the request came", "end"))
    for number, one in enumerate(attempts):
        y = top + lane * number
        name, _, model = str(one["target"]).partition("/")
        lines.append(_text(10, y + 14, f"{name}, {one['role']}"))
        lines.append(_text(10, y + 29, model.partition(",")[0].removeprefix("emu:"), colour="#777"))
        start, stop = x(one["started_us"]), x(one["ended_us"])
        if one["first_content_us"] is None:
            lines.append(_box(start, y, stop, _LOST))
            lines.append(_text(stop + 6, y + 19, "its stream is reset", colour=_MARK))
        else:
            said = x(one["started_us"] + one["first_content_us"])
            lines.append(_box(start, y, said, _WAIT))
            lines.append(_box(said, y, stop, _SPEAK))
            lines.append(_text(start + 4, y + 19, "is asked"))
            lines.append(_text(said + 4, y + 19, "its first content wins", colour="white"))
    due = x(attempts[0]["started_us"] + record["delay_us"])
    lines.append(_line(due, top - 12, due, height - 36, _MARK, is_dashed=True))
    lines.append(_text(due, top - 16, "the hedge is due", "middle", _MARK))
    return _closed(lines)


# --- the tail -----------------------------------------------------------------------------------

FIRST: Final = ("modelstats", "gpt-4o")
SECOND: Final = ("modelstats", "gemini-2.5-flash")
AFTER: Final = 0.96
"""The percentile of the first after which the second is asked: that of `delay: auto` at 5 %."""


def share_later(tail: Tail, at_s: float) -> float:
    """The share of first tokens that are later than this."""
    low, high = 0.0, 1.0 - 1e-9
    if tail.at(low) > at_s:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail.at(middle) <= at_s else (low, middle)
    return 1.0 - low


def arms() -> dict[str, Callable[[float], float]]:
    """The share that is later, of the first alone and with a second; the two know nothing of each
    other."""
    first, second = published(*FIRST), published(*SECOND)
    after_s = first.at(AFTER)

    def raced(delay_s: float) -> Callable[[float], float]:
        return lambda at_s: (
            share_later(first, at_s)
            * (share_later(second, at_s - delay_s) if at_s > delay_s else 1.0)
        )

    return {
        "alone": lambda at_s: share_later(first, at_s),
        "second after p96": raced(after_s),
        "both at once": raced(0.0),
    }


def tail_picture() -> str:
    """The share of first tokens that are later, over the time."""
    times_s = [0.4 * 10 ** (step / 100) for step in range(140)]
    curves = {
        name: [(share, at_s) for at_s in times_s if 1e-3 <= (share := later(at_s)) < 1]
        for name, later in arms().items()
    }
    picture = svg.tails(
        "First tokens of gpt-4o, and with gemini-2.5-flash asked beside it",
        curves,
        ticks=(0.5, 1, 1.5, 2, 3, 5, 10),
        least_share=1e-3,
    )
    for grey, colour in (("#888888", "#d62728"), ("#bbbbbb", "#1f77b4"), ("#555555", "#2ca02c")):
        picture = picture.replace(grey, colour)
    return picture


def quantile_s(later: Callable[[float], float], share: float) -> float:
    """The time that this share is not above."""
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if later(middle) > 1 - share else (low, middle)
    return high


# --- a breaker ----------------------------------------------------------------------------------

OUTAGE_S: Final = (20.0, 45.0)
_END_S: Final = 150
_STEPS_A_SECOND: Final = 20


def shares() -> list[tuple[float, float]]:
    """`(time, share)` of a target that refuses everything in `OUTAGE_S`: the relay's own breaker,
    asked twenty times a second."""
    breaker = Breaker(BreakerSettings(), lambda: 0.5)
    found: list[tuple[float, float]] = []
    credit = 0.0
    for step in range(_END_S * _STEPS_A_SECOND):
        now_s = step / _STEPS_A_SECOND
        share = breaker.share(now_s)
        if not found or found[-1][1] != share:
            found.append((now_s, share))
        credit += share
        if credit >= 1 or breaker.wants_probe(now_s):
            credit = max(0.0, credit - 1)
            permit = breaker.permit(now_s)
            if permit is not None and OUTAGE_S[0] <= now_s < OUTAGE_S[1]:
                permit.failure(now_s)
            elif permit is not None:
                permit.success(now_s)
    return [*found, (float(_END_S), found[-1][1])]


def breaker_picture(steps: Sequence[tuple[float, float]]) -> str:
    """The share of its traffic that it gets, over time."""
    left, top, bottom, height = 60, 44, 220, 270

    def x(at_s: float) -> float:
        return left + at_s / _END_S * (_WIDTH - left - 30)

    def y(share: float) -> float:
        return bottom - share * (bottom - top)

    lines = _opening("A breaker: how much of its traffic a target gets", height)
    lines.append(
        f'<rect x="{x(OUTAGE_S[0]):.1f}" y="{top}" width="{x(OUTAGE_S[1]) - x(OUTAGE_S[0]):.1f}"'
        f' height="{bottom - top}" fill="#fbe3e3"/>'
    )
    lines.append(_text(x(sum(OUTAGE_S) / 2), top + 14, "refuses", "middle", _MARK))
    for share in (0, 0.1, 0.25, 0.5, 1):
        lines.append(_line(left, y(share), _WIDTH - 30, y(share), "#eee"))
        lines.append(_text(left - 6, y(share) + 4, f"{100 * share:g} %", "end"))
    for mark_s in range(0, _END_S + 1, 15):
        lines.append(_text(x(mark_s), bottom + 16, f"{mark_s}", "middle"))
    lines.append(_text(_WIDTH - 30, bottom + 34, "seconds", "end"))
    path = f"M{x(steps[0][0]):.1f} {y(steps[0][1]):.1f}"
    for at_s, share in steps[1:]:
        path += f"H{x(at_s):.1f}V{y(share):.1f}"
    lines.append(f'<path d="{path}" fill="none" stroke="#1f77b4" stroke-width="2"/>')
    back = next(at_s for at_s, share in steps if share > 0 and at_s > OUTAGE_S[1])
    lines.append(_text(x(back), bottom + 34, "the probe is answered", "middle"))
    return _closed(lines)


# --- drawing ------------------------------------------------------------------------------------


def _opening(title: str, height: int) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        _text(10, 22, title, size=14),
    ]


def _closed(lines: Sequence[str]) -> str:
    return "\n".join([*lines, "</svg>", ""])


def _text(
    x: float, y: float, text: str, anchor: str = "start", colour: str = "#222", size: int = 12
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
        f' font-size="{size}">{html.escape(text)}</text>'
    )


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, *, is_dashed: bool = False
) -> str:
    dash = ' stroke-dasharray="4 3"' if is_dashed else ""
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}"{dash}/>'


def _box(x1: float, y: float, x2: float, colour: str) -> str:
    return f'<rect x="{x1:.1f}" y="{y}" width="{x2 - x1:.1f}" height="30" fill="{colour}"/>'


def pictures() -> dict[str, str]:
    """SVG documents by file name.

    Raises:
        FileNotFoundError: the published times are not there.
    """
    record = json.loads((PICTURES / "race.json").read_text(encoding="utf-8"))
    return {
        "race.svg": race(record),
        "tail.svg": tail_picture(),
        "breaker.svg": breaker_picture(shares()),
    }


def main(arguments: Sequence[str]) -> None:
    """Write the files."""
    if arguments[:1] == ["record"]:
        text = json.dumps(first_race(Path(arguments[1])), indent=1)
        (PICTURES / "race.json").write_text(f"{text}\n", encoding="utf-8")
        return
    for name, text in pictures().items():
        (PICTURES / name).write_text(text, encoding="utf-8")
    for name, later in arms().items():
        told = ", ".join(f"p{100 * q:g} {quantile_s(later, q):.2f} s" for q in (0.5, 0.95, 0.99))
        print(f"{name}: {told}")


if __name__ == "__main__":
    main(sys.argv[1:])
