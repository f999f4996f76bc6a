"""Which process has which core, where there are enough."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import NamedTuple


class Cores(NamedTuple):
    """Of each kind of process; empty: any."""

    hop: frozenset[int] = frozenset()
    """Of every gateway's tree: one is loaded at a time."""
    emulator: frozenset[int] = frozenset()
    load: frozenset[int] = frozenset()

    @property
    def are_ends_together(self) -> bool:
        """Whether emulator and generator are on one core."""
        return bool(self.load) and self.emulator == self.load

    def __str__(self) -> str:
        if not self.hop:
            return "not pinned"
        shown = {name: ",".join(map(str, sorted(ids))) for name, ids in self._asdict().items()}
        if self.are_ends_together:
            return f"gateway on core {shown['hop']}, emulator and generator on {shown['load']}"
        return (
            f"gateway on core {shown['hop']}, emulator on {shown['emulator']},"
            f" generator on {shown['load']}"
        )


def assign(cores: Collection[int]) -> Cores:
    """A core for the gateway, one for emulator and generator, or one for each if there are three;
    nobody is pinned on one."""
    ordered: Sequence[int] = sorted(cores)
    if len(ordered) < 2:
        return Cores()
    hop, emulator = frozenset(ordered[:1]), frozenset(ordered[1:2])
    return Cores(hop, emulator, frozenset(ordered[2:3]) or emulator)


def here(*, is_pinned: bool) -> Cores:
    """Of the cores that this process may use."""
    return assign(os.sched_getaffinity(0)) if is_pinned else Cores()
