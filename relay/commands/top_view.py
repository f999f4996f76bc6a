"""How a frame looks: on a terminal as much as fits, in a pipe all of it.

Colour only repeats what words say. Names come from callers and providers: they are never markup,
and do nothing to a terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from relay.commands.audit_view import printable
from relay.commands.top_frame import FEW_SAMPLES, SORTS, AliasRow, Frame, OriginRow, TargetRow
from relay.commands.top_snapshot import WorkerRow
from relay.commands.top_words import Problem, line, problems

ALL: Final = 100_000
"""Rows and columns of a screen that has no end."""
GAP: Final = 2
LEAST_NAME: Final = 18
NARROW: Final = 60
"""Columns; below it a name is cut to `LEAST_NARROW_NAME` before anything else is left out."""
LEAST_NARROW_NAME: Final = 10
KEYS: Final = "q quit  s sort  space pause  ? keys"
HELP: Final = (
    "q quit   s next order   n name  r rate  e errors  m p50  l p99  f in flight  t trouble"
    "   space pause   ? less"
)
SORT_KEYS: Final = {
    "n": "name",
    "r": "rate",
    "e": "errors",
    "m": "p50",
    "l": "p99",
    "f": "flight",
    "t": "trouble",
}


class Screen(NamedTuple):
    """What is drawn on, and what its user has chosen."""

    width: int = ALL
    height: int = ALL
    sort: str = "trouble"
    url: str = ""
    is_paused: bool = False
    lost: str = ""
    """Why there is nothing newer; empty while there is."""
    lost_s: float = 0.0
    shows_help: bool = False
    has_keys: bool = False


class Column(NamedTuple):
    """Of a table. The first one of a table is its name and is never left out."""

    title: str
    value: int
    """What is left out first where there is no room: the lowest."""
    justify: Literal["left", "right"] = "right"


Row = tuple[Sequence[str], str]
"""Cells, and the style of the row."""


def draw(frame: Frame | None, screen: Screen) -> RenderableType:
    """All of it, at most `screen.height` lines of `screen.width`.

    Args:
        frame: None while nothing has come.
    """
    parts: list[RenderableType] = []
    head: list[Text] = []
    if screen.lost:
        words = f"Cannot reach {screen.url}: {screen.lost}; trying again."
        if frame is not None:
            words += f" What is below is {screen.lost_s:.0f} s old."
        head.append(Text(printable(words), style="bold red"))
    if frame is None:
        if not head:
            head.append(Text(f"asking {printable(screen.url)} ..."))
        return Group(*_fitted(head, screen))
    found = problems(frame)
    head.append(_line(frame, found))
    head.append(Text(printable(_summary(frame, screen)), style="dim"))
    left = screen.height - sum(_lines(text, screen.width) for text in head)
    left -= bool(screen.has_keys)
    parts += head
    sections = _sections(frame, screen)
    rest = [Text(f"- {printable(one.words)}", style=_STYLES[one.level]) for one in found[1:]]
    rest = rest[: max(0, min(len(rest), left // 4))] if screen.height < ALL else rest
    left -= sum(_lines(text, screen.width) for text in rest)
    parts += rest
    for section in _shared(sections, left):
        parts += section
    if screen.has_keys:
        parts.append(Text(HELP if screen.shows_help else KEYS, style="dim"))
    return Group(*_fitted(parts, screen))


_STYLES: Final = {"bad": "red", "warn": "yellow"}


def _fitted(parts: Sequence[RenderableType], screen: Screen) -> Sequence[RenderableType]:
    for part in parts:
        if isinstance(part, Text) and screen.width < ALL:
            part.overflow = "fold"
    return parts


def _lines(text: Text, width: int) -> int:
    return max(1, -(-text.cell_len // max(1, width)))


def _line(frame: Frame, found: list[Problem]) -> Text:
    style = f"bold {_STYLES[found[0].level]}" if found else "bold green"
    return Text(printable(line(frame, found)), style=style)


def _summary(frame: Frame, screen: Screen) -> str:
    parts = [
        f"up {_length(frame.uptime_s)}",
        f"{frame.generations} running",
        f"{frame.sessions} sessions",
    ]
    if frame.background:
        parts.append(f"{frame.background} in the background")
    if frame.over_s is None:
        parts.append("rates with the next reading")
    else:
        parts.append(f"rates over {frame.over_s:.1f} s")
    parts.append(f"by {screen.sort}")
    if screen.is_paused:
        parts.append("PAUSED")
    return ", ".join(parts)


# --- tables, and how they share the room ----------------------------------------------------


class _Section(NamedTuple):
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]


def _sections(frame: Frame, screen: Screen) -> list[list[Text]]:
    targets = sorted(frame.targets, key=SORTS[screen.sort])
    workers = len(frame.workers)
    found = [
        _Section("target", _TARGETS, [_target(row, workers) for row in targets]),
        _Section("hedging", _ALIASES, [_alias(row) for row in frame.aliases]),
        _Section("pool", _ORIGINS, [_origin(row) for row in frame.origins]),
        _Section("worker", _WORKERS, [_worker(row) for row in frame.workers]),
    ]
    return [_table(section, screen.width) for section in found if section.rows]


def _shared(sections: list[list[Text]], left: int) -> list[list[Text]]:
    """Each section with a blank line before it, cut to its part of the lines that are left: all
    have two rows, if there is room for that; the first ones get the rest."""
    found: list[list[Text]] = []
    for index, section in enumerate(sections):
        later = sum(min(len(other), 3) + 1 for other in sections[index + 1 :])
        room = left - 1 - later
        if room < 2:
            room = min(left - 1, 3)
        if room < 2:
            break
        rows = section
        if len(section) > room:
            hidden = len(section) - room + 1
            rows = [*section[: room - 1], Text(f"  ... {hidden} more", style="dim")]
        found.append([Text(""), *rows])
        left -= len(rows) + 1
    return found


def _table(section: _Section, width: int) -> list[Text]:
    """Lines, the first one its titles."""
    columns = list(enumerate(section.columns))
    titles = [section.title, *(column.title for column in section.columns[1:])]
    cells = [[Text(printable(cell)) for cell in row] for row, _ in section.rows]
    wide = [
        max(Text(titles[index]).cell_len, *(row[index].cell_len for row in cells))
        for index, _ in columns
    ]
    # A column that says nothing in any row goes first.
    columns = [
        (index, column)
        for index, column in columns
        if index == 0 or any(row[index].plain for row in cells)
    ]
    least = LEAST_NAME if width >= NARROW else LEAST_NARROW_NAME
    while len(columns) > 1:
        needed = sum(wide[index] for index, _ in columns[1:]) + GAP * (len(columns) - 1)
        if min(wide[0], least) + needed <= width:
            break
        columns.remove(min(columns[1:], key=lambda pair: pair[1].value))
    needed = sum(wide[index] for index, _ in columns[1:]) + GAP * (len(columns) - 1)
    wide[0] = min(wide[0], max(1, width - needed))
    lines = [_joined([Text(title) for title in titles], columns, wide, "bold")]
    for row, (_, style) in zip(cells, section.rows, strict=True):
        lines.append(_joined(row, columns, wide, style))
    return lines


def _joined(
    row: Sequence[Text], columns: Sequence[tuple[int, Column]], wide: Sequence[int], style: str
) -> Text:
    shown = Text(style=style, no_wrap=True, overflow="crop")
    for place, (index, column) in enumerate(columns):
        cell = row[index].copy()
        cell.style = ""
        if cell.cell_len > wide[index]:
            cell = Text(_middle(cell.plain, wide[index]))
        blank = " " * (wide[index] - cell.cell_len)
        if place:
            shown.append(" " * GAP)
        if column.justify == "right":
            shown.append(blank)
        shown.append_text(cell)
        if column.justify == "left" and place < len(columns) - 1:
            shown.append(blank)
    return shown


def _middle(words: str, width: int) -> str:
    """What tells names apart is at their ends."""
    if width < 4:
        return words[:width]
    head = (width - 1) // 2
    kept = f"{words[:head]}…{words[len(words) - (width - 1 - head) :]}"
    while Text(kept).cell_len > width:  # wide characters
        kept = kept[:-1]
    return kept


# --- what cells say -------------------------------------------------------------------------

_TARGETS: Final = (
    Column("target", 100, "left"),
    Column("state", 90, "left"),
    Column("req/s", 85),
    Column("p50 ms", 80),
    Column("p90 ms", 40),
    Column("p99 ms", 70),
    Column("samples", 15),
    Column("errors", 75),
    Column("err/s", 35),
    Column("failed", 20),
    Column("busy", 18),
    Column("in flight", 60),
    Column("limit", 55),
)


def _target(row: TargetRow, workers: int) -> Row:
    state = row.breaker.replace("_", "-")
    if row.breaker == "ramp":
        state = f"ramp {row.share:.0%}"
    if workers > 1 and (count := row.breakers.get(row.breaker, 0)) < workers:
        state += f" ({count} of {workers})" if row.breaker != "closed" else ""
    if row.suspected:
        state += " suspected"
    share = row.error_share
    few = "~" if row.samples < FEW_SAMPLES else ""
    cells = (
        row.name,
        state,
        _rate(row.requests_per_s),
        _ms(row.p50_ms, few),
        _ms(row.p90_ms, few),
        _ms(row.p99_ms, few),
        f"{row.samples:,}",
        "-" if share is None else f"{share:.0%}",
        _rate(row.errors_per_s),
        f"{row.failed_ever:,}",
        f"{row.overloaded_ever:,}",
        f"{row.in_flight:,}",
        f"{row.limit:,}",
    )
    style = ""
    if row.breaker in ("open", "half_open"):
        style = "red"
    elif row.breaker == "ramp" or row.suspected or (share or 0.0) >= 0.1:
        style = "yellow"
    return cells, style


_ALIASES: Final = (
    Column("hedging", 100, "left"),
    Column("req/s", 80),
    Column("fired", 90),
    Column("won", 85),
    Column("now", 50),
    Column("cost $", 75),
    Column("at most $", 40),
    Column("unpaid", 60),
    Column("failovers", 45),
    Column("throttled", 70, "left"),
)


def _alias(row: AliasRow) -> Row:
    cells = (
        row.name,
        _rate(row.requests_per_s),
        _part(row.fired, row.requests),
        _part(row.won, row.fired),
        f"{row.fired_now}/{row.won_now}" if row.requests_per_s is not None else "-",
        f"{row.cost_usd:.4f}",
        f"{row.cost_upper_usd:.4f}",
        f"{row.unpaid:,}",
        f"{row.failovers:,}",
        ("yes" if row.throttled == 1 else f"in {row.throttled} workers") if row.throttled else "no",
    )
    return cells, "yellow" if row.throttled else ""


_ORIGINS: Final = (
    Column("pool", 100, "left"),
    Column("warm", 90),
    Column("open streams", 80),
    Column("waiting", 85),
    Column("last error", 50, "left"),
)


def _origin(row: OriginRow) -> Row:
    cells = (
        row.origin,
        f"{row.connections:,}",
        f"{row.open_streams:,}",
        f"{row.waiting:,}",
        row.last_error[:120],
    )
    return cells, "red" if row.last_error and not row.connections else ""


_WORKERS: Final = (
    Column("worker", 100, "left"),
    Column("status", 90, "left"),
    Column("restarts", 80),
    Column("silent s", 70),
    Column("why", 50, "left"),
)


def _worker(row: WorkerRow) -> Row:
    silent = "-" if row.silent_s is None else f"{row.silent_s:.1f}"
    cells = (row.number, row.status, f"{row.restarts:,}", silent, row.why[:120])
    return cells, "" if row.status == "ready" and not row.why else "yellow"


def _rate(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _ms(value: float | None, few: str) -> str:
    return "-" if value is None else f"{few}{value:,.0f}"


def _part(count: int, of: int) -> str:
    return f"{count:,} ({count / of:.0%})" if of else f"{count:,}"


def _length(seconds: float) -> str:
    whole = int(seconds)
    for unit_s, unit, less_s, less in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m")):
        if whole >= unit_s:
            return f"{whole // unit_s}{unit} {whole % unit_s // less_s}{less}"
    return f"{whole // 60}m {whole % 60}s" if whole >= 60 else f"{whole}s"
