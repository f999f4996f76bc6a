"""A run on one page: the verdict as Markdown, and what was held over time as SVG."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.soak.events import Happened
from tests.soak.plan import Plan
from tests.soak.samples import Samples
from tests.soak.verdict import Figure

_WIDTH: Final = 860
_PANEL: Final = 150
_LEFT, _RIGHT, _GAP = 70, 20, 46
_COLOURS: Final = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f")

Row = Sequence[tuple[float, float]]


def markdown(
    plan: Plan,
    figures: Sequence[Figure],
    outcomes: Counter[str],
    wrong: Sequence[str],
    happened: Happened,
) -> str:
    """The verdict, what came of the requests, and what was done."""
    marks = {True: "pass", False: "**MISS**", None: "told"}
    lines = [
        f"# Soak: {plan.minutes:g} minutes, {plan.workers} workers, {plan.rate_per_s:g} requests/s,"
        f" seed {plan.seed}",
        "",
        "| what | target | measured | |",
        "|---|---|---|---|",
        *(
            f"| {one.name} | {one.target} | {one.measured} | {marks[one.holds]} |"
            for one in figures
        ),
        "",
        "| what came of requests | |",
        "|---|---|",
        *(f"| {name} | {count} |" for name, count in outcomes.most_common()),
        "",
        "Done to it: "
        + ", ".join(
            f"{count} {what}"
            for what, count in Counter(what for _, what in happened.events).items()
        ),
    ]
    if wrong:
        lines += ["", "What must not be (the first of it):", "", *(f"- {one}" for one in wrong)]
    return "\n".join([*lines, ""])


def picture(samples: Samples, happened: Happened) -> str:
    """Memory and descriptors of each worker, tasks and requests, over the run."""
    memory: dict[str, list[tuple[float, float]]] = {}
    files: dict[str, list[tuple[float, float]]] = {}
    for one in samples.held:
        memory.setdefault(f"worker {one.pid}", []).append((one.at_s, one.resident_mib))
        files.setdefault(f"worker {one.pid}", []).append((one.at_s, one.descriptors))
    tasks = {"all workers, quiet": [(one.at_s, one.tasks) for one in samples.quiet]}
    asked = {"until then": [(one.at_s, float(one.requests)) for one in samples.quiet]}
    panels: list[tuple[str, Mapping[str, Row]]] = [
        ("resident memory, MiB", memory),
        ("descriptors", files),
        ("tasks of the event loops", tasks),
        ("requests", asked),
    ]
    end_s = max((one.at_s for one in samples.held), default=1.0)
    height = len(panels) * (_PANEL + _GAP) + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]
    for number, (title, rows) in enumerate(panels):
        top = number * (_PANEL + _GAP) + 24
        lines += _panel(top, title, rows, end_s, happened.events)
    return "\n".join([*lines, "</svg>", ""])


def _panel(
    top: float,
    title: str,
    rows: Mapping[str, Row],
    end_s: float,
    events: Sequence[tuple[float, str]],
) -> list[str]:
    highest = max((y for row in rows.values() for _, y in row), default=1.0) or 1.0
    right, bottom = _WIDTH - _RIGHT, top + _PANEL

    def at(x_s: float, y: float) -> str:
        x = _LEFT + x_s / end_s * (right - _LEFT)
        return f"{x:.1f},{bottom - y / highest * _PANEL:.1f}"

    lines = [
        f'<text x="{_LEFT}" y="{top - 6}" font-size="13">{html.escape(title)}</text>',
        f'<path d="M{_LEFT} {top}V{bottom}H{right}" stroke="#999" fill="none"/>',
        f'<text x="{_LEFT - 6}" y="{top + 10}" text-anchor="end">{highest:.4g}</text>',
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">0</text>',
        f'<text x="{right}" y="{bottom + 15}" text-anchor="end">{end_s:.0f} s</text>',
    ]
    for moment_s, what in events:
        if what == "kill":
            x = at(moment_s, 0.0).partition(",")[0]
            lines.append(
                f'<path d="M{x} {top}V{bottom}" stroke="#d62728" stroke-dasharray="3 3"/>'
                f"<title>{html.escape(what)}</title>"
            )
    for number, (name, row) in enumerate(rows.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(at(x_s, y) for x_s, y in row)
        lines.append(
            f'<polyline points="{points}" stroke="{colour}" fill="none">'
            f"<title>{html.escape(name)}</title></polyline>"
        )
    return lines


def write(folder: Path, text: str, drawing: str) -> None:
    """`soak.md` and `soak.svg` in a folder, which is made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.svg").write_text(drawing, encoding="utf-8")
    (folder / "soak.md").write_text(f"{text}\n![what was held](soak.svg)\n", encoding="utf-8")
