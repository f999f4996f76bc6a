"""What a provider's body is, told by its first bytes and not by its content type, which proxies
get wrong: `{` or `[` begins one JSON document, `<` markup, anything else an event stream.

A byte order mark is skipped, and so are blank lines: DeepSeek and OpenRouter send some while a
request waits.
"""

from __future__ import annotations

import enum
from typing import Final

from relay.codecs.error_text import looks_like_markup

_BOM: Final = b"\xef\xbb\xbf"


class BodyKind(enum.Enum):
    """How a body must be read."""

    UNKNOWN = "unknown"
    """Nothing has come that tells."""
    STREAM = "stream"
    DOCUMENT = "document"
    MARKUP = "markup"


def begin_body(held: bytearray) -> tuple[BodyKind, bytes]:
    """The kind of a body, and its beginning to be read on with; empties `held` once it is known.

    Args:
        held: all bytes so far; blank ones are dropped from it while nothing else has come.
    """
    head = held.removeprefix(_BOM).lstrip()
    if not head:
        if not _BOM.startswith(held):
            held.clear()
        return BodyKind.UNKNOWN, b""
    if _BOM.startswith(head):
        return BodyKind.UNKNOWN, b""  # half a mark
    held.clear()
    if looks_like_markup(head):
        return BodyKind.MARKUP, b""
    kind = BodyKind.DOCUMENT if head.startswith((b"{", b"[")) else BodyKind.STREAM
    return kind, bytes(head)
