"""A process whose lines are read as they come, and the relay's command.

`RELAY_BIN` names that (default: `.venv/bin/relay` of the checkout): tests of clients and frameworks
run in environments of their own, without the relay.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


def relay_bin() -> str:
    """The relay's command."""
    return os.environ.get("RELAY_BIN") or str(ROOT / ".venv" / "bin" / "relay")


class LineProcess:
    """Runs until `stop`; standard output and error are kept together, line by line."""

    def __init__(self, name: str, *command: str) -> None:
        self.name = name
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )
        self._thread = threading.Thread(target=self._read, daemon=True, name=f"{name} output")
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.rstrip())
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first line of JSON that is wanted.

        Raises:
            RuntimeError: it ended, or said nothing of the kind in time.
        """
        until_s = time.monotonic() + START_TIMEOUT_S
        seen = 0
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    seen += 1
                    parsed = _object(line)
                    if parsed and wanted(parsed):
                        return parsed
                left_s = until_s - time.monotonic()
                if left_s <= 0 or self._process.poll() is not None:
                    raise RuntimeError(f"{self.name} did not start: {self.lines[-10:]}")
                self._changed.wait(min(left_s, 0.2))

    def stop(self) -> None:
        """End it, and kill it if it does not go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join(timeout=STOP_TIMEOUT_S)
        if self._process.stdout is not None:
            self._process.stdout.close()


def _object(line: str) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
