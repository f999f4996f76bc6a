"""The head of a provider's answer, looked at before any of its body is read.

Heads of real answers have some forty fields and some kilobytes. Engines bound them each in its own
way, HTTP/2 by megabytes; here one bound holds for all. And nothing is decompressed: identity is
what was asked for, and a small body may be a large text.
"""

from __future__ import annotations

import re
from typing import Final

from relay.errors import RemoteProtocolError
from relay.transport.base import MAX_HEAD_BYTES, Headers

MAX_HEAD_FIELDS: Final = 200
COMPRESSED: Final = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress"})
"""Encodings of a body; servers write other words there that mean nothing (`utf-8`, `none`)."""
_SEPARATORS: Final = re.compile(r"[\s,]+")


def check_head(status: int, headers: Headers) -> None:
    """
    Args:
        headers: lower-case names.

    Raises:
        RemoteProtocolError: it is too large, or the body of a success is compressed.
    """
    held_bytes = 0
    is_encoded = False
    for name, value in headers:
        held_bytes += len(name) + len(value)
        if name == "content-encoding":
            is_encoded |= not COMPRESSED.isdisjoint(_SEPARATORS.split(value.lower()))
    if len(headers) > MAX_HEAD_FIELDS or held_bytes > MAX_HEAD_BYTES:
        raise RemoteProtocolError("the head of the provider's answer is too large")
    if is_encoded and status < 300:
        raise RemoteProtocolError("the provider's answer is compressed, which was not asked for")
