"""The limit on open files is raised to what the system allows, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

_LOOK = """
import resource
from relay.open_files import raise_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
print(raise_open_files(), raise_open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOOK], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == ["300", "300", "300", "300"]
