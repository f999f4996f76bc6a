"""A worker's end: it beats, tells whether it serves, answers questions, and passes hints."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import socket
from collections.abc import Callable, MutableMapping
from typing import Any, Final, Self

import structlog

from relay.workers.channel import Channel, Message, open_channel
from relay.workers.watch import BEAT_S

_log = structlog.get_logger("relay.workers")

PIPE_VARIABLE: Final = "RTRELAY_WORKER_PIPE"
"""Set in a worker's environment: number of the descriptor that leads to its supervisor."""
STACKS_VARIABLE: Final = "RTRELAY_WORKER_STACKS"
"""And of a file for its stacks, which it writes on SIGUSR1 even if its loop is stuck."""

Answer = Callable[..., Any]


class SupervisorLink:
    """Made by `connect`; `aclose` it last."""

    def __init__(self) -> None:
        self._channel: Channel | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._told: Message = {"kind": "status", "status": "starting", "ports": {}}
        self._answers: dict[str, Answer] = {}
        self.on_hint: Callable[[dict[str, Any]], None] | None = None
        """Is given what other workers and machines pass on."""
        self.on_lost: Callable[[], None] | None = None
        """Is called when the supervisor is gone."""

    @classmethod
    async def connect(cls, sock: socket.socket) -> Self:
        """Begin to beat. The socket is the link's from then on."""
        link = cls()
        link._channel = await open_channel(sock, link._take, link._lost)
        link._send(link._told)
        link._tick()
        return link

    def answer(self, what: str, answer: Answer) -> None:
        """Answer questions of this name, such as `state`.

        Args:
            answer: JSON data, no secrets; in a millisecond or two. It is called with what the
                asker gives along, also JSON data. What it raises is told to the asker by its class
                alone.
        """
        self._answers[what] = answer

    def status(self, status: str, ports: dict[str, int] | None = None) -> None:
        """Tell whether requests are served: `starting`, `ready` or `draining`."""
        self._told = {
            "kind": "status",
            "status": status,
            "ports": self._told["ports"] if ports is None else ports,
        }
        self._send(self._told)

    def hint(self, hint: dict[str, Any]) -> bool:
        """Pass a hint to the other workers, and beyond; False if it was dropped."""
        return self._send({"kind": "hint", "hint": hint})

    async def aclose(self) -> None:
        """Say nothing more. Idempotent."""
        self._is_closed = True
        if self._beat is not None:
            self._beat.cancel()
        if self._channel is not None:
            self._channel.close()
            await asyncio.sleep(0)  # asyncio closes the socket in the loop's next turn

    # --- inside -----------------------------------------------------------------------------

    def _send(self, message: Message) -> bool:
        return self._channel is not None and self._channel.send(message)

    def _tick(self) -> None:
        self._send({"kind": "beat"})
        self._beat = asyncio.get_running_loop().call_later(BEAT_S, self._tick)

    def _take(self, message: Message) -> None:
        kind = message.get("kind")
        if kind == "ask":
            what: Any = message.get("what")
            answer: Message = {"kind": "answer", "id": message.get("id")}
            try:
                answer["value"] = self._answers[what](*message.get("given", ()))
            except Exception as error:  # noqa: BLE001 - the admin page must not end a worker
                _log.error("answer_failed", what=what, exc_info=error)
                answer["error"] = type(error).__name__
            self._send(answer)
        elif kind == "hint" and self.on_hint is not None and "hint" in message:
            self.on_hint(message["hint"])

    def _lost(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
        if not self._is_closed and self.on_lost is not None:
            self.on_lost()


def inherited(environ: MutableMapping[str, str]) -> socket.socket | None:
    """Our end of the socket pair; None without a supervisor. Its name is taken from the
    environment, so that no child of ours takes it for its own; and SIGUSR1 writes our stacks.

    Raises:
        OSError: the descriptor is not there.
    """
    number = environ.pop(PIPE_VARIABLE, None)
    stacks = environ.pop(STACKS_VARIABLE, None)
    if stacks is not None:
        os.set_inheritable(int(stacks), False)
        faulthandler.register(signal.SIGUSR1, file=int(stacks), all_threads=True)
    if number is None:
        return None
    os.set_inheritable(int(number), False)
    return socket.socket(fileno=int(number))
