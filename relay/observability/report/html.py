"""Blocks as one HTML file that loads nothing: its policy forbids it to, and it has no scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Final

from relay.observability.report.blocks import Block, Grid, Heading, Items, Plot, Words
from relay.observability.report.svg import COLOURS, svg_of
from relay.observability.report.words import printable

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1a1d21; --dim: #59616b; --rule: #d8dde3; --paper: #fff;
  --head: #f2f4f7; --s1: #1f6feb; --s2: #c2410c; --s3: #15803d; --s4: #7e22ce; --s5: #a16207;
  --s6: #be185d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --dim: #a2abb6; --rule: #363d46;
  --paper: #14171b; --head: #1e2329; --s1: #6aa8ff; --s2: #fb923c; --s3: #4ade80; --s4: #c99bff;
  --s5: #facc15; --s6: #f472b6; } }
body { margin: 0 auto; max-width: 84rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.2rem; font-size: 1.25rem; } h3 { font-size: 1.05rem; }
.wide { overflow-x: auto; margin: 1rem 0; max-width: 100%; }
.wide:focus-visible { outline: 2px solid var(--s1); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem;
  overflow-wrap: normal; }
th, td { padding: .3rem .5rem; text-align: right; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
th { background: var(--head); } thead th { white-space: normal; vertical-align: bottom; }
th[scope="row"] { white-space: normal; overflow-wrap: anywhere; min-width: 9rem; }
th.w, td.w { text-align: left; }
figure { margin: 1.2rem 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; min-width: 30rem; } svg text { fill: var(--dim); font-size: 12px; }
svg polyline { fill: none; stroke-width: 2; } svg .rule { stroke: var(--rule); }
svg .zero { stroke: var(--dim); }
.key { list-style: none; padding: 0; margin: .2rem 0; display: flex; flex-wrap: wrap;
  gap: .2rem 1.2rem; font-size: .875rem; }
.key i { display: inline-block; width: 1.4em; height: .3em; vertical-align: middle;
  margin-right: .4em; }
@media print { @page { margin: 12mm; } body { max-width: none; padding: 0; }
  .wide { overflow: visible; } table { width: 100%; font-size: 8px; }
  th, td, th[scope="row"] { white-space: normal; overflow-wrap: anywhere; min-width: 0;
    padding: .15rem .25rem; } svg { min-width: 0; } }
"""
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


def html(title: str, blocks: Iterable[Block]) -> str:
    """The whole file."""
    body = "\n".join(part for block in blocks for part in _parts(block))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _text(text: str) -> str:
    return escape(printable(text))


def _parts(block: Block) -> Iterator[str]:
    match block:
        case Heading():
            yield f"<h{block.level}>{_text(block.text)}</h{block.level}>"
        case Words():
            yield f"<p>{_text(block.text)}</p>"
        case Items():
            yield "<ul>" + "".join(f"<li>{_text(text)}</li>" for text in block.texts) + "</ul>"
        case Grid():
            yield _table(block)
        case Plot():
            yield _figure(block)


def _table(grid: Grid) -> str:
    def kind(index: int) -> str:
        return ' class="w"' if index < grid.words else ""

    heads = "".join(
        f'<th scope="col"{kind(index)}>{_text(text)}</th>'
        for index, text in enumerate(grid.headers)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row" class="w">{_text(cell)}</th>'
            if index == 0
            else f"<td{kind(index)}>{_text(cell)}</td>"
            for index, cell in enumerate(row)
        )
        + "</tr>"
        for row in grid.rows
    )
    name = _text(grid.headers[0] or "table")
    return (
        f'<div class="wide" role="region" aria-label="{name}" tabindex="0"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _figure(plot: Plot) -> str:
    keys = "".join(
        f'<li><i style="background:var(--s{place % COLOURS + 1})"></i>{_text(series.name)}</li>'
        for place, series in enumerate(plot.series)
    )
    return (
        f"<figure><figcaption>{_text(plot.title)} ({_text(plot.unit)})</figcaption>"
        f'<ul class="key">{keys}</ul>'
        f'<div class="wide" role="region" aria-label="{_text(plot.title)}" tabindex="0">'
        f"{svg_of(plot)}</div></figure>"
    )
