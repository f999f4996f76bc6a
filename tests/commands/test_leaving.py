"""Whoever leaves a command is out in bounded time, whatever hangs."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from relay.commands import leaving

_HANGING = """
import sys, threading, time
from relay.commands import leaving
leaving.LEAVE_S = 0.2
{own}
threading.Thread(target=time.sleep, args=(30,)).start()  # Python waits for it at the end
print("bye", flush=True)
leaving.leave_in_time(130)
"""


def test_a_process_that_cannot_end_ends() -> None:
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _HANGING.format(own="leaving.own_the_process()")],
        capture_output=True,
        timeout=25,
    )
    assert (done.returncode, done.stdout) == (130, b"bye\n")
    assert time.monotonic() - began_s < 20


def test_a_process_of_somebody_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr("threading.Timer", lambda *given: started.append(given))
    leaving.leave_in_time(130)
    assert started == []
