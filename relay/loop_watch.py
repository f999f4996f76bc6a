"""Says what the event loop is at when it stands still: a thread that looks at the loop's beats.

Everything of a worker runs in one loop, so whatever blocks it, a bug as a rule, holds up every
stream. A supervisor replaces a worker whose loop is stuck (`relay.workers.watch`); this says what
it was at, also of a worker that is alone and of one that comes back by itself.

The loop pays for a timer twice a second, the thread for waking as often. Blamed is only what it has
seen: where the thread itself came late (a machine that is paused or under water, C code that keeps
the interpreter to itself) nobody knows what the loop did.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from typing import Final

import structlog

_log = structlog.get_logger("relay.loop")

BEAT_S: Final = 0.5
LOOK_S: Final = 0.25
"""Between two looks of the thread."""
BLOCKED_S: Final = 1.0
"""Without a beat: twice what lies between two."""
OWN_PAUSE_S: Final = 1.0
"""A look that comes so late says that the thread was held up too."""
MAX_FRAMES: Final = 40
"""Of a stack, the innermost."""


class Beats:
    """Whether the loop stands still. A pure state machine: times are arguments, seconds of a
    monotonic clock; `beat` is for the loop's thread, `look` for another one."""

    __slots__ = ("_beat_s", "_blocked_from_s", "_looked_s")

    def __init__(self, now_s: float) -> None:
        self._beat_s = now_s
        self._looked_s = now_s
        self._blocked_from_s: float | None = None

    def beat(self, now_s: float) -> float:
        """It runs.

        Returns:
            How long it stood still, seconds, where that was told; else 0.
        """
        since_s, self._blocked_from_s = self._blocked_from_s, None
        self._beat_s = now_s
        return 0.0 if since_s is None else now_s - since_s

    def look(self, now_s: float) -> float:
        """To be called every `LOOK_S`.

        Returns:
            For how long it has stood still, seconds, where that is to be told, which is once; else
            0.
        """
        slept_s, self._looked_s = now_s - self._looked_s, now_s
        if slept_s > LOOK_S + OWN_PAUSE_S:
            self._beat_s = now_s
            return 0.0
        silent_s = now_s - self._beat_s
        if silent_s < BLOCKED_S or self._blocked_from_s is not None:
            return 0.0
        self._blocked_from_s = self._beat_s
        return silent_s


class LoopWatch:
    """Of the loop that runs in the thread which makes it; `start` it there, `close` it there."""

    def __init__(self) -> None:
        self._beats = Beats(time.monotonic())
        self._watched = threading.get_ident()
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to beat and to look. The thread is a daemon: it keeps no process."""
        self._beats = Beats(time.monotonic())
        self._beat_later()
        threading.Thread(target=self._run, name="loop watch", daemon=True).start()

    def close(self) -> None:
        """Look no more; never waits. Idempotent."""
        self._stopping.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _beat(self) -> None:
        if stood_s := self._beats.beat(time.monotonic()):
            _log.warning("loop_goes_on", stood_s=round(stood_s, 3))
        self._beat_later()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            if silent_s := self._beats.look(time.monotonic()):
                _log.error("loop_blocked", silent_s=round(silent_s, 3), stack=self._stack())

    def _stack(self) -> list[str]:
        """Where the loop's thread is, outermost first; of our code and others', no values."""
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - there is no other way
        lines = traceback.format_stack(frame)[-MAX_FRAMES:] if frame is not None else []
        return [line.rstrip() for line in lines]
