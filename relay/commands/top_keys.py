"""Single keys of a terminal, as they are pressed; the terminal is left as it was found."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Keys:
    """Keys of standard input within the block; none where it is no terminal.

    Args:
        pressed: told of each character, in the loop that the block was entered in.
    """

    def __init__(self, pressed: Callable[[str], None]) -> None:
        self._pressed = pressed
        self._descriptor: int | None = None
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        if not sys.stdin.isatty():
            return self
        self._descriptor = descriptor = sys.stdin.fileno()
        self._before = termios.tcgetattr(descriptor)
        self.take()
        asyncio.get_running_loop().add_reader(descriptor, self._read)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
            self._descriptor = None

    def take(self) -> None:
        """Have keys come at once and not be shown; Ctrl-C stays a signal. Also after the shell had
        the terminal in between."""
        if self._descriptor is not None:
            tty.setcbreak(self._descriptor, termios.TCSADRAIN)

    def _read(self) -> None:
        assert self._descriptor is not None  # noqa: S101 - a reader is there within the block alone
        try:
            pressed = os.read(self._descriptor, 64)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pressed = b""
        if not pressed:  # the terminal has gone
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._pressed("q")
            return
        if pressed.startswith(b"\x1b"):  # an arrow or the like: not the letters in it
            return
        for key in pressed.decode(errors="ignore"):
            self._pressed(key)
