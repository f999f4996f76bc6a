"""What `python -X importtime` says."""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE = re.compile(r"^import time:\s*(\d+) \|\s*(\d+) \| ( *)(\S+)\s*$", re.MULTILINE)


class ImportTime(NamedTuple):
    """Of one process."""

    total_ms: float
    modules: int
    largest: list[tuple[str, float]]
    """Packages, and modules that are no package's, by the milliseconds spent in their own code and
    that of what is below them by name, the largest first."""


def read(text: str, count: int) -> ImportTime:
    """The standard error of a process that was started so; other lines in it are skipped.

    Args:
        count: how many of the largest are given.
    """
    total_us, modules = 0, 0
    by_package: dict[str, int] = {}
    for own_us, _, _, name in _LINE.findall(text):
        total_us += int(own_us)
        modules += 1
        package = _package(name)
        by_package[package] = by_package.get(package, 0) + int(own_us)
    ordered = sorted(by_package.items(), key=lambda each: -each[1])
    return ImportTime(
        total_us / 1e3, modules, [(name, own_us / 1e3) for name, own_us in ordered[:count]]
    )


def _package(name: str) -> str:
    """The relay's own parts by themselves: `relay.codecs`; of others the outermost name."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "relay" else parts[0]
