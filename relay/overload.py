"""What one worker has taken on, and whom it refuses: the ears and the voice of
`relay.resilience.overload`.

    overload.check(RequestClass.NEW)          # raises Overloaded; before anything is read
    overload.enter()
    try: ...
    finally: overload.leave()

A refusal costs a comparison and an error. Nothing is booked, and no breaker hears of it: it is
raised before there is a generation. One timer looks at the loop twenty times a second, and at
resident memory four times; a change of who is refused is one line of the log.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import resource
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from relay.config import OverloadConfig
from relay.errors import Draining, Overloaded
from relay.memory_limit import memory_limit_bytes
from relay.resilience.overload import Bounds, Cause, OverloadPolicy, RequestClass

_log = structlog.get_logger("relay.overload")

MEMORY_SHARE: Final = 0.8
"""Of what the machine or the container has, for all workers: the rest is for the supervisor, the
system, and what Redis or a proxy beside us needs."""
LEAST_RSS_BYTES: Final = 192 << 20
"""Of one worker, where nobody has set a bound: one with nothing to do has some 110 MiB, and a share
of a small container that is less would refuse everybody for ever."""
LOOK_S: Final = 0.05
"""Between looks at the loop: some ten microseconds each."""
LOOKS_A_MEASURE: Final = 5
"""Of the loop, to one at the memory: every 250 ms."""
TRIM_EVERY_S: Final = 10.0
"""While memory is short: give back what was freed and is still held."""
RETRY_AFTER_S: Final = {
    RequestClass.BATCH: 10.0,
    RequestClass.NEW: 1.0,
    RequestClass.LIVE: 0.3,
}
"""On average: half of it to half as much again, so that those who were refused together do not come
back together."""
_WORDS: Final = {0: "nobody", **{int(kind): kind.name.lower() for kind in RequestClass}}
_PAGE_BYTES: Final = resource.getpagesize()


def bounds_of(config: OverloadConfig, workers: int) -> Bounds:
    """Of one of so many workers."""
    if config.max_rss_mib is None:
        whole_bytes = memory_limit_bytes()
        share_bytes = int(MEMORY_SHARE * (whole_bytes or 0) / workers)
        rss_bytes = 0 if whole_bytes is None else max(LEAST_RSS_BYTES, share_bytes)
    else:
        rss_bytes = config.max_rss_mib << 20
    return Bounds(
        max_generations=config.max_generations,
        max_sessions=config.max_sessions,
        max_loop_lag_s=config.max_loop_lag_ms / 1000,
        min_generations=config.min_generations,
        max_rss_bytes=rss_bytes,
    )


class Overload:
    """Of one worker, in its loop's thread. It refuses by what it has counted from the beginning;
    `start` makes it hear of lateness and memory too, and whoever starts it awaits `aclose`."""

    def __init__(
        self,
        bounds: Bounds | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        rss_bytes: Callable[[], int] | None = None,
        trim: Callable[[], object] | None = None,
    ) -> None:
        """
        Args:
            bounds: the default ones if None.
            chance: 0 to 1, for hints when to come again.
            rss_bytes: resident memory now; None: read of `/proc`, where there is one.
            trim: gives memory back to the system, in a thread; None: the C library's own.
        """
        self._clock = clock
        self._chance = chance
        self._rss_bytes = rss_bytes
        self._trim = trim or _malloc_trim
        self.bounds = bounds or Bounds()
        self._policy = OverloadPolicy(self.bounds, clock())
        self.in_flight = 0
        """Requests, and generations of sessions, that were let in and are not over."""
        self.sessions = 0
        self.shed: dict[tuple[RequestClass, Cause], int] = {}
        """How many were refused, by class and why; drains are not among them."""
        self._began_s = 0.0
        """When `level` left 0."""
        self._statm: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._looks = 0
        self._trimmed_s = float("-inf")
        self._trimming: asyncio.Future[object] | None = None
        self._rss = 0

    # --- asked, by what comes in ------------------------------------------------------------

    def check(self, kind: RequestClass) -> None:
        """Whether one more of a class may begin. Takes no time, and nothing of the request.

        Raises:
            Overloaded: not now.
            Draining: not here any more.
        """
        if self.in_flight >= self._policy.caps[kind]:
            raise self.refusal(kind)

    @property
    def has_room(self) -> bool:
        """Whether `check` would let a new request in."""
        return self.in_flight < self._policy.caps[RequestClass.NEW]

    def refusal(self, kind: RequestClass) -> Overloaded | Draining:
        """What `check` raises where there is no room; it is counted as told."""
        return self._refusal(kind, self._policy.cause(kind, self.in_flight))

    def check_session(self, kind: RequestClass) -> None:
        """The same of a session that is to be opened; it is one from `open_session` on."""
        self.check(kind)
        if not self._policy.admits_session(kind, self.in_flight, self.sessions):
            raise self._refusal(kind, Cause.SESSIONS)

    def enter(self) -> None:
        """One more is in flight, until `leave`."""
        self.in_flight += 1

    def leave(self, _: object = None) -> None:
        """One is over. Takes an argument, so that it can be a callback of what ends."""
        self.in_flight -= 1

    def open_session(self) -> None:
        """One more is open, until `close_session`."""
        self.sessions += 1

    def close_session(self) -> None:
        """One is closed."""
        self.sessions -= 1

    def _refusal(self, kind: RequestClass, cause: Cause) -> Overloaded | Draining:
        if cause is Cause.DRAINING:
            return Draining("this relay is shutting down; connect again")
        key = (kind, cause)
        self.shed[key] = self.shed.get(key, 0) + 1
        was = self._policy.level
        now_s = self._clock()
        if self._policy.refused(kind, now_s):
            if not was:
                self._began_s = now_s
            _log.warning("overload", refused=_WORDS[int(kind)], why=cause.value, **self._figures())
        return Overloaded(
            "the relay has too much to do; try again in a moment",
            retry_after_s=RETRY_AFTER_S[kind] * (0.5 + self._chance()),
            metadata={"class": _WORDS[int(kind)]},
        )

    def drain(self) -> None:
        """Nothing more is let in, for good."""
        self._policy.drain()

    # --- listening --------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look at the loop that runs, and at memory."""
        loop = asyncio.get_running_loop()
        if self._rss_bytes is None and self.bounds.max_rss_bytes:
            try:
                self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
                self._rss_bytes = self._resident_bytes
            except OSError:
                _log.warning("overload", why="there is no /proc/self/statm: memory has no bound")
        self._due_s = loop.time() + LOOK_S
        self._timer = loop.call_at(self._due_s, self._look)

    async def aclose(self) -> None:
        """Look no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._trimming is not None:
            await asyncio.wait([self._trimming])
            self._trimming = None
        if self._statm is not None:
            os.close(self._statm)
            self._statm = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self.looked(now_s - self._due_s)
        self._due_s = now_s + LOOK_S
        self._timer = loop.call_at(self._due_s, self._look)

    def looked(self, lag_s: float) -> None:
        """A look at the loop came so late."""
        now_s = self._clock()
        if self._policy.looked(lag_s, self.in_flight, now_s):
            self._told_calm(now_s)
        self._looks += 1
        if self._rss_bytes is not None and self._looks % LOOKS_A_MEASURE == 0:
            self._rss = self._rss_bytes()
            self._policy.measured_memory(self._rss)
            if self._policy.is_short_of_memory and now_s - self._trimmed_s >= TRIM_EVERY_S:
                self._give_back(now_s)

    def _told_calm(self, now_s: float) -> None:
        level = self._policy.level
        if level:
            _log.warning("overload", refused=_WORDS[level], why="less", **self._figures())
        else:
            _log.info("overload_over", took_s=round(now_s - self._began_s, 3), **self._figures())

    def _give_back(self, now_s: float) -> None:
        """The C library keeps what was freed, so that memory, once high, would stay high, and with
        it the refusals. In a thread: with gigabytes it takes a while."""
        if self._trimming is None or self._trimming.done():
            self._trimmed_s = now_s
            self._trimming = asyncio.get_running_loop().run_in_executor(None, self._trim)

    def _resident_bytes(self) -> int:
        if self._statm is None:
            return 0
        return int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE_BYTES

    # --- shown ------------------------------------------------------------------------------

    @property
    def level(self) -> int:
        """Who was refused within five seconds: 0 nobody, 1 batch, 2 new requests, 3 sessions."""
        return self._policy.level

    @property
    def limit(self) -> int:
        """How many may be in flight for a new request to be let in."""
        return self._policy.caps[RequestClass.NEW]

    def describe(self) -> dict[str, Any]:
        """For `/admin/state`."""
        return {
            "refused": _WORDS[self.level],
            **self._figures(),
            "shed": {
                f"{_WORDS[int(kind)]}/{cause.value}": count
                for (kind, cause), count in self.shed.items()
            },
        }

    def _figures(self) -> dict[str, Any]:
        return {
            "in_flight": self.in_flight,
            "sessions": self.sessions,
            "limit": self.limit,
            "lag_ms": round(1000 * self._policy.lag_s, 1),
            "rss_mib": self._rss >> 20,
            "max_rss_mib": self.bounds.max_rss_bytes >> 20,
        }


def _malloc_trim() -> None:
    """glibc's, where it is: give freed memory back."""
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)


_LIBC: Final = ctypes.CDLL(None)
