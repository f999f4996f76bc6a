"""The gRPC server's TCP connections as the kernel counts them, and how one is ended.

grpc.aio tells neither what a connection sends that becomes no RPC, nor ends one connection alone.
Both can be had from its sockets, which are this process's own: bytes by `TCP_INFO` (Linux 4.1),
and `shutdown`, which the core takes for a client that has gone. Nothing is closed here: descriptors
stay the core's.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Final, NamedTuple

Peer = tuple[str, int]
"""Address and port of a client; an IPv4 one is written as such."""

_FOLDER: Final = "/proc/self/fd"
_INFO_BYTES: Final = 136
_ACKED_AT: Final = 120
"""Of `struct tcp_info`: 64 bits of bytes that were sent and acknowledged, then as many of bytes
that were received."""


class Link(NamedTuple):
    """A connection at a moment."""

    descriptor: int
    received_bytes: int
    sent_bytes: int


def can_look() -> bool:
    """Whether this system tells."""
    return sys.platform == "linux" and os.path.isdir(_FOLDER)


def links(port: int) -> dict[Peer, Link]:
    """The connections to a port of ours; some 5 us for each descriptor of the process."""
    found: dict[Peer, Link] = {}
    for name in os.listdir(_FOLDER):
        try:
            seen = _seen(int(name), port)
        except OSError:  # no socket, not connected, or gone in between
            continue
        if seen is not None:
            found[seen[0]] = seen[1]
    return found


def cut(peer: Peer, link: Link, port: int) -> bool:
    """End a connection; whether it was still there."""
    try:
        own = os.dup(link.descriptor)  # so that it stays what is looked at next
    except OSError:
        return False
    with _same(own) as same:
        try:
            if same.getsockname()[1] != port or _peer(same.getpeername()) != peer:
                return False
            same.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False
    return True


def peer_of(text: str) -> Peer | None:
    """Of grpc's `ipv4:1.2.3.4:5` and `ipv6:[::1]:5`; None for a Unix socket."""
    kind, _, rest = text.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return None
    host, _, port = rest.replace("%5B", "[").replace("%5D", "]").rpartition(":")
    return _peer((host.strip("[]"), int(port)))


def _seen(descriptor: int, port: int) -> tuple[Peer, Link] | None:
    same = _same(descriptor)
    try:
        name = same.getsockname()
        if not isinstance(name, tuple) or name[1] != port:
            return None
        peer = _peer(same.getpeername())
        info = same.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    finally:
        same.detach()
    if len(info) < _INFO_BYTES:
        return None
    sent, received = struct.unpack_from("=QQ", info, _ACKED_AT)
    return peer, Link(descriptor, received, sent)


def _same(descriptor: int) -> socket.socket:
    """With all three given nothing is asked of the descriptor, which may be no socket. The family
    decides no more than how long a name may get: the core listens for both at once."""
    return socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, descriptor)


def _peer(name: tuple[str, int] | tuple[str, int, int, int]) -> Peer:
    return name[0].partition("%")[0].removeprefix("::ffff:"), name[1]
