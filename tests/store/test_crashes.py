"""Workers that are killed at any instant: what was committed is there, and nothing twice.

A child writes accounts and says over a pipe what it was told is committed. It is killed at a random
instant, before a statement, and (by strace, where there is one that may trace) at a write or sync
of SQLite. Then its successor starts over the same file, sweeps, and everything is counted. Few
times here; `RELAY_FULL=1` kills 200 times at random, and at every statement and write.
"""

from __future__ import annotations

import functools
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from relay.store.engine import make_ready
from relay.store.sqlite_ledger import SqliteLedger
from tests.fakes.properties import IS_FULL
from tests.store.accounts import NOW_US, assert_sums, hold, opened, rows, settled

ROOT = Path(__file__).parents[2]
READY_S = 2.0
pytestmark = pytest.mark.timeout(3600 if IS_FULL else 60)
WRITES = "pwrite64,fdatasync,fsync,ftruncate"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "relay.db"
    make_ready(f"sqlite:///{made}")
    return made


def command(file: Path, run: int, *more: str) -> list[str]:
    return [sys.executable, "-m", "tests.store.crash_child", str(file), str(run), *more]


def lived(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """What a child said before it ended, and whether it was killed."""
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, timeout=60, check=False)
    # strace ends as its child did; a shell says 128 more.
    is_killed = done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert is_killed or done.returncode == 0, done.stderr.decode()
    return whole_lines(done.stdout), is_killed


def killed_after(file: Path, run: int, delay_s: float) -> list[str]:
    """What a child said that was killed so long after it was ready."""
    with subprocess.Popen(command(file, run), cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(delay_s)
        child.kill()
        rest = child.stdout.read()
    return whole_lines(first + rest)


def whole_lines(output: bytes) -> list[str]:
    return output.decode().split("\n")[:-1]


async def assert_nothing_is_lost(file: Path, run: int, said: list[str]) -> None:
    """After a crash: start a successor, and look at what it finds and makes of it."""
    told = [line.split() for line in said]
    found = {
        row[0]: row[1:]
        for row in rows(file, "SELECT id, state, reserved_micro, settled_micro FROM generations")
    }
    attempts = {row[0] for row in rows(file, "SELECT DISTINCT generation_id FROM attempts")}
    for kind, *words in told:
        if kind == "R":
            assert found[words[0]][1] == int(words[1])
        elif kind == "A":
            assert words[0] in attempts
        elif kind == "S":
            assert found[words[0]][0] in ("settled", "void")
            assert found[words[0]][2] == int(words[1])
    assert_sums(file)
    began_s = time.monotonic()
    ledger = SqliteLedger(file)
    await ledger.start(f"inst_after_{run}", "host 0", NOW_US, 60.0)
    await ledger.reserve(opened(f"after_{run}", hold(None)), (1,))
    assert time.monotonic() - began_s < READY_S
    while await ledger.sweep(NOW_US + 1, 500):
        pass
    for kind, *words in told:  # what comes again is not charged again
        if kind == "S":
            ledger.settle(settled(words[0].removeprefix("gen_"), 10**6), ())
    await ledger.committed(ledger.settle(settled(f"after_{run}", 0, state="void"), ()))
    await ledger.aclose()
    after = dict(rows(file, "SELECT id, state FROM generations"))
    assert "open" not in after.values()
    for generation_id, (state, _, _) in found.items():
        assert after[generation_id] == state or state == "open"
    assert rows(file, "SELECT count(*) FROM attempts WHERE state = 'open'") == [(0,)]
    assert_sums(file)


async def test_killed_at_any_instant(file: Path) -> None:
    rng = random.Random(11)
    counted = 0
    for run in range(200 if IS_FULL else 4):
        said = killed_after(file, run, rng.random() * 0.15)
        counted += sum(line.startswith("S ") for line in said)
        await assert_nothing_is_lost(file, run, said)
    assert counted > 0


async def test_killed_before_a_statement(file: Path) -> None:
    """Of eight generations, by a hook of ours."""
    step, run, is_killed = (1 if IS_FULL else 53), 0, True
    while is_killed:
        run += 1
        at = 1 + (run - 1) * step
        said, is_killed = lived(command(file, run, "--generations", "8", "--die-at", str(at)))
        await assert_nothing_is_lost(file, run, said)
    assert run > 2, "nobody was killed"
    assert said[-1] == "end"


@functools.cache
def why_not_traced() -> str:
    """Why writes cannot be hit; nothing where they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(
        ["strace", "-qq", "-e", "trace=none", "true"], capture_output=True, check=False
    )
    return "" if tried.returncode == 0 else "strace may not trace here"


async def test_killed_at_a_write_of_the_file(file: Path) -> None:
    if why := why_not_traced():
        pytest.skip(why)
    step, run, is_killed = (1 if IS_FULL else 60), 0, True
    while is_killed:
        run += 1
        at = 1 + (run - 1) * step
        said, is_killed = lived(
            [
                *("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={WRITES}"),
                *("-e", f"inject={WRITES}:signal=KILL:when={at}"),
                *command(file, run, "--generations", "8"),
            ]
        )
        await assert_nothing_is_lost(file, run, said)
    assert run > 2, "nobody was killed"
    assert said[-1] == "end"


async def test_what_power_promises_is_synced_before_it_is_told(file: Path, tmp_path: Path) -> None:
    """That a loss of power takes nothing needs one sync a commit; a kill could not show it."""
    for durability, synchronous in (("process", 1), ("power", 2)):
        ledger = SqliteLedger(file, durability)  # type: ignore[arg-type]
        await ledger.start("inst_1", "host 0", NOW_US, 60.0)
        assert ledger._writer is not None
        connection = ledger._writer._connection
        assert connection is not None
        with closing(connection.execute("PRAGMA synchronous")) as cursor:
            assert cursor.fetchone() == (synchronous,)
        await ledger.aclose()
