"""The relay on a core of its own, all else on the others; and what strangers take of that core."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bench.processes import cpu_ns, pin
from bench.rig import Rig

DISTURBED = 4.0
"""Per cent of the relay's core: what fails while strangers have more says nothing of the relay."""
_TRIES = 4
_CALM_LOOK_S, _CALM_LOOKS = 0.25, 4
_CALM_WITHIN_S = 40.0
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
    """What others than the relay have of the relay's core, from when this is made."""

    def __init__(self, rig: Rig) -> None:
        self._pids = rig.watch["relay"]
        self._core = min(os.sched_getaffinity(0))
        self._began = self._read()

    def _read(self) -> tuple[int, int]:
        with open("/proc/stat") as file:
            stat = file.read()
        return time.monotonic_ns(), busy_ns(stat, self._core) - cpu_ns(self._pids)

    def percent(self) -> float:
        """Of the core, since this was made: other processes, interrupts, and other machines."""
        at_ns, busy = self._read()
        return 100 * max(0.0, (busy - self._began[1]) / (at_ns - self._began[0]))


def wait_for_calm(rig: Rig) -> None:
    """Return when strangers have next to nothing of the relay's core, after a while anyhow."""
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
