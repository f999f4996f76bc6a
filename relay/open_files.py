"""How many files and connections this process may have open.

Systems give a process 1024 by default, for programs that use `select`, and let it take more by
itself (the soft limit may be raised to the hard one). A relay needs a descriptor a connection, so
1024 would end it at some thousand callers, while nothing here uses `select`.
"""

from __future__ import annotations

import resource


def raise_open_files() -> int:
    """Take as many as the system allows this process; how many that is. Children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # systems that say "no limit" and have one
        return soft
    return hard
