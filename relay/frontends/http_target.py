"""What a request is for, in its first line and its `host`: one place, written in one way.

Two readers that make different places of one request are how requests pass a gate that looks at
one of them and are served at the other (CVE-2026-48710). Nothing here is routed by host; what is
odd about it is refused all the same, before a proxy behind or a log makes something else of it.

Source: RFC 9112, 3.2 and 3.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_HOST: Final = re.compile(
    rb"[A-Za-z0-9\-._~%!$&'()*+,;=]*(?::[0-9]*)?|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?"
)


def check_target(url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """
    Args:
        url: of the request's first line.
        headers: names in lower case.

    Raises:
        ValueError: the path is none of this server (a URL is for proxies), or there are several
            `host`, or one that is none. Who names none at all means this server.
    """
    if not url.startswith(b"/"):
        raise ValueError("the target of the request is no path")
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1:
        raise ValueError("the request names more than one host")
    if hosts and _HOST.fullmatch(hosts[0].strip()) is None:
        raise ValueError("the host of the request is none")
