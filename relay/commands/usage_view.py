"""How usage and invoices look on a terminal, and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relay.commands.audit_view import printable
from relay.commands.whole_table import print_whole
from relay.governance.invoice import Line, Reconciliation, percent
from relay.governance.money import dollars
from relay.store.usage_query import Group, UsageReport

_COLUMNS: Final = {
    "requests": "requests",
    "failed": "failed",
    "cancelled": "cancelled",
    "cost_micro": "cost",
    "upper_micro": "at most",
    "losers_micro": "of losers",
    "prompt_tokens": "prompt",
    "cached_tokens": "cached",
    "output_tokens": "output",
    "hedges": "hedges",
    "unpriced": "unpriced",
    "ttft_p50_us": "ttft p50",
    "ttft_p95_us": "ttft p95",
}
"""What people look for; `--json` has all."""


def show_usage(console: Console, report: UsageReport, by: Sequence[str]) -> None:
    """A table, with everything selected below it."""
    table = Table(box=None, pad_edge=False, show_footer=bool(by))
    for index, name in enumerate(by):
        table.add_column(escape(name), footer="all" if index == 0 else "")
    for name, title in _COLUMNS.items():
        table.add_column(title, justify="right", footer=_cell(name, report.total[name]))
    for group in report.groups:
        cells = [_key(group, name) for name in by]
        table.add_row(*cells, *(_cell(name, group.sums[name]) for name in _COLUMNS))
    print_whole(console, table)
    total = report.total
    if total["open"]:
        reserved = dollars(total["open_reserved_micro"] or 0)
        console.print(f"{total['open']} more are open; ${reserved} is put aside for them")
    if report.has_more:
        console.print(f"the first {len(report.groups)} of more: --limit shows others")


def _key(group: Group, name: str) -> str:
    value, known = group.by[name], group.names.get(name)
    shown = f"{known} ({value})" if known else value or "-"
    return escape(printable(shown))


def _cell(name: str, value: int | None) -> str:
    if value is None:
        return "-"
    if name.endswith("_micro"):
        return f"${dollars(value)}"
    if name.endswith("_us"):
        return f"{value / 1000:,.0f} ms"
    return f"{value:,}"


# --- invoices -------------------------------------------------------------------------------


def show_invoice(
    console: Console, found: Reconciliation, *, shows_all: bool, most_bad: int = 20
) -> None:
    """What differs, or every line; then both sums, then the rows that could not be read."""
    table = Table(box=None, pad_edge=False)
    for title, justify in (
        ("day", "left"),
        ("model", "left"),
        ("ours", "right"),
        ("theirs", "right"),
        ("difference", "right"),
        ("%", "right"),
        ("", "left"),
    ):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    shown = [line for line in found.lines if shows_all or not line.is_fine]
    for line in shown:
        table.add_row(
            line.day.isoformat(),
            escape(printable(line.model)),
            f"${dollars(line.ours.micro)}",
            f"${dollars(line.theirs.micro)}",
            f"${dollars(line.difference_micro)}",
            _percent(line.ours.micro, line.difference_micro),
            escape("; ".join((_VERDICTS[line.verdict], *line.reasons))),
        )
    if shown:
        print_whole(console, table)
    fine = sum(line.is_fine for line in found.lines)
    console.print(
        f"{fine} of {len(found.lines)} lines agree; ours ${dollars(found.ours.micro)}, theirs"
        f" ${dollars(found.theirs.micro)}, difference ${dollars(found.difference_micro)}"
        f" ({_percent(found.ours.micro, found.difference_micro)}%)",
        highlight=False,
    )
    for bad in found.bad[:most_bad]:
        console.print(escape(printable(f"not read: {bad}")), highlight=False)
    if found.bad_count > most_bad:
        console.print(f"and {found.bad_count - most_bad} more rows that were not read")


_VERDICTS: Final = {
    "match": "agrees",
    "within": "agrees within the tolerance",
    "differs": "differs",
    "ours": "only here",
    "theirs": "only there",
}


def _percent(ours: int, difference: int) -> str:
    found = percent(difference, ours)
    return "-" if found is None else str(found)


def invoice_data(found: Reconciliation) -> dict[str, Any]:
    """For programs: money in micro-dollars, percents as texts."""
    return {
        "status": found.status,
        "ours_micro": found.ours.micro,
        "ours_upper_micro": found.ours.upper_micro,
        "theirs_micro": found.theirs.micro,
        "difference_micro": found.difference_micro,
        "lines": [_line(line) for line in found.lines],
        "bad": [{"line": bad.line, "why": bad.why} for bad in found.bad],
        "bad_count": found.bad_count,
    }


def _line(line: Line) -> Mapping[str, Any]:
    difference = line.difference_percent
    tokens = ("input_tokens", "uncached_tokens", "cached_tokens", "output_tokens", "requests")
    return {
        "day": line.day.isoformat(),
        "model": line.model,
        "verdict": line.verdict,
        "ours_micro": line.ours.micro,
        "ours_upper_micro": line.ours.upper_micro,
        "theirs_micro": line.theirs.micro,
        "difference_micro": line.difference_micro,
        "difference_percent": None if difference is None else str(difference),
        "estimated": line.ours.estimated,
        "unpriced": line.ours.unpriced,
        "ours": {name: getattr(line.ours, name) for name in tokens},
        "theirs": {name: getattr(line.theirs, name) for name in tokens},
        "reasons": list(line.reasons),
    }
