"""From the start of `relay serve` until it takes requests, and what of that is importing.

`ready_ms` is from the start of the process until `/readyz` says so (its connections to the provider
are warm by then), `announced_ms` until it has said where it listens. *Cold* has no bytecode at all,
neither of the relay nor of any library or Python's own: a first start in a new container; *warm*
has all of it. `import_ms` is what `-X importtime` adds up in a process of its own (which makes it
a little dearer), and the rows of packages are the ten largest in it: time in their own modules, not
in what those import. A start begins with the machine's files in its cache.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench.import_time import ImportTime, read
from bench.processes import BenchError, RelayProcess
from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import median, spread

_LARGEST = 10
_READY_TIMEOUT_S = 30.0
_PROGRAM = "import relay.serving, relay.cli"
"""What `relay serve` imports; the command itself is imported first and brings the rest when it
runs."""


class _Start(NamedTuple):
    announced_ms: float
    ready_ms: float


def run(rig: Rig) -> CaseResult:
    """Starts with bytecode and without, by turns."""
    times = 3 if rig.options.is_quick else 10
    starts: dict[str, list[_Start]] = {"cold": [], "warm": []}
    imports: dict[str, list[ImportTime]] = {"cold": [], "warm": []}
    for number in range(times):
        rig.say(f"startup, {number + 1} of {times}")
        with tempfile.TemporaryDirectory(dir=rig.directory) as bytecode:
            for how in starts:
                # The first start writes what the second finds.
                starts[how].append(_start(rig, Path(bytecode)))
        with tempfile.TemporaryDirectory(dir=rig.directory) as bytecode:
            for how in imports:
                imports[how].append(_import(Path(bytecode)))
    result = CaseResult(axes={"times": times})
    for how in starts:
        low, high = spread([each.ready_ms for each in starts[how]])
        result.rows[how] = {
            "announced_ms": median([each.announced_ms for each in starts[how]]),
            "ready_ms": median([each.ready_ms for each in starts[how]]),
            "ready_low_ms": low,
            "ready_high_ms": high,
            "import_ms": median([each.total_ms for each in imports[how]]),
            "modules": imports[how][0].modules,
        }
    by_total = sorted(imports["warm"], key=lambda each: each.total_ms)
    for name, own_ms in by_total[len(by_total) // 2].largest:
        result.rows[f"warm/{name}"] = {"import_ms": own_ms}
    return result


def _within(bytecode: Path) -> tuple[str, ...]:
    keep = "PYTHONDONTWRITEBYTECODE="  # of whoever runs the bench
    return ("env", keep, f"PYTHONPYCACHEPREFIX={bytecode}")


def _start(rig: Rig, bytecode: Path) -> _Start:
    began_s = time.monotonic()
    relay = RelayProcess(rig.emulator, rig.directory, "relay-startup", within=_within(bytecode))
    try:
        announced_s = time.monotonic()
        while not relay.is_ready():
            if time.monotonic() - began_s > _READY_TIMEOUT_S:
                raise BenchError(f"the relay was not ready after {_READY_TIMEOUT_S:g} s")
            time.sleep(0.002)
        return _Start((announced_s - began_s) * 1e3, (time.monotonic() - began_s) * 1e3)
    finally:
        relay.stop()


def _import(bytecode: Path) -> ImportTime:
    done = subprocess.run(
        [*_within(bytecode), sys.executable, "-X", "importtime", "-c", _PROGRAM],
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parent.parent.parent,
    )
    return read(done.stderr, _LARGEST)
