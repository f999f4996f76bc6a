"""Options that the commands over the store share, and the moment they are called at."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

ConfigPath = Annotated[Path, typer.Option("-c", "--config", help="YAML file of the relay")]
Database = Annotated[
    Path | None, typer.Option(help="a copy of an SQLite store, instead of the store itself")
]
Since = Annotated[str | None, typer.Option(help="2026-11-27T08:30 (UTC), or a time ago: 24h")]
Until = Annotated[str | None, typer.Option(help="as --since; not included")]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]


def wall_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000
