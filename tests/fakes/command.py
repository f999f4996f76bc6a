"""The `relay` command as a process: run to its end, or used by a person at a terminal.

ran = await relay_command("check", "-c", str(path))
assert ran.status == 0

async with Terminal("chat", "--address", address) as terminal:
    await terminal.shows("you>")
    terminal.types("Hello\n")
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import sys
from types import TracebackType
from typing import NamedTuple, Self

WAIT_S = 30.0
"""Bound of every wait here that has none of its own, far above what anything takes."""

CTRL_C = "\x03"
CTRL_D = "\x04"

_AT_TERMINAL = (
    # A session leader without a controlling terminal gets the one that it opens: from it comes
    # the SIGINT of Ctrl-C.
    "import os; os.close(os.open(os.ttyname(0), os.O_RDWR)); from relay.cli import main; main()"
)


def _environment() -> dict[str, str]:
    """Ours without providers' keys, and lines wide enough to be searched."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return {**kept, "COLUMNS": "200", "PYTHONFAULTHANDLER": "1"}


class Ran(NamedTuple):
    """What a command left."""

    status: int | None
    output: str
    errors: str


async def relay_command(*arguments: str, stdin: str = "", wait_s: float = WAIT_S) -> Ran:
    """Run `relay ARGUMENTS` to its end. Cancelled or too late: it is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "relay.cli", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(stdin.encode()), wait_s)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    return Ran(process.returncode, output.decode(), errors.decode())


class Terminal:
    """`relay ARGUMENTS` at a terminal of its own; leaving the block kills what still runs."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self._master = -1
        self._changed = asyncio.Event()
        self._unread = ""
        self._has_ended = False
        self.screen = ""
        """Everything that was shown, what was typed included."""

    async def __aenter__(self) -> Self:
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-c", _AT_TERMINAL, *self._arguments),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
                env=_environment(),
            )
        except BaseException:
            os.close(self._master)
            raise
        finally:
            os.close(slave)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65_536)
        except BlockingIOError:
            return
        except OSError:  # EIO: nobody has the other end any more
            data = b""
        if not data:
            self._has_ended = True
            asyncio.get_running_loop().remove_reader(self._master)
        text = data.decode(errors="replace")
        self.screen += text
        self._unread += text
        self._changed.set()

    def types(self, text: str) -> None:
        """Press keys; the terminal makes signals and ends of input of what stands for them."""
        os.write(self._master, text.encode())

    async def shows(self, text: str) -> None:
        """Wait until the text is shown after that of the last wait.

        Raises:
            TimeoutError, EOFError: it was not.
        """
        try:
            async with asyncio.timeout(WAIT_S):
                while text not in self._unread:
                    if self._has_ended:
                        raise EOFError(f"{text!r} was not shown: {self.screen!r}")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"{text!r} was not shown: {self.screen!r}") from None
        self._unread = self._unread.partition(text)[2]

    async def exited(self) -> int:
        """Wait for the end of the command and of all that it shows; its exit status.

        Raises:
            TimeoutError: it does not end; with all that it showed, and where its threads are.
        """
        assert self._process is not None
        try:
            return await asyncio.wait_for(self._end(self._process), WAIT_S)
        except TimeoutError:
            self._process.send_signal(signal.SIGABRT)  # `faulthandler` writes the stacks
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._end(self._process), WAIT_S)
            raise TimeoutError(f"it did not end: {self.screen!r}") from None

    async def _end(self, process: asyncio.subprocess.Process) -> int:
        while not self._has_ended:
            self._changed.clear()
            await self._changed.wait()
        return await process.wait()
