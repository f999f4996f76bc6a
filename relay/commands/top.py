"""`relay top`: what a running relay does now, read from its admin listener again and again.

On a terminal it fills the screen until `q` or Ctrl-C; elsewhere each reading is printed plainly.
Two readings make one frame: the first alone has no rates.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import orjson
from rich.console import Console
from rich.live import Live

from relay.commands.top_feed import Feed, Lost, Place, TopError
from relay.commands.top_frame import SORTS, Frame, frame
from relay.commands.top_keys import Keys
from relay.commands.top_snapshot import Snapshot
from relay.commands.top_view import ALL, SORT_KEYS, Screen, draw
from relay.commands.top_words import line, problems

LONGEST_WAIT_S: Final = 5.0
"""Between two tries while nothing answers, if the interval is no longer than that."""
_WIDE: Final = 8_192


@dataclass(slots=True)
class Wish:
    """Options of the command line."""

    interval_s: float = 2.0
    is_once: bool = False
    as_json: bool = False
    sort: str = "trouble"


async def top(place: Place, wish: Wish) -> int:
    """Run until it is left; the exit status.

    Raises:
        TopError: an option is wrong, or the relay refuses.
    """
    if wish.sort not in SORTS:
        raise TopError(f"--sort: {', '.join(SORTS)} are expected")
    async with Feed(place) as feed:
        if wish.is_once:
            return await _once(feed, wish)
        if wish.as_json or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
            try:
                return await _printed(feed, wish)
            except BrokenPipeError:  # whoever read has enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 0
        return await _shown(feed, wish)


# --- without a screen -----------------------------------------------------------------------


async def _once(feed: Feed, wish: Wish) -> int:
    """One frame, of two readings."""
    try:
        before = await feed.read()
        await asyncio.sleep(wish.interval_s)
        found = frame(before, await feed.read())
    except Lost as error:
        raise TopError(f"cannot reach {feed.url}: {error}") from None
    _print(found, feed, wish)
    return 0


async def _printed(feed: Feed, wish: Wish) -> int:
    """Frame after frame, until the reader goes or somebody stops it."""
    stopping = _stopping()
    before: Snapshot | None = None
    tries = 0
    while not stopping.is_set():
        try:
            now = await feed.read()
        except Lost as error:
            tries += 1
            _tell(f"cannot reach {feed.url}: {error}; trying again")
        else:
            tries = 0
            if before is not None:
                _print(frame(before, now), feed, wish)
            before = now
        await _wait(stopping, _pause_s(wish.interval_s, tries))
    return 0


def _print(found: Frame, feed: Feed, wish: Wish) -> None:
    if wish.as_json:
        try:
            written = orjson.dumps(as_data(found, feed.url))
        except orjson.JSONEncodeError:
            raise TopError(f"{feed.url} shows numbers that JSON has no room for") from None
        sys.stdout.buffer.write(written + b"\n")
        sys.stdout.buffer.flush()
        return
    plain = Console(width=_WIDE, color_system=None, highlight=False, emoji=False)
    with plain.capture() as text:
        plain.print(draw(found, Screen(ALL, ALL, wish.sort, feed.url)), soft_wrap=True)
    lines = [each.rstrip() for each in text.get().splitlines()]
    sys.stdout.write("\n".join(lines) + "\n" + ("" if wish.is_once else "\n"))
    sys.stdout.flush()


def as_data(found: Frame, url: str) -> dict[str, Any]:
    """For programs: all of a frame, and what is said of it."""
    told = problems(found)
    return {
        "at_us": time.time_ns() // 1000,
        "url": url,
        "line": line(found, told),
        "problems": [one._asdict() for one in told],
        **found.to_dict(),
    }


def _tell(words: str) -> None:
    sys.stderr.write(f"relay: {words}\n")
    sys.stderr.flush()


# --- with one -------------------------------------------------------------------------------


@dataclass(slots=True)
class _Shown:
    """What the screen shows now."""

    screen: Screen
    found: Frame | None = None
    frozen: Frame | None = None
    read_at_s: float = 0.0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def pressed(self, key: str) -> None:
        """A key of the terminal."""
        screen = self.screen
        if key in ("q", "Q"):
            self.stopping.set()
        elif key == "s":
            names = list(SORTS)
            place = names.index(screen.sort)
            self.screen = screen._replace(sort=names[(place + 1) % len(names)])
        elif key in SORT_KEYS:
            self.screen = screen._replace(sort=SORT_KEYS[key])
        elif key == " ":
            self.screen = screen._replace(is_paused=not screen.is_paused)
            self.frozen = self.found
        elif key in ("?", "h"):
            self.screen = screen._replace(shows_help=not screen.shows_help)
        else:
            return
        self.changed.set()


async def _shown(feed: Feed, wish: Wish) -> int:
    console = Console(highlight=False, emoji=False)
    shown = _Shown(Screen(sort=wish.sort, url=feed.url, has_keys=True))
    loop = asyncio.get_running_loop()
    stops = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in stops:
        loop.add_signal_handler(number, shown.stopping.set)
    first = await _first(feed, shown)
    with (
        Keys(shown.pressed) as keys,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        loop.add_signal_handler(signal.SIGWINCH, shown.changed.set)
        loop.add_signal_handler(signal.SIGCONT, partial(_back, keys, shown))
        reading = asyncio.create_task(_read(feed, wish, shown, first))
        drawing = asyncio.create_task(_draw(live, console, shown))
        stopping = asyncio.create_task(shown.stopping.wait())
        tasks = (reading, drawing, stopping)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            for number in (*stops, signal.SIGWINCH, signal.SIGCONT):
                loop.remove_signal_handler(number)
    for error in ended:
        if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
            raise error
    return 0


def _back(keys: Keys, shown: _Shown) -> None:
    """The shell had the terminal in between (Ctrl-Z, `fg`)."""
    keys.take()
    shown.changed.set()


async def _first(feed: Feed, shown: _Shown) -> Snapshot | None:
    """A first reading before the screen is taken: what is wrong for good is told beneath the
    command that was typed."""
    try:
        now = await feed.read()
    except Lost as error:
        shown.screen = shown.screen._replace(lost=str(error))
        return None
    shown.found, shown.read_at_s = frame(None, now), now.at_s
    return now


async def _read(feed: Feed, wish: Wish, shown: _Shown, before: Snapshot | None) -> None:
    tries = 0 if before is not None else 1
    while True:
        shown.changed.set()
        await asyncio.sleep(_pause_s(wish.interval_s, tries))
        try:
            now = await feed.read()
        except Lost as error:
            tries += 1
            lost_s = time.monotonic() - shown.read_at_s if shown.found is not None else 0.0
            shown.screen = shown.screen._replace(lost=str(error), lost_s=lost_s)
            continue
        tries = 0
        shown.found, shown.read_at_s = frame(before, now), now.at_s
        shown.screen = shown.screen._replace(lost="", lost_s=0.0)
        before = now


async def _draw(live: Live, console: Console, shown: _Shown) -> None:
    while True:
        await shown.changed.wait()
        shown.changed.clear()
        width, height = console.size
        screen = shown.screen._replace(width=width, height=height)
        found = shown.frozen if screen.is_paused else shown.found
        live.update(draw(found, screen), refresh=True)


# --- both -----------------------------------------------------------------------------------


def _stopping() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    return stopping


async def _wait(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)


def _pause_s(interval_s: float, tries: int) -> float:
    """While nothing answers the pause doubles, up to a few seconds."""
    if not tries:
        return interval_s
    return min(max(interval_s, LONGEST_WAIT_S), interval_s * float(1 << min(tries - 1, 6)))
