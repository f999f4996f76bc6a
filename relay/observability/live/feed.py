"""To whoever looks: a picture a second, and generations as they end. One task for all of them, and
none while nobody looks.

A viewer that is slow is let go: what he has not taken is held up to a bound, and then he is
dropped, never waited for. His page connects again and begins with all there is.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

import orjson
import structlog

from relay.observability.live.findings import findings
from relay.observability.live.joined import Joined
from relay.sse import encode_event

_log = structlog.get_logger("relay.live")

MAX_VIEWERS: Final = 24
MAX_WAITING: Final = 40
"""Messages that one viewer has not taken: some ten seconds."""
TICK_S: Final = 0.25
"""Between looks for generations that have ended; the picture is of every fourth."""
TICKS_A_PICTURE: Final = 4
TAIL: Final = 3
"""Slices of the charts that a picture brings; all of them come first."""
MAX_ENDS: Final = 50
"""Generations that one message brings; under load the rest is in the counts alone."""

Extra = Callable[[], Awaitable[dict[str, Any]]]
"""Further parts of the picture, such as budgets; fast, since it is kept by whoever makes it."""


class TooManyViewers(Exception):
    """Nobody more may look."""


class Viewer:
    """Who looks; made by `Feed.join`, to be left by `Feed.leave`."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._has_news = asyncio.Event()
        self.dropped = asyncio.Event()
        """He took too little: nothing comes any more."""

    def give(self, message: bytes) -> None:
        """Never waits."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.clear()
            self.dropped.set()
        if not self.dropped.is_set():
            self._waiting.append(message)
        self._has_news.set()

    async def next(self) -> bytes:
        """All that waits; b"" when he was dropped."""
        await self._has_news.wait()
        self._has_news.clear()
        messages = b"".join(self._waiting)
        self._waiting.clear()
        return messages


class Feed:
    """Made once a process that has an admin listener; `aclose` it."""

    def __init__(self, joined: Joined, extra: Extra | None = None) -> None:
        self._joined = joined
        self._extra = extra
        self._viewers: set[Viewer] = set()
        self._task: asyncio.Task[None] | None = None
        self._left: asyncio.Task[None] | None = None
        """The one before, cancelled when the last viewer went: no other begins beside it."""
        self._looking = asyncio.Lock()
        """Two looks at once would both be told what is new."""

    async def picture(self) -> dict[str, Any]:
        """One, for who asks once: with findings and the last generations."""
        await self._look(state=True)
        return {**await self._shown(), "recent": self._joined.recent}

    async def _look(self, *, state: bool) -> None:
        async with self._looking:
            fresh = await self._joined.look(state=state)
        if fresh:
            self._tell("ends", fresh[-MAX_ENDS:])

    async def _shown(self) -> dict[str, Any]:
        picture = self._joined.snapshot()
        if self._extra is not None:
            picture |= await self._extra()
        picture["findings"] = [one._asdict() for one in findings(picture)]
        return picture

    async def join(self) -> Viewer:
        """Begin to look; the first messages are all there is.

        Raises:
            TooManyViewers
        """
        if len(self._viewers) >= MAX_VIEWERS:
            raise TooManyViewers(f"{MAX_VIEWERS} look already")
        viewer = Viewer()
        self._viewers.add(viewer)  # before anything is awaited: the bound holds
        try:
            await self._look(state=True)
            whole = {**await self._shown(), "points": self._joined.points()}
            await self._settled()
        except BaseException:
            self.leave(viewer)
            raise
        viewer.give(event("picture", whole) + event("recent", self._joined.recent))
        if self._task is None and viewer in self._viewers:  # else it was closed meanwhile
            self._task = asyncio.create_task(self._run(), name="live feed")
        return viewer

    async def _settled(self) -> None:
        """The task of viewers before has ended."""
        while self._left is not None:
            left = self._left
            await asyncio.wait([left])
            if self._left is left:
                self._left = None

    def leave(self, viewer: Viewer) -> None:
        """He looks no more; with the last one the work is cancelled, and awaited by whoever joins
        next or closes. Idempotent."""
        self._viewers.discard(viewer)
        if not self._viewers and self._task is not None:
            self._task.cancel()
            self._task, self._left = None, self._task

    @property
    def viewers(self) -> int:
        """How many look."""
        return len(self._viewers)

    async def aclose(self) -> None:
        """Let everybody go. Idempotent."""
        for viewer in list(self._viewers):
            viewer.dropped.set()
            viewer.give(b"")
            self.leave(viewer)
        await self._settled()

    def _tell(self, name: str, data: Any) -> None:
        if self._viewers:
            message = event(name, data)
            for viewer in self._viewers:
                viewer.give(message)

    async def _run(self) -> None:
        tick = 0
        while True:
            begun_s = time.monotonic()
            tick += 1
            is_picture = tick % TICKS_A_PICTURE == 0
            try:
                await self._look(state=is_picture)
                if is_picture:
                    shown = await self._shown()
                    self._tell("picture", {**shown, "points": self._joined.points(TAIL)})
            except Exception as error:  # noqa: BLE001 - the next look may go well
                _log.error("live_bug", error=type(error).__name__, exc_info=error)
            await asyncio.sleep(max(0.05, TICK_S - (time.monotonic() - begun_s)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def event(name: str, data: Any) -> bytes:
    """A server-sent event of JSON data."""
    return encode_event(orjson.dumps(data), name)
