"""uvicorn's HTTP/1.1 protocol with bounds: on the head of a request and what stands beside its
body, on the time requests and answers take, on what a client sends ahead.

uvicorn's parser keeps a head or a trailer however long it gets, finished or not, and waits for ever
for the rest of a head or a body, or for a client that does not read: memory and sockets would be
the caller's to spend.

Strategy for time: `data_received` notes until when what is unfinished must have come; a timer that
is set only while something is unfinished looks at the note when it fires, and goes to sleep when
there is none. So a request that comes in one piece sets no timer, one that comes in several sets
at most one every ten seconds, and none is ever cancelled but with its connection. `WriteWatch` does
the same for what goes out.

Strategy for disconnects: while an answer is made, reading never stops, since only who reads learns
that the client has gone. What a client sends ahead meanwhile (pipelining) is kept up to a bound;
beyond it the rest is read and dropped, and the connection closes after the answers that are due.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, ClassVar, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from relay.frontends.address_bound import AddressBound
from relay.frontends.asgi import TLS, WEBSOCKET, Early, Scope
from relay.frontends.http_exchange import Exchange
from relay.frontends.http_target import check_target
from relay.frontends.websocket_offer import Offer, offer_of
from relay.frontends.write_watch import WriteWatch
from relay.tls.names import names_of_transport

MAX_HEAD_BYTES = 65_536
"""Request line and headers together; SDKs send less than two kilobytes."""

MAX_FRAMING_BYTES = 65_536
"""Of a chunked body, on end and without a byte of content: chunk extensions and trailers, which
are dropped. What comes in the same read as content, up to 256 KiB, is not counted."""

MAX_AHEAD_BYTES = 65_536
"""Of requests sent while an earlier one is being answered, each with its object."""

_EXCHANGE_BYTES = 2048
"""What a request that waits is counted with beside its head and body."""

HEAD_TIMEOUT_S = 5.0
"""For a head, from its first byte; SDKs send theirs in one piece."""

BODY_TIMEOUT_S = 60.0
"""For a body, from the end of its head: the largest one taken, 8 MiB, over about 1 Mbit/s."""

SLOW_CONSUMER_S = 30.0
"""For a client to take something of what waits for it."""

_HELD_BYTES = 65_536
"""What a transport holds before it says so, as those without TLS do; those with it would take half
a megabyte."""

_UNSENT_BYTES = 131_072
"""What the kernel takes beyond that, before it says that there is no room: left to itself it takes
megabytes for a client that has stopped reading, each of them out of the machine's memory, and what
such a client is told late is not seen to be late."""

_FIRST_PROBE_S = 0.001
"""After a half-close, then twice as long each time: an answer that is there at once goes without
probes, and a client that has gone is noticed soon after one round trip."""
_MAX_PROBE_S = 5.0
_TOO_MANY_TEXT = b"Too many connections are open from there.\n"
_TOO_MANY = (
    b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(_TOO_MANY_TEXT), _TOO_MANY_TEXT)
)
_PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""An interim answer, which every HTTP/1.1 client skips."""


class _Deaf(Exception):
    """No error: it stops the parser, since nothing more of the connection is wanted."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection.

    A head over `MAX_HEAD_BYTES`, or one that names no path, several hosts or what is none
    (`http_target`), is answered with 400, trailers or chunk extensions over
    `MAX_FRAMING_BYTES` with 431, a head or body that takes longer than `head_timeout_s` or
    `body_timeout_s` (seconds) with 408; then the connection is closed, and the application, if it
    waits for the body, is told that the client has gone. A connection that is opened and says
    nothing is closed like one that is kept alive for nothing. One whose client does not read what
    waits for it is aborted after one to one and a quarter times `slow_consumer_s`.

    While an earlier answer of the connection is under way the clock of the next request stands
    still: its bytes may wait in our own buffers.

    Trailers are dropped (RFC 9110 6.5.1): they may not change what a request says in its head. An
    upgrade is ignored (7.8): the request is served as if it had not been offered. A WebSocket's is
    told to the application (`WEBSOCKET`), which may `TAKE_OVER` the connection, unless the client
    has sent more than its handshake: then the connection is broken.

    A client that ends its sending side (half-close) still gets its answer, unless the answer is a
    stream, or the connection is TLS, which ends whole: there it has hung up. To learn whether it
    has hung up here too, interim answers are sent: a client that has closed its socket refuses
    them, and is gone.
    """

    head_timeout_s: ClassVar[float] = HEAD_TIMEOUT_S
    body_timeout_s: ClassVar[float] = BODY_TIMEOUT_S

    cycle: Exchange

    def __init__(
        self,
        *args: Any,
        slow_consumer_s: float = SLOW_CONSUMER_S,
        early: Early | None = None,
        addresses: AddressBound | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            early: is asked for an answer once a head is there, before the application.
            addresses: how many connections one of them may have, over all of this listener's.
        """
        super().__init__(*args, **kwargs)
        self._early = early
        self._addresses = addresses
        self._counted_as = ""
        self._slow_consumer_s = slow_consumer_s
        self._writes: WriteWatch = None  # type: ignore[assignment]  # with the connection
        self._tls: dict[str, dict[str, tuple[str, ...]]] | None = None
        """What requests are told of TLS; None without."""
        self._running: Exchange | None = None
        """The one that is answered, or was last; `cycle` is the one that was read last."""
        self._requests = 0
        """Whose heads are complete."""
        self._is_in_head = True
        self._has_begun = False
        """Of the head we are in: more than the blank lines that may stand before it has come."""
        self._head_bytes = 0
        self._framing_bytes = 0
        self._has_content = False
        """Of a body, in the read that is being looked at."""
        self._ahead_bytes = 0
        self._is_deaf = False
        """What comes is read, so that a disconnect is seen, and dropped."""
        self._plain_head = b""
        """Of a request that offers an upgrade: the same without it."""
        self._offer: Offer | None = None
        """Of that request, where it offers a WebSocket."""
        self._due_s: float | None = None
        """When what is unfinished must have come; None while nothing is."""
        self._look_timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None

    # --- the connection ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._addresses is not None:
            counted_as = self._addresses.take(self.client[0] if self.client else "")
            if counted_as is None:
                self._is_deaf = True
                transport.write(_TOO_MANY)
                transport.close()
            self._counted_as = counted_as or ""
        self._writes = WriteWatch(transport, self._slow_consumer_s, self.loop)
        names = names_of_transport(transport)
        if names is not None:
            self._tls = {TLS: {"names": names}}
            transport.set_write_buffer_limits(_HELD_BYTES)
        _bound_unsent(transport)
        # uvicorn sets it after an answer only; the first byte takes it back.
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._uncount()
        self._due_s = None
        for timer in (self._look_timer, self._probe_timer):
            if timer is not None:
                timer.cancel()
        self._look_timer = self._probe_timer = None
        self._writes.stop()
        # uvicorn forgets it when the connection broke.
        self._unset_keepalive_if_required()
        if self._running is not None:  # uvicorn tells the one that was read last
            self._running.lose()
        self.pipeline.clear()
        super().connection_lost(exc)

    def _uncount(self) -> None:
        counted_as, self._counted_as = self._counted_as, ""
        if self._addresses is not None:
            self._addresses.give(counted_as)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writes.look_later()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends nothing more; whether its answer still goes out."""
        running = self._running
        if running is None or running.response_complete or running.more_body:
            return False
        if self._tls is not None:
            return False
        if running.is_streamed:
            return False
        for exchange in (running, *(cast(Exchange, waiting) for waiting, _ in self.pipeline)):
            exchange.is_half_closed = True
        if not self._is_deaf:
            self._go_deaf()
        self._probe_timer = self.loop.call_later(_FIRST_PROBE_S, self._probe, 2 * _FIRST_PROBE_S)
        return True

    def _probe(self, next_s: float) -> None:
        """After a half-close: is the client still there? The first probe of one that is not comes
        back as a reset, which the second one finds."""
        self._probe_timer = None
        running = self._running
        if running is None or self.transport.is_closing():
            return
        # HTTP/1.0 has no interim answers: there the generation's own limits must do.
        if not running.response_started and running.scope["http_version"] != "1.0":
            self._writes.write(_PROBE)
        self._probe_timer = self.loop.call_later(next_s, self._probe, min(2 * next_s, _MAX_PROBE_S))

    # --- what comes -------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._is_over():
            return
        was_in_head, had_begun = self._is_in_head, self._has_begun
        requests_before = self._requests
        self._has_content = False
        self._unset_keepalive_if_required()
        self._parse(data)
        if self._is_over():
            return
        is_same_request = self._requests == requests_before
        is_same_head = was_in_head and self._is_in_head and is_same_request
        if is_same_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(400, b"The head of the request is too large.")
        else:
            self._head_bytes = 0
        if not self._is_in_head:
            if was_in_head or not is_same_request:
                self._framing_bytes = 0
                self._expect()
            elif self._has_content:
                self._framing_bytes = 0
            else:
                self._framing_bytes += len(data)
                if self._framing_bytes > MAX_FRAMING_BYTES:
                    self._refuse(431, b"The trailers of the request are too large.")
        elif self._has_begun:
            if not (is_same_head and had_begun):
                self._expect()
        elif not is_same_head:
            self._due_s = None
        elif self._due_s is None:
            self._expect()

    def _is_over(self) -> bool:
        """Whether nothing that comes is wanted any more."""
        return self._is_deaf or self.transport.is_closing()

    def _parse(self, data: bytes) -> None:
        rest: bytes | memoryview = data
        try:
            while rest:
                rest = self._feed(rest)
        except httptools.HttpParserError:
            if not self._is_deaf:
                self._refuse(400, b"Invalid HTTP request received.")

    def _feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """Have the parser read; what it has left because it believes in an upgrade."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            # It takes what follows for the other protocol; to a new parser that is the body of the
            # same request without its offer.
            head, self._plain_head = self._plain_head, b""
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.parser.feed_data(head)
            return memoryview(data)[stopped.args[0] :]
        return b""

    def on_message_begin(self) -> None:
        self._has_begun = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_in_head:
            return  # a trailer
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            # It came in one piece; the parser turns this into 400 and a closed connection.
            raise ValueError("the head of the request is too large")
        parser, scope = self.parser, self.scope
        method = parser.get_method()
        version = parser.get_http_version()
        if method == b"CONNECT":
            raise ValueError("there is nothing to connect to")
        check_target(self.url, self.headers)
        if parser.should_upgrade():
            self._plain_head = _without_upgrade(method, self.url, version, self.headers)
            self._offer = offer_of(method, version, self.headers)
            return
        target = httptools.parse_url(self.url)
        path = target.path.decode("ascii")
        scope["method"] = method.decode("ascii")
        scope["http_version"] = version
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = target.path
        scope["query_string"] = target.query or b""
        if self._tls is not None:
            scope["extensions"] = self._tls  # type: ignore[typeddict-item]
        if self._offer is not None:
            cast(Scope, scope)[WEBSOCKET] = self._offer
            self._offer = None
        self._requests += 1
        self._is_in_head = self._has_begun = False
        exchange = Exchange(
            self._writes,
            self._hand_over,
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if self._is_answering():
            self._hold(exchange, _EXCHANGE_BYTES + size)
            self.cycle = exchange
            self.pipeline.appendleft((exchange, self.app))
        elif self._early is not None and (answer := self._early(cast(Scope, scope))) is not None:
            # No task and no turn of the loop for it: who is asked three times too much can say no
            # to two of them.
            self.cycle = self._running = exchange
            exchange.answer(*answer)
        else:
            self.cycle = exchange
            self._start_asgi_task(exchange, self.app)

    def on_body(self, body: bytes) -> None:
        self._has_content = True
        if self.cycle is not self._running:
            self._hold(self.cycle, len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._plain_head:
            return
        self._is_in_head = True
        super().on_message_complete()

    # --- one after another ------------------------------------------------------------------

    def _is_answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _hold(self, exchange: Exchange, size: int) -> None:
        """Count what waits behind the answer that is being made.

        Raises:
            _Deaf: too much.
        """
        if self._ahead_bytes + size > MAX_AHEAD_BYTES:
            self._go_deaf()
            raise _Deaf
        exchange.ahead_bytes += size
        self._ahead_bytes += size

    def _go_deaf(self) -> None:
        """Take nothing more: what is complete is answered, then the connection closes."""
        self._is_deaf = True
        self._due_s = None
        if self.pipeline and self.pipeline[0][0].more_body:
            self.pipeline.popleft()
            last = self.pipeline[0][0] if self.pipeline else self._running
            self.cycle = cast(Exchange, last)
        self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        self._ahead_bytes -= cycle.ahead_bytes
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._writes.look_later()
        if self._due_s is not None and not self.transport.is_closing():
            self._expect()  # what follows could not be read or answered until now
        super().on_response_complete()

    def _hand_over(self, head: bytes, successor: asyncio.Protocol) -> bool:
        """Answer with this head and leave the connection to another protocol, for good.

        Returns whether it could be: not where more than one request has come, or it closes.
        """
        if self._is_over() or self.pipeline or self._has_begun:
            return False
        self._due_s = None
        for timer in (self._look_timer, self._probe_timer):
            if timer is not None:
                timer.cancel()
        self._look_timer = self._probe_timer = None
        self._unset_keepalive_if_required()
        self._uncount()  # we are not told of its end; it has the bounds of what it is
        self._writes.write(head)
        self._writes.stop()
        self.connections.discard(self)  # uvicorn still waits for the application's task
        self.transport.set_protocol(successor)
        successor.connection_made(self.transport)
        self.flow.resume_reading()
        return True

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
        is_held_up = self._is_answering() if self._is_in_head else bool(self.pipeline)
        if left_s > 0 or is_held_up:
            self._nap(left_s if left_s > 0 else self.head_timeout_s)
        elif self._is_in_head:
            if self._has_begun:
                self._close_with(408, b"The head of the request took too long.")
            else:
                self._close()
        elif not self.cycle.response_started:
            self._close_with(408, b"The body of the request took too long.")
        else:
            # Answered without its body; what is left of the answer may still go out.
            self.cycle.keep_alive = False
            if self.cycle.response_complete:
                self._close()

    # --- refusals ---------------------------------------------------------------------------

    def _refuse(self, status: int, why: bytes) -> None:
        """What comes cannot be read. Answers that are due come first, and nothing is written into
        one that has begun."""
        if self._is_answering() and (self._is_in_head or self.cycle is not self._running):
            self._go_deaf()
        elif not self._is_in_head and self.cycle.response_started:
            self._close()
        else:
            self._close_with(status, why)

    def _close_with(self, status: int, why: bytes) -> None:
        self._writes.write(
            b"%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%b" % (STATUS_LINE[status], len(why), why)
        )
        self._close()

    def _close(self) -> None:
        self._due_s = None
        self.transport.close()
        self._writes.look_later()


def _without_upgrade(
    method: bytes, url: bytes, version: str, headers: list[tuple[bytes, bytes]]
) -> bytes:
    """The head of a request, without its offer of another protocol."""
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode())]
    for name, value in headers:
        if name == b"connection":
            tokens = [token.strip() for token in value.split(b",")]
            kept = [one for one in tokens if one.lower() not in (b"upgrade", b"http2-settings")]
            lines += [b"connection: " + b", ".join(kept)] if kept else []
        elif name not in (b"upgrade", b"http2-settings"):
            lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _bound_unsent(transport: asyncio.Transport) -> None:
    """Of TCP connections, where the system can (Linux, macOS)."""
    own = transport.get_extra_info("socket")
    option: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None and own is not None and own.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # it is gone already
            own.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)
