"""Anchors to syslog as well (RFC 3164, facility authpriv), by UDP or a Unix socket.

UDP tells nobody whether it arrived: the file stays what is relied on.
"""

from __future__ import annotations

import logging
import socket
from contextlib import closing
from logging.handlers import SysLogHandler
from urllib.parse import urlsplit

from relay.governance.audit_anchor import AnchorError

Address = tuple[str, int] | str


class _Handler(SysLogHandler):
    append_nul = False
    ident = "rtrelay: "

    def handleError(self, record: logging.LogRecord) -> None:
        raise  # it is called while the error is handled


class Syslog:
    """Sends each line by itself.

    Args:
        address: `udp://HOST:PORT` or `unix:///PATH`.

    Raises:
        ValueError: it is neither.
    """

    def __init__(self, address: str) -> None:
        self._address = parse_address(address)

    def send(self, line: bytes) -> None:
        """Blocking, and bounded by a look-up of the name; raises AnchorError."""
        record = logging.LogRecord("audit", logging.INFO, "", 0, line.decode(), None, None)
        try:
            handler = _Handler(self._address, SysLogHandler.LOG_AUTHPRIV, socket.SOCK_DGRAM)
            with closing(handler):
                handler.emit(record)
        except OSError as error:
            raise AnchorError(f"syslog: {error.strerror or error}") from error


def parse_address(address: str) -> Address:
    """For `SysLogHandler`.

    Raises:
        ValueError: it is no `udp://HOST:PORT` and no `unix:///PATH`.
    """
    parts = urlsplit(address)
    if parts.scheme == "unix" and parts.path and not parts.netloc:
        return parts.path
    if parts.scheme == "udp" and parts.hostname and parts.port and parts.path in ("", "/"):
        return (parts.hostname, parts.port)
    raise ValueError("udp://HOST:PORT or unix:///PATH is expected")
