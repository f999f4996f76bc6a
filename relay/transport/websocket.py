"""WebSockets: the ones we open to providers, and our end of the ones that clients open to us.

Both are `websockets`' own connection with bounds that it leaves to others:

- What has come and was not received yet is one message and a little: reading stops at the first
  frame that waits (`max_queue` 0), and a read of many small frames is looked at piece by piece, so
  that it neither fills memory nor holds the loop.
- What waits to be sent stops the senders at `waiting_bytes`. A side that takes nothing of it for
  `stall_s` to twice that is cut off. Of pongs that it does not take the last is kept, no more
  (RFC 6455 5.5.3 has that be enough).
- `receive` tells the end as soon as it is said: the library waits for the other side's TCP too.
- `finish` takes no longer than `CLOSE_S`, whatever the other side does.

There is no compression: what is handed through is not looked into, and sound does not get smaller.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    ProxyError,
    TooManyFragments,
)
from websockets.frames import DATA_OPCODES, CloseCode, Frame
from websockets.protocol import OPEN, Event
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from relay.errors import (
    ConnectError,
    ConnectTimeout,
    NotImplementedYet,
    RemoteProtocolError,
    StreamReset,
    TlsFailed,
)
from relay.resolving import Resolver
from relay.transport.base import Headers, Origin
from relay.transport.dialling import connected
from relay.transport.trust import roots_of, system_roots

CLOSE_S: Final = 2.0
"""For the other side's goodbye, and for what still waits before ours."""
MAX_REASON_BYTES: Final = 123
"""Of a close frame."""

_PIECE_BYTES: Final = 32 * 1024
"""Looked at in one turn of the loop: of the smallest frames that takes some 20 ms."""
_PONG: Final = b"\x8a"
"""How every pong begins."""
_PRINTABLE: Final = "".join(chr(code) for code in range(33, 127))

# At debug level the library would write headers, credentials among them, and every message.
_quiet = logging.getLogger("relay.websocket")
_quiet.setLevel(logging.ERROR)


class SocketLimits(NamedTuple):
    """Bounds of one WebSocket."""

    max_message_bytes: int
    waiting_bytes: int
    """Written and not taken by the system yet; above it senders wait."""
    ping_s: float
    """Between our pings, and until one must be answered."""
    stall_s: float
    """A side that takes nothing of what waits for so long, to twice that, is cut off."""


class Ending(NamedTuple):
    """How the other side's part has ended."""

    code: int
    """Of its close frame, 1005 if that had none; 1006 without a close frame."""
    reason: str
    """Its own words."""
    fault: str
    """What we ended it for, empty if it was not us."""


class HandshakeRefused(Exception):
    """The provider has answered with an HTTP status instead of a WebSocket."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__(f"the provider answered with {status}")
        self.status = status
        self.headers = headers
        """Names in lower case."""
        self.body = body


class WebSocket(Connection):
    """One end of a WebSocket. One task receives, another may deliver; whoever has it calls
    `finish` or `abort`."""

    stall_s: float
    _held = memoryview(b"")
    """Read and not looked at yet; reading rests meanwhile."""
    _piece: asyncio.Handle | None = None
    _stall: asyncio.TimerHandle | None = None
    _waiting_bytes = 0
    """When the stall timer was set."""
    _pong = b""
    """The newest that the other side has not taken."""
    _is_deaf = False
    """Nothing that comes is wanted any more."""
    _fault = ""
    received_bytes = 0
    """Of messages, without their frames."""
    received_messages = 0

    # --- for whoever has it -----------------------------------------------------------------

    async def receive(self) -> str | bytes | None:
        """The next message; None after the last one (`ending` says why).

        Cancelled: nothing is lost.
        """
        try:
            return await self.recv_messages.get()
        except EOFError:
            pass
        except TooManyFragments:
            self._fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "text that is not UTF-8")
        return None

    async def deliver(self, message: str | bytes) -> bool:
        """Send a message, and wait while too much waits. False: the other side has ended.

        Cancelled: the message may go out all the same.
        """
        if not self.is_open:
            return False
        try:
            await self.send(message)
        except ConnectionClosed:
            return False
        return self.is_open  # it may have ended while we waited for it to read

    @property
    def is_open(self) -> bool:
        """Neither side has said goodbye, and the connection stands."""
        return self.protocol.state is OPEN and not self.transport.is_closing()

    def ending(self) -> Ending:
        """How it ended; of one that has not, 1006."""
        protocol = self.protocol
        if self._fault:
            return Ending(CloseCode.ABNORMAL_CLOSURE, "", self._fault)
        if protocol.parser_exc is None and protocol.close_rcvd is not None:
            return Ending(protocol.close_rcvd.code, protocol.close_rcvd.reason, "")
        if protocol.close_sent is not None:  # by the library: its own words, of what it was sent
            code = protocol.close_sent.code
            fault = _FAULTS.get(code, "bytes that break the protocol")
            return Ending(CloseCode.ABNORMAL_CLOSURE, "", fault)
        return Ending(CloseCode.ABNORMAL_CLOSURE, "", "")

    async def finish(self, code: int, reason: str) -> None:
        """Say goodbye if nobody has, wait for the other side's up to `CLOSE_S`, and see the
        connection closed.

        Args:
            code: 1005 for a goodbye without one.
            reason: cut to what a frame holds.

        Cancelled: the connection is broken off.
        """
        try:
            self._is_deaf = True
            self.recv_messages.close()
            self._read_on()
            if self.is_open:
                text = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
                if code == CloseCode.NO_STATUS_RCVD:
                    self.protocol.send_close()
                else:
                    self.protocol.send_close(code, text)
                self.send_data()
            await asyncio.wait([self.connection_lost_waiter], timeout=CLOSE_S)
        finally:
            self.abort()
        await self.wait_closed()

    def abort(self) -> None:
        """Break the connection off. Idempotent, never waits."""
        if not self.connection_lost_waiter.done():
            self.transport.abort()

    def _fail(self, code: CloseCode, reason: str) -> None:
        if self.protocol.state is OPEN:
            self.protocol.fail(code, reason)
            self.send_data()
        self.recv_messages.close()

    # --- what comes -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.recv_messages.resume = self._read_on

    def data_received(self, data: bytes) -> None:
        if len(data) > _PIECE_BYTES or self._held:
            self._held = memoryview(bytes(self._held) + data if self._held else data)
            self.transport.pause_reading()
            if self._piece is None:
                self._take_piece()
        else:
            self._take(data)

    def _take_piece(self) -> None:
        self._piece = None
        piece, self._held = self._held[:_PIECE_BYTES], self._held[_PIECE_BYTES:]
        self._take(bytes(piece))
        self._read_on()

    def _take(self, data: bytes) -> None:
        super().data_received(data)
        if self.protocol.close_expected():
            self.recv_messages.close()

    def _read_on(self) -> None:
        """Whatever held reading up is gone."""
        if self.transport.is_closing() or (self.recv_messages.paused and not self._is_deaf):
            return
        if not self._held:
            self.transport.resume_reading()
        elif self._piece is None:
            self._piece = self.loop.call_soon(self._take_piece)

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            if self.recv_messages.closed:
                return
            self.received_bytes += len(event.data)
            self.received_messages += event.fin
        super().process_event(event)

    def eof_received(self) -> None:
        self._take_rest()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._take_rest()
        if self._stall is not None:
            self._stall.cancel()
        super().connection_lost(exc)

    def _take_rest(self) -> None:
        """It is what was said before the end."""
        if self._piece is not None:
            self._piece.cancel()
            self._piece = None
        rest, self._held = self._held, memoryview(b"")
        if rest:
            self._take(bytes(rest))

    # --- what goes --------------------------------------------------------------------------

    def send_data(self) -> None:
        pongs = [data for data in self.protocol.writes if data[:1] == _PONG]
        if pongs:
            others = [data for data in self.protocol.writes if data[:1] != _PONG]
            if self.paused:
                self._pong = pongs[-1]
            else:
                others.insert(0, pongs[-1])
            self.protocol.writes = others
        super().send_data()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is None:
            self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._pong:
            pong, self._pong = self._pong, b""
            self.transport.write(pong)

    def _watch(self) -> None:
        self._waiting_bytes = self._unsent_bytes()
        self._stall = self.loop.call_later(self.stall_s, self._look)

    def _look(self) -> None:
        """Has something been taken since the last look?"""
        self._stall = None
        if not self.paused:
            return
        if self._unsent_bytes() < self._waiting_bytes:
            self._watch()
            return
        self._fault = "it takes nothing of what is sent"
        self.abort()

    def _unsent_bytes(self) -> int:
        return self.transport.get_write_buffer_size()


_FAULTS: Final[dict[int, str]] = {
    CloseCode.MESSAGE_TOO_BIG: "a message that is too large",
    CloseCode.INVALID_DATA: "text that is not UTF-8",
    CloseCode.INTERNAL_ERROR: "it answers no ping",
}
"""By the code that the library ends with."""


class ServerSocket(WebSocket):
    """Our end of a client's WebSocket, the handshake done: the protocol of its connection."""

    def __init__(self, limits: SocketLimits) -> None:
        super().__init__(
            ServerProtocol(state=OPEN, max_size=limits.max_message_bytes, logger=_quiet),
            **_options(limits),
        )
        self.stall_s = limits.stall_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.start_keepalive()


class ClientSocket(WebSocket, ClientConnection):
    """Our end of a WebSocket at a provider."""

    stall_s = 30.0  # until the handshake is done, when nothing of size is sent


def _options(limits: SocketLimits) -> dict[str, Any]:
    return {
        "ping_interval": limits.ping_s,
        "ping_timeout": limits.ping_s,
        "close_timeout": CLOSE_S,
        "max_queue": 0,
        "write_limit": limits.waiting_bytes,
    }


# --- to a provider ------------------------------------------------------------------------------


_RESOLVER: Final = Resolver()


class _Dial(connect):
    """Straight to where it is told to, and nowhere else."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def dial(
    origin: Origin,
    path: str,
    headers: Headers,
    subprotocols: Sequence[str],
    limits: SocketLimits,
    *,
    connect_timeout_s: float,
    resolver: Resolver = _RESOLVER,
) -> ClientSocket:
    """Open a WebSocket; the caller finishes it.

    Args:
        path: with its query, beginning with `/`.
        headers: beside those of the handshake; they hold secrets.
        subprotocols: offered, best first; the provider's choice is `subprotocol` of what returns.
        connect_timeout_s: for all of it.
        resolver: says which addresses may be connected to, in turn.

    Raises:
        ConnectError, TlsFailed, ConnectTimeout, StreamReset: no connection, or it broke.
        RemoteProtocolError: the answer is no handshake.
        HandshakeRefused: it is an HTTP answer.
        NotImplementedYet: the egress proxy speaks SOCKS.

    Cancelled: what there is of a connection is broken off.
    """
    options: dict[str, Any] = {}
    proxy = origin.egress_proxy
    if proxy is not None and not proxy.startswith(("http://", "https://")):
        raise NotImplementedYet("a WebSocket goes through an http or https egress proxy alone")
    is_secure = origin.scheme == "https"
    if is_secure:
        options["ssl"] = _context(origin.ca_file, origin.ca_digest)
    if proxy is not None and proxy.startswith("https://"):
        options["proxy_ssl"] = _context(origin.ca_file, origin.ca_digest)
    dialling = _dialling(origin, path, headers, subprotocols, limits, options)
    try:
        async with asyncio.timeout(connect_timeout_s):
            if proxy is None:
                # Whoever dials takes it over in the same turn, and closes it with its connection.
                dialling.create_connection_kwargs["sock"] = await connected(origin, resolver)
            opened = await dialling
    except (InvalidHandshake, InvalidProxy, OSError) as error:
        raise _mapped(error) from None
    connection = cast(ClientSocket, opened)
    connection.stall_s = limits.stall_s
    return connection


def _dialling(
    origin: Origin,
    path: str,
    headers: Headers,
    subprotocols: Sequence[str],
    limits: SocketLimits,
    options: dict[str, Any],
) -> _Dial:
    dialling = _Dial(
        origin.url.replace("http", "ws", 1),
        subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        compression=None,
        additional_headers=headers,
        user_agent_header=None,
        proxy=origin.egress_proxy,
        open_timeout=None,  # there is one around it
        max_size=limits.max_message_bytes,
        logger=_quiet,
        create_connection=ClientSocket,
        **_options(limits),
        **options,
    )
    # As it stands: to take an address apart would lose some of it.
    path, _, query = path.partition("?")
    quoted = quote(query.encode("latin-1"), safe=_PRINTABLE)
    is_secure = origin.scheme == "https"
    dialling.ws_uri = WebSocketURI(is_secure, origin.host, origin.port, path, quoted)
    return dialling


@lru_cache(maxsize=64)
def _context(ca_file: str | None, digest: str) -> ssl.SSLContext:
    """
    Args:
        digest: of the file: with other roots it is another context.

    Raises:
        ConnectError: `ca_file`, or what the environment names, holds no certificates.
    """
    if ca_file is not None:
        try:
            pem = roots_of(ca_file)
        except OSError:
            raise ConnectError("the origin's ca_file cannot be read") from None
    else:
        found = system_roots()
        pem = b"" if found is None else found.pem
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if pem:
        try:
            context.load_verify_locations(cadata=pem.decode("ascii"))
        except ssl.SSLError:
            raise ConnectError("what is trusted holds what is no certificate") from None
    return context


def _mapped(error: Exception) -> Exception:
    """The relay's error for one of the library's, whose texts may quote what was sent."""
    match error:
        case InvalidStatus(response=response):
            headers = [(name.lower(), value) for name, value in response.headers.raw_items()]
            return HandshakeRefused(response.status_code, headers, bytes(response.body or b""))
        case TimeoutError():
            return ConnectTimeout("no WebSocket in time")
        case ssl.SSLError():
            return TlsFailed("the TLS handshake with the provider failed")
        case socket.gaierror():
            return ConnectError("the provider's name does not resolve")
        case ProxyError() | InvalidProxy():
            return ConnectError("the egress proxy does not let us through")
        case OSError():
            return ConnectError("the provider cannot be reached")
        case InvalidMessage() if isinstance(error.__cause__, EOFError | OSError):
            return StreamReset("the connection broke")
        case _:
            return RemoteProtocolError("the provider's answer is no WebSocket handshake")
