"""How the audit log and what is found in it look on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relay.commands.whole_table import print_whole
from relay.governance.audit_anchor import moment
from relay.governance.audit_chain import Row
from relay.governance.audit_verify import Report, span


def show_rows(console: Console, rows: Iterable[Row]) -> int:
    """A table of entries; returns how many."""
    names = ("entry", "time (UTC)", "actor", "action", "subject", "organisation", "outcome", "")
    table = Table(*names, box=None, pad_edge=False)
    count = 0
    for row in rows:
        count += 1
        at_us, *texts = row.entry
        detail = texts.pop()
        cells = [str(row.seq), _time(at_us), *texts, "" if detail == "{}" else detail]
        table.add_row(*(escape(printable(cell)) for cell in cells))
    if count:
        print_whole(console, table)
    return count


def printable(text: object) -> str:
    """A text that does nothing to a terminal, also of an entry that somebody has spoilt."""
    shown = text if isinstance(text, str) else repr(text)
    return "".join(char if char.isprintable() else "\ufffd" for char in shown)


def _time(at_us: object) -> str:
    try:
        seconds = int(at_us) // 1_000_000  # type: ignore[call-overload]
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
    except (TypeError, ValueError, OverflowError, OSError):
        return repr(at_us)


def report_lines(report: Report, *, of: str) -> list[str]:
    """What was found, in plain words; the first line is the answer."""
    if report.cannot:
        first = f"cannot verify {of}: {report.cannot}"
    elif report.findings:
        count = len(report.findings) + report.more
        things = "something is" if count == 1 else f"{count} things are"
        first = f"{things} wrong with {of}, first with entry {report.first_bad}"
    else:
        first = f"{of} is as it was written"
    lines = [first]
    if report.entries:
        lines.append(f"{report.entries} entries, {span(report.first_seq, report.last_seq)}")
    if report.anchors:
        lines.append(f"{report.anchors} anchors agree, the last with entry {report.last_anchor}")
    if not report.cannot:
        lines += [str(finding) for finding in report.findings]
        if report.more:
            lines.append(f"and {report.more} more")
    lines += [f"warning: {warning}" for warning in report.warnings]
    if len(report.signers) > 1:
        lines += [f"key {one.key_id}: {span(one.first, one.last)}" for one in report.signers]
    return [printable(line) for line in lines]


def report_data(report: Report, took_s: float) -> dict[str, Any]:
    """The same for programs."""
    return {
        "status": report.status,
        "entries": report.entries,
        "first_seq": report.first_seq,
        "last_seq": report.last_seq,
        "anchors": report.anchors,
        "last_anchor": report.last_anchor,
        "first_bad": report.first_bad,
        "findings": [
            {"kind": one.kind, "seq": one.seq, "last": one.last, "text": str(one)}
            for one in report.findings
        ],
        "more_findings": report.more,
        "warnings": list(report.warnings),
        "cannot": report.cannot or None,
        "keys": [
            {"id": one.key_id, "first": one.first, "last": one.last} for one in report.signers
        ],
        "seconds": round(took_s, 3),
    }


def anchor_words(at_us: int, seq: int) -> str:
    """An anchor in words."""
    return f"{span(1, seq)} anchored at {moment(at_us)}"
