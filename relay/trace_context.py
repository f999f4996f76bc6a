"""W3C Trace Context, as far as the relay takes part: whose trace a generation belongs to.

https://www.w3.org/TR/trace-context/ section 3.2: `version-traceid-parentid-flags` in lower-case
hex. An invalid value is ignored, as the specification asks: a broken tracer must not break calls.
"""

from __future__ import annotations

import re
from typing import Final

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
MAX_CHARS: Final = 512
"""A later version may append fields; nothing this long is read."""


def valid_traceparent(value: str) -> str:
    """The header as it was given, or "" if it is no valid one."""
    if len(value) > MAX_CHARS:
        return ""
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return ""
    version, trace, span, more = found.groups()
    if version == "ff" or trace == _NO_TRACE or span == _NO_SPAN:
        return ""
    if more and version == "00":  # version 00 has exactly four fields
        return ""
    return value


def trace_id(traceparent: str) -> str:
    """The trace of a valid `traceparent`, "" of none."""
    return traceparent[3:35]
