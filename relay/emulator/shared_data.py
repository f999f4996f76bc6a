"""Where public data lies that is read in place: measured latencies and recorded exchanges.

Both lie beside the repository, in `../shared`, unless the environment names another folder. A name
is looked up there first, then under the working directory; an absolute path is taken as it is.
"""

from __future__ import annotations

import os
from pathlib import Path

_SHARED = Path(__file__).resolve().parents[3] / "shared"


def ttft_data() -> Path:
    """The folder of `csv:FILE:COLUMN`; `RELAY_TTFT_DATA` names another."""
    return Path(os.environ.get("RELAY_TTFT_DATA") or _SHARED / "data/ttft")


def wire_corpus() -> Path:
    """The folder of `replay=PROVIDER/CASE`; `RELAY_WIRE_CORPUS` names another."""
    return Path(os.environ.get("RELAY_WIRE_CORPUS") or _SHARED / "wire/fixtures")


def find(folder: Path, name: str) -> Path | None:
    """The file of that name, or None."""
    return next((path for path in (folder / name, Path(name)) if path.is_file()), None)
