"""What systemd is told of a service (sd_notify(3)): that it serves, that it stops, that it lives.

A datagram to the socket that `NOTIFY_SOCKET` names; without one nothing is sent. Whoever is not
read, or has a socket that is gone, is none the worse for it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import MutableMapping
from typing import Final

SOCKET_VARIABLE: Final = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE: Final = "WATCHDOG_USEC"
WATCHDOG_PID_VARIABLE: Final = "WATCHDOG_PID"


class Notifier:
    """Of the main process of a service; `aclose` it last."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """
        Args:
            environ: its variables are taken out, so that no child speaks for us.
        """
        address = environ.pop(SOCKET_VARIABLE, "")
        every_us = environ.pop(WATCHDOG_VARIABLE, "")
        pid = environ.pop(WATCHDOG_PID_VARIABLE, "")
        # "@" is how an abstract address is written.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._every_s = int(every_us) / 2e6 if every_us.isdigit() else 0.0
        if pid and pid != str(os.getpid()):
            self._every_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def ready(self) -> None:
        """It serves. From here on the loop says, as often as it is asked to, that it turns."""
        self._send("READY=1")
        if self._address and self._every_s > 0 and self._task is None:
            self._task = asyncio.create_task(self._live(), name="watchdog")

    def stopping(self) -> None:
        """It drains."""
        self._send("STOPPING=1")

    async def aclose(self) -> None:
        """Say nothing more. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _live(self) -> None:
        while True:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._every_s)

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(state.encode(), self._address)
        except OSError:
            return
