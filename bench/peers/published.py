"""The run that README.md shows: kept in git in a compact form, its tables and pictures made anew.

results/latest.json     every figure, and some points of the tails that are drawn
results/*.svg           pictures
README.md               the part between the markers
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.peers import pictures, tables
from bench.peers.peer import FILES, ROOT
from bench.stats import Histogram

RESULTS = FILES / "results"
LATEST = RESULTS / "latest.json"
README = ROOT / "README.md"
BEGIN = "<!-- peers: made by `python -m bench.peers render` -->"
END = "<!-- the end of peers -->"
_SHARES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)


class RenderError(Exception):
    """README.md has not the markers."""


def compact(result: dict[str, Any]) -> dict[str, Any]:
    """A result without its histograms; of those that are drawn the ends that a picture needs."""
    small = {**result, "cases": {}}
    for name, case in result["cases"].items():
        tails: dict[str, list[list[float]]] = {}
        for key, value in case["histograms"].items():
            if not key.endswith(pictures.DRAWN):
                continue
            histogram = Histogram.from_dict(value)
            if histogram.count:
                tails[key] = [
                    [share, round(histogram.quantile(1 - share) / 1e3, 3)]
                    for share in _SHARES
                    if share * histogram.count >= 1
                ]
        small["cases"][name] = {
            **{part: value for part, value in case.items() if part != "histograms"},
            "tails_ms": tails,
        }
    return small


def publish(result: dict[str, Any]) -> Path:
    """Store it as the one that is shown. A run of some cases keeps the others' as they are not:
    what is shown together was measured together."""
    RESULTS.mkdir(exist_ok=True)
    LATEST.write_text(json.dumps(compact(result), indent=1) + "\n")
    return LATEST


def latest() -> dict[str, Any]:
    """The published run."""
    value: dict[str, Any] = json.loads(LATEST.read_text())
    return value


def insert(readme: str, section: str) -> str:
    """README's text with the section between its markers.

    Raises:
        RenderError: they are not there.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise RenderError(f"README.md has no {BEGIN!r} ... {END!r}")
    return f"{before}{BEGIN}\n\n{section}\n{END}{after}"


def files(result: dict[str, Any], readme: str) -> dict[Path, str]:
    """Every file that follows from a result."""
    found = {RESULTS / name: text for name, text in pictures.of(result).items()}
    found[README] = insert(readme, tables.section(result))
    return found


def render(*, check: bool) -> int:
    """Write them, or say which differ; 1 if one does and nothing was to be written."""
    differing = 0
    for path, text in files(latest(), README.read_text()).items():
        if path.exists() and path.read_text() == text:
            continue
        differing += 1
        name = path.relative_to(ROOT)
        if check:
            print(f"{name} differs from bench/peers/results/latest.json")
        else:
            path.write_text(text)
            print(f"{name} written")
    return 1 if check and differing else 0
