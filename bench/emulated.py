"""What the emulator of a run tells: its report and its records of streams."""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
from typing import Any

from bench.processes import BenchError, EmulatorProcess


def ask(emulator: EmulatorProcess, path: str, body: bytes | None = None) -> dict[str, Any]:
    """GET, or POST with a body."""
    context = ssl.create_default_context(cafile=emulator.ca_file)
    url = f"{emulator.base_url}{path}"
    with urllib.request.urlopen(url, data=body, context=context) as answer:
        value: dict[str, Any] = json.load(answer)
        return value


def last_id(emulator: EmulatorProcess) -> int:
    """Number of the newest record, for `since`."""
    number: int = ask(emulator, "/emulator/report")["streams"]["last_id"]
    return number


def abandoned(emulator: EmulatorProcess, since: int, expected: int) -> dict[str, dict[str, Any]]:
    """The records of abandoned streams by model, once so many have come or a second has passed.

    Raises:
        BenchError: fewer streams than that were seen at all.
    """
    deadline_s = time.monotonic() + 1.0
    while True:
        streams = ask(emulator, f"/emulator/streams?since={since}")["streams"]
        found = {row["model"]: row for row in streams if row["outcome"] == "abandoned"}
        if len(streams) < expected and time.monotonic() > deadline_s:
            raise BenchError(f"the emulator saw {len(streams)} of {expected} requests")
        if len(found) >= expected or time.monotonic() > deadline_s:
            return found
        time.sleep(0.02)
