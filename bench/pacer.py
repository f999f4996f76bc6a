"""Waking at intended times: a Linux timer descriptor in the event loop.

uvloop's timers count whole milliseconds; an open-loop generator that is a millisecond late would
measure itself. A timer descriptor is exact to some tens of microseconds and needs no thread.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = 0o4000
_TFD_TIMER_ABSTIME = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Pacer:
    """`await pacer.until(at_ns)`; one waiter at a time."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._loop.add_reader(self._descriptor, self._expired)

    async def until(self, at_ns: int) -> None:
        """Return at `at_ns` of CLOCK_MONOTONIC, at once if that has passed."""
        if at_ns <= time.monotonic_ns():
            return
        spec = _Itimerspec(_Timespec(0, 0), _Timespec(*divmod(at_ns, 1_000_000_000)))
        self._waiter = self._loop.create_future()
        if self._libc.timerfd_settime(
            self._descriptor, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None
        ):
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        await self._waiter

    def _expired(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Idempotent enough: call once."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
