"""uvicorn's HTTP/1.1 protocol with bounds on the head of a request, and on the time requests take.

uvicorn's parser keeps a head however long it gets, finished or not, and waits for ever for the
rest of a head or a body: memory and sockets would be the caller's to spend.

Strategy for time: `data_received` notes until when what is unfinished must have come; a timer that
is set only while something is unfinished looks at the note when it fires, and goes to sleep when
there is none. So a request that comes in one piece sets no timer, one that comes in several sets
at most one every ten seconds, and none is ever cancelled but with its connection.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from relay.frontends.held_head import HeldHead

MAX_HEAD_BYTES = 65_536
"""Request line and headers together; SDKs send less than two kilobytes."""

HEAD_TIMEOUT_S = 10.0
"""For a head, from its first byte; SDKs send theirs in one piece."""

BODY_TIMEOUT_S = 60.0
"""For a body, from the end of its head: the largest one taken, 8 MiB, over about 1 Mbit/s."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection.

    A head over `MAX_HEAD_BYTES` is answered with 400, a head or body that takes longer than
    `head_timeout_s` or `body_timeout_s` (seconds) with 408; then the connection is closed, and
    the application, if it waits for the body, is told that the client has gone. A connection that
    is opened and says nothing is closed like one that is kept alive for nothing.

    While an earlier answer of the connection is under way the clock of the next request stands
    still: its bytes may wait in our own buffers.
    """

    head_timeout_s: ClassVar[float] = HEAD_TIMEOUT_S
    body_timeout_s: ClassVar[float] = BODY_TIMEOUT_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._requests = 0
        """Whose heads are complete."""
        self._is_in_head = True
        self._has_begun = False
        """Of the head we are in: more than the blank lines that may stand before it has come."""
        self._head_bytes = 0
        self._due_s: float | None = None
        """When what is unfinished must have come; None while nothing is."""
        self._look_timer: asyncio.TimerHandle | None = None

    # --- what comes -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # uvicorn sets it after an answer only; the first byte takes it back.
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._due_s = None
        if self._look_timer is not None:
            self._look_timer.cancel()
            self._look_timer = None
        # uvicorn forgets it when the connection broke.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head, had_begun = self._is_in_head, self._has_begun
        requests_before = self._requests
        super().data_received(data)
        is_same_head = was_in_head and self._is_in_head and self._requests == requests_before
        if is_same_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")
        else:
            self._head_bytes = 0
        if not self._is_in_head:
            if was_in_head or self._requests != requests_before:
                self._expect()
        elif self._has_begun:
            if not (is_same_head and had_begun):
                self._expect()
        elif not is_same_head:
            self._due_s = None
        elif self._due_s is None:
            self._expect()

    def on_message_begin(self) -> None:
        self._has_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            # It came in one piece; the parser turns this into 400 and a closed connection.
            raise ValueError("the head of the request is too large")
        self._requests += 1
        self._is_in_head = self._has_begun = False
        cycle_before = self.cycle
        super().on_headers_complete()
        if self.cycle is not cycle_before:  # None of it for an upgrade, which the shim has not
            self.cycle.transport = HeldHead(self.transport)  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        self._is_in_head = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._due_s is not None and not self.transport.is_closing():
            self._expect()  # what follows could not be read or answered until now
        super().on_response_complete()

    # --- time -------------------------------------------------------------------------------

    def _expect(self) -> None:
        """The clock of what is unfinished starts now."""
        if self.transport.is_closing():
            return
        if not self._is_in_head:
            limit_s = self.body_timeout_s
        elif self._has_begun:
            limit_s = self.head_timeout_s
        else:
            limit_s = self.timeout_keep_alive  # blank lines, which some clients send after a body
        self._due_s = self.loop.time() + limit_s
        if self._look_timer is None:
            self._nap(limit_s)

    def _nap(self, left_s: float) -> None:
        # Not longer than the shorter limit, which could be the next one to count.
        nap_s = min(left_s, self.head_timeout_s, self.body_timeout_s)
        self._look_timer = self.loop.call_later(nap_s, self._look)

    def _look(self) -> None:
        """The timer fired: is something overdue?"""
        self._look_timer = None
        if self._due_s is None or self.transport.is_closing():
            return
        left_s = self._due_s - self.loop.time()
        cycle = self.cycle
        if self._is_in_head:
            is_held_up = cycle is not None and not cycle.response_complete  # type: ignore[redundant-expr]
        else:
            is_held_up = bool(self.pipeline)
        if left_s > 0 or is_held_up:
            self._nap(left_s if left_s > 0 else self.head_timeout_s)
        elif self._is_in_head:
            self._give_up("head" if self._has_begun else "")
        elif not cycle.response_started:
            self._give_up("body")
        else:
            # Answered without its body; what is left of the answer may still go out.
            cycle.keep_alive = False
            if cycle.response_complete:
                self._give_up("")

    def _give_up(self, part: str) -> None:
        """Close, and say why if a request (of which `part` lacks) waits for an answer."""
        self._due_s = None
        if part:
            text = b"The %b of the request took too long." % part.encode()
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\n"
                b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(text), text)
            )
        self.transport.close()
