"""The relay on a core of its own, all else on the others; and what strangers take of it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bench.processes import cpu_ns, pin
from bench.rig import Rig

DISTURBED = 4.0
"""Per cent of a core: what fails while strangers have more says nothing of the relay."""
_TRIES = 4
_CALM_LOOK_S, _CALM_LOOKS = 0.25, 4
_CALM_WITHIN_S = 40.0
_REALTIME = (os.SCHED_FIFO, os.SCHED_RR)
_TICK_NS = round(1e9 / os.sysconf("SC_CLK_TCK"))
_IDLE = (3, 4)
"""Columns of `/proc/stat`: idle, and idle while waiting for a disk. All others are time in which a
core did something, or was lent to another machine."""


def too_few_cores() -> bool:
    """Whether there is none for the relay alone."""
    return len(os.sched_getaffinity(0)) < 2


@contextmanager
def relay_on_one_core(rig: Rig, others_too: Sequence[int] = ()) -> Iterator[int]:
    """All threads of the rig's relay on the first core; gives the number of the others, on which
    the rig's other processes are, and `others_too`."""
    every = os.sched_getaffinity(0)
    relay_core, *others = sorted(every)
    rest = [pid for name, pids in rig.watch.items() if name != "relay" for pid in pids]
    rest += others_too
    try:
        pin(rig.watch["relay"], {relay_core})
        pin(rest, others)
        yield len(others)
    finally:
        pin([*rig.watch["relay"], *rest], every)


def busy_ns(stat: str, core: int) -> int:
    """How long a core was not idle so far, by the text of `/proc/stat`; its ticks are 10 ms.

    Raises:
        ValueError: there is no such core.
    """
    for line in stat.splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            # The last two, time of guests, are inside the first two.
            used = [int(each) for at, each in enumerate(ticks[:8]) if at not in _IDLE]
            return sum(used) * _TICK_NS
    raise ValueError(f"/proc/stat has no core {core}")


class Strangers:
    """What others than the bench take, from when this is made: of the relay's core; or, where the
    bench runs at real-time priority, of any core and at such a priority too, since whoever has a
    lower one has only what is left."""

    def __init__(self, rig: Rig) -> None:
        self._pids = rig.watch["relay"]
        self._core = min(os.sched_getaffinity(0))
        self._is_realtime = os.sched_getscheduler(0) in _REALTIME
        self._ours = {os.getpid(), *(pid for pids in rig.watch.values() for pid in pids)}
        self._began_ns = time.monotonic_ns()
        self._began = self._read()

    def _read(self) -> dict[int, int]:
        """Nanoseconds so far, by process id; 0 for all of them together."""
        if self._is_realtime:
            found = {}
            for pid in realtime_pids():
                with contextlib.suppress(OSError):  # it has just ended
                    found[pid] = 0 if pid in self._ours else cpu_ns([pid])
            return found
        with open("/proc/stat") as file:
            return {0: busy_ns(file.read(), self._core) - cpu_ns(self._pids)}

    def percent(self) -> float:
        """Of one core: other processes, and at normal priority interrupts and other machines."""
        after = self._read()
        # Who has begun since then has all that it used in this time.
        used_ns = sum(max(0, ns - self._began.get(pid, 0)) for pid, ns in after.items())
        return 100 * used_ns / (time.monotonic_ns() - self._began_ns)


def realtime_pids() -> list[int]:
    """Processes at real-time priority."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.sched_getscheduler(int(name)) in _REALTIME:
                    found.append(int(name))
            except ProcessLookupError:
                continue
    return found


def wait_for_calm(rig: Rig) -> None:
    """Return when strangers take next to nothing, after a while anyhow."""
    deadline_s = time.monotonic() + _CALM_WITHIN_S
    calm = 0
    while calm < _CALM_LOOKS and time.monotonic() < deadline_s:
        strangers = Strangers(rig)
        time.sleep(_CALM_LOOK_S)
        calm = calm + 1 if strangers.percent() <= DISTURBED else 0


def holds_undisturbed(
    measure: Callable[[], dict[str, float]], holds: Callable[[dict[str, float]], bool], times: int
) -> bool:
    """Whether one of some tries holds. A try that does not hold while strangers had more than
    `DISTURBED` (`strangers_%` of its row) is not counted, but for the fourth in a row."""
    counted = 0
    for number in range(1, _TRIES * times + 1):
        row = measure()
        if holds(row):
            return True
        if row["strangers_%"] <= DISTURBED or number % _TRIES == 0:
            counted += 1
        if counted >= times:
            break
    return False
