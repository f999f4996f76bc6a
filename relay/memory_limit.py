"""How much memory this process may use together with those beside it: its cgroups' limits, or the
machine's.

A container's limit is in no `/proc/meminfo`, and the kernel ends a process that is over it without
asking. cgroup v2 has one tree and a file a level, of which the lowest counts; v1 has a tree for
memory alone. What cannot be read is no limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_NO_LIMIT: Final = 1 << 60
"""v1 says so in a number near 2**63."""


def memory_limit_bytes(
    proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """The least of them; None where nothing says anything."""
    found = [limit for limit in _cgroup_limits(proc, cgroups) if limit < _NO_LIMIT]
    if (whole := _machine_bytes()) is not None:
        found.append(whole)
    return min(found, default=None)


def _machine_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _cgroup_limits(proc: Path, cgroups: Path) -> Iterator[int]:
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield from _up(cgroups, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _up(cgroups / "memory", path, "memory.limit_in_bytes")


def _up(root: Path, path: str, name: str) -> Iterator[int]:
    """Of a group and those above it. In a container the path may be the host's, and is not there:
    then the root is the container's own."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        try:
            text = root.joinpath(*parts[:count], name).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdigit():
            yield int(text)
