"""A command that its user has left ends in bounded time, whatever a library still waits for.

Between the last word of a command and the end of its process stand a channel that closes, tasks
that are cancelled, threads that are joined and an interpreter that is taken down. All of that
takes milliseconds; where one of them hangs, a person at a terminal would have to find a `kill`.
"""

from __future__ import annotations

import os
import threading

LEAVE_S = 3.0
"""From the last word to the end of the process, at most."""

_is_process = False


def own_the_process() -> None:
    """The process is the command's alone: its end is the command's end. Not so in tests that call
    commands as functions."""
    global _is_process
    _is_process = True


def leave_in_time(status: int) -> None:
    """The process ends within `LEAVE_S`, if it must with this status and without cleaning up.

    To be called when nothing is left to be done that anybody would miss.
    """
    if _is_process:
        last = threading.Timer(LEAVE_S, os._exit, [status])
        last.daemon = True
        last.start()
