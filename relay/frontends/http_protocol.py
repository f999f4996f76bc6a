"""uvicorn's HTTP/1.1 protocol with a bound on the head of a request.

Its parser keeps a head however long it gets, finished or not; memory for it is the caller's to
spend otherwise.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from relay.frontends.held_head import HeldHead

MAX_HEAD_BYTES = 65_536
"""Request line and headers together; SDKs send less than two kilobytes."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection; a head over the limit is answered with 400 and the connection closed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._requests = 0
        """Whose heads are complete."""
        self._is_in_head = True
        self._head_bytes = 0

    def data_received(self, data: bytes) -> None:
        was_in_head, requests_before = self._is_in_head, self._requests
        super().data_received(data)
        if not (was_in_head and self._is_in_head) or self._requests != requests_before:
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            # It came in one piece; the parser turns this into 400 and a closed connection.
            raise ValueError("the head of the request is too large")
        self._requests += 1
        self._is_in_head = False
        cycle_before = self.cycle
        super().on_headers_complete()
        if self.cycle is not cycle_before:  # None of it for an upgrade, which the shim has not
            self.cycle.transport = HeldHead(self.transport)  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        self._is_in_head = True
        super().on_message_complete()
