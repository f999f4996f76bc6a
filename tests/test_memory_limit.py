"""How much memory there is: of the machine, and of containers of both sorts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.memory_limit import memory_limit_bytes

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20


class Tree:
    """`/proc` and `/sys/fs/cgroup` of somewhere else."""

    def __init__(self, root: Path) -> None:
        self.proc, self.groups = root / "proc", root / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        self.groups.mkdir()

    def group(self, *lines: str) -> None:
        (self.proc / "self" / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def limit(self, path: str, text: str) -> None:
        file = self.groups / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def found(self) -> int | None:
        return memory_limit_bytes(self.proc, self.groups)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_without_groups_it_is_the_machines(tree: Tree) -> None:
    assert tree.found() == MACHINE


def test_the_lowest_of_a_group_and_those_above_it_counts(tree: Tree) -> None:
    tree.group("0::/system.slice/relay.service")
    tree.limit("system.slice/relay.service/memory.max", str(300 * MIB))
    assert tree.found() == 300 * MIB
    tree.limit("system.slice/memory.max", str(200 * MIB))
    assert tree.found() == 200 * MIB
    tree.limit("system.slice/relay.service/memory.max", "max")
    assert tree.found() == 200 * MIB


def test_in_a_container_the_root_is_its_own(tree: Tree) -> None:
    tree.group("0::/../../pods/of/the/host")
    tree.limit("memory.max", str(128 * MIB))
    assert tree.found() == 128 * MIB


def test_the_older_trees(tree: Tree) -> None:
    tree.group("12:cpu,cpuacct:/relay", "4:memory:/relay", "0::/")
    tree.limit("memory/relay/memory.limit_in_bytes", str(64 * MIB))
    assert tree.found() == 64 * MIB
    tree.limit("memory/relay/memory.limit_in_bytes", str(2**63 - 4096))
    assert tree.found() == MACHINE


def test_what_cannot_be_read_is_no_limit(tree: Tree) -> None:
    tree.group("nonsense", "0::/relay")
    tree.limit("relay/memory.max", "a lot")
    assert tree.found() == MACHINE
