"""Cutting a TCP connection that the HTTP server owns.

granian offers no way to abort a connection, so the socket is looked up among this process's file
descriptors by the client's address. `shutdown` sends FIN; `connect(AF_UNSPEC)`, which Linux
defines as "disconnect", sends RST. The descriptor itself stays the server's: closing it here
would let another connection take its number while the server still polls it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys

_SOCKADDR_BYTES = 16


def close_connection(client: str) -> bool:
    """Close the connection from `client` (`host:port`) with FIN; whether it was found."""
    connection = _find(client)
    if connection is None:
        return False
    with connection:
        connection.shutdown(socket.SHUT_RDWR)
    return True


def reset_connection(client: str) -> bool:
    """Close the connection from `client` with RST (FIN where the system cannot)."""
    if not sys.platform.startswith("linux"):
        return close_connection(client)
    connection = _find(client)
    if connection is None:
        return False
    with connection:
        unspecified = (ctypes.c_char * _SOCKADDR_BYTES)()  # sa_family 0 is AF_UNSPEC
        ctypes.CDLL(None).connect(connection.fileno(), unspecified, _SOCKADDR_BYTES)
    return True


def open_connections(ports: set[int]) -> int:
    """How many accepted connections this process holds on its own `ports`."""
    return sum(1 for _ in _accepted(ports))


def _find(client: str) -> socket.socket | None:
    port = int(client.rpartition(":")[2])
    for descriptor in _descriptors():
        connection = _as_tcp(descriptor)
        if connection is None:
            continue
        try:
            if connection.getpeername()[1] == port:
                return connection
        except OSError:
            pass  # a listening socket has no peer
        connection.close()
    return None


def _accepted(ports: set[int]) -> list[int]:
    found: list[int] = []
    for descriptor in _descriptors():
        connection = _as_tcp(descriptor)
        if connection is None:
            continue
        with connection:
            try:
                connection.getpeername()
                if connection.getsockname()[1] in ports:
                    found.append(descriptor)
            except OSError:
                continue
    return found


def _descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/dev/fd")]


def _as_tcp(descriptor: int) -> socket.socket | None:
    try:
        duplicate = os.dup(descriptor)
    except OSError:
        return None  # closed since it was listed
    try:
        found = socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        return None
    if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
        found.close()
        return None
    return found
