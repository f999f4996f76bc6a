"""Who has which core."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.peers import pinning
from bench.peers.pinning import Cores, assign
from bench.peers.rig import pin_all


def test_nobody_is_pinned_on_one_core() -> None:
    assert assign({3}) == Cores()
    assert str(assign({3})) == "not pinned"


def test_two_cores_are_the_gateways_and_the_others() -> None:
    cores = assign({5, 2})
    assert cores == Cores(frozenset({2}), frozenset({5}), frozenset({5}))
    assert str(cores) == "gateway on core 2, emulator and generator on 5"


def test_with_three_each_has_its_own() -> None:
    cores = assign(range(8))
    assert len(cores.hop | cores.emulator | cores.load) == 3
    assert str(cores) == "gateway on core 0, emulator on 1, generator on 2"


def test_only_when_it_is_wanted() -> None:
    assert pinning.here(is_pinned=False) == Cores()
    assert pinning.here(is_pinned=True) == assign(os.sched_getaffinity(0))


def test_a_process_stays_where_it_is_put() -> None:
    core = max(os.sched_getaffinity(0))
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        pin_all([process.pid], frozenset())
        assert os.sched_getaffinity(process.pid) == os.sched_getaffinity(0)
        pin_all([process.pid], frozenset({core}))
        assert os.sched_getaffinity(process.pid) == {core}
    finally:
        process.communicate(b"\n")
